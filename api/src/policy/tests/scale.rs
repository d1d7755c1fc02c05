//! Ten thousand PVCs: what deciding about all of them costs. Prints its figures (`cargo test scale -- --nocapture`); the limit only
//! catches what has become a hundred times slower, since machines differ.

use super::{annotations, ours};
use crate::due::due;
use crate::policy::{Origin, merge, resolve, unknown};
use chrono::{DateTime, Utc};
use std::time::{Duration, Instant};

#[test]
fn ten_thousand_policies_and_what_is_due() {
    let now: DateTime<Utc> = "2026-11-21T10:00:30Z".parse().unwrap();
    let created: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
    let namespace = ours(&[("schedule", "H H(0-5) * * *"), ("archive-schedule", "@weekly-random"), ("compression", "zstd,3")]);
    let defaults = annotations(&[("time-zone", "Europe/Berlin"), ("repository", "in-cluster")]);
    let pvc = ours(&[("exclude", "sh:**/cache\n*.tmp"), ("suspend", "false")]);

    let begun = Instant::now();
    let policies: Vec<_> = (0..10_000)
        .map(|number| {
            assert!(unknown(&pvc, Origin::Pvc).is_empty());
            resolve("shop", &format!("pvc-{number}"), &merge(&pvc, &namespace, &defaults)).unwrap()
        })
        .collect();
    let resolved = begun.elapsed();

    let ask = |last: Option<DateTime<Utc>>| {
        let begun = Instant::now();
        let dues = policies.iter().filter_map(|policy| Some(due(policy.schedule.as_ref()?, policy.time_zone, created, last, now)));
        let count = dues.filter(|due| due.now.is_some()).count();
        (count, begun.elapsed())
    };
    let (steady, quiet) = ask(Some(now - chrono::Duration::hours(1)));
    let (caught_up, late) = ask(None);
    println!("10,000 PVCs: resolve {resolved:?}, due with nothing missed {quiet:?}, due after two years of downtime {late:?}");
    assert_eq!((steady, caught_up), (0, 10_000));
    assert!(resolved + quiet + late < Duration::from_mins(2));
}
