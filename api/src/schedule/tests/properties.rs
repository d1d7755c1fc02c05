//! What holds for every schedule, against two oracles that share no code with it: the croner library where clocks do not change,
//! and a walk over every single minute where they do.

use super::schedule;
use crate::schedule::Schedule;
use chrono::{DateTime, Duration, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use proptest::prelude::*;

const ZONES: [Tz; 9] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Asia__Kathmandu,
    Tz::America__Santiago,
    Tz::Africa__Casablanca,
    Tz::America__St_Johns,
    Tz::Pacific__Apia,
];

/// One item of a field: a value, a range, a step.
fn item(min: u32, max: u32) -> impl Strategy<Value = String> {
    let span = max - min + 1;
    prop_oneof![
        3 => (min..=max).prop_map(|value| value.to_string()),
        2 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        2 => (1..=span).prop_map(|step| format!("*/{step}")),
        1 => (min..=max, 1..=span).prop_map(move |(a, step)| format!("{a}-{max}/{}", step.min(max - a + 1))),
    ]
}

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("*".to_owned()),
        3 => item(min, max),
        1 => prop::collection::vec(item(min, max), 2..4).prop_map(|items| items.join(",")),
    ]
}

/// Mostly such that something happens every few days.
fn text() -> impl Strategy<Value = String> {
    let day = prop_oneof![3 => Just("*".to_owned()), 1 => field(1, 28), 1 => Just("L".to_owned())];
    let month = prop_oneof![4 => Just("*".to_owned()), 1 => field(1, 12)];
    let weekday =
        prop_oneof![3 => Just("*".to_owned()), 1 => field(0, 6), 1 => (0..7_u32, 1..5_u32).prop_map(|(day, nth)| format!("{day}#{nth}"))];
    (field(0, 59), field(0, 23), day, month, weekday)
        .prop_map(|(minute, hour, day, month, weekday)| [minute, hour, day, month, weekday].join(" "))
}

/// Any second from 2012 to 2043.
fn moment() -> impl Strategy<Value = DateTime<Utc>> {
    (1_325_376_000_i64..2_300_000_000).prop_map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap())
}

fn zone() -> impl Strategy<Value = Tz> {
    prop::sample::select(ZONES.to_vec())
}

/// A moment within some hours of a clock change of the zone, or anywhere where there is none.
fn moment_near_change() -> impl Strategy<Value = (Tz, DateTime<Utc>)> {
    (zone(), moment(), -6 * 3600..3600_i64).prop_map(|(tz, from, shift)| {
        let offset = |at: DateTime<Utc>| at.with_timezone(&tz).format("%z").to_string();
        let hours = (0..366 * 24).map(|hour| from + Duration::hours(hour));
        let change = hours.into_iter().find(|at| offset(*at) != offset(from)).unwrap_or(from);
        (tz, change + Duration::seconds(shift))
    })
}

fn wall(at: DateTime<Utc>, tz: Tz) -> NaiveDateTime {
    at.with_timezone(&tz).naive_local()
}

/// Whether croner says that the wall clock's time is one of the schedule's.
fn names(cron: &Cron, wall: NaiveDateTime) -> bool {
    cron.is_time_matching(&wall.and_utc()).unwrap()
}

