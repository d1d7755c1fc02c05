//! What a person has accepted about the archives of a PVC: annotation [`crate::names::ACCEPT`], tokens separated by commas.
//!
//! Each token names what it allows and nothing else; one that cannot be read allows nothing.

use crate::names;
use chrono::{DateTime, NaiveDateTime, Utc};
use std::collections::BTreeSet;

/// The tokens, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// `foreign:UID`: archives of that cluster are this one's now.
    pub foreign: BTreeSet<String>,
    /// `prune:TIME`: archives cut by then may go, however many.
    pub prune: Option<DateTime<Utc>>,
    /// `suspect:TIME`: archives cut by then are right, whatever they look like.
    pub suspect: Option<DateTime<Utc>>,
    /// `repaired:TIME`: damage that was found by then is repaired.
    pub repaired: Option<DateTime<Utc>>,
    /// `empty`: the live hostPath volume may have nothing in it.
    pub empty: bool,
}

impl Accepted {
    /// Reads the annotation's value.
    pub fn parse(text: &str) -> Self {
        let mut accepted = Self::default();
        for token in text.split(',').map(str::trim) {
            accepted.empty |= token == EMPTY;
            match token.split_once(':') {
                Some(("foreign", uid)) if !uid.is_empty() => {
                    accepted.foreign.insert(uid.to_owned());
                }
                Some(("prune", time)) => accepted.prune = accepted.prune.max(read(time)),
                Some(("suspect", time)) => accepted.suspect = accepted.suspect.max(read(time)),
                Some(("repaired", time)) => accepted.repaired = accepted.repaired.max(read(time)),
                _ => {}
            }
        }
        accepted
    }
}

/// The token that lets an empty hostPath volume be read in place.
const EMPTY: &str = "empty";

/// The token that accepts archives of a cluster.
pub fn foreign_token(uid: &str) -> String {
    format!("foreign:{uid}")
}

/// The token that lets go what was cut by then.
pub fn prune_token(until: DateTime<Utc>) -> String {
    format!("prune:{}", names::archive_time(until))
}

/// The token that says that archives cut by then are right.
pub fn suspect_token(until: DateTime<Utc>) -> String {
    format!("suspect:{}", names::archive_time(until))
}

/// The token that says that damage found by then is repaired.
pub fn repaired_token(until: DateTime<Utc>) -> String {
    format!("repaired:{}", names::archive_time(until))
}

fn read(time: &str) -> Option<DateTime<Utc>> {
    Some(NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H-%M-%SZ").ok()?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_allows_nothing() {
        let at: DateTime<Utc> = DateTime::from_timestamp(1_795_255_200, 0).unwrap_or_default();
        let text = format!("{}, {},{},{}, empty", foreign_token("c-1"), prune_token(at), suspect_token(at), repaired_token(at));
        let read = Accepted::parse(&text);
        assert_eq!(
            read,
            Accepted { foreign: BTreeSet::from(["c-1".to_owned()]), prune: Some(at), suspect: Some(at), repaired: Some(at), empty: true }
        );
        for nothing in ["", "foreign", "foreign:", "prune:yes", "suspect:2026-11-21", "all", ":"] {
            assert_eq!(Accepted::parse(nothing), Accepted::default(), "{nothing}");
        }
    }
}
