//! Who may go on: before a clone exists, the archive's or restore's turn.
//!
//! Invariant: one grant a location (Borg has one writer), within the limits of Repository, StorageClass and cluster; oldest first,
//! restores before backups; whoever is granted by another's leaving is woken. Where a Repository is parked one at a time may go, when it is
//! let; a restore always may, since a person waits for the answer. In memory: at start it is rebuilt from what is under way.

use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// One volume of one Backup or Restore.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// UID of the Backup or Restore.
    pub uid: String,
    /// PVC.
    pub pvc: String,
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Turn {
    /// Somebody waits for their data.
    Restore,
    /// An archive is made.
    Backup,
    /// Archives are kept in order.
    Maintenance,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Namespace and name of the Backup or Restore, to wake it.
    pub owner: (String, String),
    /// Restores go before backups, backups before maintenance.
    pub turn: Turn,
    /// Namespace of the PVC.
    pub namespace: String,
    /// The cut; the time of asking for a Restore.
    pub cut: DateTime<Utc>,
    /// Name of the Repository.
    pub repository: String,
    /// Its `maxConcurrent`.
    pub max_concurrent: Option<usize>,
    /// The Borg repository.
    pub location: String,
    /// StorageClass of the clone.
    pub class: Option<String>,
}

/// What may be under way over the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// All runs together.
    pub total: usize,
    /// Clones of one StorageClass.
    pub per_class: usize,
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Granted,
    /// Somebody else writes to the same Borg repository.
    RepositoryBusy,
    /// A limit is reached.
    Full,
    /// The Repository cannot be reached; why.
    Parked(String),
    /// A newer cut of the same PVC goes in its place.
    Superseded,
}

#[derive(Default)]
struct Ledger {
    waiting: BTreeMap<(Turn, DateTime<Utc>, Ticket), Request>,
    granted: HashMap<Ticket, Request>,
    /// Repositories that cannot be reached, by name.
    parked: HashMap<String, Parked>,
}

/// A Repository that cannot be reached.
struct Parked {
    why: String,
    one_may_try: bool,
}

/// The ledger of all that is under way or waits.
#[derive(Default)]
pub struct Admission(Mutex<Ledger>);

impl Admission {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what an earlier process had granted.
    pub fn adopt(&self, ticket: Ticket, request: Request) {
        self.ledger().granted.insert(ticket, request);
    }

    /// Asks; the answer may change at any later asking. Returns also whom to wake.
    pub fn ask(&self, ticket: &Ticket, request: &Request, capacity: Capacity) -> (Answer, Vec<Request>) {
        let mut ledger = self.ledger();
        if ledger.granted.contains_key(ticket) {
            return (Answer::Granted, vec![]);
        }
        let key = (request.turn, request.cut, ticket.clone());
        ledger.waiting.retain(|(_, _, t), _| t != ticket);
        if request.turn == Turn::Backup && ledger.has_newer(request, ticket) {
            return (Answer::Superseded, vec![]);
        }
        let older = ledger.older(request, ticket);
        ledger.waiting.insert(key, request.clone());
        let mut woken = ledger.grant(capacity);
        woken.retain(|r| r.owner != request.owner);
        woken.extend(older);
        let answer = if ledger.granted.contains_key(ticket) {
            Answer::Granted
        } else if ledger.granted.values().any(|r| r.location == request.location) {
            Answer::RepositoryBusy
        } else if let Some(parked) = ledger.parked.get(&request.repository).filter(|_| request.turn != Turn::Restore) {
            Answer::Parked(parked.why.clone())
        } else {
            Answer::Full
        };
        (answer, woken)
    }

    /// Gives a place back, or stops waiting for one. Returns whom to wake.
    pub fn leave(&self, ticket: &Ticket, capacity: Capacity) -> Vec<Request> {
        let mut ledger = self.ledger();
        ledger.waiting.retain(|(_, _, t), _| t != ticket);
        if ledger.granted.remove(ticket).is_none() {
            return vec![];
        }
        ledger.grant(capacity)
    }

