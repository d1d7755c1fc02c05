//! Durations as people write them (`90s`, `1h30m`, `2d`) and as they read them (`3 h 12 min`).

use std::time::Duration;

/// Units and their seconds, the longest first.
const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// Reads one or more numbers with units (`w`, `d`, `h`, `m`, `s`), the larger first: `90s`, `1h30m`. Longer than zero.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const RIGHT: &str = "give a duration such as 90s, 30m, 2h, 1h30m or 3d";
    let mut rest = text.trim();
    let mut seconds = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let (unit, factor) = units.find(|(unit, _)| tail.starts_with(unit)).ok_or(RIGHT)?;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor)).ok_or(RIGHT)?;
        seconds = seconds.checked_add(part).ok_or(RIGHT)?;
        rest = &tail[unit.len()..];
    }
    if seconds == 0 || seconds > 100 * 366 * 86_400 {
        return Err(RIGHT.to_owned());
    }
    Ok(Duration::from_secs(seconds))
}

/// The age of something in its one or two largest units: `12s`, `3m`, `2h15m`, `5d`, as kubectl prints ages.
pub(crate) fn short(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 60 => format!("{minutes}m"),
        () if hours < 10 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () => two(days / 365, "y", days % 365, "d"),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        return format!("{large}{large_unit}");
    }
    format!("{large}{large_unit}{small}{small_unit}")
}

/// Seconds with as many digits as say something: `0.04 s`, `1.2 s`, `35 s`, `2m`.
pub(crate) fn precise(seconds: f64) -> String {
    if seconds < 0.1 {
        return format!("{seconds:.2} s");
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    if seconds < 120.0 {
        return format!("{seconds:.0} s");
    }
    short(Duration::from_secs_f64(seconds.min(1e12)).as_secs().try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("3d", 259_200), ("1w2d", 777_600), (" 5m ", 300)]
        {
            assert_eq!(parse(text).unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration() {
        for text in
            ["", "5", "s", "0s", "-5m", "5m1h", "5x", "1.5h", "99999999999999999999s", "18446744073709551615w", "5m5m", "1000y", "5 m"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (3599, "59m"),
            (3600, "1h"),
            (8100, "2h15m"),
            (47 * 3600, "47h"),
            (49 * 3600, "2d1h"),
            (30 * 86_400, "30d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(short(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn measured_times() {
        for (seconds, text) in [(0.0, "0.00 s"), (0.042, "0.04 s"), (1.23, "1.2 s"), (35.4, "35 s"), (150.0, "2m"), (5400.0, "1h30m")] {
            assert_eq!(precise(seconds), text);
        }
    }
}
