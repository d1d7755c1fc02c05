//! Telling what happened: one log line and, where a user acts on it, one Event a transition; counters and durations.

use super::work::Work;
use crate::events;
use borgherd_api::crd::{Backup, Outcome, VolumePhase, VolumeStatus};
use tracing::{info, warn};

/// Tells what changed between two states of the volumes.
pub async fn transitions(work: &Work<'_>, before: &[VolumeStatus], after: &[VolumeStatus]) {
    for (old, new) in before.iter().zip(after) {
        if old.phase != new.phase {
            info!(pvc = new.pvc, from = ?old.phase, to = ?new.phase, reason = ?new.reason, attempt = new.attempt, "volume");
        }
        let failed = new.phase == VolumePhase::Cleaning && old.phase != VolumePhase::Cleaning && !went_well(new);
        if failed {
            failure(work, new).await;
        }
        if new.phase == VolumePhase::Finished && old.phase != VolumePhase::Finished {
            work.ctx.metrics.volume_ended(new);
            success(work, new).await;
        }
        waits_with_a_problem(work, old, new).await;
    }
}

fn went_well(volume: &VolumeStatus) -> bool {
    matches!(volume.outcome, Some(Outcome::Succeeded | Outcome::Superseded))
}

async fn failure(work: &Work<'_>, volume: &VolumeStatus) {
    let reason = volume.reason.map(|r| r.to_string()).unwrap_or_default();
    let message = volume.message.clone().unwrap_or_default();
    let again = volume.not_before.map(|at| format!(" (try {}; again at {})", volume.attempt, at.format("%H:%M:%SZ"))).unwrap_or_default();
    warn!(pvc = volume.pvc, reason, message, attempt = volume.attempt, "volume failed");
    let note = format!("{}: {message}{again}", volume.pvc);
    work.ctx.metrics.attempt_failed(volume);
    work.ctx.events.warning(&events::about(work.backup), "Backup", &reason, &note).await;
    if volume.not_before.is_none() {
        let claim = events::pvc(&work.owner.namespace, &volume.pvc, claim_uid(work, volume).as_deref());
        work.ctx.events.warning(&claim, "Backup", &reason, &note).await;
    }
}

/// UID of the PVC, without which `kubectl describe` shows no Event: as it was cut, or as it is known.
fn claim_uid(work: &Work<'_>, volume: &VolumeStatus) -> Option<String> {
    let known = || work.ctx.world().spaces.get(&work.owner.namespace)?.claims.get(&volume.pvc).map(|c| c.uid.clone());
    volume.pvc_uid.clone().or_else(known)
}

async fn success(work: &Work<'_>, volume: &VolumeStatus) {
    let (reason, note) = match (volume.outcome, &volume.archive) {
        (Some(Outcome::Superseded), _) => ("Superseded", volume.message.clone().unwrap_or_default()),
        (Some(Outcome::Succeeded), Some(archive)) => ("Archived", format!("{}: archive {archive}", volume.pvc)),
        (Some(Outcome::Succeeded), None) => {
            ("SnapshotTaken", format!("{}: snapshot {}", volume.pvc, volume.snapshot.as_deref().unwrap_or_default()))
        }
        (Some(Outcome::Incomplete | Outcome::Failed) | None, _) => return,
    };
    work.ctx.events.normal(&events::about(work.backup), "Backup", reason, &note).await;
    if let (Some(_), Some(Outcome::Succeeded), Some(told)) = (&volume.live, volume.outcome, &volume.message) {
        let note = format!("{}: {told}", volume.pvc);
        work.ctx.events.warning(&events::about(work.backup), "Backup", "ChangedWhileRead", &note).await;
    }
}

/// A snapshot that the storage refuses is tried on until the deadline: people should know before.
async fn waits_with_a_problem(work: &Work<'_>, old: &VolumeStatus, new: &VolumeStatus) {
    let told = new.phase == VolumePhase::Cutting && new.message.is_some() && old.message != new.message;
    if told {
        let note = format!("{}: {}", new.pvc, new.message.as_deref().unwrap_or_default());
        work.ctx.events.warning(&events::about(work.backup), "Backup", "SnapshotFailed", &note).await;
    }
}

/// Tells that the whole Backup has ended.
pub fn ended(work: &Work<'_>, backup: &Backup) {
    let Some(status) = backup.status.as_ref().filter(|s| s.phase.is_final()) else {
        return;
    };
    info!(phase = ?status.phase, reason = ?status.reason, "backup ended");
    work.ctx.metrics.backup_ended(status);
    if work.ctx.touch.retention.send(work.owner.namespace.clone()).is_err() {
        tracing::debug!("shutting down; nobody to wake");
    }
    work.ctx.touch.maintenance.notify_one();
    let mut world = work.ctx.world.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    world.put_backup(backup);
}
