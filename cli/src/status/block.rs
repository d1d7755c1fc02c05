//! `status PVC`: a block for each PVC, with every value and where it comes from, and everything that stands against a backup.

use super::assess::{Attempted, Item, Setting, State};
use super::table::{doing, tone, why, word};
use crate::instant::Here;
use crate::output::{Tone, paint, printable};
use crate::progress::numbers;
use borgherd_api::crd::Outcome;
use borgherd_api::policy::Key;

/// Width of the names on the left.
const LEFT: usize = 17;

/// The blocks, an empty line between two.
pub(crate) fn render(items: &[Item], here: Here, colours: bool) -> String {
    let blocks: Vec<String> = items.iter().map(|item| block(item, here, colours)).collect();
    blocks.join("\n")
}

fn block(item: &Item, here: Here, colours: bool) -> String {
    let name = paint(&format!("{}/{}", item.namespace, item.pvc), Tone::Plain, colours);
    let head = format!("{name}: {}{}\n", paint(item.state.word(), tone(item.state), colours), because(item.state));
    let line = |(left, right, tone): Line| format!("  {left:LEFT$} {}\n", paint(&printable(&right), tone, colours));
    lines(item, here).into_iter().map(line).fold(head, |text, line| text + &line)
}

/// What the state means where the word alone does not tell.
fn because(state: State) -> &'static str {
    match state {
        State::Off => ", it has no schedule: annotate it or its namespace with borgherd.dev/schedule",
        State::Excluded => ", it cannot be backed up",
        State::Invalid => ", its backups are off until this is right",
        State::Suspended => ", nothing new starts",
        State::Overdue => ", a backup is due and nobody has begun it: is Borgherd's controller running?",
        State::Waiting => ", its first backup is to come",
        State::Running | State::Failed | State::Incomplete | State::Ok => "",
    }
}

type Line = (&'static str, String, Tone);

fn lines(item: &Item, here: Here) -> Vec<Line> {
    let mut lines = Vec::new();
    let each = |left, texts: &[String], tone| texts.iter().map(|t| (left, t.clone(), tone)).collect::<Vec<Line>>();
    lines.extend(each("problem", &item.problems, Tone::Bad));
    lines.extend(item.excluded.iter().map(|e| ("excluded", format!("it {e}"), Tone::Warn)));
    lines.extend(each("warning", &item.warnings, Tone::Warn));
    lines.extend(policy(item));
    lines.extend(item.last_backup.as_ref().filter(|a| a.outcome.is_none()).map(|a| running(a)));
    lines.extend(history(item, here));
    lines.extend(item.due.map(|due| ("due", here.full(due), Tone::Plain)));
    lines.extend(item.next_backup.map(|next| ("next backup", here.full(next), Tone::Plain)));
    lines
}

/// Every value in force, and what holds where the annotations that matter are absent.
fn policy(item: &Item) -> Vec<Line> {
    let scheduled = item.policy.contains_key(Key::Schedule.name());
    let line = |key: Key| {
        let setting = item.policy.get(key.name());
        let text = match setting {
            Some(setting) => Some(in_force(key, setting)),
            None if scheduled => absent(key, item),
            None => None,
        };
        text.map(|text| (key.name(), text, Tone::Plain))
    };
    Key::ALL.into_iter().filter_map(line).collect()
}

fn in_force(key: Key, setting: &Setting) -> String {
    let origin = match setting.origin {
        "pvc" => "on the PVC",
        "namespace" => "on the namespace",
        _ => "a default of the chart",
    };
    let value = match setting.value.as_str() {
        "" if key == Key::ArchiveSchedule => "never",
        value => value,
    };
    let value: Vec<&str> = value.lines().collect();
    format!("{}  ({origin})", value.join(", "))
}

fn absent(key: Key, item: &Item) -> Option<String> {
    match key {
        Key::ArchiveSchedule => Some("every backup is archived".to_owned()),
        Key::TimeZone => Some("UTC".to_owned()),
        Key::Keep => Some("no snapshot is deleted".to_owned()),
        Key::ArchiveKeep => Some("no archive is deleted".to_owned()),
        Key::Repository => repository(item),
        Key::Schedule
        | Key::Mode
        | Key::SnapshotClass
        | Key::CloneClass
        | Key::Exclude
        | Key::Compression
        | Key::FilesCache
        | Key::Suspend
        | Key::Group
        | Key::Hooks
        | Key::Database => None,
    }
}

/// The default one; its name is known to those who may see Repositories.
fn repository(item: &Item) -> Option<String> {
    let never = item.policy.get(Key::ArchiveSchedule.name()).is_some_and(|s| s.value.is_empty());
    let unnamed = (!never && item.problems.is_empty()).then(|| "the default Repository".to_owned());
    item.repository.as_ref().map(|name| format!("{name}  (the default Repository)")).or(unnamed)
}

fn running(attempt: &Attempted) -> Line {
    ("running", format!("{}: {}", attempt.name, doing(attempt)), Tone::Plain)
}

/// The last success always, the last failure while nothing better has followed, and what else came last.
fn history(item: &Item, here: Here) -> Vec<Line> {
    let Item { last_backup, last_success, last_failure, .. } = item;
    let mut lines = Vec::new();
    if let Some(success) = last_success {
        lines.push(("last success", succeeded(success, here), Tone::Good));
    }
    if let Some(failure) = last_failure {
        let current = last_success.as_ref().is_none_or(|s| failure.time > s.time);
        let tone = if current { Tone::Bad } else { Tone::Dim };
        lines.push(("last failure", failed(failure, here), tone));
    }
    let superseded = |a: &&Attempted| a.outcome == Some(Outcome::Superseded);
    if let Some(superseded) = last_backup.as_ref().filter(superseded) {
        lines.push(("last backup", failed(superseded, here), Tone::Plain));
    }
    if lines.is_empty() {
        lines.push(("last backup", "none yet".to_owned(), Tone::Plain));
    }
    lines
}

fn succeeded(attempt: &Attempted, here: Here) -> String {
    let what = match (&attempt.archive, &attempt.snapshot) {
        (Some(archive), _) => format!("archive {archive}"),
        (None, Some(snapshot)) => format!("snapshot {snapshot} only"),
        (None, None) => String::new(),
    };
    let parts = [here.full(attempt.time), what, numbers(attempt.progress)];
    parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(", ")
}

fn failed(attempt: &Attempted, here: Here) -> String {
    let outcome = attempt.outcome.map(word).unwrap_or_default();
    format!("{} {outcome}: {}  [{}]", here.full(attempt.time), why(attempt), attempt.name)
}
