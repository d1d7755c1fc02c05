//! From what a person wrote to a [`Pattern`]: aliases, the five fields, and what is not a schedule.

use super::error::{Field, ScheduleError, short};
use super::field::{self, Seed};
use super::pattern::Pattern;

/// Longer than any sensible schedule; lists of all sixty minutes fit.
const MAX_LENGTH: usize = 256;

/// What each alias stands for.
const ALIASES: [(&str, &str); 12] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@hourly-random", "H * * * *"),
    ("@daily-random", "H H * * *"),
    ("@weekly-random", "H H * * H"),
    ("@monthly-random", "H H H * *"),
    ("@yearly-random", "H H H H *"),
];

/// All aliases, for messages.
pub(super) fn aliases() -> String {
    let names: Vec<_> = ALIASES.iter().map(|(alias, _)| *alias).collect();
    names.join(", ")
}

/// Reads `text`; `namespace` and `name` seed `H`.
pub(super) fn parse(text: &str, namespace: &str, name: &str) -> Result<Pattern, ScheduleError> {
    if text.len() > MAX_LENGTH {
        return Err(ScheduleError::TooLong { max: MAX_LENGTH });
    }
    let text = if text.starts_with('@') { expand(text)? } else { text };
    let fields: Vec<&str> = text.split_whitespace().collect();
    let first = fields.first().ok_or(ScheduleError::Empty)?.to_ascii_uppercase();
    if first.starts_with("TZ=") || first.starts_with("CRON_TZ=") {
        return Err(ScheduleError::TimeZone);
    }
    let [minute, hour, day, month, weekday] = fields[..] else {
        let count = fields.len();
        return Err(match count {
            6 | 7 => ScheduleError::SecondsOrYears { count },
            _ => ScheduleError::FieldCount { count },
        });
    };
    let seed = Seed::new(text, namespace, name);
    let bits = |field, text| field::parse(field, text, &seed);
    Ok(Pattern {
        minutes: bits(Field::Minute, minute)?,
        hours: narrow(bits(Field::Hour, hour)?),
        days: narrow(bits(Field::Day, day)?),
        months: narrow(bits(Field::Month, month)?),
        weekdays: bits(Field::Weekday, weekday)?,
        either: !field::is_any(day) && !field::is_any(weekday),
    })
}

/// Bits of a field that has no more than `T` can hold.
fn narrow<T: TryFrom<u64> + Default>(bits: u64) -> T {
    T::try_from(bits).unwrap_or_default()
}

fn expand(text: &str) -> Result<&'static str, ScheduleError> {
    let alias = text.to_ascii_lowercase();
    if alias.starts_with("@every") {
        return Err(ScheduleError::Every);
    }
    let found = ALIASES.iter().find(|(name, _)| *name == alias);
    found.map(|(_, fields)| *fields).ok_or_else(|| ScheduleError::UnknownAlias { alias: short(text) })
}
