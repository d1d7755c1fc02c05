//! A plan over 100,000 snapshots. Prints its figures (`cargo test --release scale -- --nocapture`); the limit holds in release builds,
//! in others it only catches what has become ten times slower.

use super::{at, carry_out, keep, snapshot};
use crate::retention::{Fate, Said, Snapshot, judge};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use std::time::Instant;

/// 1,000 PVCs with 100 hourly snapshots each.
fn fleet(end: DateTime<Utc>) -> Vec<Snapshot> {
    let cuts = |pvc: usize| (0..100).map(move |hour| snapshot(&format!("pvc-{pvc}"), end - Duration::hours(hour)));
    (0..1000).flat_map(cuts).collect()
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
    let settled: Vec<_> = (0..1000)
        .flat_map(|pvc| {
            one.iter().cloned().map(move |mut snapshot| {
                snapshot.pvc = format!("pvc-{pvc}");
                snapshot
            })
        })
        .collect();
    let (swept, steady) = timed(&settled, now + Duration::hours(30));
    assert_eq!(swept, 1000 * 72);
    println!("100,000 snapshots of 1,000 PVCs: all new {first:?}, all labelled and most to sweep {steady:?}");
    let limit = if cfg!(debug_assertions) { 2000 } else { 100 };
    assert!(steady.as_millis() < limit && first.as_millis() < 2 * limit, "{first:?} {steady:?}");
}
