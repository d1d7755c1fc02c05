//! What can be wrong with a schedule, each in words that say what would be right.

use std::fmt;
use thiserror::Error;

/// One of the five fields of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// 0–59.
    Minute,
    /// 0–23.
    Hour,
    /// 1–31, or `L` for the month's last.
    Day,
    /// 1–12 or `JAN`–`DEC`.
    Month,
    /// 0–7 or `SUN`–`SAT`; 0 and 7 are Sunday.
    Weekday,
}

impl Field {
    /// All five, in the order in which they are written.
    pub const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Weekday];

    /// The smallest and the largest number that can be written.
    pub const fn range(self) -> (u32, u32) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 7),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day of month",
            Self::Month => "month",
            Self::Weekday => "day of week",
        })
    }
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// Nothing but white space.
    #[error("is empty; write five fields like '0 3 * * *', or @daily")]
    Empty,
    /// Longer than any schedule needs to be.
    #[error("is longer than {max} characters")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// Not five fields.
    #[error("has {count} field{s} where five are wanted: minute, hour, day of month, month, day of week (like '0 3 * * *')", s = if *count == 1 { "" } else { "s" })]
    FieldCount {
        /// How many there are.
        count: usize,
    },
    /// Six or seven fields, as in dialects with seconds and years.
    #[error(
        "has {count} fields where five are wanted: minute, hour, day of month, month, day of week; seconds and years cannot be scheduled"
    )]
    SecondsOrYears {
        /// How many there are.
        count: usize,
    },
    /// `@` and something else than an alias.
    #[error("'{alias}' is not known; there are {known}", known = crate::schedule::text::aliases())]
    UnknownAlias {
        /// What was written, shortened.
        alias: String,
    },
    /// `@every 1h`.
    #[error(
        "'@every' counts from when a program started, which is no schedule; write '*/30 * * * *' for every 30 minutes, '0 */6 * * *' for every 6 hours"
    )]
    Every,
    /// `TZ=…` in front.
    #[error("a time zone does not belong here; write it in the annotation borgherd.dev/time-zone")]
    TimeZone,
    /// Not a number and no name.
    #[error("{field}: '{text}' is not understood; it can be *, a number from {min} to {max}{more}, a range a-b, a step /n, a list with commas, or H", min = field.range().0, max = field.range().1, more = match field { Field::Month => " or JAN to DEC", Field::Weekday => " or SUN to SAT, 1#2 (the second Monday), 5L (the last Friday)", Field::Day => ", L (the last day)", Field::Minute | Field::Hour => "" })]
    NotUnderstood {
        /// Where.
        field: Field,
        /// What was written, shortened.
        text: String,
    },
    /// A number outside the field's range.
    #[error("{field}: {value} is not within {min}-{max}", min = field.range().0, max = field.range().1)]
    OutOfRange {
        /// Where.
        field: Field,
        /// What was written.
        value: u32,
    },
    /// `5-3`.
    #[error("{field}: the range '{text}' begins after its end; write it as two, with a comma between")]
    Backwards {
        /// Where.
        field: Field,
        /// What was written, shortened.
        text: String,
    },
    /// `*/0`, or a step that reaches beyond the range.
    #[error("{field}: the step /{step} must be from 1 to {max}; a step begins anew in each {parent}", parent = match field { Field::Minute => "hour", Field::Hour => "day", Field::Day => "month", Field::Month => "year", Field::Weekday => "week" })]
    Step {
        /// Where.
        field: Field,
        /// What was written.
        step: u32,
        /// The largest step that selects anything but the first value, or all of them.
        max: u32,
    },
    /// `15W`.
    #[error("day of month: '{text}': W (nearest weekday) is not supported")]
    NearestWeekday {
        /// What was written, shortened.
        text: String,
    },
    /// The 31st of February.
    #[error("never occurs: no such day exists in the months named")]
    NeverOccurs,
}

/// At most 40 characters of `text`, for messages.
pub(super) fn short(text: &str) -> String {
    if text.chars().count() <= 40 {
        return text.to_owned();
    }
    text.chars().take(39).chain(['…']).collect()
}
