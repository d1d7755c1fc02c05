//! `H` and `-random`: stable, within range, spread.

use super::times;
use crate::schedule::Schedule;
use chrono::{DateTime, Datelike, Timelike, Utc};
use chrono_tz::Tz;
use std::collections::BTreeSet;

fn first(text: &str, namespace: &str, name: &str) -> DateTime<Utc> {
    let schedule = Schedule::parse(text, namespace, name).unwrap();
    schedule.next("2026-12-31T23:59:59Z".parse().unwrap(), Tz::UTC).unwrap()
}

#[test]
fn stays_the_same_for_ever() {
    // These are promises to everybody who upgrades: a change of the hash moves every backup.
    for (text, expected) in [
        ("H H * * *", "2026-11-21 22:09 +0000"),
        ("@daily-random", "2026-11-21 22:09 +0000"),
        ("@hourly-random", "2026-11-21 00:09 +0000"),
        ("@weekly-random", "2026-11-27 22:09 +0000"),
        ("@monthly-random", "2026-11-26 22:09 +0000"),
        ("@yearly-random", "2027-02-26 22:09 +0000"),
        ("H/15 H(0-5)/2 * * H(1-5)", "2026-11-23 00:09 +0000"),
    ] {
        assert_eq!(times(text, "2026-11-21 00:00", Tz::UTC, 1), [expected], "{text}");
    }
}

#[test]
fn spreads_over_the_whole_range_and_no_further() {
    let names: Vec<String> = (0..2000).map(|number| format!("pvc-{number}")).collect();
    let all = |text: &str| names.iter().map(|name| first(text, "shop", name)).collect::<Vec<_>>();
    let values = |times: &[DateTime<Utc>], value: fn(&DateTime<Utc>) -> u32| times.iter().map(value).collect::<BTreeSet<_>>();

    let yearly = all("@yearly-random");
    assert_eq!(values(&yearly, Timelike::minute), (0..60).collect());
    assert_eq!(values(&yearly, Timelike::hour), (0..24).collect());
    assert_eq!(values(&yearly, Datelike::day), (1..=28).collect());
    assert_eq!(values(&yearly, Datelike::month), (1..=12).collect());
    let weekly = all("@weekly-random");
    assert_eq!(values(&weekly, |time| time.weekday().num_days_from_sunday()), (0..7).collect());
    let ranged = all("H(10-12) H(1-3) * * *");
    assert_eq!(values(&ranged, Timelike::minute), (10..=12).collect());
    assert_eq!(values(&ranged, Timelike::hour), (1..=3).collect());
    // A stepped one begins within its first step.
    let stepped = all("H/20 * * * *");
    assert_eq!(values(&stepped, Timelike::minute), (0..20).collect());

    // Even enough: no minute has three times its share, and minute and hour do not go together.
    let most = (0..60).map(|minute| yearly.iter().filter(|time| time.minute() == minute).count()).max();
    assert!(most < Some(100), "{most:?} of 2000 in one minute");
    let moments: BTreeSet<_> = yearly.iter().collect();
    assert!(moments.len() > 1950, "only {} of 2000 differ", moments.len());
}

#[test]
fn goes_by_namespace_and_name_each_by_itself() {
    let at = |namespace, name| first("H H H H *", namespace, name);
    assert_eq!(at("shop", "db"), at("shop", "db"));
    assert_ne!(at("shop", "db"), at("shop", "db2"));
    assert_ne!(at("shop", "db"), at("shop2", "db"));
    assert_ne!(at("a", "bc"), at("ab", "c"));
}
