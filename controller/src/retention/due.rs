//! What one look is about to delete, as little of it as is needed to know it again: so that a whole cluster can be counted before the
//! first one goes.

use crate::digest;
use borgherd_api::retention::{Fate, Hold, Total, Verdict};
use std::collections::{BTreeMap, HashMap};

/// The snapshots that are to go, by namespace: hashes of their UIDs, each with whether a token allows it over the cluster.
pub(super) struct Due {
    namespaces: BTreeMap<String, HashMap<u64, bool>>,
    total: Total,
    /// Those that wait for a person.
    pub(super) held: usize,
}

impl Due {
    /// Nothing yet; `allowed` are the tokens that stand for the cluster.
    pub(super) fn new(allowed: &str) -> Self {
        Self { namespaces: BTreeMap::new(), total: Total::new(allowed), held: 0 }
    }

    /// Takes in what was judged of one snapshot.
    pub(super) fn add(&mut self, verdict: &Verdict<'_>) {
        match verdict.fate {
            Fate::Keep | Fate::Marked => {}
            Fate::Held => self.held += 1,
            Fate::Sweep => {
                let is_allowed = self.total.count(verdict);
                let of_namespace = self.namespaces.entry(verdict.snapshot.namespace.clone()).or_default();
                of_namespace.insert(digest::of(&verdict.snapshot.uid), is_allowed);
            }
        }
    }

    /// After all were taken in: where it is more than `most` over the cluster, only what a token allows stays due.
    pub(super) fn hold(&mut self, most: usize) -> Option<Hold> {
        let hold = self.total.hold(most)?;
        for of_namespace in self.namespaces.values_mut() {
            of_namespace.retain(|_, is_allowed| *is_allowed);
        }
        self.namespaces.retain(|_, of_namespace| !of_namespace.is_empty());
        self.held += hold.held;
        Some(hold)
    }

    /// Where something is due.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }

    /// Whether the snapshot of this UID is.
    pub(super) fn has(&self, namespace: &str, uid: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|of_namespace| of_namespace.contains_key(&digest::of(uid)))
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.namespaces.values().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;
    use borgherd_api::crd::snapshot::VolumeSnapshot;
    use borgherd_api::retention::{Snapshot, Why};
    use serde_json::json;

    fn marked(namespace: &str, name: &str, second: u32) -> Snapshot {
        let object: VolumeSnapshot = serde_json::from_value(json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
            "metadata": {
                "namespace": namespace, "name": name, "uid": format!("uid-{namespace}-{name}"), "resourceVersion": "1",
                "labels": {"borgherd.dev/pvc": "data", "borgherd.dev/retain": "tiers", "borgherd.dev/delete-after": "2026-11-01"},
                "annotations": {"borgherd.dev/marked-at": format!("2026-11-01T00:00:{second:02}Z")},
            },
            "spec": {"source": {}},
        }))
        .unwrap();
        Snapshot::of(&object).unwrap()
    }

    fn verdict(snapshot: &Snapshot, fate: Fate) -> Verdict<'_> {
        Verdict { snapshot, changes: vec![], fate, why: Why::Newest }
    }

    #[test]
    fn what_is_due_is_known_again_and_no_more_goes_than_may() {
        let all: Vec<Snapshot> = (0..6).map(|n| marked(if n < 4 { "shop" } else { "web" }, &n.to_string(), n)).collect();
        let take_in = |allowed: &str, fate: Fate| {
            let mut due = Due::new(allowed);
            for snapshot in &all {
                due.add(&verdict(snapshot, fate));
            }
            due
        };
        for fate in [Fate::Keep, Fate::Marked, Fate::Held] {
            let mut none = take_in("", fate);
            assert!(none.hold(0).is_none());
            assert_eq!((none.count(), none.held), (0, if fate == Fate::Held { 6 } else { 0 }));
        }
        let mut enough = take_in("", Fate::Sweep);
        assert!(enough.hold(6).is_none());
        assert_eq!((enough.count(), enough.namespaces().collect::<Vec<_>>()), (6, vec!["shop", "web"]));
        assert!(enough.has("shop", "uid-shop-0") && !enough.has("web", "uid-shop-0") && !enough.has("shop", "uid-shop-9"));
        let mut too_many = take_in("", Fate::Sweep);
        let token = too_many.hold(5).unwrap().token.to_string();
        assert_eq!((too_many.count(), too_many.held, too_many.namespaces().count()), (0, 6, 0));
        assert!(!too_many.has("shop", "uid-shop-0"));
        let mut allowed = take_in(&token, Fate::Sweep);
        assert!(allowed.hold(0).is_none() && allowed.count() == 6);
        // a token of before the last two were marked
        let mut fewer = Due::new("");
        for snapshot in all.iter().take(4) {
            fewer.add(&verdict(snapshot, Fate::Sweep));
        }
        let token = fewer.hold(0).unwrap().token.to_string();
        let mut some = take_in(&token, Fate::Sweep);
        assert_eq!(some.hold(1).map(|hold| hold.held), Some(2));
        assert_eq!((some.count(), some.held, some.namespaces().collect::<Vec<_>>()), (4, 2, vec!["shop"]));
    }
}
