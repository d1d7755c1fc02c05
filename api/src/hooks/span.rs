//! Times as people write them: `30s`, `2m`, `1m30s`, `2h`.

/// Seconds of a time in hours, minutes and seconds, each at most once and in this order; `None` when it is no such time.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0;
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((digits, after)) = rest.split_once(unit) {
            let is_number = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            sum += is_number.then(|| digits.parse::<u64>().ok()).flatten()? * factor;
            rest = after;
        }
    }
    (!text.is_empty() && rest.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times() {
        for (text, expected) in [("30s", 30), ("0s", 0), ("2m", 120), ("1m30s", 90), ("2h", 7200), ("1h0m1s", 3601), ("9999s", 9999)] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "30", "s", "m", "1s1m", "1m1m", "-1s", "1.5h", "1 m", "10000s", "1d", "1m30"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
