//! A snapshot whose VolumeSnapshot is gone becomes usable again: a second content of the same handle, and a VolumeSnapshot bound to it, both with
//! the identity that the old content has carried. As values: what is sent to the API server is tested as text.

use crate::crd::snapshot::{
    PREFIX, SnapshotRef, VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotContentSource, VolumeSnapshotContentSpec,
    VolumeSnapshotSource, VolumeSnapshotSpec,
};
use crate::identity::Identity;
use crate::names::{self, CUT, MARKED_AT, OWN_DELETION_POLICY, PVC, TEMPORARY};
use crate::retention::Prefix;
use chrono::{DateTime, SecondsFormat};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use std::fmt;

/// Why a content is not rebound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It was made for one Backup or Restore only.
    Temporary,
    /// It is being deleted.
    Leaving,
    /// The storage's snapshot goes with it.
    Deletes,
    /// The storage has not said what its snapshot is called.
    NoHandle,
    /// It does not say whose it was.
    NoSnapshot,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Temporary => "it was made for one Backup or Restore only",
            Self::Leaving => "it is being deleted",
            Self::Deletes => "its deletion policy is Delete: the storage's snapshot would go with it",
            Self::NoHandle => "it has no snapshot handle",
            Self::NoSnapshot => "it does not say which VolumeSnapshot it was of",
        })
    }
}

/// Whether Borgherd knows this content: it carries an identity.
pub fn is_known(content: &VolumeSnapshotContent, prefix: &Prefix) -> bool {
    !content.labels().contains_key(TEMPORARY)
        && (content.labels().contains_key(&*prefix.key(PVC)) || content.annotations().contains_key(CUT))
}

/// Whether it can be rebound at all; that its VolumeSnapshot is gone is for the caller to see.
pub fn unfit(content: &VolumeSnapshotContent) -> Option<Unfit> {
    let of = &content.spec.volume_snapshot_ref;
    if content.labels().contains_key(TEMPORARY) {
        Some(Unfit::Temporary)
    } else if content.metadata.deletion_timestamp.is_some() {
        Some(Unfit::Leaving)
    } else if content.spec.deletion_policy != "Retain" {
        Some(Unfit::Deletes)
    } else if handle(content).is_none() {
        Some(Unfit::NoHandle)
    } else if of.namespace.is_none() || of.name.is_none() {
        Some(Unfit::NoSnapshot)
    } else {
        None
    }
}

/// The storage's name of its snapshot.
pub fn handle(content: &VolumeSnapshotContent) -> Option<&str> {
    let said = content.status.as_ref().and_then(|status| status.snapshot_handle.as_deref());
    said.or(content.spec.source.snapshot_handle.as_deref())
}

