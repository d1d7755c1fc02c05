//! What comes next for a live volume where that is not what comes next for any: pure, from its written status and what is seen.

use super::super::decide::{self, Rules, Seen as All, Step};
use super::find::Consumer;
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, RunPhase, VolumeStatus};
use borgherd_api::names::GO;
use kube::ResourceExt;
use std::time::Duration;

/// How often a pod that is not there is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is looked whether the pod is still there whose volume is read.
const CHECK: Duration = Duration::from_secs(2);

/// What is seen of a live volume.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The pod by which it can be read, or why there is none; `None`: not looked for.
    pub consumer: Option<Result<Consumer, String>>,
    /// Why the pod by which it is read cannot be used any more.
    pub gone: Option<String>,
    /// Its run was ready, and all that has to be held still is.
    pub may_begin: bool,
}

/// Whether a run has all it needs and waits to be let go.
pub fn is_ready(run: &BorgRun) -> bool {
    let waits = run.status.as_ref().is_some_and(|s| s.phase == RunPhase::Running && s.ready_at.is_some());
    waits && !run.annotations().contains_key(GO)
}

/// Before it is admitted: a volume that nobody has mounted takes no turn from others.
pub fn waiting(volume: &VolumeStatus, seen: &All, rules: &Rules) -> Step {
    if let Some(at) = volume.not_before.filter(|at| rules.now < *at) {
        return Step::Wait(Some(at));
    }
    let within = rules.timeouts.holder;
    match &seen.live.consumer {
        Some(Ok(_)) if rules.deadline(volume.since, rules.timeouts.queue).1 => {
            Step::Fail(Reason::DeadlineExceeded, decide::no_turn(volume, rules.timeouts.queue))
        }
        Some(Ok(_)) => Step::Admit,
        Some(Err(why)) if volume.reason != Some(Reason::PodNotFound) || volume.message.as_ref() != Some(why) => {
            Step::Tell(Reason::PodNotFound, why.clone())
        }
        Some(Err(why)) if rules.deadline(volume.since, within).1 => Step::Fail(Reason::PodNotFound, format!("{why} (waited {within:?})")),
        Some(Err(_)) | None => Step::Wait(Some(soon(rules, LOOK))),
    }
}

/// Admitted: the run is made for the node of the pod.
pub fn cloning(seen: &All) -> Step {
    match &seen.live.consumer {
        Some(Ok(consumer)) => Step::RunLive(consumer.clone()),
        Some(Err(why)) => Step::Fail(Reason::PodGone, why.clone()),
        None => Step::Wait(None),
    }
}

/// The run is there.
pub fn running(volume: &VolumeStatus, seen: &All, rules: &Rules) -> Step {
    let Some(run) = &seen.exposed.run else { return Step::FindRun };
    if let Some(why) = &seen.live.gone {
        return Step::Fail(Reason::PodGone, why.clone());
    }
    if seen.held && run.status.as_ref().is_some_and(|s| s.phase.is_final()) {
        return Step::Wait(Some(rules.now)); // first the applications go on
    }
    if volume.is_read() && seen.live.may_begin && is_ready(run) {
        return volume.cut.map_or(Step::Begin, Step::Go);
    }
    let step = decide::running(volume, seen, rules);
    let Step::Wait(at) = step else { return step };
    Step::Wait(at.into_iter().chain([soon(rules, CHECK)]).min())
}

fn soon(rules: &Rules, wait: Duration) -> chrono::DateTime<chrono::Utc> {
    rules.now + chrono::Duration::from_std(wait).unwrap_or_default()
}
