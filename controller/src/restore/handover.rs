//! Giving a restored volume to the application: the PersistentVolume changes hands only after borg has succeeded.
//!
//! `Retain` → holder and claim gone → `claimRef` to the target → target PVC with `volumeName` → Bound → reclaim policy as the class
//! says. Driven by live reads: it happens once, and each step may be repeated. So a PVC that the application sees is always whole.
//! Whatever ends a handover early (the Restore is deleted, or its namespace): `expose::volume` decides what becomes of the volume.

use crate::context::Context;
use crate::error::{Doing, Error};
use crate::expose::volume::{self, Holds};
use crate::expose::{Exposed, clean};
use crate::repository::Unusable;
use borgherd_api::Reason;
use borgherd_api::crd::RestoreTarget;
use borgherd_api::names::{CONTROLLER, OWNER};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

/// Where the handover stands after a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Handed {
    /// Something has to happen first; its watch, or a short wait, brings us back.
    Waiting,
    /// The target PVC may not be made now; what the API server says.
    Refused(String),
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
    /// Name of the claim that it was made by.
    pub made_as: &'a str,
    /// `Restore/<namespace>/<name>`, written on the target.
    pub owner: &'a str,
}

/// Carries out the next step.
pub async fn step(ctx: &Context, handover: Handover<'_>, exposed: &Exposed) -> Result<Handed, Error> {
    let Handover { namespace, target, volume: name, made_as, owner } = handover;
    let volumes: Api<PersistentVolume> = Api::all(ctx.client.clone());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), namespace);
    let Some(volume) = volumes.get_opt(name).await.doing("reading the restored volume")? else {
        let message = format!("PersistentVolume {name} is gone; the restored data with it");
        return Ok(Handed::Failed(Unusable { reason: Reason::FilesNotRestored, message }));
    };
    let spec = volume.spec.clone().unwrap_or_default();
    let claim_ref = spec.claim_ref.clone().unwrap_or_default();
    let existing = claims.get_opt(&target.pvc).await.doing("reading the target PVC")?;
    if let Some(claim) = existing.as_ref().filter(|claim| claim_ref.uid.is_some() && claim_ref.uid == claim.uid()) {
        if !is_bound(claim) {
            return Ok(Handed::Waiting);
        }
        volume::give(&ctx.client, &volume).await.doing("handing the restored volume over")?;
        return Ok(Handed::Done);
    }
    if existing.as_ref().is_some_and(|c| c.annotations().get(OWNER).map(String::as_str) != Some(owner)) {
        if volume::holds(&volume, &ctx.config.volumes_namespace) == Holds::Nobody {
            volume::take_back(ctx, &volume, made_as).await.doing("taking the restored volume back")?;
            return Ok(Handed::Waiting);
        }
        let message = format!("PVC {} has appeared in namespace {namespace}; choose another name", target.pvc);
        return Ok(Handed::Failed(Unusable { reason: Reason::TargetExists, message }));
    }
    if spec.persistent_volume_reclaim_policy.as_deref() != Some("Retain") {
        patch(&volumes, name, json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}})).await?;
    }
    if !let_go(ctx, exposed).await? {
        return Ok(Handed::Waiting);
    }
    let ours = claim_ref.namespace.as_deref() == Some(namespace) && claim_ref.name.as_deref() == Some(&target.pvc);
    let volume = if ours { volume } else { keep_for(&volumes, handover).await? };
    if existing.is_some() {
        return Ok(Handed::Waiting);
    }
    Box::pin(make_target(ctx, &claims, &volume, handover)).await
}

/// Nobody but a claim of the target's name gets the volume.
async fn keep_for(volumes: &Api<PersistentVolume>, handover: Handover<'_>) -> Result<PersistentVolume, Error> {
    let (namespace, name) = (handover.namespace, &handover.target.pvc);
    let claim_ref = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name, "uid": null, "resourceVersion": null,
    });
    patch(volumes, handover.volume, json!({"spec": {"claimRef": claim_ref}})).await
}

async fn make_target(
    ctx: &Context,
    claims: &Api<PersistentVolumeClaim>,
    volume: &PersistentVolume,
    handover: Handover<'_>,
) -> Result<Handed, Error> {
    match claims.create(&PostParams::default(), &target_claim(volume, handover)?).await {
        Err(kube::Error::Api(answer)) if answer.code == 403 || answer.code == 422 => {
            // Kept for the name alone it would go to whatever claim of that name somebody makes.
            volume::take_back(ctx, volume, handover.made_as).await.doing("taking the restored volume back")?;
            Ok(Handed::Refused(answer.message))
        }
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(Handed::Waiting),
        other => other.map(|_| Handed::Waiting).doing("creating the target PVC"),
    }
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
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

async fn patch(volumes: &Api<PersistentVolume>, name: &str, patch: serde_json::Value) -> Result<PersistentVolume, Error> {
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    volumes.patch(name, &params, &Patch::Merge(patch)).await.doing("handing the restored volume over")
}
