//! A plan over 100,000 snapshots. Prints its figures (`cargo test --release scale -- --nocapture`); the limit holds in release builds,
//! in others it only catches what has become a hundred times slower, since machines differ.

use super::{at, carry_out, keep, snapshot};
use crate::retention::{Fate, Said, Snapshot, judge};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use std::time::Instant;

/// 1,000 PVCs with 100 hourly snapshots each.
fn fleet(end: DateTime<Utc>) -> Vec<Snapshot> {
    let one: Vec<_> = (0..100).map(|hour| snapshot("pvc", end - Duration::hours(hour))).collect();
    of_thousand(&one)
}

/// The same of each of 1,000 PVCs.
fn of_thousand(one: &[Snapshot]) -> Vec<Snapshot> {
    let mut all = Vec::with_capacity(1000 * one.len());
    for pvc in (0..1000).map(|number| format!("pvc-{number}")) {
        for snapshot in one {
            all.push(snapshot.clone());
            all.last_mut().unwrap().pvc.clone_from(&pvc);
        }
    }
    all
}

#[test]
fn a_hundred_thousand_snapshots() {
    let now = at("2026-11-21T10:00:00Z");
    let rule = keep("last=1,hourly=24,daily=7,weekly=4,monthly=12", Tz::Europe__Berlin);
    let said = |_: &str, _: &str| match &rule {
        crate::retention::Rule::Keep { keep, zone } => Said::Policy { keep: Some(*keep), zone: *zone },
        crate::retention::Rule::Nothing { .. } | crate::retention::Rule::Refused(_) => Said::Gone,
    };
    let mut all = fleet(now);
    let timed = |all: &[Snapshot], now| {
        let begun = Instant::now();
        let verdicts = judge(all, said, now);
        let took = begun.elapsed();
        (verdicts.iter().flatten().filter(|verdict| verdict.fate == Fate::Sweep).count(), took)
    };
    let (swept, first) = timed(&all, now);
    assert_eq!(swept, 0);
    let mut one: Vec<_> = all.drain(..100).collect();
    carry_out(&mut one, &rule, now);
    let settled = of_thousand(&one);
    let (swept, steady) = timed(&settled, now + Duration::hours(30));
    assert_eq!(swept, 1000 * 72);
    println!("100,000 snapshots of 1,000 PVCs: all new {first:?}, all labelled and most to sweep {steady:?}");
    let limit = if cfg!(debug_assertions) { 60_000 } else { 100 };
    assert!(steady.as_millis() < limit && first.as_millis() < 2 * limit, "{first:?} {steady:?}");
}
