//! From the wall clock to real instants: where clocks change.
//!
//! Invariant: `next` is strictly after its argument and never decreases as the argument grows; the bisection in
//! [`super::Schedule::latest_due`] rests on that.

use super::pattern::Pattern;
use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// Clock changes are walked minute by minute; the longest known was a day. A safety net, not a limit that is met.
const MAX_STEPS: u32 = 10_000;

/// The first instant after `after` that `pattern` names in `tz`.
pub(super) fn next(pattern: &Pattern, after: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
    if pattern.is_every_hour() { next_real(pattern, after, tz) } else { next_wall(pattern, after, tz) }
}

/// Wall-clock times, each once. `reached` never decreases with the wall time, so what the wall clock showed at `after` or before
/// cannot lie after `after`.
fn next_wall(pattern: &Pattern, after: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
    let mut wall = local(after, tz)?;
    for _ in 0..MAX_STEPS {
        wall = pattern.next(wall)?;
        let at = reached(wall, tz)?;
        if at > after {
            return Some(at);
        }
    }
    None
}

/// Every real instant whose wall clock matches.
fn next_real(pattern: &Pattern, after: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
    let mut at = whole_minute_after(after, tz)?;
    for _ in 0..MAX_STEPS {
        let wall = local(at, tz)?;
        if !pattern.is_day(wall.date()) {
            let day = pattern.day_after(wall.date())?;
            let begins = reached(day.and_time(NaiveTime::MIN), tz)?;
            at = if begins > at { begins } else { whole_minute_after(at, tz)? };
            continue;
        }
        let wait = match pattern.minute_from(wall.minute()) {
            Some(minute) if minute == wall.minute() && wall.second() == 0 => return Some(at),
            Some(minute) => minute - wall.minute(),
            None => 60 - wall.minute(),
        };
        let then = at.checked_add_signed(Duration::minutes(i64::from(wait)))?;
        let steady = wall.second() == 0 && offset(then, tz) == offset(at, tz);
        at = if steady && then > at { then } else { whole_minute_after(at, tz)? };
    }
    None
}

/// The first instant at which the wall clock of `tz` shows `wall` or has passed it: the first of two, the end of a gap.
fn reached(wall: NaiveDateTime, tz: Tz) -> Option<DateTime<Utc>> {
    match tz.from_local_datetime(&wall) {
        LocalResult::Single(at) => Some(at.to_utc()),
        LocalResult::Ambiguous(one, other) => Some(one.min(other).to_utc()),
        LocalResult::None => gap_end(wall, tz),
    }
}

/// Where the gap that swallows `wall` ends. No zone is further than 26 hours from UTC, before or after.
fn gap_end(wall: NaiveDateTime, tz: Tz) -> Option<DateTime<Utc>> {
    let around = Duration::hours(26);
    let mut before = wall.and_utc().checked_sub_signed(around)?;
    let mut after = wall.and_utc().checked_add_signed(around)?;
    while after - before > Duration::seconds(1) {
        let middle = before + Duration::seconds((after - before).num_seconds() / 2);
        if local(middle, tz)? >= wall {
            after = middle;
        } else {
            before = middle;
        }
    }
    Some(after)
}

/// The first instant after `after` whose wall clock shows whole minutes.
fn whole_minute_after(after: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
    let past = i64::from(local(after, tz)?.second());
    let whole = after.with_nanosecond(0)?;
    whole.checked_add_signed(Duration::seconds(60 - past))
}

fn offset(at: DateTime<Utc>, tz: Tz) -> i32 {
    tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
}

/// What the wall clock of `tz` shows; `None` at the ends of the calendar, where chrono's own conversion would panic.
pub(super) fn local(at: DateTime<Utc>, tz: Tz) -> Option<NaiveDateTime> {
    at.naive_utc().checked_add_signed(Duration::seconds(i64::from(offset(at, tz))))
}
