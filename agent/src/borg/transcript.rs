//! What one borg said on standard error, kept in bounds: the last lines, the error it ended with, its first warnings, its progress.

use super::line::{self, Level, Line, Sizes};
use super::ssh;
use borgherd_api::Reason;
use borgherd_api::crd::Progress;
use std::collections::VecDeque;

/// Lines and bytes a line that `BorgRun.status.log` takes.
const TAIL_LINES: usize = 20;
pub(super) const LINE_BYTES: usize = 1024;
/// Warnings that are quoted.
const WARNINGS: usize = 3;
/// Borg's names for warnings that a file changed, or was gone, when it was read.
const CHANGES: [&str; 2] = ["FileChangedWarning", "BackupFileNotFoundError"];
/// Errors that are looked at; borg logs few.
const ERRORS: usize = 16;
const ERROR_BYTES: usize = 64 * 1024;

/// An error that borg logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// Borg's name for it; an exception that borg did not expect has none, or that of a Python class.
    pub(super) id: Option<String>,
    pub(super) message: String,
}

/// What one borg said.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    tail: VecDeque<String>,
    errors: Vec<Fault>,
    warnings: Vec<String>,
    warned: u64,
    /// Those to which borg gives a name: they are about a file.
    named: u64,
    /// Warnings of other kinds.
    other: u64,
    quote: Option<String>,
    complaint: Option<Reason>,
    sandbox: Option<String>,
    /// The last progress.
    pub(super) progress: Progress,
    /// Items that `extract --list` has begun with.
    pub(super) items: u64,
}

impl Transcript {
    /// Takes one line; true if there is progress.
    pub(super) fn take(&mut self, text: &str) -> bool {
        if let Some(failure) = crate::sandbox::failure(text) {
            self.sandbox = Some(failure.to_string());
            self.keep("sandbox", &failure.to_string());
            return false;
        }
        match line::parse(text) {
            Line::Log { level, id, message } => {
                self.log(level, id, &message);
                false
            }
            Line::Archiving(Some(sizes)) => {
                self.progress = progress(sizes);
                true
            }
            Line::Part { id, done, total } if id.as_deref() == Some("extract") => {
                self.progress.bytes = done.min(total);
                self.progress.total_bytes = Some(total);
                true
            }
            Line::Item => {
                self.items += 1;
                false
            }
            Line::Part { .. } | Line::Archiving(None) | Line::Other => false,
            Line::Foreign(text) => {
                self.keep("", &text);
                false
            }
        }
    }

    fn log(&mut self, level: Level, id: Option<String>, message: &str) {
        let shown = match level {
            Level::Debug | Level::Info => "",
            Level::Warning => "warning",
            Level::Error | Level::Critical => "error",
        };
        self.keep(shown, message);
        if let Some(line) = message.strip_prefix("Remote: ") {
            self.connection(line);
        }
        match level {
            Level::Error | Level::Critical => self.fault_of(id, message),
            Level::Warning if message.starts_with("Remote: ") => {}
            Level::Warning => {
                self.warned += 1;
                self.named += u64::from(id.is_some());
                self.other += u64::from(!id.is_some_and(|id| CHANGES.contains(&id.as_str())));
                if self.warnings.len() < WARNINGS {
                    self.warnings.push(cut(first_line(message), LINE_BYTES));
                }
            }
            Level::Debug | Level::Info => {}
        }
    }

    fn fault_of(&mut self, id: Option<String>, message: &str) {
        if self.errors.len() < ERRORS {
            let message = cut(message, ERROR_BYTES);
            self.errors.push(Fault { id, message });
        }
    }

    /// Takes ssh's log.
    pub(super) fn take_ssh_log(&mut self, text: &str) {
        for line in text.lines() {
            self.keep("ssh", line.trim());
            self.connection(line);
        }
    }

    fn connection(&mut self, line: &str) {
        if let Some(reason) = ssh::complaint(line) {
            self.complaint.get_or_insert(reason);
        }
        if let Some(quote) = ssh::quote(line) {
            self.quote = Some(cut(quote, LINE_BYTES));
        }
    }

    /// Each line of a message is a line of the tail: a traceback is one message.
    fn keep(&mut self, level: &str, message: &str) {
        for line in message.lines().filter(|line| !line.trim().is_empty()) {
            let line = if level.is_empty() { cut(line, LINE_BYTES) } else { cut(&format!("{level}: {line}"), LINE_BYTES) };
            self.tail.push_back(line);
            if self.tail.len() > TAIL_LINES {
                self.tail.pop_front();
            }
        }
    }

