//! A twin: a second PersistentVolume of a storage that is the application's, bound to a claim of Borgherd's, so that a holder can mount a live
//! volume that no pod uses.
//!
//! To Kubernetes both are one volume: what is attached and staged is known by the driver and its handle (`UniqueVolumeName`, the
//! name of the `VolumeAttachment`, the staging folder), never by the PersistentVolume. So a pod of the application on another node waits until the
//! holder has let go, one on the same node shares what is staged, and nothing is detached while either uses it. But by which of the two it was
//! attached stands in the `VolumeAttachment`, and whoever attaches for a pod that comes to the holder's node may still have the twin in mind: what
//! is being deleted is not attached. So a twin stays until no pod waits for its volume ([`remove`]).
//! Invariant: the storage is not Borgherd's. A twin is `Retain` for as long as it is there, carries nothing by which a provisioner would know
//! it, and [`Made::of`] is none of one: whatever changes what becomes of storage asks for that. Only the object is deleted, here.

use super::objects::Place;
use super::users;
use crate::config::Twins;
use borgherd_api::names::{CONTROLLER, TEMPORARY, TWIN, TWIN_OF};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::sync::Arc;

/// A pod has it alone: a promise of the scheduler's, who would not know of the twin.
const ALONE: &str = "ReadWriteOncePod";

/// Whether a PersistentVolume is a twin: by its label, and by its name, which is that of its claim. Provisioners name theirs otherwise.
pub fn is_one(volume: &PersistentVolume) -> bool {
    let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).and_then(|c| c.name.as_deref());
    volume.labels().contains_key(TWIN) || claim.is_some() && claim == volume.metadata.name.as_deref()
}

/// Whether it is being deleted. It goes by itself: where a pod on the same node shares the attachment, only with that.
pub fn is_leaving(volume: &PersistentVolume) -> bool {
    is_one(volume) && volume.metadata.deletion_timestamp.is_some()
}

/// A volume whose storage Borgherd made: what changes what becomes of storage takes one, and there is no other way to it.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a>(&'a PersistentVolume);

impl<'a> Made<'a> {
    /// `None` of a twin.
    pub fn of(volume: &'a PersistentVolume) -> Option<Self> {
        (!is_one(volume)).then_some(Self(volume))
    }

    /// It.
    pub const fn volume(self) -> &'a PersistentVolume {
        self.0
    }
}

/// Why a volume cannot have a twin; a sentence's end, for people. `driver` is that of a CSI volume, where it has said what it is.
pub fn refusal(claim: &PersistentVolumeClaim, volume: &PersistentVolume, driver: Option<&CSIDriver>, rules: &Twins) -> Option<String> {
    let spec = volume.spec.as_ref()?;
    let modes = [spec.access_modes.as_ref(), claim.spec.as_ref().and_then(|s| s.access_modes.as_ref())];
    if !rules.enabled {
        return Some("holder.live.enabled of the chart does not allow it".into());
    }
    if modes.into_iter().flatten().flatten().any(|mode| mode == ALONE) {
        return Some(format!("its access mode {ALONE} is for one pod alone"));
    }
    if volume.metadata.deletion_timestamp.is_some() {
        return Some("its PersistentVolume is being deleted".into());
    }
    match (&spec.csi, &spec.local, &spec.nfs) {
        (Some(csi), None, None) if rules.live_not_drivers.contains(&csi.driver) => {
            Some(format!("driver {} is one of holder.live.notDrivers in the chart", csi.driver))
        }
        (Some(csi), None, None) if driver.is_some_and(attaches_nothing) && !is_anywhere_or_at_one_place(spec) => Some(format!(
            "driver {} attaches nothing, and its access mode is for one node, so nothing would keep a pod on another node from mounting it meanwhile",
            csi.driver
        )),
        (None, Some(local), None) if local.fs_type.is_some() => Some("it is a local block device; local folders can be".into()),
        (None, Some(local), None) if !rules.live_local_paths.iter().any(|folder| is_directly_in(folder, &local.path)) => {
            Some(format!("its local path {} is not directly in a folder of holder.live.localPaths in the chart", local.path))
        }
        (Some(_), None, None) | (None, Some(_), None) | (None, None, Some(_)) => None,
        _ => Some("that is done for volumes of CSI drivers, local and NFS ones".into()),
    }
}

/// Without a `VolumeAttachment` nobody sees to it that a volume is on one node at a time. Rule: `attachRequired` is true where nothing is said.
fn attaches_nothing(driver: &CSIDriver) -> bool {
    driver.spec.attach_required == Some(false)
}

