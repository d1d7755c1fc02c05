//! What the volumes' states add up to, and the writing of it.
//!
//! Invariant: a status is written with the resourceVersion it was computed from; whoever is late gets a 409 and looks again.

use crate::context::Context;
use crate::error::{Doing, Error};
use borgherd_api::crd::{Backup, BackupPhase, BackupStatus, Outcome, QuiescePhase, QuiesceStatus, VolumePhase, VolumeStatus};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use kube::api::{Api, PostParams};

/// The status of a Backup whose volumes stand like this. It is at its end only when nothing is owed to an application.
pub fn summary(
    before: Option<&BackupStatus>,
    quiesce: Option<QuiesceStatus>,
    volumes: Vec<VolumeStatus>,
    now: DateTime<Utc>,
) -> BackupStatus {
    let thawed = quiesce.as_ref().is_none_or(|q| q.phase == QuiescePhase::Thawed);
    let finished = thawed && volumes.iter().all(|v| v.phase == VolumePhase::Finished);
    let well = |v: &&VolumeStatus| matches!(v.outcome, Some(Outcome::Succeeded | Outcome::Superseded));
    let phase = match volumes.iter().filter(well).count() {
        all if finished && all == volumes.len() => BackupPhase::Succeeded,
        0 if finished => BackupPhase::Failed,
        _ if finished => BackupPhase::PartiallyFailed,
        _ if volumes.iter().any(|v| v.phase > VolumePhase::Cut) => BackupPhase::Archiving,
        _ => BackupPhase::Snapshotting,
    };
    let told = volumes.iter().find(|v| v.reason.is_some() && !matches!(v.outcome, Some(Outcome::Succeeded | Outcome::Superseded)));
    BackupStatus {
        phase,
        reason: told.and_then(|v| v.reason),
        message: told.and_then(|v| Some(format!("{}: {}", v.pvc, v.message.as_deref()?))).map(|m| m.chars().take(4000).collect()),
        started_at: before.and_then(|b| b.started_at).or(Some(now)),
        finished_at: before.and_then(|b| b.finished_at).or(finished.then_some(now)),
        quiesce,
        volumes,
    }
}

/// The volumes as the status has them, in the order of the spec; new ones are Pending.
pub fn volumes(backup: &Backup) -> Vec<VolumeStatus> {
    let known = backup.status.as_ref().map(|s| s.volumes.as_slice()).unwrap_or_default();
    let of = |pvc: &String| {
        known.iter().find(|v| v.pvc == *pvc).cloned().unwrap_or_else(|| VolumeStatus { pvc: pvc.clone(), ..VolumeStatus::default() })
    };
    backup.spec.volumes.iter().map(of).collect()
}

/// Writes `status`; what comes back carries the new resourceVersion.
pub async fn write(ctx: &Context, backup: &Backup, status: BackupStatus) -> Result<Backup, Error> {
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), &backup.namespace().unwrap_or_default());
    let next = Backup { status: Some(status), ..backup.clone() };
    let written = api.replace_status(&backup.name_any(), &PostParams::default(), &next).await.doing("writing the Backup's status")?;
    ctx.wrote(backup, &written);
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgherd_api::Reason;

    fn volume(phase: VolumePhase, outcome: Option<Outcome>) -> VolumeStatus {
        let reason = (outcome == Some(Outcome::Failed)).then_some(Reason::BorgFailed);
        VolumeStatus { pvc: "data".into(), phase, outcome, reason, message: reason.map(|_| "no".into()), ..VolumeStatus::default() }
    }

    #[test]
    fn a_backup_is_what_its_volumes_add_up_to() {
        let ok = volume(VolumePhase::Finished, Some(Outcome::Succeeded));
        let bad = volume(VolumePhase::Finished, Some(Outcome::Failed));
        let incomplete = volume(VolumePhase::Finished, Some(Outcome::Incomplete));
        let superseded = volume(VolumePhase::Finished, Some(Outcome::Superseded));
        let cases = [
            (vec![ok.clone(), superseded], BackupPhase::Succeeded),
            (vec![ok.clone(), bad.clone()], BackupPhase::PartiallyFailed),
            (vec![bad.clone()], BackupPhase::Failed),
            (vec![incomplete], BackupPhase::Failed),
            (vec![ok.clone(), volume(VolumePhase::Cutting, None)], BackupPhase::Archiving),
            (vec![volume(VolumePhase::Cutting, None)], BackupPhase::Snapshotting),
            (vec![volume(VolumePhase::Cleaning, Some(Outcome::Succeeded))], BackupPhase::Archiving),
        ];
        for (volumes, expected) in cases {
            assert_eq!(summary(None, None, volumes.clone(), DateTime::default()).phase, expected, "{volumes:?}");
        }
        assert_eq!(summary(None, None, vec![ok.clone(), bad], DateTime::default()).message.as_deref(), Some("data: no"));
        let owed = QuiesceStatus { phase: QuiescePhase::Thawing, ..QuiesceStatus::default() };
        assert!(!summary(None, Some(owed), vec![ok], DateTime::default()).phase.is_final(), "an application may be held still");
    }
}
