//! The hour, day, week, month or year that a snapshot was cut in, by the policy's clock.
//!
//! Invariant: within one tier a later period has a greater number, and a label that was written is read as the same period again.

use crate::policy::Tier;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};
use chrono_tz::Tz;
use std::fmt;

/// One span of time of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    tier: Tier,
    number: i32,
}

/// What the clock of `zone` showed at `at`.
pub(super) fn local(at: DateTime<Utc>, zone: Tz) -> NaiveDateTime {
    at.with_timezone(&zone).naive_local()
}

impl Period {
    /// The one that `local` lies in.
    pub fn at(tier: Tier, local: NaiveDateTime) -> Self {
        let hour = || i32::try_from(local.hour()).unwrap_or_default();
        let number = match tier {
            Tier::Hourly => local.num_days_from_ce() * 24 + hour(),
            Tier::Daily => local.num_days_from_ce(),
            Tier::Weekly => week(local.date()),
            Tier::Monthly => local.year() * 12 + i32::try_from(local.month0()).unwrap_or_default(),
            Tier::Yearly => local.year(),
        };
        Self { tier, number }
    }

    /// Reads the label of a snapshot, also as programs before Borgherd wrote weeks: `2022-w20`, and `w20`, which is one of the year that
    /// `cut` tells when it is asked; `None`: it names no period.
    pub fn read_of(tier: Tier, text: &str, cut: impl FnOnce() -> NaiveDateTime) -> Option<Self> {
        if tier != Tier::Weekly {
            return Self::read(tier, text);
        }
        let (year, number) = match text.split_once('w') {
            None => return Self::read(tier, text),
            Some(("", number)) => (cut().iso_week().year(), number),
            Some((year, number)) => (year.strip_suffix('-')?.parse().ok()?, number),
        };
        Self::of_week(year, number)
    }

    /// Reads a label; `None`: it names no period.
    pub fn read(tier: Tier, text: &str) -> Option<Self> {
        let number = match tier {
            Tier::Hourly => {
                let (date, hour) = text.split_once('T')?;
                read_day(date)?.num_days_from_ce() * 24 + hour.parse::<i32>().ok().filter(|hour| (0..24).contains(hour))?
            }
            Tier::Daily => read_day(text)?.num_days_from_ce(),
            Tier::Weekly => {
                let (year, number) = text.split_once("-W")?;
                return Self::of_week(year.parse().ok()?, number);
            }
            Tier::Monthly => {
                let first = read_day(&format!("{text}-01"))?;
                first.year() * 12 + i32::try_from(first.month0()).ok()?
            }
            Tier::Yearly => text.parse().ok()?,
        };
        Some(Self { tier, number })
    }

    fn of_week(year: i32, number: &str) -> Option<Self> {
        let monday = NaiveDate::from_isoywd_opt(year, number.parse().ok()?, chrono::Weekday::Mon)?;
        Some(Self { tier: Tier::Weekly, number: week(monday) })
    }
}

/// A day as it is written, `2026-11-21`, and in no other form.
pub(super) fn read_day(text: &str) -> Option<NaiveDate> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok())?
    };
    let dashes = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    if !dashes {
        return None;
    }
    NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(5, 7)?, number(8, 10)?)
}

/// Weeks since the first one of the calendar: they go on over the year's end.
fn week(date: NaiveDate) -> i32 {
    (date.num_days_from_ce() - 1).div_euclid(7)
}

/// As the label has it: `2026-11-21T10`, `2026-11-21`, `2026-W47`, `2026-11`, `2026`.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = |days: i32| NaiveDate::from_num_days_from_ce_opt(days).unwrap_or_default();
        match self.tier {
            Tier::Hourly => write!(f, "{}T{:02}", date(self.number.div_euclid(24)), self.number.rem_euclid(24)),
            Tier::Daily => write!(f, "{}", date(self.number)),
            Tier::Weekly => {
                let week = date(self.number * 7 + 1).iso_week();
                write!(f, "{:04}-W{:02}", week.year(), week.week())
            }
            Tier::Monthly => write!(f, "{:04}-{:02}", self.number.div_euclid(12), self.number.rem_euclid(12) + 1),
            Tier::Yearly => write!(f, "{:04}", self.number),
        }
    }
}
