//! What there is to look after: the newest archive of each PVC, by the Backups that are over, and the runs of maintenance.

use super::decide::Said;
use crate::context::Context;
use borgherd_api::crd::{Backup, BorgRun, Outcome, Owner, VolumeStatus};
use borgherd_api::names::{ACCEPT, COMPONENT, MAINTENANCE};
use kube::ResourceExt;
use std::collections::HashMap;
use std::sync::Arc;

/// The newest archive of a PVC.
#[derive(Clone, Debug)]
pub(super) struct Newest {
    pub(super) backup: Arc<Backup>,
    pub(super) owner: Owner,
    pub(super) volume: VolumeStatus,
    /// Of the Borg repository.
    pub(super) location: String,
}

/// The newest archive of each PVC.
pub(super) fn newest(backups: &[Arc<Backup>]) -> Vec<Newest> {
    let mut all: HashMap<(String, String), Newest> = HashMap::new();
    for backup in backups.iter().filter(|b| b.status.as_ref().is_some_and(|s| s.phase.is_final())) {
        for volume in backup.status.iter().flat_map(|s| &s.volumes) {
            let made = matches!(volume.outcome, Some(Outcome::Succeeded | Outcome::Incomplete)) && volume.archive.is_some();
            let (true, Some(location)) = (made, &volume.location) else { continue };
            let key = (backup.namespace().unwrap_or_default(), volume.pvc.clone());
            if all.get(&key).is_some_and(|newest| newest.volume.cut >= volume.cut) {
                continue;
            }
            let newest =
                Newest { backup: Arc::clone(backup), owner: Owner::of(&**backup), volume: volume.clone(), location: location.clone() };
            all.insert(key, newest);
        }
    }
    all.into_values().collect()
}

/// What is said about the archives of a PVC, and what a person has accepted. Of a PVC that is gone all archives stay.
pub(super) fn said(ctx: &Context, namespace: &str, pvc: &str) -> (Said, String) {
    let world = ctx.world();
    let Some(claim) = world.spaces.get(namespace).and_then(|space| space.claims.get(pvc)) else {
        return (Said::Nothing, String::new());
    };
    let accepted = claim.annotations.get(ACCEPT).cloned().unwrap_or_default();
    let said = match world.policy(namespace, pvc) {
        Ok(policy) => policy.archive_keep.map_or(Said::Nothing, |keep| Said::Keep(keep.to_string())),
        Err(problems) => Said::Invalid(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    };
    (said, accepted)
}

/// Whether a run keeps archives in order.
pub(super) fn is_maintenance(run: &BorgRun) -> bool {
    run.labels().get(COMPONENT).is_some_and(|value| value == MAINTENANCE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use borgherd_api::crd::{BackupPhase, BackupSpec, BackupStatus, Trigger};

    fn backup(name: &str, phase: BackupPhase, volumes: &[(&str, Option<Outcome>, &str)]) -> Arc<Backup> {
        let trigger = Trigger::Manual;
        let spec = BackupSpec { volumes: vec![], archive: true, trigger, keep_days: None, scheduled_time: None, hooks: None };
        let mut backup = Backup::new(name, spec);
        backup.metadata.namespace = Some("shop".into());
        let volume = |(pvc, outcome, cut): &(&str, Option<Outcome>, &str)| VolumeStatus {
            pvc: (*pvc).into(),
            outcome: *outcome,
            cut: cut.parse().ok(),
            archive: Some("a".into()),
            location: Some("l".into()),
            ..VolumeStatus::default()
        };
        backup.status = Some(BackupStatus { phase, volumes: volumes.iter().map(volume).collect(), ..BackupStatus::default() });
        Arc::new(backup)
    }

    #[test]
    fn the_newest_archive_counts_whatever_came_after_it_without_one() {
        let made = Some(Outcome::Succeeded);
        let all = [
            backup("b", BackupPhase::Succeeded, &[("data", made, "2026-11-02T00:00:00Z"), ("web", made, "2026-11-02T00:00:00Z")]),
            backup("a", BackupPhase::Succeeded, &[("data", made, "2026-11-01T00:00:00Z")]),
            backup("c", BackupPhase::Failed, &[("data", Some(Outcome::Failed), "2026-11-03T00:00:00Z")]),
            backup("d", BackupPhase::PartiallyFailed, &[("web", Some(Outcome::Incomplete), "2026-11-03T00:00:00Z")]),
            backup("e", BackupPhase::Archiving, &[("web", made, "2026-11-04T00:00:00Z")]),
        ];
        let mut found: Vec<_> = newest(&all).into_iter().map(|n| (n.volume.pvc, n.backup.name_any())).collect();
        found.sort();
        assert_eq!(found, [("data".into(), "b".into()), ("web".into(), "d".to_owned())]);
    }
}