    /// Lets go of everything a Backup or Restore that is gone held. Returns whom to wake.
    pub fn forget(&self, uid: &str, capacity: Capacity) -> Vec<Request> {
        let mut ledger = self.ledger();
        ledger.waiting.retain(|(_, _, t), _| t.uid != uid);
        ledger.granted.retain(|t, _| t.uid != uid);
        ledger.grant(capacity)
    }

    /// Forgets the Backups and Restores that are not there any more. Returns whom to wake.
    pub fn keep_only(&self, uids: &HashSet<String>, capacity: Capacity) -> Vec<Request> {
        let mut ledger = self.ledger();
        ledger.waiting.retain(|(_, _, t), r| r.turn == Turn::Maintenance || uids.contains(&t.uid));
        ledger.granted.retain(|t, r| r.turn == Turn::Maintenance || uids.contains(&t.uid));
        ledger.grant(capacity)
    }

    /// Forgets all maintenance but this. Returns whom to wake.
    pub fn keep_maintenance(&self, tickets: &HashSet<Ticket>, capacity: Capacity) -> Vec<Request> {
        let mut ledger = self.ledger();
        ledger.waiting.retain(|(_, _, t), r| r.turn != Turn::Maintenance || tickets.contains(t));
        ledger.granted.retain(|t, r| r.turn != Turn::Maintenance || tickets.contains(t));
        ledger.grant(capacity)
    }

    /// The runs of a Repository wait from now on. Returns who does already, to tell it.
    pub fn park(&self, repository: &str, why: &str) -> Vec<Request> {
        let mut ledger = self.ledger();
        ledger.parked.insert(repository.to_owned(), Parked { why: why.to_owned(), one_may_try: false });
        ledger.waiting.values().filter(|request| request.repository == repository).cloned().collect()
    }

    /// One of them may go, and then no other until this is called again. Returns whom to wake.
    pub fn let_one_try(&self, repository: &str, capacity: Capacity) -> Vec<Request> {
        let mut ledger = self.ledger();
        if let Some(parked) = ledger.parked.get_mut(repository) {
            parked.one_may_try = true;
        }
        ledger.grant(capacity)
    }

    /// They go on. Returns whom to wake.
    pub fn resume(&self, repository: &str, capacity: Capacity) -> Vec<Request> {
        let mut ledger = self.ledger();
        ledger.parked.remove(repository);
        ledger.grant(capacity)
    }

    /// A Backup or a Restore waits for anything but a Repository that cannot be reached.
    pub fn somebody_waits(&self) -> bool {
        let ledger = self.ledger();
        ledger.waiting.values().any(|r| r.turn != Turn::Maintenance && !ledger.parked.contains_key(&r.repository))
    }

    /// Somebody waits to restore from the Borg repository at `location`.
    pub fn restore_waits(&self, location: &str) -> bool {
        self.ledger().waiting.values().any(|r| r.turn == Turn::Restore && r.location == location)
    }

    /// How many are under way, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        let ledger = self.ledger();
        (ledger.granted.len(), ledger.waiting.len())
    }
}

impl Ledger {
    fn same_pvc(one: &Request, one_pvc: &str, other: &Request, other_pvc: &str) -> bool {
        other.turn == Turn::Backup && one.namespace == other.namespace && one_pvc == other_pvc
    }

    fn has_newer(&self, request: &Request, ticket: &Ticket) -> bool {
        let newer = |t: &Ticket, r: &Request| r.cut > request.cut && Self::same_pvc(request, &ticket.pvc, r, &t.pvc);
        self.waiting.iter().any(|((_, _, t), r)| newer(t, r)) || self.granted.iter().any(|(t, r)| newer(t, r))
    }

