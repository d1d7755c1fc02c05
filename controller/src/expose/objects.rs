//! The objects that expose a volume, as values: pure, so that what is sent to the API server is tested as text.

use super::marks;
use crate::config::Config;
use borgherd_api::crd::snapshot::{
    PREFIX, SnapshotRef, VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotContentSource, VolumeSnapshotContentSpec,
    VolumeSnapshotSource, VolumeSnapshotSpec,
};
use borgherd_api::crd::{Owner, VolumeFacts};
use borgherd_api::names::{HOLDER_CONTAINER, TEMPORARY};
use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde_json::json;
use std::collections::BTreeMap;

/// Everything temporary is named and marked alike.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The one deterministic name.
    pub name: &'a str,
    /// Whose it is.
    pub owner: &'a Owner,
    /// Borgherd's names and images.
    pub config: &'a Config,
}

impl Place<'_> {
    pub(super) fn metadata(self, namespaced: bool) -> ObjectMeta {
        let (labels, annotations) = marks(self.owner);
        ObjectMeta {
            name: Some(self.name.to_owned()),
            namespace: namespaced.then(|| self.config.volumes_namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }
    }

    /// A second content for the same storage snapshot. `None` until the original has its handle.
    /// Of the original's annotations and labels only the snapshot controller's own go along, without its in-progress marks.
    pub fn content(self, original: &VolumeSnapshotContent) -> Option<VolumeSnapshotContent> {
        let status = original.status.as_ref();
        let handle = status.and_then(|s| s.snapshot_handle.clone()).or_else(|| original.spec.source.snapshot_handle.clone())?;
        let keep = |from: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            from.iter()
                .filter(|(key, _)| key.starts_with(PREFIX) && !key.ends_with("-being-created") && !key.ends_with("-being-deleted"))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let mut metadata = self.metadata(false);
        metadata.labels.get_or_insert_default().extend(keep(original.labels()));
        metadata.annotations.get_or_insert_default().extend(keep(original.annotations()));
        Some(VolumeSnapshotContent {
            metadata,
            spec: VolumeSnapshotContentSpec {
                deletion_policy: "Retain".into(),
                driver: original.spec.driver.clone(),
                source: VolumeSnapshotContentSource { snapshot_handle: Some(handle), volume_handle: None },
                source_volume_mode: original.spec.source_volume_mode.clone(),
                volume_snapshot_class_name: original.spec.volume_snapshot_class_name.clone(),
                volume_snapshot_ref: SnapshotRef {
                    api_version: Some("snapshot.storage.k8s.io/v1".into()),
                    kind: Some("VolumeSnapshot".into()),
                    name: Some(self.name.to_owned()),
                    namespace: Some(self.config.volumes_namespace.clone()),
                    uid: None,
                },
            },
            status: None,
        })
    }

    /// The snapshot bound to that content.
    pub fn snapshot(self, original: &VolumeSnapshotContent) -> VolumeSnapshot {
        VolumeSnapshot {
            metadata: self.metadata(true),
            spec: VolumeSnapshotSpec {
                source: VolumeSnapshotSource {
                    persistent_volume_claim_name: None,
                    volume_snapshot_content_name: Some(self.name.to_owned()),
                },
                volume_snapshot_class_name: original.spec.volume_snapshot_class_name.clone(),
            },
            status: None,
        }
    }

    /// The clone: of the snapshot of the same name.
    pub fn clone_claim(
        self,
        facts: &VolumeFacts,
        restore_size: Option<&str>,
        class: Option<&str>,
    ) -> Result<PersistentVolumeClaim, serde_json::Error> {
        let mut claim = self.empty_claim(
            &larger(&facts.size, restore_size),
            class.or(facts.storage_class.as_deref()),
            clone_mode(&facts.access_modes),
        )?;
        if let Some(spec) = claim.spec.as_mut() {
            spec.data_source =
                Some(serde_json::from_value(json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": self.name}))?);
        }
        Ok(claim)
    }

    /// An empty volume to restore into.
    pub fn empty_claim(self, size: &str, class: Option<&str>, mode: &str) -> Result<PersistentVolumeClaim, serde_json::Error> {
        let mut spec = json!({"accessModes": [mode], "resources": {"requests": {"storage": size}}});
        if let Some(class) = class {
            spec["storageClassName"] = json!(class);
        }
        Ok(PersistentVolumeClaim { metadata: self.metadata(true), spec: Some(serde_json::from_value(spec)?), status: None })
    }

    /// The pod that makes the kubelet mount the claim. It runs under Pod Security "restricted" and does nothing.
    pub fn holder(self, read_only: bool, affinity: Option<&NodeSelector>, preferred: Option<&str>) -> Result<Pod, serde_json::Error> {
        let mut node_affinity = json!({});
        if let Some(required) = affinity {
            node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = serde_json::to_value(required)?;
        }
        if let Some(node) = preferred {
            let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
            node_affinity["preferredDuringSchedulingIgnoredDuringExecution"] = json!([{"weight": 100, "preference": term}]);
        }
        // where nothing speaks for a node, each gets its share: a slot that waits is no use to a holder on another node
        let spread = json!({
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchExpressions": [{"key": TEMPORARY, "operator": "Exists"}]},
        });
        let spread: Vec<_> = preferred.is_none().then_some(spread).into_iter().collect();
        let pull_secrets: Vec<_> = self.config.holder_pull_secrets.iter().filter(|s| !s.is_empty()).map(|s| json!({"name": s})).collect();
        let spec = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "imagePullSecrets": pull_secrets,
            "tolerations": self.config.holder_tolerations,
            "affinity": {"nodeAffinity": node_affinity},
            "topologySpreadConstraints": spread,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65534, "runAsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": HOLDER_CONTAINER,
                "image": self.config.holder_image,
                "command": ["borgherd-agent", "hold"],
                "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}, "limits": {"memory": "32Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "volume", "mountPath": "/volume", "readOnly": read_only}],
            }],
            "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": self.name, "readOnly": read_only}}],
        });
        Ok(Pod { metadata: self.metadata(true), spec: Some(serde_json::from_value(spec)?), status: None })
    }
}

