//! What comes next for a Restore: pure, from its status and what is seen.

use crate::backup::decide::{Rules, ended};
use crate::expose::Exposed;
use borgherd_api::Reason;
use borgherd_api::crd::{Outcome, Restore, RestorePhase, RestoreStatus, RunPhase, SourceKind};
use chrono::{DateTime, Utc};

/// The next step of a Restore.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until something changes, or until then.
    Wait(Option<DateTime<Utc>>),
    /// Check target and Repository, and ask for a listing of archives where one is needed.
    Begin,
    /// Choose among what there is.
    Resolve,
    /// Ask for the restore's turn, and make the empty volume and its holder.
    Prepare,
    /// Create the run for the holder's node.
    Run {
        /// Node of the holder.
        node: String,
        /// Its UID.
        holder: String,
        /// PersistentVolume.
        pv: String,
    },
    /// The run is missing from the cache: look for it.
    FindRun,
    /// Take over how far the run is.
    Follow(RestorePhase),
    /// Borg has succeeded.
    Extracted,
    /// Make the target PVC from the snapshot, or give it the restored volume.
    HandOver,
    /// This attempt has failed.
    Fail(Reason, String),
    /// Delete what is temporary.
    Clean,
    /// Everything temporary is gone after a failure.
    Finish,
    /// It did not go in time: the Restore ends, and the look for leftovers goes on with it.
    Abandon,
}

/// The next step.
pub fn decide(restore: &Restore, status: &RestoreStatus, exposed: &Exposed, lost: Option<(Reason, String)>, rules: &Rules) -> Step {
    match status.phase {
        RestorePhase::Pending => match status.not_before {
            Some(at) if rules.now < at => Step::Wait(Some(at)),
            _ if status.resolved.is_some() && rules.deadline(status.since, rules.timeouts.queue).1 => {
                Step::Fail(Reason::DeadlineExceeded, format!("its turn did not come within {:?}", rules.timeouts.queue))
            }
            _ if status.resolved.is_some() => Step::Prepare,
            _ => Step::Begin,
        },
        RestorePhase::Resolving => resolving(restore, status, exposed, rules),
        RestorePhase::Preparing => preparing(status, exposed, rules),
        RestorePhase::Queued | RestorePhase::Extracting => running(status, exposed, lost, rules),
        // Never given up: the data is whole, throwing it away helps nobody.
        RestorePhase::HandingOver => Step::HandOver,
        RestorePhase::Cleaning if exposed.is_empty() => Step::Finish,
        RestorePhase::Cleaning if rules.deadline(status.since, rules.timeouts.cleanup).1 => Step::Abandon,
        RestorePhase::Succeeded | RestorePhase::Failed if exposed.is_empty() => Step::Wait(None),
        RestorePhase::Cleaning | RestorePhase::Succeeded | RestorePhase::Failed => Step::Clean,
    }
}

fn resolving(restore: &Restore, status: &RestoreStatus, exposed: &Exposed, rules: &Rules) -> Step {
    let asks_no_agent = restore.spec.source.from == Some(SourceKind::Snapshot) && restore.spec.retention.is_none();
    if asks_no_agent || status.run.is_none() {
        return Step::Resolve;
    }
    let (at, passed) = rules.deadline(status.since, rules.timeouts.clone);
    match &exposed.run {
        None => Step::FindRun,
        Some(run) if run.status.as_ref().is_some_and(|s| s.phase.is_final()) => Step::Resolve,
        Some(_) if passed => {
            Step::Fail(Reason::DeadlineExceeded, format!("the archives were not listed within {:?}", rules.timeouts.clone))
        }
        Some(_) => Step::Wait(Some(at)),
    }
}

fn preparing(status: &RestoreStatus, exposed: &Exposed, rules: &Rules) -> Step {
    let (at, passed) = rules.deadline(status.since, rules.timeouts.clone + rules.timeouts.holder);
    match (exposed.bound_volume(), exposed.mounted_on()) {
        (Some(pv), Some((node, holder))) => Step::Run { node: node.into(), holder: holder.into(), pv: pv.into() },
        _ if exposed.claim.is_none() || exposed.holder.is_none() => Step::Prepare,
        _ if !passed => Step::Wait(Some(at)),
        _ => match exposed.unschedulable() {
            Some(said) => Step::Fail(Reason::HolderUnschedulable, format!("no node can mount the new volume: {said}")),
            None => Step::Fail(Reason::CloneNotBound, "the new volume was not bound and mounted in time".into()),
        },
    }
}

fn running(status: &RestoreStatus, exposed: &Exposed, lost: Option<(Reason, String)>, rules: &Rules) -> Step {
    let Some(run) = &exposed.run else { return Step::FindRun };
    let told = run.status.clone().unwrap_or_default();
    if told.phase.is_final() {
        return match ended(run) {
            (Some(Outcome::Succeeded), _, _) => Step::Extracted,
            (_, reason, message) => Step::Fail(reason.unwrap_or(Reason::FilesNotRestored), message.unwrap_or_default()),
        };
    }
    let phase = if told.phase == RunPhase::Running { RestorePhase::Extracting } else { RestorePhase::Queued };
    if phase != status.phase || told.progress != status.progress {
        return Step::Follow(phase);
    }
    if let Some((reason, message)) = lost {
        return Step::Fail(reason, message);
    }
    let overdue = run.spec.deadline + chrono::Duration::minutes(2);
    if rules.now >= overdue {
        return Step::Fail(Reason::DeadlineExceeded, "the run did not end by its deadline, nor did its agent say so".into());
    }
    let (queue_at, queue_passed) = rules.deadline(status.since, rules.timeouts.queue);
    if phase == RestorePhase::Queued && queue_passed {
        return Step::Fail(Reason::DeadlineExceeded, format!("the run had no slot within {:?}", rules.timeouts.queue));
    }
    let check = rules.now + chrono::Duration::from_std(rules.agent_check).unwrap_or_default();
    Step::Wait(Some(check.min(queue_at).min(overdue)))
}
