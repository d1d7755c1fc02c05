//! What comes next for one volume of a Backup: pure, total, from its status and what is seen.
//!
//! Invariant: a step that destroys or concludes is only decided from a *written* status, so a controller that is killed
//! anywhere finds itself again.

use super::live::decide as live;
use super::live::find::Consumer;
use crate::config::{Limits, Timeouts};
use crate::expose::Exposed;
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{BorgRun, Outcome, RunPhase, VolumePhase, VolumeStatus};
use borgherd_api::reason::Retry;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What is seen of one volume.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Whether it is to be archived, by Backup and policy.
    pub archive: bool,
    /// Checks before the cut have been made in this reconcile.
    pub prepared: bool,
    /// An application is held still: nothing but the cut is looked at, so that nothing delays its end.
    pub held: bool,
    /// Its snapshot in the application's namespace, as cached.
    pub snapshot: Option<Arc<VolumeSnapshot>>,
    /// Clone, holder and run.
    pub exposed: Exposed,
    /// Why nobody will ever end the run, if that is so.
    pub lost: Option<(Reason, String)>,
    /// Of a live volume.
    pub live: live::Seen,
}

/// The next step of one volume.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until something changes, or until then.
    Wait(Option<DateTime<Utc>>),
    /// Say in the status what stands in the way, and go on waiting.
    Tell(Reason, String),
    /// Check PVC and class; nothing is made yet.
    Prepare,
    /// Create the VolumeSnapshot.
    Snapshot,
    /// The snapshot is missing from the cache: look for it.
    FindSnapshot,
    /// Write the cut down and keep the content.
    RecordCut(DateTime<Utc>),
    /// The snapshot can be cloned.
    MarkReady,
    /// Ask for the archive's turn.
    Admit,
    /// Make the static content and its snapshot.
    CloneSnapshot,
    /// Make the clone and its holder.
    Clone,
    /// Create the run for the holder's node.
    Run {
        /// Node of the holder.
        node: String,
        /// Its UID.
        holder: String,
        /// PersistentVolume of the clone.
        pv: String,
    },
    /// Write down that a holder is to mount the live volume.
    Hold,
    /// Make twin, claim and holder of a live volume.
    Mount,
    /// Create the run that reads a live volume by the mount of this pod.
    RunLive(Consumer),
    /// Write down that a live volume is read from now on.
    Begin,
    /// Let the run of a live volume begin, as was written down.
    Go(DateTime<Utc>),
    /// The run is missing from the cache: look for it.
    FindRun,
    /// Take over how far the run is.
    Follow(VolumePhase),
    /// Take over how the run ended.
    Conclude,
    /// End this attempt without a run's result.
    Fail(Reason, String),
    /// Delete what is temporary.
    Clean,
    /// Everything temporary is gone.
    Finish,
    /// It did not go in time: the volume ends, and the look for leftovers goes on with it.
    Abandon,
}

/// Deadlines, retries and the time it is.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Deadlines.
    pub timeouts: Timeouts,
    /// How often an agent is looked after while it works.
    pub agent_check: Duration,
    /// Now.
    pub now: DateTime<Utc>,
}

impl Rules {
    /// The end of a wait that began at `since`, and whether it has come.
    pub fn deadline(&self, since: Option<DateTime<Utc>>, wait: Duration) -> (DateTime<Utc>, bool) {
        let at = since.unwrap_or(self.now) + chrono::Duration::from_std(wait).unwrap_or_default();
        (at, self.now >= at)
    }
}

/// The next step of a volume.
pub fn decide(volume: &VolumeStatus, seen: &Seen, rules: &Rules) -> Step {
    match volume.phase {
        VolumePhase::Pending if !seen.prepared => Step::Prepare,
        VolumePhase::Pending => Step::Snapshot,
        VolumePhase::Cutting if seen.held => Step::Wait(None),
        VolumePhase::Cutting => cutting(volume, seen, rules),
        VolumePhase::Cut => cut(volume, seen, rules),
        VolumePhase::Waiting if volume.live.is_some() => live::waiting(volume, seen, rules),
        VolumePhase::Cloning if volume.live.is_some() => live::cloning(volume, seen, rules),
        VolumePhase::Queued | VolumePhase::Archiving if volume.live.is_some() => live::running(volume, seen, rules),
        VolumePhase::Waiting => waiting(volume, seen, rules),
        VolumePhase::Cloning => cloning(volume, seen, rules),
        VolumePhase::Queued | VolumePhase::Archiving => running(volume, seen, rules),
        VolumePhase::Cleaning if seen.exposed.is_empty() => Step::Finish,
        VolumePhase::Cleaning if rules.deadline(volume.since, rules.timeouts.cleanup).1 => Step::Abandon,
        VolumePhase::Cleaning => Step::Clean,
        VolumePhase::Finished => Step::Wait(None),
    }
}

