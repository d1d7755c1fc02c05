//! One line of borg's standard error with `--log-json`, as a typed message.

use serde::Deserialize;

/// Severity of a log message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    /// A log message. `id` is borg's name for it, such as `Repository.DoesNotExist`; it stays the same across versions.
    Log { level: Level, id: Option<String>, message: String },
    /// `extract --list` begins with an item.
    Item,
    /// How far `create` is; nothing in the last one of a run.
    Archiving(Option<Sizes>),
    /// How far an operation that knows its end is; `id` says which.
    Part { id: Option<String>, done: u64, total: u64 },
    /// Progress in words, file names: nothing to act upon.
    Other,
    /// Not borg's: of Python, of the sandbox, of a shell.
    Foreign(String),
}

/// Borg's logger of what `--list` shows.
const ITEMS: &str = "borg.output.list";

/// Totals, as `create` and `info` give them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Sizes {
    pub(super) original_size: u64,
    pub(super) compressed_size: u64,
    pub(super) deduplicated_size: u64,
    pub(super) nfiles: u64,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Raw {
    LogMessage {
        levelname: Level,
        #[serde(default)]
        msgid: Option<String>,
        #[serde(default)]
        message: String,
        #[serde(default)]
        name: String,
    },
    ArchiveProgress {
        #[serde(flatten)]
        sizes: Option<Sizes>,
    },
    ProgressPercent {
        #[serde(default)]
        msgid: Option<String>,
        #[serde(default)]
        current: Option<u64>,
        #[serde(default)]
        total: Option<u64>,
    },
    #[serde(other)]
    Other,
}

/// What `text`, one line without its end, says.
pub(super) fn parse(text: &str) -> Line {
    match from_json::<Raw>(text) {
        Ok(Raw::LogMessage { name, .. }) if name == ITEMS => Line::Item,
        Ok(Raw::LogMessage { levelname, msgid, message, name: _ }) => Line::Log { level: levelname, id: msgid, message },
        Ok(Raw::ArchiveProgress { sizes }) => Line::Archiving(sizes),
        Ok(Raw::ProgressPercent { msgid, current: Some(done), total: Some(total) }) => Line::Part { id: msgid, done, total },
        Ok(Raw::ProgressPercent { .. } | Raw::Other) => Line::Other,
        Err(_) => Line::Foreign(text.to_owned()),
    }
}

/// JSON as Python writes it: a file name that is not UTF-8 comes as lone surrogates, which are no text, so they become U+FFFD.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_lone_surrogates(text)))
}

/// Replaces `\uDC80` … `\uDCFF`, by which Python marks bytes that are not UTF-8, where no high surrogate stands before them.
fn without_lone_surrogates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let length = escape_length(escape);
        let (escape, after) = escape.split_at(length);
        out.push_str(if is_lone_surrogate(escape) { "\\ufffd" } else { escape });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Bytes of the escape that `text` begins with; a pair of surrogates counts as one.
fn escape_length(text: &str) -> usize {
    let unicode = |text: &str| text.starts_with("\\u") && text.is_char_boundary(6) && text.len() >= 6;
    if !unicode(text) {
        return text.chars().take(2).map(char::len_utf8).sum();
    }
    let pair = surrogate(text, 'd', "89ab") && text.get(6..).is_some_and(|low| unicode(low) && surrogate(low, 'd', "cdef"));
    if pair { 12 } else { 6 }
}

fn is_lone_surrogate(escape: &str) -> bool {
    escape.len() == 6 && surrogate(escape, 'd', "89abcdef")
}

/// `\u` + `first` + one of `second`.
fn surrogate(escape: &str, first: char, second: &str) -> bool {
    let mut digits = escape.chars().skip(2).map(|c| c.to_ascii_lowercase());
    escape.starts_with("\\u") && digits.next() == Some(first) && digits.next().is_some_and(|digit| second.contains(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_borg() {
        let log = |level, id: Option<&str>, message: &str| Line::Log { level, id: id.map(str::to_owned), message: message.to_owned() };
        let sizes = Sizes { original_size: 10, compressed_size: 8, deduplicated_size: 5, nfiles: 2 };
        let table = [
            (
                r#"{"type": "log_message", "time": 1.5, "message": "Repository /r does not exist.", "levelname": "ERROR", "name": "borg.archiver", "msgid": "Repository.DoesNotExist"}"#,
                log(Level::Error, Some("Repository.DoesNotExist"), "Repository /r does not exist."),
            ),
            (
                r#"{"type": "log_message", "time": 1.5, "message": "Remote: Host key verification failed.", "levelname": "WARNING", "name": "root"}"#,
                log(Level::Warning, None, "Remote: Host key verification failed."),
            ),
            (
                r#"{"original_size": 10, "compressed_size": 8, "deduplicated_size": 5, "nfiles": 2, "path": "a", "time": 1.0, "type": "archive_progress", "finished": false}"#,
                Line::Archiving(Some(sizes)),
            ),
            (r#"{"time": 1.0, "type": "archive_progress", "finished": true}"#, Line::Archiving(None)),
            (
                r#"{"message": " 50.0% Extracting: a", "current": 5, "total": 10, "info": ["a"], "operation": 1, "msgid": "extract", "type": "progress_percent", "finished": false, "time": 1.0}"#,
                Line::Part { id: Some("extract".to_owned()), done: 5, total: 10 },
            ),
            (r#"{"operation": 1, "msgid": "cache.commit", "type": "progress_percent", "finished": true, "time": 1.0}"#, Line::Other),
            (r#"{"message": "Saving", "type": "progress_message", "finished": false}"#, Line::Other),
            (r#"{"type": "file_status", "status": "A", "path": "a"}"#, Line::Other),
            (
                r#"{"type": "log_message", "time": 1.5, "message": "new\nline", "levelname": "INFO", "name": "borg.output.list"}"#,
                Line::Item,
            ),
            (r#"{"type": "log_message", "time": 1.5, "message": "no\udcff", "levelname": "INFO", "name": "borg.output.list"}"#, Line::Item),
            ("Traceback (most recent call last):", Line::Foreign("Traceback (most recent call last):".to_owned())),
            ("", Line::Foreign(String::new())),
            (r#"{"type": "log_message"}"#, Line::Foreign(r#"{"type": "log_message"}"#.to_owned())),
        ];
        for (text, line) in table {
            assert_eq!(parse(text), line, "{text}");
        }
    }

    #[test]
    fn file_names_that_are_no_utf_8_do_not_hide_a_message() {
        for (name, shown) in [
            (r"a\udcffb", "a\u{fffd}b"),
            (r"\udc80\udc81", "\u{fffd}\u{fffd}"),
            (r"\ud83d\ude00\udcff", "\u{1f600}\u{fffd}"),
            (r"\\udcff\udcff", "\\udcff\u{fffd}"),
            (r"\n\udcff", "\n\u{fffd}"),
            (r"ü\udcff", "ü\u{fffd}"),
        ] {
            let text = format!(r#"{{"type": "log_message", "message": "{name}", "levelname": "WARNING"}}"#);
            let line = Line::Log { level: Level::Warning, id: None, message: shown.to_owned() };
            assert_eq!(parse(&text), line, "{name}");
        }
    }
}
