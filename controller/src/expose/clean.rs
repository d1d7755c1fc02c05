//! Taking away what exposing made: run → holder → the volume set to `Delete` → claim → volume → snapshot → content.
//!
//! Each step is issued once the one before is seen gone, each deletion with the UID of the object that was looked at.
//! Invariant: the storage snapshot itself is never touched: the static content is `Retain`. Nor is the storage of a twin: `volume` sees to that.

use super::{Exposed, twin, volume};
use crate::context::Context;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::names::{BEING_CLONED, CONTROLLER, TEMPORARY};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::sync::Arc;

/// Issues the next deletion, if any; true when nothing is left.
pub async fn step(ctx: &Context, exposed: &Exposed) -> Result<bool, kube::Error> {
    let volumes = &ctx.config.volumes_namespace;
    let client = &ctx.client;
    let Exposed { content, snapshot, claim, volume, holder, run } = exposed;
    if let Some(run) = run {
        delete(&Api::namespaced(client.clone(), &ctx.config.namespace), run).await?;
    }
    if let Some(holder) = holder {
        delete(&Api::namespaced(client.clone(), volumes), holder).await?;
    }
    if run.is_some() || holder.is_some() {
        return Ok(false);
    }
    if let Some(claim) = claim {
        if let Some(name) = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()) {
            volume::own(client, name, claim.metadata.labels.as_ref(), claim.metadata.annotations.as_ref(), volume.as_ref()).await?;
        }
        delete(&Api::namespaced(client.clone(), volumes), claim).await?;
        return Ok(false);
    }
    if let Some(volume) = volume.as_ref().filter(|volume| !twin::is_leaving(volume)) {
        volume::dispose(ctx, volume).await?;
        return Ok(false);
    }
    if let Some(snapshot) = snapshot {
        let snapshots = Api::namespaced(client.clone(), volumes);
        delete(&snapshots, snapshot).await?;
        release(ctx, &snapshots, snapshot).await?;
        return Ok(false);
    }
    if let Some(content) = content {
        delete(&Api::all(client.clone()), content).await?;
        return Ok(false);
    }
    Ok(true)
}

/// Takes the provisioner's protection off a snapshot of ours that is being deleted and whose claim is gone by a live GET. It protects
/// what is being cloned from; where cloning failed the provisioner leaves it when the claim goes, and nobody else ever takes it off.
async fn release(ctx: &Context, snapshots: &Api<VolumeSnapshot>, snapshot: &Arc<VolumeSnapshot>) -> Result<(), kube::Error> {
    let leaving = snapshot.meta().deletion_timestamp.is_some();
    if !leaving || !snapshot.finalizers().iter().any(|f| f == BEING_CLONED) {
        return Ok(());
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &ctx.config.volumes_namespace);
    if claims.get_opt(&snapshot.name_any()).await?.is_some() {
        return Ok(());
    }
    let left: Vec<_> = snapshot.finalizers().iter().filter(|f| *f != BEING_CLONED).collect();
    let patch = json!({"metadata": {"finalizers": left, "uid": snapshot.uid(), "resourceVersion": snapshot.resource_version()}});
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    gone_is_fine(snapshots.patch(&snapshot.name_any(), &params, &Patch::Merge(patch)).await.map(|_| ()))
}

/// Deletes an object that carries our label, with its UID as precondition; one that is being deleted or gone is left alone.
pub async fn delete<K>(api: &Api<K>, object: &Arc<K>) -> Result<(), kube::Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let ours = object.labels().get(TEMPORARY).map(String::as_str) == Some("true");
    if !ours || object.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    let params = DeleteParams::default().preconditions(Preconditions { uid: object.uid(), resource_version: None });
    gone_is_fine(api.delete(&object.name_any(), &params).await.map(|_| ()))
}

pub(super) fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || (status.code == 409 && status.reason == "Conflict") => Ok(()),
        other => other,
    }
}
