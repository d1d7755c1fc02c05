//! What is left out.

use crate::names;
use crate::policy::{Exclusion, Mode, exclusion, exclusion_by_pv};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

fn pvc(change: serde_json::Value) -> PersistentVolumeClaim {
    let mut pvc = json!({
        "metadata": { "name": "db", "namespace": "shop", "annotations": { "volume.kubernetes.io/storage-provisioner": "csi.example.com" } },
        "spec": { "volumeName": "pv-1", "volumeMode": "Filesystem" },
        "status": { "phase": "Bound" }
    });
    merge(&mut pvc, change);
    serde_json::from_value(pvc).unwrap()
}

/// JSON merge patch, but that arrays do not occur.
fn merge(into: &mut serde_json::Value, change: serde_json::Value) {
    let serde_json::Value::Object(change) = change else {
        *into = change;
        return;
    };
    for (key, value) in change {
        merge(&mut into[key], value);
    }
}

#[test]
fn tells_from_the_pvc_alone() {
    let in_tree = json!({ "metadata": { "annotations": { "volume.kubernetes.io/storage-provisioner": "kubernetes.io/nfs" } } });
    let mut migrated = in_tree.clone();
    migrated["metadata"]["annotations"]["pv.kubernetes.io/migrated-to"] = json!("csi.example.com");
    let in_tree_beta = json!({ "metadata": { "annotations": {
        "volume.kubernetes.io/storage-provisioner": null,
        "volume.beta.kubernetes.io/storage-provisioner": "kubernetes.io/nfs"
    } } });
    let clone = json!({ "metadata": { "labels": { names::TEMPORARY: "true" } }, "status": { "phase": "Pending" } });
    for (change, expected) in [
        (json!({}), None),
        (json!({ "metadata": { "annotations": null } }), None),
        (json!({ "spec": { "volumeMode": null } }), None),
        (json!({ "spec": { "volumeMode": "Block" } }), Some(Exclusion::Block)),
        (json!({ "metadata": { "deletionTimestamp": "2026-11-21T10:00:00Z" } }), Some(Exclusion::Deleting)),
        (json!({ "status": { "phase": "Pending" } }), Some(Exclusion::Unbound)),
        (json!({ "status": { "phase": "Lost" } }), Some(Exclusion::Unbound)),
        (json!({ "status": null }), Some(Exclusion::Unbound)),
        (json!({ "spec": { "volumeName": null } }), Some(Exclusion::Unbound)),
        (clone, Some(Exclusion::Temporary)),
        (json!({ "metadata": { "labels": { names::TEMPORARY: "false" } } }), None),
        (in_tree, Some(Exclusion::NotCsi)),
        (migrated, None),
    ] {
        assert_eq!(exclusion(&pvc(change.clone())), expected, "{change}");
    }
    let mut beta = pvc(json!({}));
    beta.metadata.annotations = serde_json::from_value(in_tree_beta["metadata"]["annotations"].clone())
        .map(|mut all: std::collections::BTreeMap<String, Option<String>>| {
            all.retain(|_, value| value.is_some());
            all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
        })
        .ok();
    assert_eq!(exclusion(&beta), Some(Exclusion::NotCsi));
}

#[test]
fn tells_from_the_volume() {
    for (pv, expected) in [
        (json!({ "spec": { "csi": { "driver": "csi.example.com", "volumeHandle": "1" } } }), None),
        (json!({ "spec": { "nfs": { "server": "nas", "path": "/" } } }), Some(Exclusion::NotCsi)),
        (
            json!({ "metadata": { "annotations": { "pv.kubernetes.io/migrated-to": "ebs.csi.aws.com" } }, "spec": { "awsElasticBlockStore": { "volumeID": "1" } } }),
            None,
        ),
        (json!({}), Some(Exclusion::NotCsi)),
    ] {
        let mut whole = json!({ "metadata": {} });
        merge(&mut whole, pv.clone());
        let parsed: PersistentVolume = serde_json::from_value(whole).unwrap();
        assert_eq!(exclusion_by_pv(&parsed), expected, "{pv}");
    }
}

#[test]
fn only_what_cannot_be_snapshotted_can_be_read_in_place() {
    for (exclusion, live) in [(Exclusion::NotCsi, false), (Exclusion::Block, true), (Exclusion::Unbound, true), (Exclusion::Deleting, true)]
    {
        assert!(exclusion.stands(Mode::Snapshot));
        assert_eq!(exclusion.stands(Mode::Live), live, "{exclusion:?}");
    }
}

#[test]
fn each_has_its_sentence() {
    let all = [Exclusion::Block, Exclusion::Deleting, Exclusion::Unbound, Exclusion::Temporary, Exclusion::NotCsi];
    let sentences: std::collections::BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(sentences.len(), all.len());
}
