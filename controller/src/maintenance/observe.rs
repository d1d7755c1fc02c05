//! What there is to look after: the newest archive of each PVC, by the Backups that are over, and the runs of maintenance.

pub(super) use super::decide::Said;
use crate::context::Context;
use crate::world::{Archived, Past, World};
use borgherd_api::crd::{BorgRun, Owner, VolumeStatus};
use borgherd_api::names::{ACCEPT, COMPONENT, MAINTENANCE};
use kube::ResourceExt;

/// The newest archive of a PVC.
#[derive(Clone, Debug)]
pub(super) struct Newest {
    /// The Backup that made it.
    pub(super) owner: Owner,
    pub(super) volume: VolumeStatus,
    /// Of the Borg repository.
    pub(super) location: String,
}

/// The newest archive of each PVC that is there.
pub(super) fn newest(world: &World) -> Vec<Newest> {
    let spaces = world.spaces.values();
    let archived = spaces.flat_map(|space| space.past.iter().filter(|(pvc, _)| space.claims.contains_key(*pvc)));
    archived.filter_map(|(_, past)| of(past)).collect()
}

/// That of one PVC, if it is there.
pub(super) fn newest_of(world: &World, namespace: &str, pvc: &str) -> Option<Newest> {
    let space = world.spaces.get(namespace)?;
    space.claims.get(pvc).and_then(|_| of(space.past.get(pvc)?))
}

fn of(past: &Past) -> Option<Newest> {
    let Archived { owner, volume } = &**past.archived.as_ref()?;
    Some(Newest { owner: owner.clone(), volume: volume.clone(), location: volume.location.clone()? })
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
    use borgherd_api::crd::{Backup, BackupPhase, BackupSpec, BackupStatus, Outcome, Trigger};
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;

    fn backup(name: &str, phase: BackupPhase, volumes: &[(&str, Option<Outcome>, &str)]) -> Backup {
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
        backup
    }

    fn claim(name: &str) -> PersistentVolumeClaim {
        serde_json::from_value(serde_json::json!({"metadata": {"namespace": "shop", "name": name}})).unwrap()
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
            backup("f", BackupPhase::Succeeded, &[("gone", made, "2026-11-04T00:00:00Z")]),
        ];
        let mut world = World::default();
        for pvc in ["data", "web"] {
            world.put_claim(&claim(pvc));
        }
        for backup in &all {
            world.put_backup(backup);
        }
        let mut found: Vec<_> = newest(&world).into_iter().map(|n| (n.volume.pvc, n.owner.name)).collect();
        found.sort();
        assert_eq!(found, [("data".into(), "b".into()), ("web".into(), "d".to_owned())]);
        world.forget_archive("shop", "web");
        assert_eq!(newest(&world).len(), 1);
    }
}
