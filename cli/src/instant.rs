//! Moments: reading the ones that people write for `--at`, and showing cuts in local time with their age.
//!
//! Pure: now and the time zone are arguments. A moment of the wall clock means the end of its second, minute or day, since
//! "the 10:00 backup" was cut some seconds after ten.

use crate::duration;
use chrono::{DateTime, Days, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, SubsecRound as _, TimeDelta, TimeZone, Utc};

/// From the last moment of a second, a minute or a day to its end: cuts may have fractions of a second.
const LAST: TimeDelta = TimeDelta::milliseconds(1);

/// Now, and where the reader's clock stands at any moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here {
    /// The moment that ages count from.
    pub(crate) now: DateTime<Utc>,
    /// Offset of local time from UTC at a moment.
    pub(crate) offset: fn(DateTime<Utc>) -> FixedOffset,
}

impl Here {
    /// `2026-11-21 10:00:03`, local time.
    pub(crate) fn local(self, at: DateTime<Utc>) -> String {
        self.at_offset(at).format("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// `2026-11-21 10:00:03 +01:00`.
    pub(crate) fn local_with_offset(self, at: DateTime<Utc>) -> String {
        self.at_offset(at).format("%Y-%m-%d %H:%M:%S %:z").to_string()
    }

    /// `2h15m`: how long ago.
    pub(crate) fn age(self, at: DateTime<Utc>) -> String {
        duration::short((self.now - at).num_seconds())
    }

    /// `3m ago`, or `in 2h` for what is to come.
    pub(crate) fn relative(self, at: DateTime<Utc>) -> String {
        let seconds = (self.now - at).num_seconds();
        if seconds < 0 {
            return format!("in {}", duration::short(-seconds));
        }
        format!("{} ago", duration::short(seconds))
    }

    /// `2026-11-21 10:00:03 +01:00 (3m ago)`.
    pub(crate) fn full(self, at: DateTime<Utc>) -> String {
        format!("{} ({})", self.local_with_offset(at), self.relative(at))
    }

    fn at_offset(self, at: DateTime<Utc>) -> DateTime<FixedOffset> {
        at.with_timezone(&(self.offset)(at))
    }
}

/// Reads a moment in the past: RFC 3339; in local time `2026-11-21`, `2026-11-21 10:00`, with or without seconds; or an age.
/// A time that occurs twice means the later one; one that the clocks skip is refused.
pub(crate) fn parse<Z: TimeZone>(text: &str, now: DateTime<Utc>, zone: &Z) -> Result<DateTime<Utc>, String> {
    let text = text.trim();
    let (begin, end) = named(text, now, zone)?;
    if begin > now {
        return Err(format!("{text} lies in the future; give the time of a backup that has been made"));
    }
    Ok(end)
}

/// Begin and end of what `text` names: a second, a minute or a day.
fn named<Z: TimeZone>(text: &str, now: DateTime<Utc>, zone: &Z) -> Result<(DateTime<Utc>, DateTime<Utc>), String> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        let moment = moment.to_utc();
        return Ok((moment, moment));
    }
    if let Some(begin) = age(text, now) {
        return Ok((begin, begin));
    }
    let (begin, end) = wall(text)
        .ok_or_else(|| format!("{text} is no time; give one such as 2026-11-21T10:00:00Z, `2026-11-21 10:00`, 2026-11-21, 3h or 2d"))?;
    Ok((moment(begin, zone)?, moment(end, zone)?))
}

/// `3h`, `3h ago`: that long before `now`.
fn age(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let text = text.strip_suffix("ago").map_or(text, str::trim_end);
    let age = duration::parse(text).ok()?;
    Some(now.checked_sub_signed(TimeDelta::from_std(age).ok()?)?.trunc_subsecs(0))
}

