//! What a twin has of its source and what it must not have, and which volumes have none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::*;
use crate::config::Config;
use borgherd_api::crd::Owner;
use clap::Parser;
use serde_json::Value;

fn rules(enabled: bool, paths: &[&str]) -> Twins {
    let live_local_paths = paths.iter().map(ToString::to_string).collect();
    Twins { enabled, live_not_drivers: vec!["csi.vsphere.vmware.com".into()], live_local_paths }
}

/// As a provisioner has made it, for a claim of the application.
fn source(spec: &Value) -> PersistentVolume {
    let mut volume = json!({
        "metadata": {
            "name": "pvc-1", "uid": "of-source",
            "labels": {"zone": "a"},
            "annotations": {"pv.kubernetes.io/provisioned-by": "x.csi"},
            "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer"],
        },
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "fast", "volumeAttributesClassName": "gold", "volumeMode": "Filesystem", "mountOptions": ["noatime"],
            "claimRef": {"namespace": "shop", "name": "data", "uid": "u"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}},
        },
    });
    volume["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(volume).unwrap()
}

fn csi() -> PersistentVolume {
    source(&json!({"csi": {
        "driver": "x.csi", "volumeHandle": "vol-1", "fsType": "xfs", "volumeAttributes": {"a": "b"},
        "nodeStageSecretRef": {"namespace": "storage", "name": "key"},
    }}))
}

fn made(volume: &PersistentVolume) -> (PersistentVolume, PersistentVolumeClaim) {
    let config = Config::parse_from(["borgherd-controller", "--holder-image", "image"]);
    let owner = Owner { kind: "Backup".into(), namespace: "shop".into(), name: "b".into(), uid: "owner".into() };
    pair(Place { name: "bh-1", owner: &owner, config: &config }, volume).unwrap().unwrap()
}

#[test]
fn a_twin_is_reached_as_its_source_and_is_never_what_a_provisioner_would_delete() {
    let (source, (twin, claim)) = (csi(), made(&csi()));
    assert_eq!(
        serde_json::to_value(&twin).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {
                "name": "bh-1",
                "labels": {"borgherd.dev/temporary": "true", "borgherd.dev/owner-uid": "owner", "borgherd.dev/twin": "true"},
                "annotations": {"borgherd.dev/owner": "Backup/shop/b", "borgherd.dev/twin-of": "shop/data"},
            },
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "mountOptions": ["noatime"],
                "nodeAffinity": serde_json::to_value(source.spec.as_ref().unwrap().node_affinity.as_ref()).unwrap(),
                "csi": serde_json::to_value(source.spec.as_ref().unwrap().csi.as_ref()).unwrap(),
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "borgherd-volumes", "name": "bh-1"},
            },
        })
    );
    assert_eq!(
        serde_json::to_value(&claim).unwrap()["spec"],
        json!({
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "",
            "volumeMode": "Filesystem", "volumeName": "bh-1",
        })
    );
}

#[test]
fn nothing_that_decides_over_storage_takes_a_twin() {
    let (twin, _) = made(&csi());
    assert!(Made::of(&twin).is_none());
    let mut unlabelled = twin.clone();
    unlabelled.metadata.labels = None;
    assert!(Made::of(&unlabelled).is_none(), "its name tells, too");
    let mut renamed = twin;
    renamed.metadata.name = Some("other".into());
    assert!(Made::of(&renamed).is_none(), "its label tells, too");
    let mut clone = csi();
    clone.metadata.labels = Some([(TEMPORARY.to_owned(), "true".to_owned())].into());
    clone.spec.as_mut().unwrap().claim_ref.as_mut().unwrap().name = Some("bh-1".into());
    assert!(Made::of(&clone).is_some(), "a clone's storage is Borgherd's");
}

