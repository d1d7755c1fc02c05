//! The PersistentVolume of a clone, or of what is restored: whose it is, and what becomes of it when it is left over.
//!
//! Invariants: a volume that a claim of the application was ever bound to is the application's, and its class says what becomes of it.
//! Of a twin nothing but the object is ever deleted: what is written here is written to what Borgherd has [`Made`].

use super::clean::gone_is_fine;
use super::twin::{self, Made};
use crate::context::Context;
use borgherd_api::names::{CONTROLLER, OWNER, OWNER_UID, TEMPORARY};
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who has a volume that carries our marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A claim of Borgherd's, or nobody any more.
    Borgherd,
    /// It is kept for a claim of the application, and none was ever bound to it.
    Nobody,
    /// A claim of the application was bound to it.
    Application,
}

/// By the volume's `claimRef`: Kubernetes adds the claim's UID when it binds the two.
pub fn holds(volume: &PersistentVolume, volumes_namespace: &str) -> Holds {
    let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    match claim {
        Some(claim) if claim.namespace.as_deref() != Some(volumes_namespace) => match claim.uid.as_deref() {
            None | Some("") => Holds::Nobody,
            Some(_) => Holds::Application,
        },
        _ => Holds::Borgherd,
    }
}

/// The next step of getting rid of a volume whose owner has ended.
pub async fn dispose(ctx: &Context, volume: &Arc<PersistentVolume>) -> Result<(), kube::Error> {
    if twin::is_one(volume) {
        return twin::remove(&ctx.client, volume).await;
    }
    match holds(volume, &ctx.config.volumes_namespace) {
        Holds::Application => give(&ctx.client, volume).await,
        Holds::Nobody => {
            let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).and_then(|c| c.name.clone()).unwrap_or_default();
            take_back(ctx, volume, &claim).await
        }
        // Released: with `Delete` the provisioner removes it; it may have been `Retain` for a handover that failed.
        Holds::Borgherd => {
            let (labels, annotations) = (volume.metadata.labels.as_ref(), volume.metadata.annotations.as_ref());
            own(&ctx.client, &volume.name_any(), labels, annotations, Some(volume)).await
        }
    }
}

/// Marks a clone's volume as ours and sets it to `Delete`, whatever its class says: a clone's storage must not stay. A twin stays as it is,
/// and what a volume is, its caller's cache may not know yet: it is read.
pub async fn own(
    client: &Client,
    name: &str,
    labels: Option<&BTreeMap<String, String>>,
    annotations: Option<&BTreeMap<String, String>>,
    seen: Option<&Arc<PersistentVolume>>,
) -> Result<(), kube::Error> {
    let is_ours = |v: &Arc<PersistentVolume>| v.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) == Some("Delete");
    if seen.is_some_and(is_ours) {
        return Ok(());
    }
    let Some(found) = Api::<PersistentVolume>::all(client.clone()).get_opt(name).await? else { return Ok(()) };
    let Some(made) = Made::of(&found) else { return Ok(()) };
    let marked = json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    patch(client, made, marked).await
}

/// The volume is the application's now: the class's reclaim policy, and no mark of ours.
pub async fn give(client: &Client, volume: &PersistentVolume) -> Result<(), kube::Error> {
    let Some(made) = Made::of(volume) else { return Ok(()) };
    let class = volume.spec.as_ref().and_then(|s| s.storage_class_name.clone()).unwrap_or_default();
    let classes: Api<StorageClass> = Api::all(client.clone());
    let found = if class.is_empty() { None } else { classes.get_opt(&class).await? };
    let policy = found.map_or_else(|| "Retain".to_owned(), |c| c.reclaim_policy.unwrap_or_else(|| "Delete".into()));
    let unmarked = json!({
        "metadata": {"labels": {TEMPORARY: null, OWNER_UID: null}, "annotations": {OWNER: null}},
        "spec": {"persistentVolumeReclaimPolicy": policy},
    });
    patch(client, made, unmarked).await
}

/// What was kept for a claim of the application is again that of Borgherd's claim `name`, which is gone. A UID has to stand there: a
/// volume without is kept for the claim for ever, and never reclaimed. The owner's is no claim's.
pub async fn take_back(ctx: &Context, volume: &PersistentVolume, name: &str) -> Result<(), kube::Error> {
    let Some(made) = Made::of(volume) else { return Ok(()) };
    let uid = volume.labels().get(OWNER_UID);
    let claim = json!({"namespace": ctx.config.volumes_namespace, "name": name, "uid": uid, "resourceVersion": null});
    // Not over a claim that was bound since.
    let same = json!({"resourceVersion": volume.resource_version()});
    patch(&ctx.client, made, json!({"metadata": same, "spec": {"claimRef": claim}})).await
}

async fn patch(client: &Client, made: Made<'_>, mut patch: Value) -> Result<(), kube::Error> {
    let api: Api<PersistentVolume> = Api::all(client.clone());
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    // of the very one that was looked at
    patch["metadata"]["uid"] = json!(made.volume().uid());
    gone_is_fine(api.patch(&made.volume().name_any(), &params, &Patch::Merge(patch)).await.map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_who_was_bound_to_it() -> Result<(), serde_json::Error> {
        let of = |claim: Value| serde_json::from_value::<PersistentVolume>(json!({"spec": {"claimRef": claim}}));
        let cases = [
            (json!(null), Holds::Borgherd),
            (json!({"namespace": "volumes", "name": "clone", "uid": "1"}), Holds::Borgherd),
            (json!({"namespace": "app", "name": "data"}), Holds::Nobody),
            (json!({"namespace": "app", "name": "data", "uid": ""}), Holds::Nobody),
            (json!({"namespace": "app", "name": "data", "uid": "1"}), Holds::Application),
        ];
        for (claim, wanted) in cases {
            assert_eq!(holds(&of(claim.clone())?, "volumes"), wanted, "{claim}");
        }
        Ok(())
    }
}
