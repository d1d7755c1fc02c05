//! What happens when clocks are changed: the table that the documentation tells.

use super::{at, schedule, times};
use chrono_tz::Tz;

/// Berlin 2026: 29 March 02:00 → 03:00; 25 October 03:00 → 02:00.
const BERLIN: Tz = Tz::Europe__Berlin;

#[test]
fn a_time_in_the_gap_runs_once_at_its_end() {
    assert_eq!(
        times("30 2 * * *", "2026-03-28 00:00", BERLIN, 3),
        ["2026-03-28 02:30 +0100", "2026-03-29 03:00 +0200", "2026-03-30 02:30 +0200"]
    );
    // Several of them in one gap: once.
    assert_eq!(
        times("*/15 2 * * *", "2026-03-28 01:45", BERLIN, 3),
        ["2026-03-29 03:00 +0200", "2026-03-30 02:00 +0200", "2026-03-30 02:15 +0200"]
    );
    // One that is at its end anyway: once.
    assert_eq!(
        times("0,30 2,3 * * *", "2026-03-28 02:00", BERLIN, 4),
        ["2026-03-28 03:30 +0100", "2026-03-29 03:00 +0200", "2026-03-29 03:30 +0200", "2026-03-30 02:00 +0200"]
    );
    // The day fields are those of the missing time.
    assert_eq!(times("0 2 29 3 *", "2026-01-01 00:00", BERLIN, 2), ["2026-03-29 03:00 +0200", "2027-03-29 02:00 +0200"]);
}

#[test]
fn a_time_that_occurs_twice_runs_the_first_time_only() {
    assert_eq!(times("30 2 * * *", "2026-10-24 12:00", BERLIN, 2), ["2026-10-25 02:30 +0200", "2026-10-26 02:30 +0100"]);
    // Also when we look from within the second pass.
    assert_eq!(times("30 2 * * *", "2026-10-25 02:10 +0100", BERLIN, 1), ["2026-10-26 02:30 +0100"]);
    assert_eq!(
        times("*/30 2,3 * * *", "2026-10-25 02:00 +0200", BERLIN, 3),
        ["2026-10-25 02:30 +0200", "2026-10-25 03:00 +0100", "2026-10-25 03:30 +0100"]
    );
}

#[test]
fn a_schedule_of_every_hour_goes_on_through_the_repeated_hour_and_makes_nothing_up_in_the_gap() {
    assert_eq!(
        times("0 * * * *", "2026-10-24 23:30", BERLIN, 4),
        ["2026-10-25 02:00 +0200", "2026-10-25 02:00 +0100", "2026-10-25 03:00 +0100", "2026-10-25 04:00 +0100"]
    );
    assert_eq!(
        times("*/30 * * * *", "2026-10-25 00:00", BERLIN, 4),
        ["2026-10-25 02:30 +0200", "2026-10-25 02:00 +0100", "2026-10-25 02:30 +0100", "2026-10-25 03:00 +0100"]
    );
    assert_eq!(
        times("30 * * * *", "2026-03-29 00:00", BERLIN, 3),
        ["2026-03-29 01:30 +0100", "2026-03-29 03:30 +0200", "2026-03-29 04:30 +0200"]
    );
}

#[test]
fn half_an_hour_on_lord_howe_island() {
    let howe = Tz::Australia__Lord_Howe;
    // 2026-10-04 02:00 → 02:30; 2026-04-05 02:00 → 01:30.
    assert_eq!(
        times("15 2 * * *", "2026-10-02 15:30", howe, 3),
        ["2026-10-03 02:15 +1030", "2026-10-04 02:30 +1100", "2026-10-05 02:15 +1100"]
    );
    assert_eq!(
        times("45 1 * * *", "2026-04-03 15:00", howe, 3),
        ["2026-04-05 01:45 +1100", "2026-04-06 01:45 +1030", "2026-04-07 01:45 +1030"]
    );
    assert_eq!(
        times("*/15 * * * *", "2026-04-05 01:30 +1100", howe, 4),
        ["2026-04-05 01:45 +1100", "2026-04-05 01:30 +1030", "2026-04-05 01:45 +1030", "2026-04-05 02:00 +1030"]
    );
}

#[test]
fn other_zones() {
    // New York 2026: 8 March 02:00 → 03:00; 1 November 02:00 → 01:00.
    assert_eq!(times("30 2 * * *", "2026-03-08 00:00", Tz::America__New_York, 2), ["2026-03-08 03:00 -0400", "2026-03-09 02:30 -0400"]);
    assert_eq!(times("30 1 * * *", "2026-10-31 12:00", Tz::America__New_York, 2), ["2026-11-01 01:30 -0400", "2026-11-02 01:30 -0500"]);
    // No clock changes, an odd offset.
    assert_eq!(times("0 0 * * *", "2026-03-28 12:00", Tz::Asia__Kathmandu, 2), ["2026-03-29 00:00 +0545", "2026-03-30 00:00 +0545"]);
    // Santiago begins summer at midnight: that midnight does not exist.
    assert_eq!(times("0 0 * * *", "2026-09-05 12:00", Tz::America__Santiago, 2), ["2026-09-06 01:00 -0300", "2026-09-07 00:00 -0300"]);
    // And ends it at midnight: 23:00 of the day before comes again, the day itself only once.
    assert_eq!(
        times("@hourly", "2026-04-05 01:30", Tz::America__Santiago, 4),
        ["2026-04-04 23:00 -0300", "2026-04-04 23:00 -0400", "2026-04-05 00:00 -0400", "2026-04-05 01:00 -0400"]
    );
    // Samoa left out the 30th of December 2011.
    assert_eq!(
        times("0 3 * * *", "2011-12-28 20:00", Tz::Pacific__Apia, 3),
        ["2011-12-29 03:00 -1000", "2011-12-31 00:00 +1400", "2011-12-31 03:00 +1400"]
    );
}

#[test]
fn a_schedule_of_every_hour_on_one_day_has_all_hours_of_that_day() {
    let all = |after| times("0 * 25 10 *", after, BERLIN, 26);
    let october = all("2026-01-01 00:00");
    assert_eq!(october.iter().filter(|time| time.starts_with("2026-10-25")).count(), 25);
    let march = times("0 * 29 3 *", "2026-01-01 00:00", BERLIN, 26);
    assert_eq!(march.iter().filter(|time| time.starts_with("2026-03-29")).count(), 23);
}

#[test]
fn catches_up_once_across_changes() {
    let due = |text: &str, after, now| schedule(text).latest_due(at(after), at(now), BERLIN);
    // Down over the gap and long after it.
    assert_eq!(due("30 2 * * *", "2026-03-28 12:00", "2026-03-29 01:00"), Some(at("2026-03-29 01:00")));
    assert_eq!(due("30 2 * * *", "2026-03-28 12:00", "2026-03-29 00:59"), None);
    // In the second pass of 02:30 nothing is due that was not before.
    assert_eq!(due("30 2 * * *", "2026-10-25 02:30 +0200", "2026-10-25 02:59 +0100"), None);
    assert_eq!(due("0 * * * *", "2026-10-25 02:30 +0200", "2026-10-25 02:59 +0100"), Some(at("2026-10-25 02:00 +0100")));
}