/// First and last millisecond of what a wall clock's reading names.
fn wall(text: &str) -> Option<(NaiveDateTime, NaiveDateTime)> {
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        let begin = day.and_time(NaiveTime::MIN);
        return Some((begin, begin.checked_add_days(Days::new(1))? - LAST));
    }
    let text = text.replacen('T', " ", 1);
    if let Ok(second) = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S") {
        return Some((second, second + TimeDelta::seconds(1) - LAST));
    }
    let minute = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M").ok()?;
    Some((minute, minute + TimeDelta::minutes(1) - LAST))
}

fn moment<Z: TimeZone>(wall: NaiveDateTime, zone: &Z) -> Result<DateTime<Utc>, String> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(at) | LocalResult::Ambiguous(_, at) => Ok(at.to_utc()),
        LocalResult::None => {
            Err(format!("{wall} does not exist in local time, where the clocks went forward; give another time or one with its offset"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use chrono_tz::Europe::Berlin;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn at(text: &str) -> Result<String, String> {
        parse(text, utc("2026-11-21T12:00:00Z"), &Berlin).map(|t| t.format("%FT%T%.fZ").to_string())
    }

    #[test]
    fn what_people_write() {
        for (text, expected) in [
            ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z"),
            ("2026-11-21T10:00:00+01:00", "2026-11-21T09:00:00Z"),
            ("2026-11-21 10:00:07", "2026-11-21T09:00:07.999Z"),
            ("2026-11-21T10:00:07", "2026-11-21T09:00:07.999Z"),
            ("2026-11-21 10:00", "2026-11-21T09:00:59.999Z"),
            ("2026-11-20", "2026-11-20T22:59:59.999Z"),
            ("2026-11-21", "2026-11-21T22:59:59.999Z"),
            ("2026-07-01", "2026-07-01T21:59:59.999Z"),
            ("3h", "2026-11-21T09:00:00Z"),
            ("2d ago", "2026-11-19T12:00:00Z"),
            ("1d12h ago", "2026-11-20T00:00:00Z"),
            (" 90m ", "2026-11-21T10:30:00Z"),
            // occurs twice: 00:30Z and 01:30Z
            ("2026-10-25 02:30:00", "2026-10-25T01:30:00.999Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, named) in [
            ("yesterday", "no time"),
            ("", "no time"),
            ("2026-13-01", "no time"),
            ("2026-11-21 25:00", "no time"),
            ("21.11.2026", "no time"),
            ("10:00", "no time"),
            ("2026-11-22", "future"),
            ("2026-11-21 14:00", "future"),
            ("2062-11-21T10:00:00Z", "future"),
            ("2026-03-29 02:30", "does not exist"),
        ] {
            assert!(at(text).unwrap_err().contains(named), "{text}");
        }
    }

    #[test]
    fn shown_where_the_reader_is() {
        let here = Here { now: utc("2026-11-21T12:00:00Z"), offset: |_| FixedOffset::east_opt(3600).unwrap() };
        assert_eq!(here.full(utc("2026-11-21T09:45:03Z")), "2026-11-21 10:45:03 +01:00 (2h14m ago)");
        assert_eq!(here.relative(utc("2026-11-21T14:00:00Z")), "in 2h");
        assert_eq!(here.local(utc("2026-11-20T23:30:00.7Z")), "2026-11-21 00:30:00");
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_typed_makes_it_panic(text in "\\PC*") {
            parse(&text, utc("2026-11-21T12:00:00Z"), &Berlin).ok();
        }

        #[test]
        fn what_list_shows_finds_the_same_cut(seconds in 0_i64..1_790_000_000) {
            let cut = DateTime::from_timestamp(seconds, 0).unwrap();
            let shown = cut.with_timezone(&Berlin).format("%Y-%m-%d %H:%M:%S").to_string();
            let read = parse(&shown, utc("2026-11-21T12:00:00Z"), &Berlin).unwrap();
            // at or after the cut, by no more than the hour that occurs twice
            proptest::prop_assert!(read >= cut && read - cut <= TimeDelta::minutes(61));
        }
    }
}
