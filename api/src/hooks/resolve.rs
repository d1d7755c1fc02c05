//! From hooks to what is written down before the first of them runs: pods by UID, commands, tokens, groups, the deadline.

use super::check::{self, Action, Hook};
use super::spec::OnError;
use crate::crd::{ActionStatus, HookStatus, QuiescePhase, QuiesceStatus, Scaling, StepKind, Workload};
use crate::database::Preset;
use crate::database::script::{self, Mode};
use crate::names;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::time::Duration;

/// The controller resumes this much before the watchdogs in the containers would.
const LEAD: Duration = Duration::from_secs(5);
/// Groups of the looks at databases and of their dumps; those of hooks follow.
const CHECK: u32 = 1;
const DUMP: u32 = 2;
/// How long a look at a database may take.
const CHECK_TIMEOUT: Duration = Duration::from_mins(1);

/// A container that a command can be run in, or a workload that is scaled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Name of its pod, or of the workload.
    pub pod: String,
    /// UID of that.
    pub pod_uid: String,
    /// Its name; empty for a workload.
    pub container: String,
    /// Whether it has a shell.
    pub shell: bool,
    /// How often it has been restarted, if that is known.
    pub restarts: Option<i32>,
    /// Of a workload: what it is and how many replicas it has.
    pub replicas: Option<(Workload, i32)>,
}

/// A hook with the containers of its pre and its post; empty where it has none of these.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The hook.
    pub hook: Hook,
    /// Number of its group, see [`order`].
    pub group: u32,
    /// Containers of its pre.
    pub pre: Vec<Found>,
    /// Containers of its post.
    pub post: Vec<Found>,
}

/// A database and the container it is dumped in.
#[derive(Clone, Debug)]
pub struct Dumped {
    /// What is dumped, and how.
    pub preset: Preset,
    /// Its container.
    pub at: Found,
}

/// Hooks of all lists in their order with the numbers of their groups: neighbours of one list that are parallel share one. What
/// several PVCs have inherited from their namespace is there once.
pub fn order(lists: &[Vec<Hook>]) -> Vec<(u32, Hook)> {
    let mut ordered: Vec<(u32, Hook)> = Vec::new();
    let mut group = 0;
    for list in lists {
        let mut neighbour = false;
        for hook in list {
            if ordered.iter().any(|(_, other)| other == hook) {
                continue;
            }
            if !(neighbour && hook.parallel) {
                group += 1;
            }
            neighbour = hook.parallel;
            ordered.push((group, hook.clone()));
        }
    }
    ordered
}

/// What is written down before anything runs: first all databases are looked at, then dumped, then the hooks' turn comes. `backup` is the
/// Backup's UID, `limit` how long an application may be frozen.
pub fn resolve(backup: &str, dumped: &[Dumped], placed: &[Placed], limit: Duration, now: DateTime<Utc>) -> QuiesceStatus {
    let before = if dumped.is_empty() { 0 } else { DUMP };
    let mut hooks: Vec<HookStatus> = (0..).zip(dumped).flat_map(|(number, dumped)| dump(backup, number, dumped)).collect();
    hooks.extend((0..).zip(placed).map(|(number, placed)| {
        let hook = hook(backup, number, placed);
        HookStatus { group: hook.group + before, ..hook }
    }));
    let deadline = deadline(&hooks, limit, now);
    QuiesceStatus { phase: QuiescePhase::Freezing, deadline, hooks, ..QuiesceStatus::default() }
}

/// When all that has not begun has had its time, and the freeze too. It may be set anew as long as nothing is held still.
pub fn deadline(hooks: &[HookStatus], limit: Duration, now: DateTime<Utc>) -> DateTime<Utc> {
    let ahead = || hooks.iter().filter(|hook| hook.begun_at.is_none());
    // what runs beside the snapshot is not waited for
    let awaited = || ahead().filter(|hook| hook.kind != StepKind::Beside);
    let within = |group: u32| awaited().filter(|hook| hook.group == group).flat_map(|hook| &hook.pre).map(|pre| pre.timeout_seconds).max();
    let groups: BTreeSet<u32> = ahead().map(|hook| hook.group).collect();
    let pre: u64 = groups.into_iter().filter_map(within).map(u64::from).sum();
    now + chrono::Duration::from_std(Duration::from_secs(pre) + limit + LEAD).unwrap_or_default()
}

/// The two steps of a database.
fn dump(backup: &str, number: usize, dumped: &Dumped) -> [HookStatus; 2] {
    let Dumped { preset, at } = dumped;
    let step = |kind, group, mode, timeout: Duration| {
        let pre = vec![action(backup, &format!("{mode:?} {number}"), script::words(mode, preset), timeout, at)];
        HookStatus { kind, group, on_error: OnError::Fail, begun_at: None, pre, post: vec![] }
    };
    [step(StepKind::Check, CHECK, Mode::Check, CHECK_TIMEOUT), step(StepKind::Dump, DUMP, Mode::Dump, preset.timeout)]
}

fn hook(backup: &str, number: usize, placed: &Placed) -> HookStatus {
    let Placed { hook, group, pre, post } = placed;
    let number = number.to_string();
    let in_all = |what: &Option<Action>, found: &[Found]| {
        let at = |found: &Found| what.as_ref().map(|what| action(backup, &number, what.command.clone(), what.timeout, found));
        found.iter().filter_map(at).collect()
    };
    let (mut pre, mut post): (Vec<ActionStatus>, Vec<ActionStatus>) = (in_all(&hook.pre, pre), in_all(&hook.post, post));
    let kind = match hook.mode {
        check::Mode::Command => StepKind::Hook,
        check::Mode::Beside => StepKind::Beside,
        check::Mode::Session => StepKind::Session,
        check::Mode::Scale(to) => {
            let replicas = placed.pre.iter().filter_map(|found| found.replicas);
            for ((pre, post), (kind, from)) in pre.iter_mut().zip(&mut post).zip(replicas) {
                pre.scale = Some(Scaling { kind, from, to });
                post.scale = Some(Scaling { kind, from: to, to: from });
            }
            StepKind::Scale
        }
    };
    HookStatus { kind, group: *group, on_error: hook.on_error, begun_at: None, pre, post }
}

/// `number` tells the entries of a Backup apart.
fn action(backup: &str, number: &str, command: Vec<String>, timeout: Duration, found: &Found) -> ActionStatus {
    let Found { pod, pod_uid, container, shell, restarts, replicas: _ } = found.clone();
    let token = names::hash(&[backup, number, &pod_uid, &container], 12);
    let timeout_seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
    ActionStatus { pod, pod_uid, container, restarts, shell, token, command, timeout_seconds, ..ActionStatus::default() }
}
