//! What there is of one Backup of one PVC, read live and at once.

use anyhow::Result;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, BorgRun, RunPhase, VolumePhase, VolumeStatus};
use borgherd_api::names;
use borgherd_e2e::World;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Resource, ResourceExt};
use std::fmt;

/// Everything that a Backup makes, as far as it is there.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) backups: Vec<Backup>,
    pub(super) snapshot: Option<VolumeSnapshot>,
    pub(super) content: Option<VolumeSnapshotContent>,
    pub(super) clone_content: Option<VolumeSnapshotContent>,
    pub(super) clone_snapshot: Option<VolumeSnapshot>,
    pub(super) claim: Option<PersistentVolumeClaim>,
    pub(super) volume: Option<PersistentVolume>,
    pub(super) holder: Option<Pod>,
    pub(super) run: Option<BorgRun>,
    pub(super) record: Option<ConfigMap>,
}

impl Seen {
    /// Looks.
    pub(super) async fn now(w: &World, pvc: &str, location: &str) -> Result<Self> {
        let mut seen = Self { backups: w.backups().await?, ..Self::default() };
        let Some(uid) = seen.backups.first().and_then(ResourceExt::uid) else {
            return Ok(seen);
        };
        let all = ListParams::default();
        let name = names::temporary(&uid, pvc);
        seen.snapshot = w.api::<VolumeSnapshot>().list(&all).await?.items.into_iter().next();
        let contents = w.api_all::<VolumeSnapshotContent>().list(&all).await?.items;
        seen.content = contents.into_iter().find(|c| c.spec.volume_snapshot_ref.namespace.as_deref() == Some(&w.namespace));
        seen.clone_content = w.api_all().get_opt(&name).await?;
        seen.clone_snapshot = w.api_volumes().get_opt(&name).await?;
        seen.claim = w.api_volumes().get_opt(&name).await?;
        let volumes = w.api_all::<PersistentVolume>().list(&all).await?.items;
        let is_clone = |v: &PersistentVolume| v.spec.as_ref().and_then(|s| s.claim_ref.as_ref()?.name.as_ref()) == Some(&name);
        seen.volume = volumes.into_iter().find(is_clone);
        seen.holder = w.api_volumes().get_opt(&name).await?;
        let runs = w.api_own::<BorgRun>().list(&all).await?.items;
        seen.run = runs.into_iter().find(|r| r.spec.owner.uid == uid);
        seen.record = w.api_own().get_opt(&names::repository_record(location)).await?;
        Ok(seen)
    }

    /// The volume's status as it is written.
    pub(super) fn status(&self) -> Option<&VolumeStatus> {
        self.backups.first()?.status.as_ref()?.volumes.first()
    }

    /// The phase as it is written.
    pub(super) fn is(&self, phase: VolumePhase) -> bool {
        self.status().is_some_and(|v| v.phase == phase)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|s| s.status.as_ref().is_some_and(|s| s.creation_time.is_some()))
    }

    pub(super) fn snapshot_marked(&self) -> bool {
        marked(self.snapshot.as_ref())
    }

    pub(super) fn content_kept(&self) -> bool {
        marked(self.content.as_ref()) && self.content.as_ref().is_some_and(|c| c.spec.deletion_policy == "Retain")
    }

    pub(super) fn in_flight(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|s| s.labels().contains_key(names::IN_FLIGHT))
    }

    pub(super) fn ready(&self) -> bool {
        is_ready(self.snapshot.as_ref())
    }

    pub(super) fn clone_ready(&self) -> bool {
        is_ready(self.clone_snapshot.as_ref())
    }

    pub(super) fn held(&self) -> bool {
        self.holder.as_ref().and_then(|h| h.status.as_ref()?.phase.as_deref()) == Some("Running")
    }

    pub(super) fn volume_ours(&self) -> bool {
        self.volume.as_ref().is_some_and(|v| v.labels().contains_key(names::TEMPORARY))
    }

    pub(super) fn run_is(&self, phase: RunPhase) -> bool {
        self.run.as_ref().is_some_and(|r| r.status.as_ref().map(|s| s.phase).unwrap_or_default() == phase)
    }
}

fn marked<K: Resource>(object: Option<&K>) -> bool {
    object.is_some_and(|o| o.annotations().contains_key(names::CUT))
}

fn is_ready(snapshot: Option<&VolumeSnapshot>) -> bool {
    snapshot.and_then(|s| s.status.as_ref()?.ready_to_use) == Some(true)
}

/// One line, for errors.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = |name: &'static str, is: bool| is.then_some(name);
        let objects: Vec<&str> = [
            there("snapshot", self.snapshot.is_some()),
            there("cut", self.is_cut()),
            there("snapshot marked", self.snapshot_marked()),
            there("content kept", self.content_kept()),
            there("ready", self.ready()),
            there("in flight", self.in_flight()),
            there("static content", self.clone_content.is_some()),
            there("its snapshot", self.clone_snapshot.is_some()),
            there("clone", self.claim.is_some()),
            there("its volume", self.volume.is_some()),
            there("marked as ours", self.volume_ours()),
            there("holder", self.holder.is_some()),
            there("running", self.held()),
            there("record", self.record.is_some()),
        ]
        .into_iter()
        .flatten()
        .collect();
        let status = self.status().map(|v| (v.phase, v.attempt, v.reason, v.message.clone()));
        let run = self.run.as_ref().map(|r| r.status.clone().unwrap_or_default().phase);
        write!(f, "{} Backups, status {status:?}, run {run:?}, there: {objects:?}", self.backups.len())
    }
}
