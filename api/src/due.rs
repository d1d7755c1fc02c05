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
