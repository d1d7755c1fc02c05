//! The first half of a volume's way: the VolumeSnapshot is created, its cut written down, its content kept.

use super::decide;
use super::prepare::Prepared;
use super::work::{Work, seconds};
use crate::error::{Doing, Error};
use crate::expose::{self, objects};
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{Durations, Outcome, Release, VolumePhase, VolumeStatus};
use borgherd_api::identity::Identity;
use borgherd_api::names::{self, CONTROLLER, CUT, IN_FLIGHT, OWN_DELETION_POLICY};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

impl Work<'_> {
    pub(super) async fn snapshot(&self, volume: &VolumeStatus, prepared: Option<&Prepared>) -> Result<VolumeStatus, Error> {
        let Some(prepared) = prepared else {
            return Err(Error::Missing("the checks before the cut".into()));
        };
        expose::get_or_create(&self.snapshots(), &prepared.snapshot).await.doing("creating the VolumeSnapshot")?;
        Ok(VolumeStatus {
            snapshot: Some(prepared.snapshot.name_any()),
            snapshot_class: Some(prepared.class.clone()),
            pvc_uid: Some(prepared.facts.pvc_uid.clone()),
            capacity_bytes: objects::bytes(&prepared.facts.size),
            ..self.enter(volume, VolumePhase::Cutting)
        })
    }

    /// The cache has no such snapshot with our label: it lags, somebody took the label off, or the snapshot is gone.
    pub(super) async fn find_snapshot(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let name = volume.snapshot.clone().unwrap_or_default();
        let Some(found) = self.snapshots().get_opt(&name).await.doing("looking for the VolumeSnapshot")? else {
            let reason = if volume.cut.is_some() { Reason::SnapshotGone } else { Reason::SnapshotFailed };
            let message = format!("VolumeSnapshot {name} was deleted before it was archived; back up again, and see who deletes snapshots");
            return Ok(self.failed(volume, reason, message));
        };
        if !found.labels().contains_key(IN_FLIGHT) {
            self.patch_snapshot(&name, json!({"metadata": {"labels": {IN_FLIGHT: self.owner.uid}}})).await?;
        }
        if volume.phase == VolumePhase::Cutting && found.status.as_ref().and_then(|s| s.creation_time).is_none() {
            let said = decide::snapshot_error(&found).unwrap_or("the storage has not answered").to_owned();
            return Ok(self.failed(volume, Reason::SnapshotFailed, format!("no snapshot was cut in time: {said}")));
        }
        Err(Error::Missing(format!("VolumeSnapshot {name} is there, but not yet in the cache")))
    }

    pub(super) async fn patch_snapshot(&self, name: &str, patch: serde_json::Value) -> Result<(), Error> {
        let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
        match self.snapshots().patch(name, &params, &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()).doing("marking the VolumeSnapshot"),
        }
    }

    /// Writes the cut to snapshot and content, once, and keeps the content when the namespace goes.
    pub(super) async fn record_cut(
        &self,
        volume: &VolumeStatus,
        snapshot: Option<&VolumeSnapshot>,
        cut: DateTime<Utc>,
    ) -> Result<VolumeStatus, Error> {
        let name = volume.snapshot.clone().unwrap_or_default();
        let content = snapshot.and_then(|s| s.status.as_ref()?.bound_volume_snapshot_content_name.clone()).unwrap_or_default();
        let at = json!({"metadata": {"annotations": {CUT: cut.to_rfc3339()}}});
        let (snapshot_done, content_done) = tokio::join!(self.patch_snapshot(&name, at), self.keep_content(&content, cut, snapshot));
        snapshot_done?;
        content_done?;
        // seen when the freeze ended: what is awaited since is no time of the storage's
        let freeze = self.backup.status.as_ref().and_then(|s| s.quiesce.as_ref()).filter(|q| q.release == Some(Release::Cut));
        let visible = freeze.and_then(|q| q.released_at).unwrap_or(self.now);
        let cut_visible = volume.since.map(|since| seconds(visible - since));
        let durations = Durations { cut_visible, ..volume.durations.unwrap_or_default() };
        Ok(VolumeStatus { cut: Some(cut), durations: Some(durations), ..self.enter(volume, VolumePhase::Cut) })
    }

    /// The content gets its snapshot's identity at once; nobody has to carry it.
    async fn keep_content(&self, name: &str, cut: DateTime<Utc>, snapshot: Option<&VolumeSnapshot>) -> Result<(), Error> {
        let content = self.contents().get(name).await.doing("reading the snapshot's content")?;
        let prefix = &self.ctx.config.retention.label_prefix;
        let mut identity = snapshot.map(|snapshot| Identity::under(prefix, snapshot)).unwrap_or_default();
        identity.annotations.insert(CUT.to_owned(), cut.to_rfc3339());
        let mut patch = json!({"metadata": identity.patch(&Identity::under(prefix, &content)).unwrap_or_default()});
        if self.ctx.config.retain_content && !content.annotations().contains_key(OWN_DELETION_POLICY) {
            patch["metadata"]["annotations"][OWN_DELETION_POLICY] = json!(content.spec.deletion_policy);
            patch["spec"] = json!({"deletionPolicy": "Retain"});
        }
        let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
        self.contents().patch(name, &params, &Patch::Merge(patch)).await.map(|_| ()).doing("keeping the snapshot's content")?;
        if let Some(uid) = snapshot.and_then(|s| s.metadata.uid.as_deref()) {
            self.ctx.known().saw_content(uid, &identity);
        }
        Ok(())
    }

    pub(super) fn mark_ready(&self, volume: &VolumeStatus, archive: bool) -> VolumeStatus {
        let durations = Durations { cut_to_ready: self.since(volume.since), ..volume.durations.unwrap_or_default() };
        let phase = if archive { VolumePhase::Waiting } else { VolumePhase::Cleaning };
        let outcome = (!archive).then_some(Outcome::Succeeded);
        VolumeStatus { ready_at: Some(self.now), durations: Some(durations), outcome, ..self.enter(volume, phase) }
    }

    /// A snapshot that was never cut holds nothing.
    pub(super) async fn delete_uncut(&self, name: &str) -> Result<(), Error> {
        let Some(found) = self.snapshots().get_opt(name).await.doing("looking for the VolumeSnapshot")? else {
            return Ok(());
        };
        if found.labels().get(names::OWNER_UID) != Some(&self.owner.uid) {
            return Ok(());
        }
        let params = DeleteParams::default().preconditions(Preconditions { uid: found.uid(), resource_version: found.resource_version() });
        match self.snapshots().delete(name, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()).doing("deleting the snapshot that was not cut"),
        }
    }
}
