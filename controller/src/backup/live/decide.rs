//! What comes next for a live volume where that is not what comes next for any: pure, from its written status and what is seen.

use super::super::decide::{self, Rules, Seen as All, Step};
use super::find::{Consumer, Reader};
use crate::expose::twin;
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, RunPhase, VolumeStatus};
use borgherd_api::names::GO;
use kube::ResourceExt;
use std::time::Duration;

/// How often a pod that is not there is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How long no pod is seen before a holder has the volume: between two pods of a Deployment there may be none for a moment.
const NOBODY: Duration = Duration::from_secs(10);
/// How often it is looked whether the pod is still there whose volume is read.
const CHECK: Duration = Duration::from_secs(2);
/// After a failed try: whose pod was there a moment ago has the next one soon, and a holder would only be in its way.
const SETTLE: Duration = Duration::from_secs(30);
/// How often it is looked whether a pod of the application uses what a holder has: it may wait for it.
const CHECK_HELD: Duration = Duration::from_secs(1);

/// What is seen of a live volume.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By what it can be read; `None`: not looked for.
    pub reader: Option<Reader>,
    /// Why it cannot be read any more by what it is.
    pub gone: Option<(Reason, String)>,
    /// Its run was ready, and all that has to be held still is.
    pub may_begin: bool,
}

/// Whether a run has all it needs and waits to be let go.
pub fn is_ready(run: &BorgRun) -> bool {
    let waits = run.status.as_ref().is_some_and(|s| s.phase == RunPhase::Running && s.ready_at.is_some());
    waits && !run.annotations().contains_key(GO)
}

fn is_held(volume: &VolumeStatus) -> bool {
    volume.live.as_ref().is_some_and(|live| live.held)
}

/// Before it is admitted: a volume that cannot be read now takes no turn from others.
pub fn waiting(volume: &VolumeStatus, seen: &All, rules: &Rules) -> Step {
    if !seen.exposed.is_empty() {
        return Step::Clean; // of an earlier try, which the caches did not show yet
    }
    if let Some(at) = volume.not_before.filter(|at| rules.now < *at) {
        return Step::Wait(Some(at));
    }
    let within = rules.timeouts.holder;
    match &seen.live.reader {
        Some(Reader::Pod(_) | Reader::Holder) if rules.deadline(volume.since, rules.timeouts.queue).1 => {
            Step::Fail(Reason::DeadlineExceeded, decide::no_turn(volume, rules.timeouts.queue))
        }
        Some(Reader::Holder) if !rules.deadline(volume.since, if volume.attempt > 0 { SETTLE } else { NOBODY }).1 => {
            Step::Wait(Some(soon(rules, LOOK)))
        }
        Some(Reader::Pod(_) | Reader::Holder) => Step::Admit,
        Some(Reader::Pods(why) | Reader::Nobody(why))
            if volume.reason != Some(Reason::PodNotFound) || volume.message.as_ref() != Some(why) =>
        {
            Step::Tell(Reason::PodNotFound, why.clone())
        }
        Some(Reader::Pods(why) | Reader::Nobody(why)) if rules.deadline(volume.since, within).1 => {
            Step::Fail(Reason::PodNotFound, format!("{why} (waited {within:?})"))
        }
        Some(Reader::Pods(_) | Reader::Nobody(_)) | None => Step::Wait(Some(soon(rules, LOOK))),
    }
}

/// Admitted: the run is made for the node of the pod, or a holder is.
pub fn cloning(volume: &VolumeStatus, seen: &All, rules: &Rules) -> Step {
    match (&seen.live.reader, is_held(volume)) {
        (Some(Reader::Pod(consumer)), false) => Step::RunLive(consumer.clone()),
        // the pod by which it was admitted may have gone just now, and have a successor soon
        (Some(Reader::Holder), false) if !rules.deadline(volume.since, LOOK).1 => Step::Wait(Some(soon(rules, LOOK))),
        (Some(Reader::Holder), false) => Step::Hold,
        (Some(Reader::Pods(why) | Reader::Nobody(why)), false) => Step::Fail(Reason::PodGone, why.clone()),
        (Some(Reader::Pod(Consumer { pod, .. })), true) => Step::Fail(Reason::PodStarted, started(pod)),
        (Some(Reader::Pods(why)), true) => Step::Fail(Reason::PodStarted, why.clone()),
        (Some(Reader::Nobody(why)), true) => Step::Fail(Reason::PodNotFound, why.clone()),
        (Some(Reader::Holder), true) => held(volume, seen, rules),
        (None, _) => Step::Wait(None),
    }
}

/// What is told when a pod of the application wants what a holder has.
pub fn started(pod: &str) -> String {
    format!("pod {pod} uses the volume now, and the holder lets it go; it is read through the pod")
}

/// A holder is to have it mounted.
fn held(volume: &VolumeStatus, seen: &All, rules: &Rules) -> Step {
    let exposed = &seen.exposed;
    let (at, passed) = rules.deadline(volume.since, rules.timeouts.holder);
    let twin = exposed.volume.as_ref();
    let is_bound = exposed.bound_volume().is_some() && twin.is_some();
    match (exposed.mounted_on().filter(|_| is_bound), exposed.unschedulable()) {
        (Some((node, uid)), _) => {
            let pod = exposed.holder.as_ref().map(|holder| holder.name_any()).unwrap_or_default();
            Step::RunLive(Consumer { pod, uid: uid.into(), node: node.into(), restarts: 0 })
        }
        (None, Some(said)) if passed => Step::Fail(Reason::HolderUnschedulable, decide::no_node(said)),
        (None, None) if passed => {
            let within = rules.timeouts.holder;
            let refused = volume.message.as_ref().filter(|_| volume.reason == Some(Reason::HolderNotStarted));
            let why = refused.map(|why| format!(": {why}")).unwrap_or_default();
            Step::Fail(Reason::HolderNotStarted, format!("the pod that mounts the volume did not start within {within:?}{why}"))
        }
        // that of an earlier try has its name, and goes when the storage is let go of
        _ if twin.is_some_and(|twin| twin::is_leaving(twin)) => Step::Wait(Some(soon(rules, CHECK_HELD))),
        _ if twin.is_none() || exposed.claim.is_none() || exposed.holder.is_none() => Step::Mount,
        (None, said) => {
            let at = at.min(soon(rules, CHECK_HELD));
            decide::tell_or_wait(volume, said.map(|said| (Reason::HolderUnschedulable, said)), at)
        }
    }
}

/// The run is there.
pub fn running(volume: &VolumeStatus, seen: &All, rules: &Rules) -> Step {
    let Some(run) = &seen.exposed.run else { return Step::FindRun };
    let is_over = run.status.as_ref().is_some_and(|s| s.phase.is_final());
    match &seen.live.gone {
        // what was read before it started is whole
        Some((Reason::PodStarted, _)) if is_over => {}
        Some((reason, why)) => return Step::Fail(*reason, why.clone()),
        None => {}
    }
    if seen.held && is_over {
        return Step::Wait(Some(rules.now)); // first the applications go on
    }
    if volume.is_read() && seen.live.may_begin && is_ready(run) {
        return volume.cut.map_or(Step::Begin, Step::Go);
    }
    let step = decide::running(volume, seen, rules);
    let Step::Wait(at) = step else { return step };
    let check = if is_held(volume) { CHECK_HELD } else { CHECK };
    Step::Wait(at.into_iter().chain([soon(rules, check)]).min())
}

fn soon(rules: &Rules, wait: Duration) -> chrono::DateTime<chrono::Utc> {
    rules.now + chrono::Duration::from_std(wait).unwrap_or_default()
}
