//! From hooks to what is written down before the first of them runs: pods by UID, commands, tokens, groups, the deadline.

use super::check::{Action, Hook};
use crate::crd::{ActionStatus, HookStatus, QuiescePhase, QuiesceStatus};
use crate::names;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// The controller resumes this much before the watchdogs in the containers would.
const LEAD: Duration = Duration::from_secs(5);

/// A container that a command can be run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name of its pod.
    pub pod: String,
    /// UID of its pod.
    pub pod_uid: String,
    /// Its name.
    pub container: String,
    /// Whether it has a shell.
    pub shell: bool,
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

/// What is written down before the first pre hook. `backup` is the Backup's UID, `limit` how long an application may be frozen.
pub fn resolve(backup: &str, placed: &[Placed], limit: Duration, now: DateTime<Utc>) -> QuiesceStatus {
    let hooks: Vec<HookStatus> = (0..).zip(placed).map(|(number, placed)| hook(backup, number, placed)).collect();
    let within = |group: u32| placed.iter().filter(move |p| p.group == group).filter_map(|p| Some(p.hook.pre.as_ref()?.timeout)).max();
    let mut groups: Vec<u32> = placed.iter().map(|p| p.group).collect();
    groups.dedup();
    let pre: Duration = groups.into_iter().filter_map(within).sum();
    let deadline = now + chrono::Duration::from_std(pre + limit + LEAD).unwrap_or_default();
    QuiesceStatus { phase: QuiescePhase::Freezing, deadline, hooks, ..QuiesceStatus::default() }
}

fn hook(backup: &str, number: usize, placed: &Placed) -> HookStatus {
    let Placed { hook, group, pre, post } = placed;
    let action = |action: &Option<Action>, found: &[Found]| {
        let at = |found: &Found| action.as_ref().map(|action| at(backup, number, action, found));
        found.iter().filter_map(at).collect()
    };
    HookStatus { group: *group, on_error: hook.on_error, begun_at: None, pre: action(&hook.pre, pre), post: action(&hook.post, post) }
}

fn at(backup: &str, number: usize, action: &Action, found: &Found) -> ActionStatus {
    let Found { pod, pod_uid, container, shell } = found.clone();
    let token = names::hash(&[backup, &number.to_string(), &pod_uid, &container], 12);
    let timeout_seconds = u32::try_from(action.timeout.as_secs()).unwrap_or(u32::MAX);
    ActionStatus { pod, pod_uid, container, shell, token, command: action.command.clone(), timeout_seconds, ..ActionStatus::default() }
}
