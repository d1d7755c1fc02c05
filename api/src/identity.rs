//! The identity of a snapshot: Borgherd's labels and annotations on it. Its content carries them, too, so that they outlive its namespace.
//!
//! Invariant: nothing but Borgherd's keys is carried, and of those not what is only of the moment or the content's own.

use crate::names::{GROUP, IN_FLIGHT, NODE_AFFINITY, OWN_DELETION_POLICY, OWNER_UID, SWEPT, TEMPORARY};
use crate::retention::Prefix;
use kube::ResourceExt;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Of the moment (who works on it, who cleans it up), or the content's own.
const NOT_CARRIED: &[&str] = &[IN_FLIGHT, NODE_AFFINITY, OWNER_UID, TEMPORARY, OWN_DELETION_POLICY, SWEPT];

/// What is carried from a snapshot to its content, and back when it is bound again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Labels, whole keys.
    pub labels: BTreeMap<String, String>,
    /// Annotations, whole keys.
    pub annotations: BTreeMap<String, String>,
}

impl Identity {
    /// What stands on a snapshot or a content, where labels stand under Borgherd's own prefix.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self::under(&Prefix::default(), object)
    }

    /// The same where the labels of retention stand under another. What that one's owner has annotated is its own affair.
    pub fn under(prefix: &Prefix, object: &impl ResourceExt) -> Self {
        let carried = |all: &BTreeMap<String, String>, is: &dyn Fn(&str) -> bool| {
            all.iter().filter(|(key, _)| is(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let labels = carried(object.labels(), &|key| is_carried(key) || prefix.has(key) && !NOT_CARRIED.contains(&key));
        Self { labels, annotations: carried(object.annotations(), &is_carried) }
    }

    /// Nothing stands there.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    /// What to write where `found` stands, so that this does: `labels` and `annotations` of a merge patch's metadata. `None`: it does already.
    pub fn patch(&self, found: &Self) -> Option<Map<String, Value>> {
        let mut metadata = Map::new();
        for (kind, wanted, found) in [("labels", &self.labels, &found.labels), ("annotations", &self.annotations, &found.annotations)] {
            let off = found.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let on = wanted.iter().filter(|(key, value)| found.get(*key) != Some(value)).map(|(key, value)| (key.clone(), json!(value)));
            let changed: Map<String, Value> = off.chain(on).collect();
            if !changed.is_empty() {
                metadata.insert(kind.to_owned(), changed.into());
            }
        }
        (!metadata.is_empty()).then_some(metadata)
    }
}

fn is_carried(key: &str) -> bool {
    key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/')) && !NOT_CARRIED.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> ConfigMap {
        let map = |all: &[(&str, &str)]| Some(all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let mut object = ConfigMap::default();
        object.metadata.labels = map(labels);
        object.metadata.annotations = map(annotations);
        object
    }

    #[test]
    fn only_borgherds_keys_are_carried_and_none_of_the_moment() {
        let found = Identity::of(&object(
            &[
                ("borgherd.dev/pvc", "data"),
                ("app", "x"),
                ("borgherd.dev/in-flight", "u"),
                ("borgherd.dev/owner-uid", "u"),
                ("borgherd.dev/swept", "u"),
                ("borgherd.development/x", "y"),
            ],
            &[("borgherd.dev/cut", "now"), ("borgherd.dev/own-deletion-policy", "Delete"), ("a/b", "c")],
        ));
        assert_eq!(found, Identity::of(&object(&[("borgherd.dev/pvc", "data")], &[("borgherd.dev/cut", "now")])));
        assert!(Identity::of(&object(&[("app", "x")], &[])).is_empty());
        let theirs = object(&[("backup-ns.sh/pvc", "data"), ("borgherd.dev/pvc", "data"), ("app", "x")], &[("backup-ns.sh/env", "x")]);
        let prefix = Prefix::parse("backup-ns.sh/").unwrap_or_default();
        let found = Identity::under(&prefix, &theirs);
        assert_eq!((found.labels.len(), found.annotations.len(), Identity::of(&theirs).labels.len()), (2, 0, 1));
    }

    #[test]
    fn what_is_added_changed_and_taken_off_is_written_and_nothing_else() {
        let is = Identity::of(&object(
            &[("borgherd.dev/pvc", "data"), ("borgherd.dev/daily", "2026-11-21"), ("borgherd.dev/retain", "tiers")],
            &[("borgherd.dev/cut", "now")],
        ));
        let was = Identity::of(&object(
            &[("borgherd.dev/pvc", "data"), ("borgherd.dev/daily", "2026-11-20"), ("borgherd.dev/hourly", "2026-11-21T10")],
            &[("borgherd.dev/cut", "now")],
        ));
        let patch = Value::from(is.patch(&was).unwrap_or_default());
        let labels = json!({"borgherd.dev/daily": "2026-11-21", "borgherd.dev/hourly": null, "borgherd.dev/retain": "tiers"});
        assert_eq!(patch, json!({ "labels": labels }));
        assert_eq!(is.patch(&is), None);
        let all_off = Identity::default().patch(&is).unwrap_or_default();
        assert_eq!(all_off["annotations"], json!({"borgherd.dev/cut": null}));
    }
}
