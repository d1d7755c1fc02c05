//! Whether a backup is due, and when the next one is.
//!
//! Due is what follows the newest of the last scheduled time and the PVC's creation: a new annotation on an old PVC is due at once
//! when its schedule had a time since, a new PVC waits for its first. However many times were missed, one is made up for.

use crate::schedule::Schedule;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

/// What a schedule asks for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The scheduled time of the backup that should start now, if one should.
    pub now: Option<DateTime<Utc>>,
    /// The first scheduled time after now.
    pub next: Option<DateTime<Utc>>,
}

/// What `schedule` asks for at `now`, for a PVC (or the youngest of a group) that is there since `created` and whose newest backup
/// was scheduled for `last`. A `last` in the future, as from a clock that ran ahead, holds everything back until it has passed.
pub fn due(schedule: &Schedule, tz: Tz, created: DateTime<Utc>, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Due {
    let since = last.map_or(created, |last| last.max(created));
    let next = schedule.next(now.max(since), tz);
    let now = schedule.latest_due(since, now, tz);
    Due { now, next }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn follows_the_newest_of_creation_and_last_and_makes_up_for_one() {
        // Daily at 03:00 in Berlin: 02:00 UTC in November.
        let cases = [
            // A new PVC waits for its first time.
            ("2026-11-21T10:00:00Z", None, "2026-11-21T10:05:00Z", None, "2026-11-22T02:00:00Z"),
            // At the very moment.
            ("2026-11-21T10:00:00Z", None, "2026-11-22T02:00:00Z", Some("2026-11-22T02:00:00Z"), "2026-11-23T02:00:00Z"),
            // Its backup was made.
            ("2026-11-21T10:00:00Z", Some("2026-11-22T02:00:00Z"), "2026-11-22T02:00:01Z", None, "2026-11-23T02:00:00Z"),
            // A year of downtime: the newest time only.
            (
                "2020-01-01T00:00:00Z",
                Some("2025-11-22T02:00:00Z"),
                "2026-11-21T10:00:00Z",
                Some("2026-11-21T02:00:00Z"),
                "2026-11-22T02:00:00Z",
            ),
            // An old PVC that was never backed up is due at once.
            ("2020-01-01T00:00:00Z", None, "2026-11-21T10:00:00Z", Some("2026-11-21T02:00:00Z"), "2026-11-22T02:00:00Z"),
            // A PVC made anew under the name of an old one: what was due before its time is not.
            ("2026-11-21T09:00:00Z", Some("2026-11-20T02:00:00Z"), "2026-11-21T10:00:00Z", None, "2026-11-22T02:00:00Z"),
            // A scheduled time from a clock that ran ahead holds until it has passed.
            ("2020-01-01T00:00:00Z", Some("2026-11-23T02:00:00Z"), "2026-11-21T10:00:00Z", None, "2026-11-24T02:00:00Z"),
        ];
        let schedule = Schedule::parse("0 3 * * *", "shop", "db").unwrap();
        for (created, last, now, due_now, next) in cases {
            let found = due(&schedule, Tz::Europe__Berlin, at(created), last.map(at), at(now));
            let expected = Due { now: due_now.map(at), next: Some(at(next)) };
            assert_eq!(found, expected, "created {created}, last {last:?}, now {now}");
        }
    }

    #[test]
    fn doing_what_is_due_leaves_nothing_due_and_no_time_is_done_twice() {
        let (berlin, minute) = (Tz::Europe__Berlin, chrono::Duration::minutes(1));
        for text in ["30 2 * * *", "*/30 * * * *", "*/20 1-3 * * *"] {
            let schedule = Schedule::parse(text, "shop", "db").unwrap();
            // Both clock changes of 2026, looked at every seven minutes.
            for day in ["2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"] {
                let (created, mut last, mut done) = (at(day), None, Vec::new());
                for step in 0..400 {
                    let now = created + minute * 7 * step;
                    if let Some(time) = due(&schedule, berlin, created, last, now).now {
                        last = Some(time);
                        done.push(time);
                    }
                    assert_eq!(due(&schedule, berlin, created, last, now).now, None);
                }
                assert!(done.is_sorted_by(|a, b| a < b), "{text}: {done:?}");
            }
        }
    }
}
