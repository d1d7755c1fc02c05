//! Tests of schedules.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod clock_changes;
mod grammar;
mod hashed;
mod properties;
mod speed;

use super::{Schedule, ScheduleError};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

fn schedule(text: &str) -> Schedule {
    Schedule::parse(text, "shop", "db").unwrap_or_else(|error| panic_with(text, &error))
}

#[allow(clippy::panic, reason = "a test that cannot go on has failed")]
fn panic_with(text: &str, error: &ScheduleError) -> ! {
    panic!("'{text}': {error}")
}

/// `2026-11-21 10:00` in UTC, or with an offset at its end.
fn at(text: &str) -> DateTime<Utc> {
    let text = if text.len() > 16 { text.to_owned() } else { format!("{text} +0000") };
    DateTime::parse_from_str(&text, "%Y-%m-%d %H:%M %z").unwrap().to_utc()
}

/// The next `count` times after `after`, as the wall clock of `tz` shows them, with the offset.
fn times(text: &str, after: &str, tz: Tz, count: usize) -> Vec<String> {
    let schedule = schedule(text);
    let times = std::iter::successors(schedule.next(at(after), tz), |time| schedule.next(*time, tz));
    times.take(count).map(|time| time.with_timezone(&tz).format("%Y-%m-%d %H:%M %z").to_string()).collect()
}
