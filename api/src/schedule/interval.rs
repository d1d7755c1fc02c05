//! The expected interval: the longest time between neighbours, by the wall clock alone.

use super::pattern::Pattern;
use chrono::{Duration, NaiveDate};

/// How many of the days that follow are looked at: enough for a weekend, the longest month, and a leap year.
const DAYS: usize = 13;

/// The longest of: the gaps within a day, and those from the last time of a day to the first of the next, from `from` on.
pub(super) fn longest(pattern: &Pattern, from: NaiveDate) -> Option<Duration> {
    let overnight = pattern.first_time()? - pattern.last_time()?;
    let mut day = pattern.day_from(from)?;
    let mut longest = within(pattern);
    for _ in 0..DAYS {
        let Some(next) = pattern.day_after(day) else { break };
        longest = longest.max(Some((next - day) + overnight));
        day = next;
    }
    longest
}

/// The longest gap within one day; `None` if there is only one time.
fn within(pattern: &Pattern) -> Option<Duration> {
    let minutes = widest(pattern.minutes).map(i64::from);
    let hours = widest(u64::from(pattern.hours)).map(|hours| {
        let first = pattern.minutes.trailing_zeros();
        let last = pattern.minutes.checked_ilog2().unwrap_or(first);
        i64::from(hours) * 60 - i64::from(last - first)
    });
    minutes.max(hours).map(Duration::minutes)
}

/// The longest distance between neighbouring bits.
fn widest(mut mask: u64) -> Option<u32> {
    let mut widest = None;
    while mask != 0 {
        let low = mask.trailing_zeros();
        mask &= mask - 1;
        if mask != 0 {
            widest = widest.max(Some(mask.trailing_zeros() - low));
        }
    }
    widest
}