    /// The error borg ended with: the first that has a name. A traceback follows it without one.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.errors.iter().find(|fault| fault.id.is_some()).or_else(|| self.errors.first())
    }

    /// Whether any error, its traceback included, contains `text`.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.errors.iter().any(|fault| fault.message.contains(text))
    }

    /// The operating system's error in a traceback, such as `OSError: [Errno 28] No space left on device`.
    pub(super) fn os_error(&self) -> Option<&str> {
        self.errors.iter().flat_map(|fault| fault.message.lines()).rfind(|line| line.contains("Error: ") && !line.starts_with(' '))
    }

    /// The first warnings, and how many there were in all.
    pub(super) fn warnings(&self) -> (&[String], u64) {
        (&self.warnings, self.warned)
    }

    /// Whether any warning is about a file.
    pub(super) fn warned_of_files(&self) -> bool {
        self.named > 0
    }

    /// Whether all warnings are that a file changed, or was gone.
    pub(super) fn only_changes(&self) -> bool {
        self.warned > 0 && self.other == 0
    }

    /// What ssh says why there is no connection.
    pub(super) fn complaint(&self) -> Option<Reason> {
        self.complaint
    }

    /// Ssh's last words.
    pub(super) fn quote(&self) -> Option<&str> {
        self.quote.as_deref()
    }

    /// Which step of the sandbox failed.
    pub(super) fn sandbox(&self) -> Option<&str> {
        self.sandbox.as_deref()
    }

    /// The last line, whoever wrote it.
    pub(super) fn last_line(&self) -> Option<&str> {
        self.tail.back().map(String::as_str)
    }

    /// The last lines.
    pub(super) fn into_tail(self) -> Vec<String> {
        self.tail.into()
    }
}

/// Borg's totals as the API has them.
pub(super) fn progress(sizes: Sizes) -> Progress {
    let Sizes { original_size, compressed_size, deduplicated_size, nfiles } = sizes;
    Progress {
        files: nfiles,
        bytes: original_size,
        total_bytes: None,
        compressed_bytes: Some(compressed_size),
        deduplicated_bytes: Some(deduplicated_size),
    }
}

/// Adds `more` to a tail that keeps its bounds.
pub(super) fn append(tail: &mut Vec<String>, more: Vec<String>) {
    tail.extend(more);
    let surplus = tail.len().saturating_sub(TAIL_LINES);
    tail.drain(..surplus);
}

/// At most `max` bytes of `text`, cut between characters.
pub(super) fn cut(text: &str, max: usize) -> String {
    let end = (0..=max.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

pub(super) fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_in_lines_and_bytes_and_keeps_the_last() {
        let mut transcript = Transcript::default();
        for n in 0..100 {
            transcript.take(&format!("{n} {}", "ü".repeat(2000)));
        }
        let tail = transcript.into_tail();
        assert_eq!(tail.len(), 20);
        assert!(tail.iter().all(|line| line.len() <= 1024));
        assert!(tail.first().is_some_and(|line| line.starts_with("80 ")));
    }

    #[test]
    fn the_named_error_is_the_fault_and_its_traceback_is_searched_too() {
        let mut transcript = Transcript::default();
        transcript.take(r#"{"type": "log_message", "message": "Local Exception", "levelname": "ERROR", "msgid": "Exception"}"#);
        transcript
            .take(r#"{"type": "log_message", "message": "Traceback\nOSError: [Errno 28] No space left on device", "levelname": "ERROR"}"#);
        assert_eq!(transcript.fault().and_then(|fault| fault.id.as_deref()), Some("Exception"));
        assert!(transcript.mentions("[Errno 28]"));
        assert_eq!(transcript.last_line(), Some("error: OSError: [Errno 28] No space left on device"));
    }

    #[test]
    fn a_sandbox_that_failed_is_told_from_borg() {
        let mut transcript = Transcript::default();
        transcript.take(r#"{"borgherd_sandbox_failed":{"step":"bind the volume","error":"EPERM"}}"#);
        assert_eq!(transcript.sandbox(), Some("cannot set up the sandbox: bind the volume: EPERM"));
    }
}