/// The definition, minute by minute: a schedule of every hour runs whenever the wall clock matches, any other when the wall clock
/// reaches or passes a time that it has not reached before.
fn walk(text: &str, tz: Tz, after: DateTime<Utc>, hours: i64) -> Vec<DateTime<Utc>> {
    let cron: Cron = text.parse().unwrap();
    let every_hour = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap());
    let minute = Duration::minutes(1);
    // Long enough before that a repeated hour is known to be one.
    let begin = DateTime::from_timestamp(after.timestamp().div_euclid(60) * 60, 0).unwrap() - Duration::hours(30);
    let mut reached = wall(begin, tz);
    let mut found = Vec::new();
    for step in 1..(hours + 30) * 60 {
        let at = begin + minute * i32::try_from(step).unwrap();
        let now = wall(at, tz);
        let is_due = if every_hour {
            names(&cron, now)
        } else {
            let mut passed = std::iter::successors(Some(reached + minute), |time| Some(*time + minute)).take_while(|time| *time <= now);
            passed.any(|time| names(&cron, time))
        };
        reached = reached.max(now);
        if is_due && at > after {
            found.push(at);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_croner_where_no_clock_changes(text in text(), after in moment()) {
        let Ok(ours) = Schedule::parse(&text, "shop", "db") else { return Ok(()) };
        let cron: Cron = text.parse().unwrap();
        let mut time = after;
        for _ in 0..5 {
            let next = ours.next(time, Tz::UTC).unwrap();
            prop_assert_eq!(Some(next), cron.find_next_occurrence(&time, false).ok(), "{} after {}", text, time);
            time = next;
        }
    }

    #[test]
    fn agrees_with_a_walk_over_every_minute_where_clocks_change(text in text(), (tz, after) in moment_near_change()) {
        let Ok(ours) = Schedule::parse(&text, "shop", "db") else { return Ok(()) };
        let expected = walk(&text, tz, after, 12);
        let end = after + Duration::hours(11);
        let times = std::iter::successors(ours.next(after, tz), |time| ours.next(*time, tz));
        let times: Vec<_> = times.take_while(|time| *time <= end).collect();
        let expected: Vec<_> = expected.into_iter().filter(|time| *time <= end).collect();
        prop_assert_eq!(times, expected, "{} in {} after {}", text, tz, after);
    }

    #[test]
    fn the_newest_due_is_the_last_of_all_that_follow(text in text(), (tz, after) in moment_near_change(), minutes in 0..4000_i64) {
        let Ok(ours) = Schedule::parse(&text, "shop", "db") else { return Ok(()) };
        let now = after + Duration::minutes(minutes);
        let times = std::iter::successors(ours.next(after, tz), |time| ours.next(*time, tz));
        prop_assert_eq!(ours.latest_due(after, now, tz), times.take_while(|time| *time <= now).last());
    }

    #[test]
    fn once_caught_up_nothing_is_due(text in text(), tz in zone(), after in moment(), years in 0..10_i64) {
        let Ok(ours) = Schedule::parse(&text, "shop", "db") else { return Ok(()) };
        let now = after + Duration::days(365 * years);
        if let Some(due) = ours.latest_due(after, now, tz) {
            prop_assert!(after < due && due <= now);
            prop_assert_eq!(ours.latest_due(due, now, tz), None);
            prop_assert!(ours.next(due, tz).unwrap() > now);
        } else {
            prop_assert!(ours.next(after, tz).unwrap() > now);
        }
    }

    #[test]
    fn next_is_later_and_never_decreases(text in text(), (tz, one) in moment_near_change(), apart in 0..7200_i64) {
        let Ok(ours) = Schedule::parse(&text, "shop", "db") else { return Ok(()) };
        let other = one + Duration::seconds(apart);
        let (first, second) = (ours.next(one, tz).unwrap(), ours.next(other, tz).unwrap());
        prop_assert!(first > one && second > other && first <= second);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}", after in moment()) {
        if let Ok(schedule) = Schedule::parse(&text, "shop", "db") {
            schedule.next(after, Tz::Europe__Berlin);
        }
    }

    #[test]
    fn no_text_of_crons_letters_panics_and_what_is_accepted_occurs(
        text in "[*0-9HhL/,#()-]{1,4} [*0-9H/,()-]{1,4} [*0-9HLW/,()-]{1,4} [*0-9HA-Z/,-]{1,4} [*0-7HL/,#A-Z-]{1,4}",
        after in moment(),
    ) {
        if let Ok(schedule) = Schedule::parse(&text, "shop", "db") {
            prop_assert!(schedule.next(after, Tz::America__New_York).is_some(), "{}", text);
            prop_assert!(schedule.interval(after, Tz::America__New_York).is_some(), "{}", text);
        }
    }
}

#[test]
fn the_ends_of_the_calendar_are_no_panic() {
    for text in ["* * * * *", "0 3 * * *", "0 0 29 2 *", "30 * 1 1 *"] {
        for tz in ZONES {
            let schedule = schedule(text);
            for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, tz.timestamp_opt(0, 0).unwrap().to_utc()] {
                schedule.next(at, tz);
                schedule.interval(at, tz);
                schedule.latest_due(at, DateTime::<Utc>::MAX_UTC, tz);
                schedule.latest_due(DateTime::<Utc>::MIN_UTC, at, tz);
            }
        }
    }
}
