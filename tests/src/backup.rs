//! Backups and restores as a user makes them, and waiting for their end.

use crate::wait::{Object, until};
use crate::world::World;
use anyhow::{Context, Result, bail, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{
    Backup, BackupPhase, BackupSpec, Candidate, Outcome, Restore, RestorePhase, RestoreSource, RestoreSpec, RestoreTarget, Trigger,
    VolumeStatus,
};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Resource, ResourceExt};
use std::time::Duration;

/// A backup or restore of what the tests make takes seconds; retries after a kill take longer.
const END: Duration = Duration::from_mins(5);

impl World {
    /// Asks for a backup of PVCs now, with archives; returns its name.
    pub async fn backup(&self, pvcs: &[&str]) -> Result<String> {
        self.backup_as(pvcs, true).await
    }

    /// The same; without `archive`, snapshots only.
    pub async fn backup_as(&self, pvcs: &[&str], archive: bool) -> Result<String> {
        let spec = BackupSpec {
            volumes: pvcs.iter().map(|&p| p.to_owned()).collect(),
            archive,
            trigger: Trigger::Manual,
            keep_days: None,
            scheduled_time: None,
            hooks: None,
        };
        self.create_named(&Backup { metadata: generated("manual-"), spec, status: None }).await
    }

    /// Waits until a Backup is over, however it ended.
    pub async fn backup_ended(&self, name: &str) -> Result<Backup> {
        let api = self.api();
        let over =
            until(&api, name, "is over", END, |b: Option<&Backup>| b.and_then(|b| b.status.as_ref()).is_some_and(|s| s.phase.is_final()));
        over.await?.context("over and yet absent")
    }

    /// Waits until a Backup is over, and checks that every volume of it succeeded.
    pub async fn backup_succeeded(&self, name: &str) -> Result<Vec<VolumeStatus>> {
        let status = self.backup_ended(name).await?.status.unwrap_or_default();
        ensure!(
            status.phase == BackupPhase::Succeeded && status.volumes.iter().all(|v| v.outcome == Some(Outcome::Succeeded)),
            "Backup {name} ended as {:?}: {:?} {}\n{:#?}",
            status.phase,
            status.reason,
            status.message.unwrap_or_default(),
            status.volumes
        );
        Ok(status.volumes)
    }

    /// Waits until a Backup of one PVC has failed for `reason`, and returns its message.
    pub async fn backup_failed(&self, name: &str, reason: Reason) -> Result<String> {
        let status = self.backup_ended(name).await?.status.unwrap_or_default();
        ensure!(
            status.phase == BackupPhase::Failed && status.reason == Some(reason),
            "Backup {name} should have failed with {reason}, but ended as {:?}: {:?} {:?}",
            status.phase,
            status.reason,
            status.message
        );
        let message = status.message.unwrap_or_default();
        ensure!(!message.is_empty(), "Backup {name} failed with {reason} but says nothing about it");
        Ok(message)
    }

    /// Waits until a Backup's volume fulfils `holds`.
    pub async fn volume_until(&self, name: &str, pvc: &str, what: &str, holds: impl Fn(&VolumeStatus) -> bool) -> Result<VolumeStatus> {
        let of = |b: &Backup| b.status.as_ref()?.volumes.iter().find(|v| v.pvc == pvc).cloned();
        let api = self.api();
        let seen = until(&api, name, what, END, |b: Option<&Backup>| b.and_then(of).is_some_and(|v| holds(&v)));
        seen.await?.as_ref().and_then(of).context("seen and yet absent")
    }

    /// All Backups of the test's namespace, oldest first.
    pub async fn backups(&self) -> Result<Vec<Backup>> {
        let mut all = self.api::<Backup>().list(&kube::api::ListParams::default()).await?.items;
        all.sort_by_key(|b| (b.metadata.creation_timestamp.clone(), b.name_any()));
        Ok(all)
    }

    /// Asks for a restore into a new PVC; returns the Restore's name.
    pub async fn restore(&self, source: RestoreSource, target: &str) -> Result<String> {
        let target = RestoreTarget { pvc: target.into(), storage_class: None, size: None };
        self.restore_as(source, Some(target)).await
    }

    /// The same with everything given; without target: a preview.
    pub async fn restore_as(&self, source: RestoreSource, target: Option<RestoreTarget>) -> Result<String> {
        let spec = RestoreSpec { source, preview: target.is_none(), target, retention: None };
        self.create_named(&Restore { metadata: generated("restore-"), spec, status: None }).await
    }

    /// Waits until a Restore is over, however it ended.
    pub async fn restore_ended(&self, name: &str) -> Result<Restore> {
        let api = self.api();
        let over =
            until(&api, name, "is over", END, |r: Option<&Restore>| r.and_then(|r| r.status.as_ref()).is_some_and(|s| s.phase.is_final()));
        over.await?.context("over and yet absent")
    }

    /// Waits until a Restore is over, and checks that it succeeded.
    pub async fn restore_succeeded(&self, name: &str) -> Result<Restore> {
        let restore = self.restore_ended(name).await?;
        let status = restore.status.clone().unwrap_or_default();
        if status.phase == RestorePhase::Succeeded {
            return Ok(restore);
        }
        bail!("Restore {name} ended as {:?}: {:?} {}", status.phase, status.reason, status.message.unwrap_or_default())
    }

    /// Waits until a Restore has failed for `reason`, and returns its message.
    pub async fn restore_failed(&self, name: &str, reason: Reason) -> Result<String> {
        let status = self.restore_ended(name).await?.status.unwrap_or_default();
        ensure!(
            status.phase == RestorePhase::Failed && status.reason == Some(reason),
            "Restore {name} should have failed with {reason}, but ended as {:?}: {:?} {:?}",
            status.phase,
            status.reason,
            status.message
        );
        Ok(status.message.unwrap_or_default())
    }

    /// Everything that could be restored of a PVC, newest first: what `borgherd list` shows.
    pub async fn candidates(&self, pvc: &str) -> Result<Vec<Candidate>> {
        let source = RestoreSource { pvc: pvc.into(), ..RestoreSource::default() };
        let name = self.restore_as(source, None).await?;
        let restore = self.restore_succeeded(&name).await?;
        Ok(restore.status.unwrap_or_default().candidates)
    }

    async fn create_named<K>(&self, object: &K) -> Result<String>
    where
        K: Object + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let api: Api<K> = self.api();
        let made = api.create(&PostParams::default(), object).await;
        Ok(made.with_context(|| format!("create a {}", K::kind(&())))?.name_any())
    }
}

fn generated(prefix: &str) -> ObjectMeta {
    ObjectMeta { generate_name: Some(prefix.into()), ..ObjectMeta::default() }
}
