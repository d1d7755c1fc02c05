//! What is wrong with one annotation, in words for the person who wrote it.

use super::merge::Origin;
use std::fmt;

/// Values are quoted up to this length: an Event's message has 1024 bytes.
const QUOTED: usize = 80;

/// One value that cannot be, or one annotation that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The whole key, `borgherd.dev/schedule`; for the chart's defaults without prefix.
    pub annotation: String,
    /// Where it stands.
    pub origin: Origin,
    /// What was written, whole.
    pub value: String,
    /// What is wrong with it and what would be right; no sentence by itself.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { annotation, origin, value, message } = self;
        write!(f, "{annotation} {origin}, value {}: {message}", quoted(value))
    }
}

/// `value` in quotes, on one line, without control characters, shortened.
pub(super) fn quoted(value: &str) -> String {
    let mut text: String = value.chars().take(QUOTED).flat_map(char::escape_debug).collect();
    // `escape_debug` escapes quotes, too, which are harmless here and common in YAML.
    text = text.replace("\\\"", "\"").replace("\\'", "'");
    if value.chars().nth(QUOTED).is_some() {
        text.push('…');
    }
    format!("'{text}'")
}
