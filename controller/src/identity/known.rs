//! What is remembered of snapshots and their contents: digests, so that tens of thousands take a few MiB. Pure.

use crate::digest;
use borgherd_api::identity::Identity;
use std::collections::{HashMap, HashSet};

/// The pairs, by a digest of the snapshot's UID.
#[derive(Default)]
pub struct Known {
    pairs: HashMap<u64, Pair>,
    /// While snapshots are listed anew: those that were in it.
    listed: Option<HashSet<u64>>,
}

/// Digests of what stands where. A snapshot without anything of Borgherd's, whose content has nothing either, is no pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    /// On the snapshot. `None`: it is gone.
    on_snapshot: Option<u64>,
    /// On its content. `None`: not known.
    on_content: Option<u64>,
}

impl Known {
    /// A snapshot is there; `true`: what is on it has to be carried.
    pub(super) fn saw_snapshot(&mut self, uid: &str, identity: &Identity) -> bool {
        let uid = digest::of(uid);
        if let Some(listed) = &mut self.listed {
            listed.insert(uid);
        }
        let on_snapshot = Some(digest::of(identity));
        match self.pairs.get_mut(&uid) {
            Some(pair) => {
                pair.on_snapshot = on_snapshot;
                pair.on_content != on_snapshot
            }
            None if identity.is_empty() => false,
            None => {
                self.pairs.insert(uid, Pair { on_snapshot, on_content: None });
                true
            }
        }
    }

    /// What stands on the content of a snapshot now; `true`: the snapshot is there, and says something else.
    pub fn saw_content(&mut self, uid: &str, identity: &Identity) -> bool {
        let uid = digest::of(uid);
        if identity.is_empty() && !self.pairs.contains_key(&uid) {
            return false;
        }
        let pair = self.pairs.entry(uid).or_default();
        pair.on_content = Some(digest::of(identity));
        pair.on_snapshot.is_some_and(|on_snapshot| pair.on_content != Some(on_snapshot))
    }

    /// A snapshot is gone; `true`: its content has an identity, so it has to be looked whether that stays.
    pub(super) fn snapshot_is_gone(&mut self, uid: &str) -> bool {
        let Some(pair) = self.pairs.get_mut(&digest::of(uid)) else { return false };
        pair.on_snapshot = None;
        pair.on_content.is_some()
    }

    /// Its content is gone, too.
    pub(super) fn forget(&mut self, uid: &str) {
        self.pairs.remove(&digest::of(uid));
    }

    /// All snapshots are going to be told once more.
    pub(super) fn begin_listing(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// All were told: the others are gone.
    pub(super) fn end_listing(&mut self) {
        let Some(listed) = self.listed.take() else { return };
        for (uid, pair) in &mut self.pairs {
            if !listed.contains(uid) {
                pair.on_snapshot = None;
            }
        }
        self.drop_empty();
    }

    /// All contents are going to be told once more: what was known of them is forgotten.
    pub(super) fn forget_contents(&mut self) {
        self.pairs.values_mut().for_each(|pair| pair.on_content = None);
    }

    /// All contents were told.
    pub(super) fn drop_empty(&mut self) {
        self.pairs.retain(|_, pair| *pair != Pair::default());
    }

    /// Contents whose snapshot is gone.
    pub(super) fn frozen(&self) -> usize {
        self.pairs.values().filter(|pair| pair.on_snapshot.is_none() && pair.on_content.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(value: &str) -> Identity {
        Identity { labels: [("borgherd.dev/pvc".to_owned(), value.to_owned())].into(), ..Identity::default() }
    }

    #[test]
    fn what_is_in_step_is_left_alone_and_what_is_not_is_carried() {
        let mut known = Known::default();
        assert!(known.saw_snapshot("u", &identity("a")), "nothing is known of its content");
        assert!(!known.saw_content("u", &identity("a")));
        assert!(!known.saw_snapshot("u", &identity("a")));
        assert!(known.saw_snapshot("u", &identity("b")), "it has changed");
        assert!(known.saw_content("u", &identity("a")), "somebody has changed the content back");
        assert!(known.saw_snapshot("u", &Identity::default()), "all was taken off");
        assert!(!known.saw_snapshot("foreign", &Identity::default()) && !known.saw_content("foreign", &Identity::default()));
        assert_eq!(known.pairs.len(), 1, "others' snapshots take no room");
    }

    #[test]
    fn a_content_whose_snapshot_is_gone_is_counted_until_it_is_gone_too() {
        let mut known = Known::default();
        for uid in ["a", "b", "c"] {
            known.saw_snapshot(uid, &identity(uid));
            known.saw_content(uid, &identity(uid));
        }
        known.saw_content("older", &identity("x"));
        assert_eq!(known.frozen(), 1);
        assert!(known.snapshot_is_gone("a") && !known.snapshot_is_gone("nobody"));
        assert_eq!(known.frozen(), 2);
        // a new listing of the snapshots has only b
        known.begin_listing();
        known.saw_snapshot("b", &identity("b"));
        known.end_listing();
        assert_eq!(known.frozen(), 3);
        known.forget("c");
        // a new listing of the contents has only a and b
        known.forget_contents();
        known.saw_content("a", &identity("a"));
        assert!(!known.saw_content("b", &identity("b")));
        known.drop_empty();
        assert_eq!((known.frozen(), known.pairs.len()), (1, 2));
    }
}
