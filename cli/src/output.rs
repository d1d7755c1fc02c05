//! What reaches the terminal: tables, JSON and YAML on stdout; errors, warnings and progress on stderr.
//!
//! Colours only on a terminal and without `NO_COLOR`. A closed pipe ends the output quietly, never by a panic.

use crate::errors::{Exit, Failure};
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};

/// How to print data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For people, with everything
    Wide,
    /// For programs
    Json,
    /// For programs
    Yaml,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Something failed.
    Bad,
    /// Less important.
    Dim,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
        }
    }
}

/// `text` in its colour, where colours are wanted.
pub(crate) fn paint(text: &str, tone: Tone, colours: bool) -> String {
    if !colours || tone == Tone::Plain || text.is_empty() {
        return text.to_owned();
    }
    format!("{}{text}\x1b[0m", tone.code())
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with one line; what is empty shows as `-`.
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        let text = printable(&text.into());
        let text = if text.is_empty() { "-".to_owned() } else { text };
        Self { text, tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Rows under headings, two spaces between columns, none before the first: as kubectl prints them. `right` names the headings of
/// columns that hold numbers.
pub(crate) fn table(headings: &[&str], right: &[&str], rows: &[Vec<Cell>], colours: bool) -> String {
    let mut plain = Table::new();
    plain.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    plain.set_header(headings);
    for row in rows {
        plain.add_row(row.iter().map(|c| c.text.as_str()));
    }
    for (column, heading) in plain.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if right.contains(heading) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let widths = plain.column_max_content_widths();
    let mut text = String::new();
    for (number, line) in plain.lines().enumerate() {
        let row = number.checked_sub(1).and_then(|n| rows.get(n));
        let line = row.filter(|_| colours).map_or_else(|| line.clone(), |row| tinted(&line, row, &widths));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The line with each cell's text in its colour: the table itself must not count escapes as width.
fn tinted(line: &str, row: &[Cell], widths: &[u16]) -> String {
    let mut rest = line;
    let mut text = String::new();
    for (cell, width) in row.iter().zip(widths) {
        let width = usize::from(*width) + 2;
        let end = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
        let (field, tail) = rest.split_at(end);
        text.push_str(&field.replacen(&cell.text, &paint(&cell.text, cell.tone, true), 1));
        rest = tail;
    }
    text + rest
}

/// `text` without what would break a line or steer a terminal: it comes from a cluster.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `1.2 GB`.
pub(crate) fn bytes(count: u64) -> String {
    humansize::format_size(count, humansize::DECIMAL.decimal_places(1))
}

/// `12,000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where a command prints to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// How data is printed.
    pub(crate) format: Format,
    /// Colours on stdout.
    pub(crate) colours: bool,
    /// stderr is a terminal: bars can be drawn there.
    pub(crate) bars: bool,
    /// Colours on stderr.
    pub(crate) error_colours: bool,
    /// Takes results: stdout.
    pub(crate) out: fn(&str) -> io::Result<()>,
    /// Takes lines of talk: stderr.
    pub(crate) err: fn(&str),
}

impl Screen {
    /// `people` for table and wide, `data` for JSON and YAML.
    pub(crate) fn show<T: Serialize>(self, data: &T, people: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table | Format::Wide => people(),
            Format::Json => serde_json::to_string_pretty(data).map_err(unprintable)? + "\n",
            Format::Yaml => serde_yaml::to_string(data).map_err(unprintable)?,
        };
        self.print(&text)
    }

    /// Text to stdout. Who closed the pipe has read enough: no error.
    pub(crate) fn print(self, text: &str) -> Result<(), Failure> {
        match (self.out)(text) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(Exit::Failed, format!("cannot write the output: {e}"))),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether the output is read by people.
    pub(crate) fn for_people(self) -> bool {
        match self.format {
            Format::Table | Format::Wide => true,
            Format::Json | Format::Yaml => false,
        }
    }

    /// A line of talk.
    pub(crate) fn note(self, line: &str) {
        (self.err)(line);
    }

    /// A line of talk that begins with `warning:`.
    pub(crate) fn warn(self, text: &str) {
        self.note(&format!("{} {}", paint("warning:", Tone::Warn, self.error_colours), printable(text)));
    }

    /// The last words of a command that failed.
    pub(crate) fn fail(self, failure: &Failure) {
        self.note(&format!("{} {}", paint("error:", Tone::Bad, self.error_colours), printable(&failure.message)));
        if let Some(hint) = &failure.hint {
            self.note(&format!("       {}", printable(hint)));
        }
    }
}

fn unprintable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("cannot print the result: {error}"))
}

/// [`Screen::out`] of the real program.
pub(crate) fn stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// [`Screen::err`] of the real program; when stderr is gone there is nobody left to tell.
pub(crate) fn stderr(line: &str) {
    writeln!(io::stderr().lock(), "{line}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec!["data".into(), Cell::new("Failed", Tone::Bad), "12".into()],
            vec!["Failed-logs".into(), Cell::new("ok", Tone::Good), "3,456".into()],
            vec!["x".into(), "".into(), "".into()],
        ]
    }

    #[test]
    fn columns_align_and_lines_end_without_spaces() {
        let text = table(&["PVC", "STATE", "FILES"], &["FILES"], &rows(), false);
        assert_eq!(
            text,
            "PVC          STATE   FILES\n\
             data         Failed     12\n\
             Failed-logs  ok      3,456\n\
             x            -           -\n"
        );
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let text = table(&["PVC", "STATE", "FILES"], &["FILES"], &rows(), true);
        assert!(text.contains("\x1b[31mFailed\x1b[0m  "), "{text:?}");
        assert!(text.contains("Failed-logs  \x1b[32mok\x1b[0m"), "{text:?}");
        let plain = ["\x1b[31m", "\x1b[32m", "\x1b[0m"].iter().fold(text, |t, code| t.replace(code, ""));
        assert_eq!(plain, table(&["PVC", "STATE", "FILES"], &["FILES"], &rows(), false));
    }

    #[test]
    fn a_message_from_the_cluster_cannot_break_lines_or_steer_the_terminal() {
        assert_eq!(Cell::new("a\nb\x1b[2J", Tone::Plain).text, "a b [2J");
    }

    #[test]
    fn numbers() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(bytes(1_234_567), "1.2 MB");
    }
}
