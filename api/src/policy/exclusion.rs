//! Which volumes cannot be backed up, whatever their annotations say.

use super::mode::Mode;
use crate::names;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use std::fmt;

/// Kubernetes writes the provisioner here, first the older key.
const PROVISIONER: [&str; 2] = ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// What the volumes of an in-tree plugin carry that a CSI driver has taken over.
const MIGRATED: &str = "pv.kubernetes.io/migrated-to";

/// Why a PVC is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exclusion {
    /// A raw device: there are no files in it that borg could read.
    Block,
    /// Somebody deleted it.
    Deleting,
    /// It has no volume (yet).
    Unbound,
    /// Borgherd's own clone.
    Temporary,
    /// Its volume was not made by a CSI driver.
    NotCsi,
}

impl Exclusion {
    /// Whether it counts in this mode.
    pub fn stands(self, mode: Mode) -> bool {
        self != Self::NotCsi || mode == Mode::Snapshot
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "has volumeMode Block: only volumes with a file system are backed up",
            Self::Deleting => "is being deleted",
            Self::Unbound => "is not bound to a volume",
            Self::Temporary => "is a temporary clone of Borgherd's own",
            Self::NotCsi => {
                "is not of a CSI driver: its volume cannot be snapshotted, only read in place (annotation borgherd.dev/mode: live)"
            }
        })
    }
}

/// Why `pvc` is left out, as far as the PVC alone tells; see also [`exclusion_by_pv`].
pub fn exclusion(pvc: &PersistentVolumeClaim) -> Option<Exclusion> {
    let spec = pvc.spec.as_ref();
    let is_labelled =
        |key: &str, value: &str| pvc.metadata.labels.as_ref().is_some_and(|labels| labels.get(key).is_some_and(|v| v == value));
    if is_labelled(names::TEMPORARY, "true") {
        return Some(Exclusion::Temporary);
    }
    if pvc.metadata.deletion_timestamp.is_some() {
        return Some(Exclusion::Deleting);
    }
    if spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block") {
        return Some(Exclusion::Block);
    }
    let phase = pvc.status.as_ref().and_then(|status| status.phase.as_deref());
    let volume = spec.and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if phase != Some("Bound") || volume.is_empty() {
        return Some(Exclusion::Unbound);
    }
    is_in_tree(pvc).then_some(Exclusion::NotCsi)
}

/// Why a PVC that is bound to `pv` is left out, as far as its volume tells.
pub fn exclusion_by_pv(pv: &PersistentVolume) -> Option<Exclusion> {
    let is_csi = pv.spec.as_ref().is_some_and(|spec| spec.csi.is_some());
    let is_migrated = pv.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIGRATED));
    (!is_csi && !is_migrated).then_some(Exclusion::NotCsi)
}

/// Provisioned by one of Kubernetes' own plugins, and by no CSI driver that has taken it over.
fn is_in_tree(pvc: &PersistentVolumeClaim) -> bool {
    let Some(annotations) = pvc.metadata.annotations.as_ref() else {
        return false;
    };
    let provisioner = PROVISIONER.iter().find_map(|key| annotations.get(*key));
    provisioner.is_some_and(|name| name.starts_with("kubernetes.io/")) && !annotations.contains_key(MIGRATED)
}
