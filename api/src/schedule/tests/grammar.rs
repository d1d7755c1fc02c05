//! What can be written, what it means without clock changes, and what is refused with which words.

use super::{at, schedule, times};
use crate::schedule::Schedule;
use chrono::Duration;
use chrono_tz::Tz;

#[test]
fn means_what_cron_users_expect() {
    // 2026-11-21 is a Saturday.
    for (text, expected) in [
        ("* * * * *", ["2026-11-21 10:01", "2026-11-21 10:02"]),
        ("*/15 * * * *", ["2026-11-21 10:15", "2026-11-21 10:30"]),
        ("5/20 * * * *", ["2026-11-21 10:05", "2026-11-21 10:25"]),
        ("7-9 * * * *", ["2026-11-21 10:07", "2026-11-21 10:08"]),
        ("30 2 * * *", ["2026-11-22 02:30", "2026-11-23 02:30"]),
        ("0 9-17/4 * * *", ["2026-11-21 13:00", "2026-11-21 17:00"]),
        ("0 10 * * *", ["2026-11-22 10:00", "2026-11-23 10:00"]),
        ("0,30 22,3 * * *", ["2026-11-21 22:00", "2026-11-21 22:30"]),
        ("0 3 * * MON-FRI", ["2026-11-23 03:00", "2026-11-24 03:00"]),
        ("0 3 * * fri-sun", ["2026-11-22 03:00", "2026-11-27 03:00"]),
        ("0 3 * * 7", ["2026-11-22 03:00", "2026-11-29 03:00"]),
        ("0 3 * * 0", ["2026-11-22 03:00", "2026-11-29 03:00"]),
        ("0 3 * * 5-7", ["2026-11-22 03:00", "2026-11-27 03:00"]),
        ("0 3 1 * *", ["2026-12-01 03:00", "2027-01-01 03:00"]),
        ("0 3 31 * *", ["2026-12-31 03:00", "2027-01-31 03:00"]),
        ("0 3 L * *", ["2026-11-30 03:00", "2026-12-31 03:00"]),
        ("0 3 L 2 *", ["2027-02-28 03:00", "2028-02-29 03:00"]),
        ("0 3 29 2 *", ["2028-02-29 03:00", "2032-02-29 03:00"]),
        ("0 3 * * SUN#1", ["2026-12-06 03:00", "2027-01-03 03:00"]),
        ("0 3 * * 5#5", ["2027-01-29 03:00", "2027-04-30 03:00"]),
        ("0 3 * * 5L", ["2026-11-27 03:00", "2026-12-25 03:00"]),
        ("0 3 * * ?", ["2026-11-22 03:00", "2026-11-23 03:00"]),
        // Both day fields say something: either will do.
        ("0 3 13 * FRI", ["2026-11-27 03:00", "2026-12-04 03:00"]),
        ("0 3 */20 * MON", ["2026-11-23 03:00", "2026-11-30 03:00"]),
        ("0 3 * JAN,7 *", ["2027-01-01 03:00", "2027-01-02 03:00"]),
        ("0 0 1 */3 *", ["2027-01-01 00:00", "2027-04-01 00:00"]),
        ("@hourly", ["2026-11-21 11:00", "2026-11-21 12:00"]),
        ("@daily", ["2026-11-22 00:00", "2026-11-23 00:00"]),
        ("@Midnight", ["2026-11-22 00:00", "2026-11-23 00:00"]),
        ("@weekly", ["2026-11-22 00:00", "2026-11-29 00:00"]),
        ("@monthly", ["2026-12-01 00:00", "2027-01-01 00:00"]),
        ("@yearly", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("@annually", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("  0   3\t* * *  ", ["2026-11-22 03:00", "2026-11-23 03:00"]),
    ] {
        let expected = expected.map(|time| format!("{time} +0000"));
        assert_eq!(times(text, "2026-11-21 10:00", Tz::UTC, 2), expected, "{text}");
    }
}

#[test]
fn years_that_are_no_leap_years_are_passed() {
    assert_eq!(times("0 0 29 2 *", "2096-03-01 00:00", Tz::UTC, 1), ["2104-02-29 00:00 +0000"]);
    // The 29th of February on its only weekday that `#5` leaves: a Sunday.
    assert_eq!(times("0 0 L 2 *", "2099-12-31 00:00", Tz::UTC, 1), ["2100-02-28 00:00 +0000"]);
}

#[test]
fn is_refused_with_words_that_help() {
    for (text, words) in [
        ("", "is empty; write five fields"),
        ("   ", "is empty"),
        ("0 3 * *", "has 4 fields where five are wanted"),
        ("0", "has 1 field where"),
        ("daily", "has 1 field where"),
        ("0 0 3 * * *", "seconds and years cannot be scheduled"),
        ("0 0 3 * * * 2026", "seconds and years cannot be scheduled"),
        ("0 0 3 * * * 2026 1", "has 8 fields"),
        ("60 * * * *", "minute: 60 is not within 0-59"),
        ("0 24 * * *", "hour: 24 is not within 0-23"),
        ("0 0 0 * *", "day of month: 0 is not within 1-31"),
        ("0 0 32 * *", "day of month: 32 is not within 1-31"),
        ("0 0 1 13 *", "month: 13 is not within 1-12"),
        ("0 0 * * 8", "day of week: 8 is not within 0-7"),
        ("*/0 * * * *", "minute: the step /0 must be from 1 to 60; a step begins anew in each hour"),
        ("*/90 * * * *", "minute: the step /90 must be from 1 to 60"),
        ("0 */48 * * *", "hour: the step /48 must be from 1 to 24; a step begins anew in each day"),
        ("H/61 * * * *", "minute: the step /61"),
        ("5-3 * * * *", "minute: the range '5-3' begins after its end"),
        ("0 0 * * FRI-MON", "day of week: the range 'FRI-MON' begins after its end"),
        ("a * * * *", "minute: 'a' is not understood"),
        ("0 0 * FOO *", "or JAN to DEC"),
        ("0 0 * * FOO", "or SUN to SAT"),
        ("0 0 * * MON#6", "day of week: 'MON#6' is not understood"),
        ("0 0 * * L", "day of week: 'L' is not understood"),
        ("0 0 15W * *", "W (nearest weekday) is not supported"),
        ("+5 * * * *", "is not understood"),
        ("-5 * * * *", "is not understood"),
        ("1,,2 * * * *", "is not understood"),
        ("1/ * * * *", "is not understood"),
        ("H(3) * * * *", "is not understood"),
        ("H(9-3) * * * *", "begins after its end"),
        ("H(0-99) * * * *", "minute: 99 is not within 0-59"),
        ("99999999999999999999 * * * *", "is not understood"),
        ("0 3 30 2 *", "never occurs"),
        ("0 0 31 2 *", "never occurs"),
        ("0 0 31 4,6,9,11 *", "never occurs"),
        ("@dayly", "'@dayly' is not known; there are @hourly, @daily"),
        ("@reboot", "'@reboot' is not known"),
        ("@every 1h", "write '*/30 * * * *'"),
        ("TZ=Europe/Berlin 0 3 * * *", "borgherd.dev/time-zone"),
        ("CRON_TZ=UTC 0 3 * * *", "borgherd.dev/time-zone"),
        (&"1,".repeat(200), "is longer than 256 characters"),
    ] {
        let message = Schedule::parse(text, "shop", "db").map_err(|error| error.to_string());
        assert!(message.as_ref().is_err_and(|message| message.contains(words)), "'{text}': {message:?}");
        assert!(message.is_err_and(|message| message.len() < 400), "'{text}': too many words");
    }
}

#[test]
fn shows_what_was_written() {
    for text in ["0 3 * * *", "@daily-random", "H H(0-5) * * *"] {
        assert_eq!(schedule(text).to_string(), text);
    }
}

#[test]
fn tells_the_longest_time_between_two() {
    let (minute, hour, day) = (Duration::minutes(1), Duration::hours(1), Duration::days(1));
    for (text, interval) in [
        ("* * * * *", minute),
        ("*/15 * * * *", minute * 15),
        ("5,10 * * * *", minute * 55),
        ("0 * * * *", hour),
        ("0 */7 * * *", hour * 7),
        ("0 3 * * *", day),
        ("0 9-17 * * *", hour * 16),
        ("*/5 9-17 * * 1-5", day * 2 + hour * 15 + minute * 5),
        ("0 3 * * 1-5", day * 3),
        ("@weekly", day * 7),
        ("@monthly", day * 31),
        ("@yearly", day * 366),
        ("0 3 * * SUN#1", day * 35),
        ("0 0 29 2 *", day * 1461),
    ] {
        for tz in [Tz::UTC, Tz::Europe__Berlin] {
            let told = schedule(text).interval(at("2026-10-20 10:00"), tz);
            assert_eq!(told, Some(interval), "{text}");
        }
    }
}
