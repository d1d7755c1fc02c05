//! Whose turn it is to cut: how many snapshots may be in flight over the cluster.
//!
//! Invariant: first come, first served, a group as a whole; whoever is let in by another's end is woken. In memory: what an earlier process
//! had begun asks again, and is never held up (its snapshots are in flight whatever the ledger says).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Namespace and name of a Backup.
pub type Name = (String, String);

/// The cuts in flight, and who waits to begin one.
#[derive(Default)]
pub struct Cuts(Mutex<Ledger>);

#[derive(Default)]
struct Ledger {
    /// Snapshots in flight, by UID of the Backup.
    in_flight: HashMap<String, usize>,
    waiting: VecDeque<(String, Name)>,
}

impl Cuts {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May the Backup `uid` have `count` cuts in flight now? One that is larger than `limit` goes when nothing else does; who has begun
    /// goes on.
    pub fn ask(&self, uid: &str, name: &Name, count: usize, begun: bool, limit: usize) -> bool {
        let mut ledger = self.ledger();
        let others: usize = ledger.in_flight.iter().filter(|(other, _)| *other != uid).map(|(_, n)| n).sum();
        let first = ledger.waiting.front().is_none_or(|(other, _)| other == uid);
        let admitted = begun || ledger.in_flight.contains_key(uid) || first && (others == 0 || others + count <= limit);
        if admitted {
            ledger.waiting.retain(|(other, _)| other != uid);
            ledger.in_flight.insert(uid.to_owned(), count);
        } else if !ledger.waiting.iter().any(|(other, _)| other == uid) {
            ledger.waiting.push_back((uid.to_owned(), name.clone()));
        }
        admitted
    }

    /// The Backup has no cut in flight any more, or is gone. Returns who is to ask again.
    pub fn done(&self, uid: &str) -> Vec<Name> {
        self.keep(|other| other != uid)
    }

    /// Forgets whoever is not there any more. Returns who is to ask again.
    pub fn keep_only(&self, uids: &HashSet<String>) -> Vec<Name> {
        self.keep(|uid| uids.contains(uid))
    }

    fn keep(&self, stays: impl Fn(&str) -> bool) -> Vec<Name> {
        let mut ledger = self.ledger();
        let before = (ledger.in_flight.len(), ledger.waiting.len());
        ledger.in_flight.retain(|uid, _| stays(uid));
        ledger.waiting.retain(|(uid, _)| stays(uid));
        if before == (ledger.in_flight.len(), ledger.waiting.len()) {
            return vec![];
        }
        ledger.waiting.iter().map(|(_, name)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(cuts: &Cuts, uid: &str, count: usize) -> bool {
        cuts.ask(uid, &named(uid), count, false, 2)
    }

    fn named(uid: &str) -> Name {
        ("ns".into(), uid.into())
    }

    #[test]
    fn a_group_larger_than_the_limit_is_cut_when_nothing_else_is() {
        let cuts = Cuts::default();
        assert!(ask(&cuts, "a", 3));
        assert!(!ask(&cuts, "b", 1));
        assert_eq!(cuts.done("a"), [named("b")]);
        assert!(ask(&cuts, "b", 1));
    }

    #[test]
    fn who_waits_longest_is_not_passed_by_smaller_ones() {
        let cuts = Cuts::default();
        assert!(ask(&cuts, "a", 1));
        assert!(!ask(&cuts, "large", 2));
        assert!(!ask(&cuts, "small", 1), "behind the large one");
        assert_eq!(cuts.done("a"), [named("large"), named("small")]);
        assert!(!ask(&cuts, "small", 1));
        assert!(ask(&cuts, "large", 2));
        assert!(ask(&cuts, "large", 1), "it goes on while its cuts become visible");
        assert!(ask(&cuts, "small", 1), "there is room now");
    }

    #[test]
    fn who_goes_away_while_it_waits_lets_in_those_behind_it() {
        let cuts = Cuts::default();
        assert!(ask(&cuts, "a", 1));
        assert!(!ask(&cuts, "large", 2));
        assert!(!ask(&cuts, "b", 1));
        assert_eq!(cuts.done("large"), [named("b")]);
        assert!(ask(&cuts, "b", 1));
        assert_eq!(cuts.done("nobody"), []);
        assert_eq!(cuts.keep_only(&HashSet::from(["b".to_owned()])), []);
        assert!(ask(&cuts, "c", 1), "a is gone");
    }

    #[test]
    fn what_an_earlier_process_began_is_never_held_up() {
        let cuts = Cuts::default();
        assert!(ask(&cuts, "a", 2));
        assert!(cuts.ask("b", &named("b"), 2, true, 2));
    }
}
