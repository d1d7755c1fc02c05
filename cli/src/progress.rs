//! Progress on stderr: one bar for each volume where that is a terminal, else a line for each change of phase.
//!
//! What is shown is a value ([`Step`]); the board only draws it. Nothing on stdout: that is for results.

use crate::output::{self, Screen, printable};
use borgherd_api::crd::Progress;
use chrono::{DateTime, TimeDelta, Utc};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two lines about the same phase, where there is no terminal.
const REPEAT: TimeDelta = TimeDelta::seconds(10);

/// Where one volume stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The volume.
    pub(crate) name: String,
    /// How many of `of` phases lie behind.
    pub(crate) at: u64,
    /// All phases.
    pub(crate) of: u64,
    /// What is being done.
    pub(crate) doing: String,
    /// Numbers that change while it is done.
    pub(crate) numbers: String,
    /// Nothing more will come.
    pub(crate) ended: bool,
}

/// `12,000 files, 1.2 GB`, with the total where it is known.
pub(crate) fn numbers(progress: Option<Progress>) -> String {
    let Some(progress) = progress else {
        return String::new();
    };
    let bytes = match progress.total_bytes {
        Some(total) if total > 0 => {
            let percent = u128::from(progress.bytes) * 100 / u128::from(total);
            format!("{} of {} ({} %)", output::bytes(progress.bytes), output::bytes(total), percent.min(100))
        }
        Some(_) | None => output::bytes(progress.bytes),
    };
    if progress.files == 0 && progress.bytes > 0 {
        return bytes;
    }
    let word = if progress.files == 1 { "file" } else { "files" };
    format!("{} {word}, {bytes}", output::count(progress.files))
}

/// Draws steps.
pub(crate) struct Board {
    screen: Screen,
    bars: Option<MultiProgress>,
    drawn: BTreeMap<String, ProgressBar>,
    said: BTreeMap<String, (String, DateTime<Utc>)>,
}

impl Board {
    pub(crate) fn new(screen: Screen) -> Self {
        Self { screen, bars: screen.bars.then(MultiProgress::new), drawn: BTreeMap::new(), said: BTreeMap::new() }
    }

    /// Shows where a volume stands at `now`.
    pub(crate) fn show(&mut self, step: &Step, now: DateTime<Utc>) {
        if let Some(bars) = &self.bars {
            let bar = self.drawn.entry(step.name.clone()).or_insert_with(|| bars.add(bar(&step.name)));
            draw(bar, step);
            return;
        }
        if self.is_news(step, now) {
            self.screen.note(&format!("{}: {}", printable(&step.name), printable(&sentence(step))));
            self.said.insert(step.name.clone(), (step.doing.clone(), now));
        }
    }

    /// A line above the bars, or just a line.
    pub(crate) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| self.screen.note(line)),
            None => self.screen.note(line),
        }
    }

    /// Another phase, or the same one after a while with other numbers.
    fn is_news(&self, step: &Step, now: DateTime<Utc>) -> bool {
        let Some((doing, at)) = self.said.get(&step.name) else {
            return true;
        };
        *doing != step.doing || (!step.ended && !step.numbers.is_empty() && now - *at >= REPEAT)
    }
}

/// The bars go; of what has not ended, a line says where it stood.
impl Drop for Board {
    fn drop(&mut self) {
        for bar in self.drawn.values() {
            let last = format!("{}: {}", bar.prefix(), bar.message());
            let ended = bar.is_finished();
            bar.finish_and_clear();
            if !ended {
                self.say(&last);
            }
        }
    }
}

fn sentence(step: &Step) -> String {
    if step.numbers.is_empty() {
        return step.doing.clone();
    }
    format!("{}: {}", step.doing, step.numbers)
}

fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(1).with_prefix(printable(name));
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:16}] {spinner} {msg} ({elapsed})") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn draw(bar: &ProgressBar, step: &Step) {
    bar.set_length(step.of.max(1));
    bar.set_position(step.at);
    bar.set_message(printable(&sentence(step)));
    if step.ended {
        bar.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(doing: &str, numbers: &str) -> Step {
        Step { name: "data".to_owned(), at: 1, of: 8, doing: doing.to_owned(), numbers: numbers.to_owned(), ended: false }
    }

    #[test]
    fn without_a_terminal_there_is_a_line_for_each_phase_and_now_and_then_one_with_numbers() {
        let mut board = Board::new(crate::testing::screen());
        let begin = DateTime::UNIX_EPOCH;
        let later = |seconds| begin + TimeDelta::seconds(seconds);
        assert!(board.is_news(&step("archiving", "1 file"), begin));
        board.show(&step("archiving", "1 file"), begin);
        assert!(!board.is_news(&step("archiving", "2 files"), later(9)));
        assert!(board.is_news(&step("archiving", "3 files"), later(10)));
        assert!(board.is_news(&step("cleaning up", ""), later(1)));
        board.show(&step("cleaning up", ""), later(1));
        assert!(!board.is_news(&step("cleaning up", ""), later(500)), "nothing new to say");
    }

    #[test]
    fn numbers_of_a_run() {
        let of = |files, bytes, total_bytes| numbers(Some(Progress { files, bytes, total_bytes, ..Progress::default() }));
        assert_eq!(numbers(None), "");
        assert_eq!(of(12_000, 1_200_000_000, None), "12,000 files, 1.2 GB");
        assert_eq!(of(0, 0, None), "0 files, 0 B");
        assert_eq!(of(1, 10, Some(0)), "1 file, 10 B");
        assert_eq!(of(0, 500_000, Some(1_000_000)), "500 kB of 1 MB (50 %)");
        assert_eq!(of(0, 2_000_000, Some(1_000_000)), "2 MB of 1 MB (100 %)");
    }
}
