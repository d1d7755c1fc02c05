//! The breaker.

use super::{at, carry_out, judge, keep, snapshot};
use crate::retention::{Fate, Field, Hold, Retain, Snapshot, Total, Verdict, hold};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;

const NOW: &str = "2026-11-21T10:00:00Z";

fn now() -> DateTime<Utc> {
    at(NOW)
}

/// Ten hourly snapshots that each held a tier, of which all but `left` are due two days later.
fn due(pvc: &str, left: usize) -> Vec<Snapshot> {
    let mut all: Vec<_> = (0..10).map(|hour| snapshot(pvc, now() - Duration::hours(hour))).collect();
    carry_out(&mut all, &keep("hourly=10", Tz::UTC), now());
    carry_out(&mut all, &keep(&format!("hourly={left}"), Tz::UTC), now());
    all
}

fn swept(all: &[Verdict<'_>]) -> usize {
    all.iter().filter(|verdict| verdict.fate == Fate::Sweep).count()
}

fn later(all: &[Snapshot], left: usize) -> Vec<Verdict<'_>> {
    judge(all, &keep(&format!("hourly={left}"), Tz::UTC), now() + Duration::days(2))
}

#[test]
fn half_goes_and_one_more_waits() {
    let all = due("data", 5);
    let mut half = later(&all, 5);
    assert_eq!(hold(&mut half, ""), None);
    assert_eq!(swept(&half), 5);
    let all = due("data", 4);
    let mut more = later(&all, 4);
    let held = hold(&mut more, "").unwrap();
    assert_eq!((held.held, held.of, swept(&more)), (6, 10, 0));
    assert_eq!(more.iter().filter(|verdict| verdict.fate == Fate::Held).count(), 6);
}

#[test]
fn those_that_never_held_a_tier_are_no_alarm() {
    let mut all: Vec<_> = (0..50).map(|minute| snapshot("data", now() + Duration::minutes(minute))).collect();
    let rule = keep("last=1,hourly=3", Tz::UTC);
    carry_out(&mut all, &rule, now() + Duration::hours(1));
    let mut verdicts = judge(&all, &rule, now() + Duration::days(2));
    assert_eq!(swept(&verdicts), 48);
    assert_eq!(hold(&mut verdicts, ""), None);
    let mut days: Vec<_> = (0..4).map(|hour| snapshot("data", now() + Duration::hours(hour))).collect();
    for snapshot in &mut days {
        snapshot.retain = Retain::Days;
        snapshot.apply([(Field::DeleteAfter, Some("2026-11-01".to_owned())), (Field::MarkedAt, Some("2026-11-01T00:00:00Z".to_owned()))]);
    }
    let mut verdicts = judge(&days, &rule, now() + Duration::days(2));
    assert_eq!((hold(&mut verdicts, ""), swept(&verdicts)), (None, 3));
}

#[test]
fn a_token_allows_what_was_marked_by_then_and_nothing_else() {
    let mut all = due("data", 2);
    let token = hold(&mut later(&all, 2), "").unwrap().token.to_string();
    for (allowed, goes) in [(token.as_str(), 8), (&format!("x, 1-abc,{token}"), 8), (&format!("{token}0"), 0), ("", 0)] {
        let mut verdicts = later(&all, 2);
        assert_eq!(hold(&mut verdicts, allowed).is_none(), goes > 0, "{allowed}");
        assert_eq!(swept(&verdicts), goes, "{allowed}");
    }
    let other = due("other", 2);
    assert!(hold(&mut later(&other, 2), &token).is_some(), "a token is for one PVC");
    // killed in the middle of an allowed sweep: the rest goes on
    let rest: Vec<_> = all.iter().take(6).cloned().collect();
    let mut verdicts = later(&rest, 2);
    assert_eq!((hold(&mut verdicts, &token), swept(&verdicts)), (None, 4));
    // what is marked after the token was given waits for another one
    for snapshot in &mut all {
        if snapshot.get(Field::MarkedAt).is_some() {
            snapshot.apply([(Field::MarkedAt, Some((now() + Duration::seconds(1)).to_rfc3339()))]);
        }
    }
    assert!(hold(&mut later(&all, 2), &token).is_some());
}

/// The hold over all of `verdicts`, and how many go all the same.
fn total(verdicts: &[Verdict<'_>], most: usize, allowed: &str) -> (Option<Hold>, usize) {
    let mut total = Total::new(allowed);
    let going: Vec<bool> = verdicts.iter().filter(|verdict| verdict.fate == Fate::Sweep).map(|verdict| total.count(verdict)).collect();
    let hold = total.hold(most);
    let goes = going.iter().filter(|is_allowed| **is_allowed || hold.is_none()).count();
    (hold, goes)
}

#[test]
fn over_the_cluster_a_number_may_go() {
    let (one, other) = (due("one", 6), due("other", 7));
    let all: Vec<_> = later(&one, 6).into_iter().chain(later(&other, 7)).collect();
    assert_eq!(total(&all, 7, ""), (None, 7));
    let (held, goes) = total(&all, 6, "");
    let held = held.unwrap();
    assert_eq!((held.held, held.of, goes), (7, 6, 0));
    let token = held.token.to_string();
    assert_eq!(total(&all, 6, &token), (None, 7));
    assert_eq!(total(&all, 6, &format!("{token}0")).1, 0);
}

#[test]
fn over_the_cluster_a_token_does_not_allow_what_is_marked_later() {
    let (one, mut other) = (due("one", 6), due("other", 7));
    let token = total(&later(&one, 6), 0, "").0.unwrap().token.to_string();
    for snapshot in &mut other {
        if snapshot.get(Field::MarkedAt).is_some() {
            snapshot.apply([(Field::MarkedAt, Some((now() + Duration::seconds(1)).to_rfc3339()))]);
        }
    }
    let all: Vec<_> = later(&one, 6).into_iter().chain(later(&other, 7)).collect();
    let (held, goes) = total(&all, 2, &token);
    assert_eq!((held.map(|held| held.held), goes), (Some(3), 4), "the three marked later wait, the four allowed go");
    assert_eq!(total(&all, 3, &token), (None, 7));
}
