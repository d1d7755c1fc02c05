//! Schedules: when a PVC is backed up, across time zones and their clock changes.
//!
//! Owns the grammar of the annotations `schedule` and `archive-schedule` and the arithmetic behind them. A [`Schedule`] is a few
//! words of bits (see [`pattern`]), since ten thousand of them are held; the general cron libraries keep kilobytes each, walk
//! clock changes second by second, and drop a run that falls into the missing hour.
//!
//! What the clock does to a schedule:
//! * A schedule of certain hours (`30 2 * * *`, `0 */6 * * *`) means wall-clock times. One that does not exist runs once, at the
//!   first instant after the gap; one that occurs twice runs once, the first time.
//! * A schedule of every hour (`*/15 * * * *`, `@hourly`) means an interval: it runs at every real instant whose wall clock
//!   matches, so it goes on through the repeated hour, and nothing is made up for minutes that do not exist.

mod error;
mod field;
mod instant;
mod interval;
mod pattern;
mod text;

#[cfg(test)]
mod tests;

pub use error::{Field, ScheduleError};

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use pattern::Pattern;
use std::{fmt, sync::Arc};

/// When something is due, as written by a person. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: Arc<str>,
    pattern: Pattern,
}

impl Schedule {
    /// Reads `text`: five cron fields, or an alias like `@daily` or `@daily-random`. `namespace` and `name` (of the PVC, or of its
    /// group) decide what `H` and `-random` stand for: the same for ever, and spread evenly over all names.
    pub fn parse(text: &str, namespace: &str, name: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        let pattern = text::parse(text, namespace, name)?;
        if !pattern.ever_occurs() {
            return Err(ScheduleError::NeverOccurs);
        }
        Ok(Self { text: text.into(), pattern })
    }

    /// The first scheduled time strictly after `after`. `None` only at the end of the calendar.
    pub fn next(&self, after: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
        instant::next(&self.pattern, after, tz)
    }

    /// The newest scheduled time in `(after, now]`: the one catch-up for all that were missed. Its cost does not grow with the
    /// number of missed times.
    pub fn latest_due(&self, after: DateTime<Utc>, now: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
        let due = |after| self.next(after, tz).filter(|at| *at <= now);
        let mut newest = due(after)?;
        // Nothing is due after `quiet`. Growing steps back from now find a stretch that has a due time,
        let mut quiet = now;
        let mut step = Duration::minutes(1);
        while let Some(back) = quiet.checked_sub_signed(step).filter(|back| *back > newest) {
            if let Some(found) = due(back) {
                newest = found;
                break;
            }
            quiet = back;
            step = step * 4;
        }
        // often with just one or two;
        for _ in 0..3 {
            let Some(later) = due(newest) else { return Some(newest) };
            newest = later;
        }
        // else halving the stretch finds its last.
        while quiet - newest > Duration::seconds(1) {
            let middle = newest + (quiet - newest) / 2;
            match due(middle) {
                Some(found) => newest = found,
                None => quiet = middle,
            }
        }
        Some(due(newest).unwrap_or(newest))
    }

    /// The longest time between two neighbours among the times that follow `around`, by the wall clock (a day is 24 hours also when
    /// the clock changes): what passes between two successes if nothing is wrong.
    pub fn interval(&self, around: DateTime<Utc>, tz: Tz) -> Option<Duration> {
        interval::longest(&self.pattern, instant::local(around, tz)?.date())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