/// Made for several nodes, or bound to where it is.
fn is_anywhere_or_at_one_place(spec: &PersistentVolumeSpec) -> bool {
    let is_for_many = spec.access_modes.iter().flatten().any(|mode| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany"));
    is_for_many || spec.node_affinity.is_some()
}

/// No deeper: below a volume there may be links that its users have made. Rule: the same in the chart's `borgherd-twins`.
fn is_directly_in(folder: &str, path: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
    folder.starts_with('/') && rest.is_some_and(|name| !matches!(name, "" | "." | "..") && !name.contains('/'))
}

/// The twin of `volume`, and the claim that it is for. `None` of a volume without specification.
pub fn pair(place: Place<'_>, volume: &PersistentVolume) -> Result<Option<(PersistentVolume, PersistentVolumeClaim)>, serde_json::Error> {
    let Some(spec) = volume.spec.clone() else { return Ok(None) };
    let size = spec.capacity.as_ref().and_then(|c| c.get("storage")).map(|q| q.0.clone()).unwrap_or_default();
    let claim = json!({
        "accessModes": spec.access_modes,
        "resources": {"requests": {"storage": size}},
        "volumeMode": spec.volume_mode,
        "volumeName": place.name,
        // no class, so that none is the default
        "storageClassName": "",
    });
    let mut twin = PersistentVolume { metadata: place.metadata(false), spec: Some(doubled(place, spec)), status: None };
    twin.metadata.labels.get_or_insert_default().insert(TWIN.to_owned(), "true".to_owned());
    let of = volume
        .spec
        .as_ref()
        .and_then(|s| s.claim_ref.as_ref())
        .and_then(|of| Some(format!("{}/{}", of.namespace.as_ref()?, of.name.as_ref()?)));
    twin.metadata.annotations.get_or_insert_default().extend(of.map(|of| (TWIN_OF.to_owned(), of)));
    let claim = PersistentVolumeClaim { metadata: place.metadata(true), spec: Some(serde_json::from_value(claim)?), status: None };
    Ok(Some((twin, claim)))
}

/// How the storage is reached and mounted, as it is; what says whose it is and what becomes of it, of our own. Of the source's annotations and
/// finalizers none goes along: by `provisioned-by` a provisioner knows what it may delete.
fn doubled(place: Place<'_>, source: PersistentVolumeSpec) -> PersistentVolumeSpec {
    let PersistentVolumeSpec { access_modes, capacity, csi, local, nfs, mount_options, node_affinity, volume_mode, .. } = source;
    PersistentVolumeSpec {
        access_modes,
        capacity,
        csi,
        local,
        nfs,
        mount_options,
        node_affinity,
        volume_mode,
        // kept for our claim from the beginning, so that no other is bound to it
        claim_ref: Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("PersistentVolumeClaim".into()),
            namespace: Some(place.config.volumes_namespace.clone()),
            name: Some(place.name.to_owned()),
            ..ObjectReference::default()
        }),
        persistent_volume_reclaim_policy: Some("Retain".into()),
        storage_class_name: Some(String::new()),
        ..PersistentVolumeSpec::default()
    }
}

/// The next step of getting rid of a twin whose claim and holder are gone: the object, and only while it is `Retain`, as it was looked at. Not
/// while a pod on a node waits for the volume: what attaches it there may do so by the twin, and refuses to by one that is being deleted. A pod
/// that runs has it attached; one that gets its node later has no part in it, for the holder was gone before.
pub async fn remove(client: &Client, twin: &Arc<PersistentVolume>) -> Result<(), kube::Error> {
    let ours = twin.labels().get(TEMPORARY).map(String::as_str) == Some("true");
    if !ours || twin.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let retains = twin.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) == Some("Retain");
    if !retains {
        // somebody has changed it: first it is put right, and the next look deletes it
        let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
        let patch = json!({"metadata": {"uid": twin.uid()}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        return super::clean::gone_is_fine(volumes.patch(&twin.name_any(), &params, &Patch::Merge(patch)).await.map(|_| ()));
    }
    if let Some((namespace, pvc)) = twin.annotations().get(TWIN_OF).and_then(|of| of.split_once('/'))
        && let Some(pod) = users::awaits(client, namespace, pvc).await?
    {
        tracing::info!(twin = twin.name_any(), namespace, pod, "a pod waits for the volume; its twin stays until then");
        return Ok(());
    }
    let seen = Preconditions { uid: twin.uid(), resource_version: twin.resource_version() };
    let params = DeleteParams::default().preconditions(seen);
    super::clean::gone_is_fine(volumes.delete(&twin.name_any(), &params).await.map(|_| ()))
}

#[cfg(test)]
mod tests;
