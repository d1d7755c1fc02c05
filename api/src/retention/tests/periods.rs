//! The labels of a cut, and back.

use super::at;
use crate::policy::Tier;
use crate::retention::Period;
use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

fn labels(cut: &str, zone: Tz) -> String {
    let local = at(cut).with_timezone(&zone).naive_local();
    Tier::ALL.map(|tier| Period::at(tier, local).to_string()).join(" ")
}

#[test]
fn labels_are_by_the_policys_clock_and_iso_weeks() {
    for (cut, zone, wanted) in [
        ("2026-11-21T10:59:59Z", Tz::UTC, "2026-11-21T10 2026-11-21 2026-W47 2026-11 2026"),
        // Half past eleven in the evening in Berlin is that day's.
        ("2026-11-21T22:30:00Z", Tz::Europe__Berlin, "2026-11-21T23 2026-11-21 2026-W47 2026-11 2026"),
        ("2026-12-31T23:00:00Z", Tz::Europe__Berlin, "2027-01-01T00 2027-01-01 2026-W53 2027-01 2027"),
        // The year of a week is not that of its day.
        ("2024-12-30T12:00:00Z", Tz::UTC, "2024-12-30T12 2024-12-30 2025-W01 2024-12 2024"),
        ("2021-01-03T12:00:00Z", Tz::UTC, "2021-01-03T12 2021-01-03 2020-W53 2021-01 2021"),
        ("2024-02-29T00:00:00Z", Tz::UTC, "2024-02-29T00 2024-02-29 2024-W09 2024-02 2024"),
        // The hour that occurs twice has one name.
        ("2026-10-25T00:30:00Z", Tz::Europe__Berlin, "2026-10-25T02 2026-10-25 2026-W43 2026-10 2026"),
        ("2026-10-25T01:30:00Z", Tz::Europe__Berlin, "2026-10-25T02 2026-10-25 2026-W43 2026-10 2026"),
        // The hour that does not exist has no snapshot.
        ("2026-03-29T01:00:00Z", Tz::Europe__Berlin, "2026-03-29T03 2026-03-29 2026-W13 2026-03 2026"),
    ] {
        assert_eq!(labels(cut, zone), wanted, "{cut}");
    }
}

#[test]
fn what_names_no_period_is_none() {
    for (tier, text) in [
        (Tier::Hourly, "2026-11-21T24"),
        (Tier::Hourly, "2026-11-21"),
        (Tier::Daily, "2026-02-29"),
        (Tier::Daily, ""),
        (Tier::Weekly, "2025-W53"),
        (Tier::Weekly, "2026-W00"),
        (Tier::Weekly, "w20"),
        (Tier::Monthly, "2026-13"),
        (Tier::Yearly, "MMXXVI"),
    ] {
        assert_eq!(Period::read(tier, text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_label_is_read_as_what_was_written_and_agrees_with_chrono(seconds in 0_i64..4_000_000_000, later in 0_i64..50_000_000) {
        let local = DateTime::from_timestamp(seconds, 0).unwrap().naive_utc();
        let after = local + chrono::Duration::seconds(later);
        for (tier, format) in Tier::ALL.into_iter().zip(["%Y-%m-%dT%H", "%Y-%m-%d", "%G-W%V", "%Y-%m", "%Y"]) {
            let period = Period::at(tier, local);
            prop_assert_eq!(period.to_string(), local.format(format).to_string());
            prop_assert_eq!(Period::read(tier, &period.to_string()), Some(period));
            prop_assert!(period <= Period::at(tier, after));
        }
    }

    #[test]
    fn no_text_panics(text in "[0-9TWw-]{0,16}") {
        for tier in Tier::ALL {
            if let Some(period) = Period::read_of(tier, &text, NaiveDateTime::default) {
                prop_assert!(!period.to_string().is_empty());
            }
        }
    }
}

#[test]
fn weeks_do_not_begin_anew_with_the_year() {
    let days: Vec<DateTime<Utc>> = (0..3000).map(|day| at("2019-12-01T00:00:00Z") + chrono::Duration::days(day)).collect();
    let weeks: Vec<Period> = days.iter().map(|day| Period::at(Tier::Weekly, day.naive_utc())).collect();
    assert!(weeks.is_sorted());
    assert_eq!(weeks.chunk_by(|one, other| one == other).filter(|week| week.len() == 7).count(), 428, "full weeks");
}