/// Content and VolumeSnapshot in `namespace`, called as the old VolumeSnapshot was. The same names each time, so who was interrupted goes on.
pub fn pair(old: &VolumeSnapshotContent, namespace: &str, prefix: &Prefix) -> Result<(VolumeSnapshotContent, VolumeSnapshot), Unfit> {
    if let Some(unfit) = unfit(old) {
        return Err(unfit);
    }
    let snapshot = old.spec.volume_snapshot_ref.name.clone().ok_or(Unfit::NoSnapshot)?;
    let handle = handle(old).ok_or(Unfit::NoHandle)?;
    let name = format!("rebound-{}", names::hash(&[&old.uid().unwrap_or_default(), namespace], 10));
    let Identity { labels, mut annotations } = Identity::under(prefix, old);
    annotations.remove(MARKED_AT); // one that was marked waits its day again
    if let Some(cut) = old.status.as_ref().and_then(|status| status.creation_time).filter(|_| !annotations.contains_key(CUT)) {
        // of another program: the new content's own may be now
        annotations.insert(CUT.to_owned(), DateTime::from_timestamp_nanos(cut).to_rfc3339_opts(SecondsFormat::Secs, true));
    }
    let metadata = |name: &str, namespace: Option<&str>| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels.clone()),
        annotations: Some(annotations.clone()),
        ..ObjectMeta::default()
    };
    let mut content_metadata = metadata(&name, None);
    let theirs = old.annotations().iter().filter(|(key, _)| {
        let of_the_driver = key.starts_with(PREFIX) && !key.ends_with("-being-created") && !key.ends_with("-being-deleted");
        of_the_driver || key.as_str() == OWN_DELETION_POLICY
    });
    content_metadata.annotations.get_or_insert_default().extend(theirs.map(|(key, value)| (key.clone(), value.clone())));
    let content = VolumeSnapshotContent {
        metadata: content_metadata,
        spec: VolumeSnapshotContentSpec {
            deletion_policy: "Retain".into(),
            driver: old.spec.driver.clone(),
            source: VolumeSnapshotContentSource { snapshot_handle: Some(handle.to_owned()), volume_handle: None },
            source_volume_mode: old.spec.source_volume_mode.clone(),
            volume_snapshot_class_name: old.spec.volume_snapshot_class_name.clone(),
            volume_snapshot_ref: SnapshotRef {
                api_version: Some("snapshot.storage.k8s.io/v1".into()),
                kind: Some("VolumeSnapshot".into()),
                name: Some(snapshot.clone()),
                namespace: Some(namespace.to_owned()),
                uid: None,
            },
        },
        status: None,
    };
    let snapshot = VolumeSnapshot {
        metadata: metadata(&snapshot, Some(namespace)),
        spec: VolumeSnapshotSpec {
            source: VolumeSnapshotSource { persistent_volume_claim_name: None, volume_snapshot_content_name: Some(name) },
            volume_snapshot_class_name: old.spec.volume_snapshot_class_name.clone(),
        },
        status: None,
    };
    Ok((content, snapshot))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;
    use serde_json::{Value, json};

    fn old(change: impl Fn(&mut Value)) -> VolumeSnapshotContent {
        let mut object = json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": {
                "name": "snapcontent-1", "uid": "u1",
                "labels": {"borgherd.dev/pvc": "data", "borgherd.dev/retain": "tiers", "borgherd.dev/delete-after": "2026-01-01", "x": "y"},
                "annotations": {
                    "borgherd.dev/cut": "2026-01-01T00:00:00Z", "borgherd.dev/marked-at": "2026-01-01T00:00:00Z",
                    "borgherd.dev/own-deletion-policy": "Delete", "borgherd.dev/swept": "u0",
                    "snapshot.storage.kubernetes.io/deletion-secret-name": "secret",
                    "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted": "yes",
                },
            },
            "spec": {
                "deletionPolicy": "Retain", "driver": "d", "source": {"volumeHandle": "v"}, "sourceVolumeMode": "Filesystem",
                "volumeSnapshotClassName": "c", "volumeSnapshotRef": {"namespace": "shop", "name": "data-1", "uid": "u0"},
            },
            "status": {"snapshotHandle": "h"},
        });
        change(&mut object);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_new_pair_has_the_identity_the_handle_and_names_each_other() {
        let (content, snapshot) = pair(&old(|_| {}), "web", &Prefix::default()).unwrap();
        let name = content.name_any();
        assert_eq!(snapshot.spec.source.volume_snapshot_content_name.as_deref(), Some(name.as_str()));
        let of = &content.spec.volume_snapshot_ref;
        assert_eq!((of.namespace.as_deref(), of.name.as_deref(), of.uid.as_deref()), (Some("web"), Some("data-1"), None));
        assert_eq!((snapshot.namespace().as_deref(), snapshot.name_any().as_str()), (Some("web"), "data-1"));
        assert_eq!((content.spec.deletion_policy.as_str(), handle(&content)), ("Retain", Some("h")));
        assert_eq!(content.spec.source.volume_handle, None);
        let labels = json!({"borgherd.dev/pvc": "data", "borgherd.dev/retain": "tiers", "borgherd.dev/delete-after": "2026-01-01"});
        assert_eq!(json!(snapshot.labels()), labels);
        assert_eq!(json!(content.labels()), labels);
        assert_eq!(json!(snapshot.annotations()), json!({"borgherd.dev/cut": "2026-01-01T00:00:00Z"}), "a mark waits anew");
        let kept = ["borgherd.dev/cut", "borgherd.dev/own-deletion-policy", "snapshot.storage.kubernetes.io/deletion-secret-name"];
        assert_eq!(content.annotations().keys().collect::<Vec<_>>(), kept);
        assert_eq!(Identity::of(&content), Identity::of(&snapshot), "they are in step from the beginning");
        assert_eq!(pair(&old(|_| {}), "web", &Prefix::default()).unwrap().0.name_any(), name, "the same names each time");
        assert_ne!(pair(&old(|_| {}), "shop", &Prefix::default()).unwrap().0.name_any(), name);
    }

    #[test]
    fn the_age_of_one_that_another_program_made_stays() {
        let theirs = old(|o| {
            o["metadata"] = json!({"name": "snapcontent-1", "uid": "u1", "labels": {"backup-ns.sh/pvc": "data"}});
            o["status"]["creationTime"] = json!(1_653_091_200_000_000_000_i64);
        });
        let prefix = Prefix::parse("backup-ns.sh/").unwrap();
        assert!(is_known(&theirs, &prefix) && !is_known(&theirs, &Prefix::default()));
        let (content, snapshot) = pair(&theirs, "web", &prefix).unwrap();
        assert_eq!(snapshot.annotations().get(CUT).map(String::as_str), Some("2022-05-21T00:00:00Z"));
        assert_eq!((json!(snapshot.labels()), content.annotations()), (json!({"backup-ns.sh/pvc": "data"}), snapshot.annotations()));
    }

    #[test]
    fn what_could_be_lost_or_means_nothing_is_refused() {
        let refused = |change: &dyn Fn(&mut Value)| pair(&old(change), "web", &Prefix::default()).unwrap_err();
        assert_eq!(refused(&|o| o["spec"]["deletionPolicy"] = json!("Delete")), Unfit::Deletes);
        assert_eq!(refused(&|o| o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")), Unfit::Leaving);
        assert_eq!(refused(&|o| o["metadata"]["labels"]["borgherd.dev/temporary"] = json!("true")), Unfit::Temporary);
        assert_eq!(refused(&|o| o["status"] = json!({})), Unfit::NoHandle);
        assert_eq!(refused(&|o| o["spec"]["volumeSnapshotRef"] = json!({})), Unfit::NoSnapshot);
    }
}