/// What the storage says that is wrong with a snapshot.
pub fn snapshot_error(snapshot: &VolumeSnapshot) -> Option<&str> {
    snapshot.status.as_ref()?.error.as_ref()?.message.as_deref()
}

fn cutting(volume: &VolumeStatus, seen: &Seen, rules: &Rules) -> Step {
    let (at, passed) = rules.deadline(volume.since, rules.timeouts.cut);
    let Some(snapshot) = &seen.snapshot else {
        return if passed { Step::FindSnapshot } else { Step::Wait(Some(at)) };
    };
    let status = snapshot.status.clone().unwrap_or_default();
    if let (Some(cut), Some(_)) = (status.creation_time, status.bound_volume_snapshot_content_name) {
        return Step::RecordCut(cut);
    }
    if !passed {
        return tell_or_wait(volume, snapshot_error(snapshot).map(|said| (Reason::SnapshotFailed, said)), at);
    }
    let said = snapshot_error(snapshot).unwrap_or("the storage has not answered");
    let (within, class) = (rules.timeouts.cut, volume.snapshot_class.as_deref().unwrap_or_default());
    let message = format!("no snapshot was cut within {within:?}: {said}; look at the storage and at VolumeSnapshotClass {class}");
    Step::Fail(Reason::SnapshotFailed, message)
}

/// Waits until `at`; what stands in the way is told first, once for each new wording.
pub(super) fn tell_or_wait(volume: &VolumeStatus, problem: Option<(Reason, &str)>, at: DateTime<Utc>) -> Step {
    match problem {
        Some((reason, said)) if volume.message.as_deref() != Some(said) => Step::Tell(reason, said.to_owned()),
        Some(_) | None => Step::Wait(Some(at)),
    }
}

fn cut(volume: &VolumeStatus, seen: &Seen, rules: &Rules) -> Step {
    let (at, passed) = rules.deadline(volume.since, rules.timeouts.ready);
    let Some(snapshot) = &seen.snapshot else {
        return Step::FindSnapshot;
    };
    if snapshot.status.as_ref().and_then(|s| s.ready_to_use) == Some(true) {
        return Step::MarkReady;
    }
    if !passed {
        return Step::Wait(Some(at));
    }
    let said = snapshot_error(snapshot).map(|s| format!(": {s}")).unwrap_or_default();
    let within = rules.timeouts.ready;
    let message =
        format!("the snapshot was cut but not ready within {within:?}{said}; look at the storage, or raise timeouts.ready in the chart");
    Step::Fail(Reason::SnapshotNotReady, message)
}

fn waiting(volume: &VolumeStatus, seen: &Seen, rules: &Rules) -> Step {
    let (_, passed) = rules.deadline(volume.since, rules.timeouts.queue);
    match volume.not_before {
        Some(at) if rules.now < at => Step::Wait(Some(at)),
        _ if passed => Step::Fail(Reason::DeadlineExceeded, no_turn(volume, rules.timeouts.queue)),
        _ if seen.snapshot.is_none() => Step::FindSnapshot,
        _ => Step::Admit,
    }
}

pub(super) fn no_turn(volume: &VolumeStatus, within: Duration) -> String {
    match (volume.reason, &volume.message) {
        (Some(Reason::RepositoryParked), Some(why)) => format!("its turn did not come within {within:?}: {why}"),
        _ => format!("its turn did not come within {within:?}; raise timeouts.queue, agent.slots or the Repository's maxConcurrent"),
    }
}

