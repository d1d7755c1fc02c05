//! `status` as a table: one line for each PVC.

use super::assess::{Attempted, Item, State};
use crate::instant::Here;
use crate::output::{self, Cell, Tone};
use crate::progress::numbers;
use borgherd_api::crd::Outcome;

/// Longer notes are for `-o wide` and `status PVC`.
const NOTE: usize = 72;

/// Which columns there are besides those that always are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    /// What is in force, too.
    pub(crate) wide: bool,
    /// The namespace, too.
    pub(crate) namespace: bool,
}

/// The table.
pub(crate) fn render(items: &[Item], here: Here, columns: Columns, colours: bool) -> String {
    let mut headings = vec!["PVC", "STATE", "SCHEDULE", "LAST BACKUP", "NEXT"];
    if columns.namespace {
        headings.insert(0, "NAMESPACE");
    }
    if columns.wide {
        headings.extend(["ARCHIVED", "REPOSITORY", "GROUP", "TIME ZONE"]);
    }
    headings.push("NOTE");
    let rows: Vec<Vec<Cell>> = items.iter().map(|item| row(item, here, columns)).collect();
    output::table(&headings, &[], &rows, colours)
}

/// What stands there instead of an empty table.
pub(crate) fn none(namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || "no PVC in this cluster\n".to_owned(),
        |namespace| format!("no PVC in namespace {namespace}; -A shows all namespaces\n"),
    )
}

fn row(item: &Item, here: Here, columns: Columns) -> Vec<Cell> {
    let mut cells: Vec<Cell> = vec![
        item.pvc.clone().into(),
        Cell::new(item.state.word(), tone(item.state)),
        value(item, "schedule", columns).into(),
        item.last_backup.as_ref().map(|a| last(a, here)).unwrap_or_default().into(),
        item.next_backup.map(|at| here.relative(at)).unwrap_or_default().into(),
    ];
    if columns.namespace {
        cells.insert(0, item.namespace.clone().into());
    }
    if columns.wide {
        let archived = if item.policy.contains_key("schedule") { archived(item, columns) } else { String::new() };
        cells.push(archived.into());
        cells.push(item.repository.clone().unwrap_or_default().into());
        cells.push(value(item, "group", columns).into());
        cells.push(value(item, "time-zone", columns).into());
    }
    let note = note(item, here);
    cells.push(if columns.wide { note } else { shortened(&note) }.into());
    cells
}

/// A value, with `wide` where it comes from.
fn value(item: &Item, key: &str, columns: Columns) -> String {
    match item.policy.get(key) {
        Some(setting) if columns.wide => format!("{} ({})", setting.value, setting.origin),
        Some(setting) => setting.value.clone(),
        None => String::new(),
    }
}

fn archived(item: &Item, columns: Columns) -> String {
    match item.policy.get("archive-schedule") {
        None => "always".to_owned(),
        Some(setting) if setting.value.is_empty() => format!("never ({})", setting.origin),
        Some(_) => value(item, "archive-schedule", columns),
    }
}

fn last(attempt: &Attempted, here: Here) -> String {
    match attempt.outcome {
        None => "now".to_owned(),
        Some(Outcome::Succeeded) => here.relative(attempt.time),
        Some(outcome) => format!("{}, {}", here.relative(attempt.time), word(outcome)),
    }
}

/// An outcome in the middle of a sentence.
pub(crate) const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Incomplete => "incomplete",
        Outcome::Superseded => "superseded",
        Outcome::Failed => "failed",
    }
}

/// What explains the state; else what deserves a look.
fn note(item: &Item, here: Here) -> String {
    let failure = || item.last_failure.as_ref().map(why).unwrap_or_default();
    match item.state {
        State::Off => "no schedule".to_owned(),
        State::Excluded => item.excluded.clone().unwrap_or_default(),
        State::Invalid => item.problems.first().cloned().unwrap_or_default(),
        State::Suspended => "borgherd.dev/suspend is true".to_owned(),
        State::Running => item.last_backup.as_ref().map(doing).unwrap_or_default(),
        State::Overdue => item.due.map(|due| format!("due {}, not begun", here.relative(due))).unwrap_or_default(),
        State::Failed | State::Incomplete => failure(),
        State::Waiting | State::Ok => item.warnings.first().cloned().unwrap_or_default(),
    }
}

/// `ConnectionFailed: the server did not answer`.
pub(crate) fn why(attempt: &Attempted) -> String {
    match (attempt.reason, &attempt.message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(reason), None) => reason.to_string(),
        (None, Some(message)) => message.clone(),
        (None, None) => "no reason given".to_owned(),
    }
}

/// `Archiving on node-1, 12,000 files, 1.2 GB`.
pub(crate) fn doing(attempt: &Attempted) -> String {
    let node = attempt.node.as_ref().map(|n| format!(" on {n}")).unwrap_or_default();
    let reason = attempt.reason.map(|r| format!(" ({r})")).unwrap_or_default();
    let numbers = Some(numbers(attempt.progress)).filter(|n| !n.is_empty()).map(|n| format!(", {n}")).unwrap_or_default();
    format!("{:?}{node}{reason}{numbers}", attempt.phase)
}

fn shortened(note: &str) -> String {
    let mut text: String = note.chars().take(NOTE).collect();
    if note.chars().nth(NOTE).is_some() {
        text.push('…');
    }
    text
}

/// What a state's colour is.
pub(crate) const fn tone(state: State) -> Tone {
    match state {
        State::Ok => Tone::Good,
        State::Off => Tone::Dim,
        State::Waiting | State::Running => Tone::Plain,
        State::Excluded | State::Suspended | State::Incomplete => Tone::Warn,
        State::Invalid | State::Overdue | State::Failed => Tone::Bad,
    }
}
