//! The five fields as bits, and the arithmetic of the wall clock: no time zone here.
//!
//! Invariant: minutes, hours and months are never empty, so that every search by month ends.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

/// Which hours make a schedule an interval: all of them.
const EVERY_HOUR: u32 = (1 << 24) - 1;
/// All seven days, whichever time they come.
const EVERY_WEEKDAY: u64 = 0x7f_7f7f_7f7f;
/// No day that exists at all is more than 40 years away from its like (29 February on a given weekday, over a year like 2100).
const SEARCH_MONTHS: u32 = 12 * 45;

/// A parsed schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Bit n: minute n.
    pub minutes: u64,
    /// Bit n: hour n.
    pub hours: u32,
    /// Bits 1–31; bit 0: the month's last day.
    pub days: u32,
    /// Weekday d (0 Sunday) that comes the nth time in its month: bit `8 * (n - 1) + d` for n from 1 to 5, the sixth byte for its
    /// last time. Any time: all five.
    pub weekdays: u64,
    /// Bits 1–12.
    pub months: u16,
    /// Neither day field is `*`: a day that matches one of them will do. Else it must match both. As in `Kubernetes` `CronJobs`.
    pub either: bool,
}

impl Pattern {
    /// Whether this is an interval, see the module [`super`].
    pub(super) const fn is_every_hour(&self) -> bool {
        self.hours == EVERY_HOUR
    }

    /// The days (bit n: day n) of a month that has `length` days and begins on weekday `first` (0 Sunday).
    fn days_of(&self, length: u32, first: u32) -> u32 {
        let by_day = self.days & !1 | if self.days & 1 == 1 { 1 << length } else { 0 };
        let by_weekday = self.days_of_weekdays(length, first);
        let days = if self.either { by_day | by_weekday } else { by_day & by_weekday };
        days & (u32::MAX >> (31 - length))
    }

    fn days_of_weekdays(&self, length: u32, first: u32) -> u32 {
        if self.weekdays == EVERY_WEEKDAY {
            return u32::MAX;
        }
        let is_one = |day: u32| {
            let weekday = (first + day - 1) % 7;
            let nth = 1 << ((day - 1) / 7 * 8 + weekday);
            let last = if day + 7 > length { 1 << (40 + weekday) } else { 0 };
            self.weekdays & (nth | last) != 0
        };
        (1..=length).filter(|day| is_one(*day)).fold(0, |days, day| days | 1 << day)
    }

    /// Whether any month of any year has such a day.
    pub(super) fn ever_occurs(&self) -> bool {
        let lengths = |month: u32| match month {
            2 => 28..=29,
            4 | 6 | 9 | 11 => 30..=30,
            _ => 31..=31,
        };
        (1..=12)
            .filter(|month| self.months & 1 << month != 0)
            .any(|month| lengths(month).any(|length| (0..7).any(|first| self.days_of(length, first) != 0)))
    }

    /// Whether `date` is one of the days.
    pub(super) fn is_day(&self, date: NaiveDate) -> bool {
        self.months & 1 << date.month() != 0 && self.month(date.with_day(1).unwrap_or(date)) & 1 << date.day() != 0
    }

    fn month(&self, first: NaiveDate) -> u32 {
        self.days_of(u32::from(first.num_days_in_month()), first.weekday().num_days_from_sunday())
    }

    /// The first of the days at or after `from`.
    pub(super) fn day_from(&self, from: NaiveDate) -> Option<NaiveDate> {
        let mut first = from.with_day(1)?;
        let mut beginning = from.day();
        for _ in 0..SEARCH_MONTHS {
            if self.months & 1 << first.month() != 0
                && let Some(day) = lowest(u64::from(self.month(first)), beginning)
            {
                return first.with_day(day);
            }
            first = first.checked_add_months(chrono::Months::new(1))?;
            beginning = 1;
        }
        None
    }

    /// The first of the days after `date`.
    pub(super) fn day_after(&self, date: NaiveDate) -> Option<NaiveDate> {
        self.day_from(date.checked_add_days(Days::new(1))?)
    }

    /// The first minute of the mask at or after `minute` in an hour.
    pub(super) fn minute_from(&self, minute: u32) -> Option<u32> {
        lowest(self.minutes, minute)
    }

    /// The first time of any of the days.
    pub(super) fn first_time(&self) -> Option<NaiveTime> {
        self.time_from(0, 0)
    }

    /// The last time of any of the days.
    pub(super) fn last_time(&self) -> Option<NaiveTime> {
        let hour = self.hours.checked_ilog2()?;
        NaiveTime::from_hms_opt(hour, self.minutes.checked_ilog2()?, 0)
    }

    /// The first time of a day at or after `hour`:`minute`; `minute` may be 60.
    pub(super) fn time_from(&self, hour: u32, minute: u32) -> Option<NaiveTime> {
        let found = lowest(u64::from(self.hours), hour)?;
        let minute = if found == hour { self.minute_from(minute) } else { self.minute_from(0) };
        match minute {
            Some(minute) => NaiveTime::from_hms_opt(found, minute, 0),
            None => self.time_from(found + 1, 0),
        }
    }

    /// The first wall-clock time strictly after `after`, as if no clock ever changed.
    pub(super) fn next(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let today = after.date();
        if self.is_day(today)
            && let Some(time) = self.time_from(after.hour(), after.minute() + 1)
        {
            return Some(today.and_time(time));
        }
        Some(self.day_after(today)?.and_time(self.first_time()?))
    }
}

/// The lowest bit of `mask` at or above `from`.
fn lowest(mask: u64, from: u32) -> Option<u32> {
    let rest = mask.checked_shr(from)?;
    (rest != 0).then(|| rest.trailing_zeros() + from)
}
