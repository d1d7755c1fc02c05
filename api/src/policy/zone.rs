//! IANA time zones, with a hint when the name is not one.

use super::near::near;
use chrono_tz::{TZ_VARIANTS, Tz};

/// The zone called `text`, or what would be right.
pub(super) fn parse(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| {
        let meant = meant(text);
        let hint = if meant.is_empty() { String::new() } else { format!("; did you mean {}?", meant.join(" or ")) };
        format!("is no IANA time zone, like 'Europe/Berlin' or 'UTC'{hint}")
    })
}

/// Zones that `text` probably means: other case, only the city, an offset, a typo.
fn meant(text: &str) -> Vec<&'static str> {
    if let Some(fixed) = offset(text) {
        return vec![fixed];
    }
    let wanted = text.replace(' ', "_");
    let names = || TZ_VARIANTS.iter().map(|zone| zone.name());
    if let Some(same) = names().find(|name| name.eq_ignore_ascii_case(&wanted)) {
        return vec![same];
    }
    let city = |name: &str| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&wanted));
    let cities: Vec<_> = names().filter(|name| city(name)).take(3).collect();
    if cities.is_empty() { near(&wanted, names()) } else { cities }
}

/// `UTC+2`, `GMT-5`, `+02:00`: the zone of that offset, whose sign IANA writes the other way round.
fn offset(text: &str) -> Option<&'static str> {
    let rest = text.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
    let letters = &text[..text.len() - rest.len()];
    if !["", "UTC", "GMT"].iter().any(|name| letters.eq_ignore_ascii_case(name)) {
        return None;
    }
    let (sign, digits) = match rest.split_at_checked(1)? {
        ("+", digits) => ('-', digits),
        ("-", digits) => ('+', digits),
        _ => return None,
    };
    let hours: u32 = digits.trim_end_matches("00").trim_end_matches(':').parse().ok()?;
    let name = format!("Etc/GMT{sign}{hours}");
    TZ_VARIANTS.iter().map(|zone| zone.name()).find(|zone| *zone == name)
}