#[test]
fn a_twin_is_for_volumes_that_more_than_one_pod_may_have_and_whose_driver_keeps_to_its_handles() {
    let claim = |mode: &str| -> PersistentVolumeClaim { serde_json::from_value(json!({"spec": {"accessModes": [mode]}})).unwrap() };
    let once = claim("ReadWriteOnce");
    let all = rules(true, &[]);
    assert_eq!(refusal(&once, &csi(), None, &all), None);
    assert_eq!(refusal(&once, &source(&json!({"nfs": {"server": "nas", "path": "/x"}})), None, &all), None);
    let refused = |claim: &PersistentVolumeClaim, volume: &PersistentVolume, rules: &Twins, part: &str| {
        let said = refusal(claim, volume, None, rules).unwrap_or_default();
        assert!(said.contains(part), "{said:?} should contain {part}");
    };
    refused(&once, &csi(), &rules(false, &[]), "holder.live.enabled");
    refused(&claim(ALONE), &csi(), &all, ALONE);
    refused(&once, &source(&json!({"csi": {"driver": "x", "volumeHandle": "v"}, "accessModes": [ALONE]})), &all, ALONE);
    refused(&once, &source(&json!({"csi": {"driver": "csi.vsphere.vmware.com", "volumeHandle": "v"}})), &all, "holder.live.notDrivers");
    refused(&once, &source(&json!({"hostPath": {"path": "/x"}})), &all, "CSI drivers");
    refused(&once, &source(&json!({"local": {"path": "/mnt/disks/a"}})), &all, "holder.live.localPaths");
    refused(&once, &source(&json!({"local": {"path": "/mnt/disks/a", "fsType": "xfs"}})), &rules(true, &["/mnt/disks"]), "block device");
    let mut leaving = csi();
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-21T10:00:00Z")).unwrap();
    refused(&once, &leaving, &all, "being deleted");
}

#[test]
fn a_volume_for_one_node_is_one_that_something_keeps_on_one_node() {
    let claim = PersistentVolumeClaim::default();
    let driver = |attach: Value| -> CSIDriver {
        serde_json::from_value(json!({"metadata": {"name": "x.csi"}, "spec": {"attachRequired": attach}})).unwrap()
    };
    let (none, all) = (json!({"nodeAffinity": null}), rules(true, &[]));
    for (spec, attaches, may) in [
        (json!({"nodeAffinity": null}), json!(false), false),
        (json!({"nodeAffinity": null}), json!(true), true),
        (json!({"nodeAffinity": null}), Value::Null, true),
        (json!({}), json!(false), true),
        (json!({"nodeAffinity": null, "accessModes": ["ReadWriteMany"]}), json!(false), true),
        (json!({"nodeAffinity": null, "accessModes": ["ReadOnlyMany"]}), json!(false), true),
    ] {
        let mut volume = serde_json::to_value(csi()).unwrap();
        volume["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let volume = serde_json::from_value(volume).unwrap();
        let said = refusal(&claim, &volume, Some(&driver(attaches.clone())), &all);
        assert_eq!(said.is_none(), may, "{spec} {attaches}: {said:?}");
    }
    let mut volume = serde_json::to_value(csi()).unwrap();
    volume["spec"].as_object_mut().unwrap().extend(none.as_object().unwrap().clone());
    assert_eq!(refusal(&claim, &serde_json::from_value(volume).unwrap(), None, &all), None, "a driver that says nothing attaches");
}

#[test]
fn a_local_volume_is_directly_in_a_folder_that_the_chart_names() {
    for (folder, path, is_in) in [
        ("/mnt/disks", "/mnt/disks/a", true),
        ("/mnt/disks/", "/mnt/disks/a", true),
        ("/mnt/disks", "/mnt/disks", false),
        ("/mnt/disks", "/mnt/disks/", false),
        ("/mnt/disks", "/mnt/disks/a/", false),
        ("/mnt/disks", "/mnt/disks/a/link", false),
        ("/mnt/disks", "/mnt/disks/..", false),
        ("/mnt/disks", "/mnt/disksa", false),
        ("", "/etc", false),
    ] {
        assert_eq!(is_directly_in(folder, path), is_in, "{folder} {path}");
    }
}
