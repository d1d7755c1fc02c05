//! Size and work of a schedule: ten thousand are held and asked.

use super::{at, schedule};
use crate::schedule::Schedule;
use chrono_tz::Tz;

#[test]
fn is_small() {
    assert!(size_of::<Schedule>() <= 56, "{}", size_of::<Schedule>());
    assert!(size_of::<croner::Cron>() > 3 * size_of::<Schedule>(), "croner has become small: use it");
}

#[test]
fn missed_times_cost_nothing() {
    // Some ten million missed minutes; one by one this would take minutes.
    let due = schedule("* * * * *").latest_due(at("2006-01-01 00:00"), at("2026-11-21 10:00"), Tz::Europe__Berlin);
    assert_eq!(due, Some(at("2026-11-21 10:00")));
    let due = schedule("* 3 * * *").latest_due(at("2006-01-01 00:00"), at("2026-11-21 10:00"), Tz::Europe__Berlin);
    assert_eq!(due, Some(at("2026-11-21 02:59")));
    let due = schedule("0 0 29 2 *").latest_due(at("2006-01-01 00:00"), at("2026-11-21 10:00"), Tz::UTC);
    assert_eq!(due, Some(at("2024-02-29 00:00")));
}
