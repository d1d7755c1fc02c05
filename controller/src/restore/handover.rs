//! Giving a restored volume to the application: the PersistentVolume changes hands only after borg has succeeded.
//!
//! `Retain` → holder and claim gone → `claimRef` to the target → target PVC with `volumeName` → Bound → reclaim policy as the class
//! says. Driven by live reads: it happens once, and each step may be repeated. So a PVC that the application sees is always whole.

use crate::context::Context;
use crate::error::{Doing, Error};
use crate::expose::{Exposed, clean};
use crate::repository::Unusable;
use borgherd_api::Reason;
use borgherd_api::crd::RestoreTarget;
use borgherd_api::names::{CONTROLLER, OWNER, OWNER_UID, TEMPORARY};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

/// Where the handover stands after a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Handed {
    /// Something has to happen first; its watch, or a short wait, brings us back.
    Waiting,
    /// The target PVC is bound to the volume.
    Done,
    /// It cannot be.
    Failed(Unusable),
}

/// Who gets what.
#[derive(Clone, Copy, Debug)]
pub struct Handover<'a> {
    /// Namespace of the target.
    pub namespace: &'a str,
    /// The target.
    pub target: &'a RestoreTarget,
    /// Name of the PersistentVolume.
    pub volume: &'a str,
    /// `Restore/<namespace>/<name>`, written on the target.
    pub owner: &'a str,
}

/// Carries out the next step.
pub async fn step(ctx: &Context, handover: Handover<'_>, exposed: &Exposed) -> Result<Handed, Error> {
    let Handover { namespace, target, volume: name, owner } = handover;
    let volumes: Api<PersistentVolume> = Api::all(ctx.client.clone());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), namespace);
    let Some(volume) = volumes.get_opt(name).await.doing("reading the restored volume")? else {
        let message = format!("PersistentVolume {name} is gone; the restored data with it");
        return Ok(Handed::Failed(Unusable { reason: Reason::FilesNotRestored, message }));
    };
    let existing = claims.get_opt(&target.pvc).await.doing("reading the target PVC")?;
    if existing.as_ref().is_some_and(|c| c.annotations().get(OWNER).map(String::as_str) != Some(owner)) {
        let message = format!("PVC {} has appeared in namespace {namespace}; choose another name", target.pvc);
        return Ok(Handed::Failed(Unusable { reason: Reason::TargetExists, message }));
    }
    if existing.as_ref().is_some_and(|c| c.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")) {
        settle(ctx, &volumes, &volume).await?;
        return Ok(Handed::Done);
    }
    let spec = volume.spec.clone().unwrap_or_default();
    if spec.persistent_volume_reclaim_policy.as_deref() != Some("Retain") {
        patch(&volumes, name, json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}})).await?;
    }
    if !let_go(ctx, exposed).await? {
        return Ok(Handed::Waiting);
    }
    let ours = spec.claim_ref.as_ref().is_some_and(|c| c.namespace.as_deref() == Some(namespace) && c.name.as_deref() == Some(&target.pvc));
    if !ours {
        let claim_ref = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": target.pvc, "uid": null, "resourceVersion": null});
        patch(&volumes, name, json!({"spec": {"claimRef": claim_ref}})).await?;
    }
    if existing.is_none() {
        let claim = target_claim(&volume, handover)?;
        match claims.create(&PostParams::default(), &claim).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => other.map(|_| ()).doing("creating the target PVC")?,
        }
    }
    Ok(Handed::Waiting)
}

/// Run, holder and claim go; the volume stays. True when they are gone.
async fn let_go(ctx: &Context, exposed: &Exposed) -> Result<bool, Error> {
    let volumes = &ctx.config.volumes_namespace;
    if let Some(run) = &exposed.run {
        clean::delete(&Api::namespaced(ctx.client.clone(), &ctx.config.namespace), run).await.doing("deleting the run")?;
    }
    if let Some(holder) = &exposed.holder {
        clean::delete(&Api::namespaced(ctx.client.clone(), volumes), holder).await.doing("deleting the holder")?;
        return Ok(false);
    }
    if let Some(claim) = &exposed.claim {
        clean::delete(&Api::namespaced(ctx.client.clone(), volumes), claim).await.doing("deleting the volume's first claim")?;
        return Ok(false);
    }
    Ok(true)
}

fn target_claim(volume: &PersistentVolume, handover: Handover<'_>) -> Result<PersistentVolumeClaim, serde_json::Error> {
    let spec = volume.spec.clone().unwrap_or_default();
    let storage = spec.capacity.as_ref().and_then(|c| c.get("storage")).map(|q| q.0.clone()).unwrap_or_default();
    serde_json::from_value(json!({
        "metadata": {"name": handover.target.pvc, "namespace": handover.namespace, "annotations": {OWNER: handover.owner}},
        "spec": {
            "accessModes": spec.access_modes,
            "resources": {"requests": {"storage": storage}},
            "storageClassName": spec.storage_class_name.unwrap_or_default(),
            "volumeName": handover.volume,
        },
    }))
}

/// The volume is the application's now: the class's reclaim policy, and no mark of ours.
async fn settle(ctx: &Context, volumes: &Api<PersistentVolume>, volume: &PersistentVolume) -> Result<(), Error> {
    let class = volume.spec.as_ref().and_then(|s| s.storage_class_name.clone()).unwrap_or_default();
    let classes: Api<StorageClass> = Api::all(ctx.client.clone());
    let found = if class.is_empty() { None } else { classes.get_opt(&class).await.doing("reading the StorageClass")? };
    let policy = found.map_or_else(|| "Retain".to_owned(), |c| c.reclaim_policy.unwrap_or_else(|| "Delete".into()));
    let unmarked = json!({
        "metadata": {"labels": {TEMPORARY: null, OWNER_UID: null}, "annotations": {OWNER: null}},
        "spec": {"persistentVolumeReclaimPolicy": policy},
    });
    patch(volumes, &volume.name_any(), unmarked).await
}

async fn patch(volumes: &Api<PersistentVolume>, name: &str, patch: serde_json::Value) -> Result<(), Error> {
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    volumes.patch(name, &params, &Patch::Merge(patch)).await.map(|_| ()).doing("handing the restored volume over")
}
