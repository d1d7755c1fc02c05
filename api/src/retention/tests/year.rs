//! A year of hourly backups of three PVCs, over a leap day, both changes of clocks and the ends of two years: what is left is exactly
//! what the definition says, computed here by other means.

use super::{at, carry_out, keep, snapshot};
use crate::policy::{Keep, Tier};
use crate::retention::Snapshot;
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use std::collections::{BTreeMap, BTreeSet};

const KEEP: &str = "last=2,hourly=24,daily=7,weekly=4,monthly=12,yearly=2";

/// Hours from one look to the next.
const LOOK: i64 = 5;

/// The first cut of each of the newest N periods of each tier, and the newest cuts.
fn expected(cuts: &[DateTime<Utc>], keep: &Keep, zone: Tz) -> BTreeSet<DateTime<Utc>> {
    let formats = ["%Y-%m-%dT%H", "%Y-%m-%d", "%G-W%V", "%Y-%m", "%Y"];
    let mut stay: BTreeSet<_> = cuts.iter().rev().take(keep.last()).copied().collect();
    for (tier, format) in Tier::ALL.into_iter().zip(formats) {
        let mut first = BTreeMap::new();
        for cut in cuts {
            first.entry(cut.with_timezone(&zone).format(format).to_string()).or_insert(*cut);
        }
        stay.extend(first.into_values().rev().take(keep.of(tier)));
    }
    stay
}

fn cuts_of(all: &[Snapshot], pvc: &str) -> BTreeSet<DateTime<Utc>> {
    all.iter().filter(|snapshot| snapshot.pvc == pvc).filter_map(|snapshot| snapshot.cut).collect()
}

fn a_year(from: &str, zone: Tz) {
    let (begin, pvcs) = (at(from), ["data", "data-db", "data.1"]);
    let rule = keep(KEEP, zone);
    let mut all: Vec<Snapshot> = Vec::new();
    let mut cuts: BTreeMap<&str, Vec<DateTime<Utc>>> = BTreeMap::new();
    let mut most = 0;
    for hour in 0..366 * 24 {
        let now = begin + Duration::hours(hour);
        for (minutes, pvc) in pvcs.into_iter().enumerate() {
            let cut = now - Duration::minutes(i64::try_from(minutes).unwrap() * 7);
            cuts.entry(pvc).or_default().push(cut);
            all.push(snapshot(pvc, cut));
        }
        if hour % LOOK == 0 {
            carry_out(&mut all, &rule, now);
        }
        most = most.max(all.len());
    }
    // The day on which the last marks can be taken off, and the next.
    let end = begin + Duration::hours(366 * 24);
    for hours in [0, 24, 48] {
        carry_out(&mut all, &rule, end + Duration::hours(hours));
    }
    let wanted = Keep::parse(KEEP).unwrap();
    for pvc in pvcs {
        assert_eq!(cuts_of(&all, pvc), expected(&cuts[pvc], &wanted, zone), "{pvc} in {zone}");
    }
    assert!(
        most <= pvcs.len() * (24 + 7 + 4 + 12 + 2 + 2 + 3 * 24 + 2 * usize::try_from(LOOK).unwrap()),
        "{most} at once: what is marked goes"
    );
}

#[test]
fn what_is_left_of_a_year_of_hourly_backups_is_what_the_policy_says() {
    a_year("2023-11-15T00:02:00Z", Tz::Europe__Berlin);
    a_year("2026-07-01T00:02:00Z", Tz::Australia__Lord_Howe);
}