/// RWO if the source has RWO or RWOP (a clone is used by one pod), else its first mode.
pub fn clone_mode(modes: &[String]) -> &str {
    let single = modes.iter().any(|m| m == "ReadWriteOnce" || m == "ReadWriteOncePod");
    if single { "ReadWriteOnce" } else { modes.first().map_or("ReadWriteOnce", String::as_str) }
}

/// The larger of two quantities; one that cannot be read loses.
fn larger(one: &str, other: Option<&str>) -> String {
    match other {
        Some(other) if bytes(other) > bytes(one) => other.to_owned(),
        _ => one.to_owned(),
    }
}

/// Bytes of a Kubernetes quantity of storage; `None` when it is none. Rule: `resource.Quantity`'s suffixes.
pub fn bytes(quantity: &str) -> Option<u64> {
    let split = quantity.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(split);
    let factor = match suffix {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        "m" => 1e-3,
        exponent => format!("1{exponent}").parse().ok()?,
    };
    let value = number.parse::<f64>().ok()? * factor;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size in bytes is positive and far below 2^64")]
    (0.0..1e19).contains(&value).then_some(value.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_does() {
        for (text, expected) in [
            ("1Gi", Some(1 << 30)),
            ("1.5Ki", Some(1536)),
            ("10M", Some(10_000_000)),
            ("128", Some(128)),
            ("1e3", Some(1000)),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn the_clone_is_as_large_as_the_snapshot_needs() {
        assert_eq!(larger("1Gi", Some("2Gi")), "2Gi");
        assert_eq!(larger("3Gi", Some("2147483648")), "3Gi");
        assert_eq!(larger("1Gi", None), "1Gi");
        assert_eq!(larger("1Gi", Some("junk")), "1Gi");
    }

    #[test]
    fn a_clone_is_for_one_pod_where_the_source_is() {
        let modes = |m: &[&str]| m.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(clone_mode(&modes(&["ReadWriteOncePod"])), "ReadWriteOnce");
        assert_eq!(clone_mode(&modes(&["ReadWriteMany"])), "ReadWriteMany");
        assert_eq!(clone_mode(&modes(&["ReadWriteMany", "ReadWriteOnce"])), "ReadWriteOnce");
    }
}