fn cloning(volume: &VolumeStatus, seen: &Seen, rules: &Rules) -> Step {
    if seen.snapshot.is_none() {
        return Step::FindSnapshot;
    }
    let (clone_at, clone_passed) = rules.deadline(volume.since, rules.timeouts.clone);
    let exposed = &seen.exposed;
    let ready = exposed.snapshot.as_ref().is_some_and(|s| s.status.as_ref().and_then(|s| s.ready_to_use) == Some(true));
    match (exposed.bound_volume(), exposed.mounted_on()) {
        (Some(pv), Some((node, holder))) => Step::Run { node: node.into(), holder: holder.into(), pv: pv.into() },
        (Some(_), None) => {
            let (at, passed) = rules.deadline(volume.since, rules.timeouts.clone + rules.timeouts.holder);
            match (passed, exposed.unschedulable()) {
                (false, said) => tell_or_wait(volume, said.map(|said| (Reason::HolderUnschedulable, said)), at),
                (true, Some(said)) => Step::Fail(Reason::HolderUnschedulable, no_node(said)),
                (true, None) => {
                    let message = format!("the pod that mounts the clone did not start within {:?}", rules.timeouts.holder);
                    Step::Fail(Reason::HolderNotStarted, message)
                }
            }
        }
        (None, _) if clone_passed => match (exposed.unschedulable(), exposed.snapshot_error()) {
            (Some(said), _) => Step::Fail(Reason::HolderUnschedulable, no_node(said)),
            (None, Some(said)) => Step::Fail(Reason::CloneNotBound, format!("the snapshot cannot be cloned: {said}")),
            (None, None) => Step::Fail(Reason::CloneNotBound, format!("the clone was not bound within {:?}", rules.timeouts.clone)),
        },
        (None, _) if exposed.content.is_none() || exposed.snapshot.is_none() => Step::CloneSnapshot,
        (None, _) if ready && (exposed.claim.is_none() || exposed.holder.is_none()) => Step::Clone,
        (None, _) => tell_or_wait(volume, exposed.unschedulable().map(|said| (Reason::HolderUnschedulable, said)), clone_at),
    }
}

pub(super) fn no_node(said: &str) -> String {
    format!("no node can mount the volume: {said}; make a node that can, or allow its taint by holder.tolerations in the chart")
}

pub(super) fn running(volume: &VolumeStatus, seen: &Seen, rules: &Rules) -> Step {
    let Some(run) = &seen.exposed.run else { return Step::FindRun };
    let status = run.status.clone().unwrap_or_default();
    if status.phase.is_final() {
        return Step::Conclude;
    }
    let phase = if status.phase == RunPhase::Running { VolumePhase::Archiving } else { VolumePhase::Queued };
    if phase != volume.phase || status.progress != volume.progress {
        return Step::Follow(phase);
    }
    if let Some((reason, message)) = &seen.lost {
        return Step::Fail(*reason, message.clone());
    }
    let overdue = run.spec.deadline + chrono::Duration::minutes(2);
    if rules.now >= overdue {
        return Step::Fail(Reason::DeadlineExceeded, "the run did not end by its deadline, nor did its agent say so".into());
    }
    let (queue_at, queue_passed) = rules.deadline(volume.since, rules.timeouts.queue);
    if phase == VolumePhase::Queued && queue_passed {
        return Step::Fail(
            Reason::DeadlineExceeded,
            format!("the run had no slot within {:?}; raise timeouts.queue or agent.slots in the chart", rules.timeouts.queue),
        );
    }
    let check = rules.now + chrono::Duration::from_std(rules.agent_check).unwrap_or_default();
    Step::Wait(Some(check.min(queue_at).min(overdue)))
}

/// What becomes of an attempt that failed: a time to try again, or the end.
pub fn retry(reason: Reason, attempt: u32, limits: &Limits, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if attempt >= limits.attempts {
        return None;
    }
    match reason.retry() {
        Retry::Never => None,
        Retry::Now => Some(now),
        Retry::Later => {
            let delay = limits.retry_delay * 2_u32.saturating_pow(attempt.saturating_sub(1).min(8));
            Some(now + chrono::Duration::from_std(delay).unwrap_or_default())
        }
    }
}

/// How a run's end is told in the volume's status: outcome, reason, message.
pub fn ended(run: &BorgRun) -> (Option<Outcome>, Option<Reason>, Option<String>) {
    let status = run.status.clone().unwrap_or_default();
    match status.phase {
        RunPhase::Succeeded => (Some(Outcome::Succeeded), None, None),
        RunPhase::Incomplete => (Some(Outcome::Incomplete), status.reason.or(Some(Reason::FilesUnreadable)), status.message),
        RunPhase::Failed | RunPhase::Pending | RunPhase::Queued | RunPhase::Running => {
            (None, status.reason.or(Some(Reason::BorgFailed)), status.message)
        }
        RunPhase::Interrupted => (None, Some(Reason::Interrupted), status.message),
    }
}
