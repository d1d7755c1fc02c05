//! The deletion breaker: a sweep that would take too much at once waits until a person allows it.
//!
//! A token names a moment: it allows all that had been marked by then. So it stays good while more becomes due and while an allowed
//! sweep is under way, and it allows nothing that is marked later.

use super::snapshot::{Field, Snapshot};
use super::verdict::{Fate, Verdict};
use crate::names;
use chrono::{DateTime, Utc};
use std::fmt;

/// Allows a held sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    until: DateTime<Utc>,
    check: String,
}

impl Token {
    /// Over what is marked until `until` in `scope`: a PVC, or the cluster.
    fn new(scope: &[&str], until: DateTime<Utc>) -> Self {
        let second = until.timestamp().to_string();
        let parts: Vec<&str> = scope.iter().copied().chain([second.as_str()]).collect();
        Self { until, check: names::hash(&parts, 3) }
    }

    /// The newest moment that one of `tokens` (separated by commas) allows in `scope`; others are for another PVC, or mistyped.
    fn allowed(scope: &[&str], tokens: &str) -> Option<DateTime<Utc>> {
        let read = |text: &str| {
            let until = DateTime::from_timestamp(text.split_once('-')?.0.parse().ok()?, 0)?;
            (Self::new(scope, until).to_string() == text).then_some(until)
        };
        tokens.split(',').filter_map(|text| read(text.trim())).max()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.until.timestamp(), self.check)
    }
}

/// A sweep that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// How many it would delete that nobody has allowed.
    pub held: usize,
    /// Of how many; for the cluster: how many may go.
    pub of: usize,
    /// What allows it.
    pub token: Token,
}

/// Whether the sweep of one PVC waits: it would delete more than half of its ready snapshots that ever held a tier. What waits stays in
/// `verdicts` as [`Fate::Held`]; what a token of `allowed` covers goes.
pub fn hold(verdicts: &mut [Verdict<'_>], allowed: &str) -> Option<Hold> {
    let first = verdicts.first()?.snapshot;
    let scope = [first.namespace.as_str(), first.pvc.as_str()];
    let until = Token::allowed(&scope, allowed);
    let ever_held = |verdict: &&Verdict<'_>| {
        let snapshot = verdict.snapshot;
        snapshot.counts() && snapshot.get(Field::TiersAtBirth).is_some_and(|tiers| !tiers.is_empty()) && !is_allowed(verdict, until)
    };
    let all = verdicts.iter().filter(ever_held).count();
    let going = verdicts.iter().filter(ever_held).filter(|verdict| verdict.fate == Fate::Sweep).count();
    if going * 2 <= all {
        return None;
    }
    let token = Token::new(&scope, newest_mark(verdicts.iter()));
    stop(verdicts.iter_mut(), until);
    Some(Hold { held: going, of: all, token })
}

/// The same over the cluster. What is to go is counted PVC by PVC, so that it need never be in memory as a whole.
#[derive(Clone, Debug)]
pub struct Total {
    allowed: Option<DateTime<Utc>>,
    going: usize,
    newest: DateTime<Utc>,
}

impl Total {
    /// Nothing yet; `allowed` are the tokens that stand for the cluster.
    pub fn new(allowed: &str) -> Self {
        Self { allowed: Token::allowed(&[], allowed), going: 0, newest: DateTime::default() }
    }

    /// Counts one of [`Fate::Sweep`]. `true`: a token allows it, so it goes also when the others wait.
    pub fn count(&mut self, verdict: &Verdict<'_>) -> bool {
        self.newest = self.newest.max(marked_at(verdict.snapshot));
        let is_allowed = is_allowed(verdict, self.allowed);
        self.going += usize::from(!is_allowed);
        is_allowed
    }

    /// Whether those that no token allows wait: they are more than `most`.
    pub fn hold(&self, most: usize) -> Option<Hold> {
        (self.going > most).then(|| Hold { held: self.going, of: most, token: Token::new(&[], self.newest) })
    }
}

/// A mark of the token's second or before. Only what is being swept can have been allowed.
fn is_allowed(verdict: &Verdict<'_>, until: Option<DateTime<Utc>>) -> bool {
    verdict.fate == Fate::Sweep && until.is_some_and(|until| marked_at(verdict.snapshot).timestamp() <= until.timestamp())
}

fn marked_at(snapshot: &Snapshot) -> DateTime<Utc> {
    snapshot.moment(Field::MarkedAt).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn newest_mark<'a>(verdicts: impl Iterator<Item = &'a Verdict<'a>>) -> DateTime<Utc> {
    let going = verdicts.filter(|verdict| verdict.fate == Fate::Sweep);
    going.map(|verdict| marked_at(verdict.snapshot)).max().unwrap_or_default()
}

fn stop<'a, 'b: 'a>(verdicts: impl Iterator<Item = &'a mut Verdict<'b>>, until: Option<DateTime<Utc>>) {
    for verdict in verdicts.filter(|verdict| verdict.fate == Fate::Sweep && !is_allowed(verdict, until)) {
        verdict.fate = Fate::Held;
    }
}
