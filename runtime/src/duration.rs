//! Durations as people write them in flags and chart values: `500ms`, `30s`, `10m`, `2h`, `1d`, `1h30m`.

use std::time::Duration;
use thiserror::Error;

/// Ten years. Beyond it an `Instant` may overflow, and nobody means it.
const MAX: Duration = Duration::from_hours(24 * 3650);

/// The units, in milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Nothing written.
    #[error("is empty; write a number with a unit, like 30s")]
    Empty,
    /// A number alone.
    #[error("'{0}' has no unit; write {0}s, {0}m, {0}h or {0}d")]
    NoUnit(String),
    /// Something else than whole numbers, each with a unit.
    #[error("'{0}' is no duration; write whole numbers with the units ms, s, m, h, d, like 500ms, 30s or 1h30m")]
    NotUnderstood(String),
    /// Longer than ten years.
    #[error("'{0}' is longer than ten years")]
    TooLong(String),
}

/// Reads one or more numbers with their units, which add up.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let quoted = || text.chars().take(40).collect::<String>();
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::NoUnit(quoted()));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, milliseconds)| *milliseconds);
        let (Some(unit), false) = (unit, number.is_empty()) else {
            return Err(DurationError::NotUnderstood(quoted()));
        };
        let too_long = || DurationError::TooLong(quoted());
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let milliseconds = number.checked_mul(unit).ok_or_else(too_long)?;
        total = total.checked_add(Duration::from_millis(milliseconds)).ok_or_else(too_long)?;
        rest = after;
    }
    if total > MAX {
        return Err(DurationError::TooLong(quoted()));
    }
    Ok(total)
}

/// Writes a duration so that [`parse`] reads the same: `1h30m`, `0s`. What is below a millisecond is dropped.
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let parts = UNITS.iter().filter_map(|(unit, milliseconds)| {
        let count = rest / milliseconds;
        rest %= milliseconds;
        (count > 0).then(|| format!("{count}{unit}"))
    });
    let text: String = parts.collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
            (" 5s ", 5000),
            ("0s", 0),
            ("3650d", 315_360_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_would_be_right() {
        for (text, wrong) in [
            ("", "is empty"),
            ("30", "write 30s"),
            ("s", "is no duration"),
            ("-5s", "is no duration"),
            ("1.5h", "is no duration"),
            ("5S", "is no duration"),
            ("5 s", "is no duration"),
            ("10w", "is no duration"),
            ("5sec", "is no duration"),
            ("5µs", "is no duration"),
            ("3651d", "longer than ten years"),
            ("99999999999999999999999s", "longer than ten years"),
            ("18446744073709551615d", "longer than ten years"),
        ] {
            let message = parse(text).map_err(|error| error.to_string());
            assert!(message.as_ref().is_err_and(|message| message.contains(wrong)), "{text}: {message:?}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["500ms", "30s", "1h30m", "1d1ms", "0s"] {
            assert_eq!(parse(text).map(format), Ok(text.to_owned()));
        }
    }
}