    /// Those who wait with an older cut of the same PVC: they must look again and find themselves superseded.
    fn older(&self, request: &Request, ticket: &Ticket) -> Vec<Request> {
        let older = |t: &Ticket, r: &Request| r.cut < request.cut && Self::same_pvc(request, &ticket.pvc, r, &t.pvc);
        self.waiting.iter().filter(|((_, _, t), r)| request.turn == Turn::Backup && older(t, r)).map(|(_, r)| r.clone()).collect()
    }

    /// Grants in order whatever fits; one that is blocked by its repository does not hold up those behind it.
    fn grant(&mut self, capacity: Capacity) -> Vec<Request> {
        let mut locations: HashSet<String> = self.granted.values().map(|r| r.location.clone()).collect();
        let mut admitted = vec![];
        for (key, request) in &self.waiting {
            let in_repository = self.granted.values().filter(|r| r.repository == request.repository).count();
            let in_class = self.granted.values().filter(|r| r.class == request.class).count();
            let fits = self.granted.len() < capacity.total
                && (request.class.is_none() || in_class < capacity.per_class)
                && request.max_concurrent.is_none_or(|max| in_repository < max)
                && !locations.contains(&request.location);
            let parked = self.parked.get_mut(&request.repository).filter(|_| request.turn != Turn::Restore);
            let may = parked.as_ref().is_none_or(|parked| parked.one_may_try && in_repository == 0);
            if fits && may {
                if let Some(parked) = parked {
                    parked.one_may_try = false;
                }
                locations.insert(request.location.clone());
                self.granted.insert(key.2.clone(), request.clone());
                admitted.push(key.clone());
            }
        }
        admitted.iter().filter_map(|key| self.waiting.remove(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Capacity = Capacity { total: 2, per_class: 2 };

    fn ticket(n: i64) -> Ticket {
        Ticket { uid: format!("u{n}"), pvc: "data".into() }
    }

    fn request(n: i64, namespace: &str, location: &str) -> Request {
        Request {
            owner: (namespace.into(), format!("b{n}")),
            turn: Turn::Backup,
            namespace: namespace.into(),
            cut: DateTime::from_timestamp(n, 0).unwrap_or_default(),
            repository: "r".into(),
            max_concurrent: None,
            location: location.into(),
            class: None,
        }
    }

    #[test]
    fn one_writer_a_location_and_the_next_is_woken_when_it_leaves() {
        let admission = Admission::default();
        assert_eq!(admission.ask(&ticket(1), &request(1, "a", "shared"), ROOM).0, Answer::Granted);
        assert_eq!(admission.ask(&ticket(2), &request(2, "b", "shared"), ROOM).0, Answer::RepositoryBusy);
        assert_eq!(admission.ask(&ticket(3), &request(3, "c", "own"), ROOM).0, Answer::Granted, "the blocked one holds nobody up");
        let woken = admission.leave(&ticket(1), ROOM);
        assert_eq!(woken.iter().map(|r| r.owner.1.as_str()).collect::<Vec<_>>(), ["b2"]);
        assert_eq!(admission.ask(&ticket(2), &request(2, "b", "shared"), ROOM).0, Answer::Granted);
    }

    #[test]
    fn the_limit_holds_and_restores_go_first() {
        let admission = Admission::default();
        for n in [1, 2] {
            assert_eq!(admission.ask(&ticket(n), &request(n, &n.to_string(), &n.to_string()), ROOM).0, Answer::Granted);
        }
        assert_eq!(admission.ask(&ticket(3), &request(3, "c", "c"), ROOM).0, Answer::Full);
        let restore = Request { turn: Turn::Restore, ..request(9, "d", "d") };
        assert_eq!(admission.ask(&ticket(9), &restore, ROOM).0, Answer::Full);
        assert_eq!(admission.leave(&ticket(1), ROOM).iter().map(|r| r.owner.1.clone()).collect::<Vec<_>>(), ["b9"]);
    }

    #[test]
    fn of_several_cuts_of_a_pvc_that_wait_the_newest_goes() {
        let admission = Admission::default();
        let full = Capacity { total: 0, per_class: 2 };
        assert_eq!(admission.ask(&ticket(1), &request(1, "a", "x"), full).0, Answer::Full);
        let (answer, woken) = admission.ask(&ticket(2), &request(2, "a", "x"), full);
        assert_eq!((answer, woken.len()), (Answer::Full, 1));
        assert_eq!(admission.ask(&ticket(1), &request(1, "a", "x"), full).0, Answer::Superseded);
        assert_eq!(admission.ask(&ticket(2), &request(2, "a", "x"), ROOM).0, Answer::Granted);
    }

    #[test]
    fn of_a_parked_repository_one_at_a_time_goes_when_it_is_let_and_restores_always() {
        let admission = Admission::default();
        assert_eq!(admission.park("r", "gone"), []);
        let restore = Request { turn: Turn::Restore, ..request(9, "d", "d") };
        for n in [1, 2] {
            let asked = admission.ask(&ticket(n), &request(n, &n.to_string(), &n.to_string()), ROOM).0;
            assert_eq!(asked, Answer::Parked("gone".into()));
        }
        let other = Request { repository: "other".into(), ..request(3, "c", "c") };
        assert_eq!(admission.ask(&ticket(3), &other, ROOM).0, Answer::Granted);
        admission.leave(&ticket(3), ROOM);
        assert!(!admission.somebody_waits(), "checks of other Repositories go on");
        let woken = |woken: Vec<Request>| woken.iter().map(|r| r.owner.1.clone()).collect::<Vec<_>>();
        assert_eq!(woken(admission.park("r", "gone")), ["b1", "b2"]);
        assert_eq!(woken(admission.let_one_try("r", ROOM)), ["b1"]);
        assert_eq!(woken(admission.leave(&ticket(1), ROOM)), [] as [String; 0], "it had not come through, or is not heard yet");
        assert_eq!(admission.ask(&ticket(9), &restore, ROOM).0, Answer::Granted);
        assert_eq!(woken(admission.let_one_try("r", ROOM)), [] as [String; 0], "one at a time");
        assert_eq!(woken(admission.leave(&ticket(9), ROOM)), ["b2"]);
        assert_eq!(admission.ask(&ticket(1), &request(1, "1", "1"), ROOM).0, Answer::Parked("gone".into()));
        assert_eq!(woken(admission.resume("r", ROOM)), ["b1"]);
    }

    #[test]
    fn maintenance_goes_last_supersedes_nothing_and_leaves_when_nobody_wants_it() {
        let admission = Admission::default();
        let maintenance = |n: i64| Request { turn: Turn::Maintenance, ..request(n, "a", "x") };
        assert_eq!(admission.ask(&ticket(9), &request(9, "b", "x"), ROOM).0, Answer::Granted);
        assert_eq!(admission.ask(&ticket(8), &maintenance(8), ROOM).0, Answer::RepositoryBusy);
        assert_eq!(admission.ask(&ticket(7), &request(7, "a", "x"), ROOM).0, Answer::RepositoryBusy, "a later cut is no Backup's");
        assert!(!admission.restore_waits("x"));
        let woken = |woken: Vec<Request>| woken.iter().map(|r| r.cut.timestamp()).collect::<Vec<_>>();
        assert_eq!(woken(admission.leave(&ticket(9), ROOM)), [7]);
        assert_eq!(woken(admission.leave(&ticket(7), ROOM)), [8]);
        assert_eq!(woken(admission.keep_only(&HashSet::new(), ROOM)), [] as [i64; 0]);
        assert_eq!(admission.counts(), (1, 0), "its ticket is no Backup's");
        let restore = Request { turn: Turn::Restore, ..request(10, "a", "x") };
        assert_eq!(admission.ask(&ticket(10), &restore, ROOM).0, Answer::RepositoryBusy);
        assert!(admission.restore_waits("x"));
        assert_eq!(woken(admission.keep_maintenance(&HashSet::new(), ROOM)), [10]);
    }
}
