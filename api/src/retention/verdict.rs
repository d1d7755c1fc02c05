//! What is to become of one snapshot, and why: a value that is printed as it is carried out.

use super::snapshot::{Change, Snapshot};
use crate::policy::Tier;
use chrono::{DateTime, Utc};
use std::fmt;

/// What becomes of it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// It stays at least until its mark is old enough.
    Marked,
    /// Its time has come, but the sweep is held until a person allows it.
    Held,
    /// It is deleted, with what the storage holds of it.
    Sweep,
}

/// The verdict about one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict<'a> {
    /// Which.
    pub snapshot: &'a Snapshot,
    /// What to write on it first; with [`Fate::Sweep`] nothing.
    pub changes: Vec<Change>,
    /// What becomes of it.
    pub fate: Fate,
    /// Why.
    pub why: Why,
}

/// Why a snapshot stays, is marked, or goes. Its text is what a preview shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is the snapshot of these spans of time.
    Holds(Vec<Tier>),
    /// It is among the newest that `last` keeps; `true`: though it is marked.
    Last(bool),
    /// Nobody says what to keep.
    NoPolicy,
    /// What somebody says cannot be.
    Refused(String),
    /// It is not ready, or its cut is not known.
    NotReady,
    /// It is being deleted already.
    Leaving,
    /// It was made to stay for ever.
    Forever,
    /// The label `retain` has a value that means nothing.
    UnknownRetain,
    /// It was made for some days, and somebody took its mark off.
    Unlimited,
    /// Somebody took its mark off; it is not marked again before then.
    Unmarked(DateTime<Utc>),
    /// No tier holds it any more: the mark is set.
    NoTier,
    /// It is marked; it can go after both the day and the moment.
    Marked {
        /// The day of the mark.
        day: chrono::NaiveDate,
        /// A day after the mark was set.
        not_before: DateTime<Utc>,
    },
    /// The mark is no day.
    Malformed(String),
    /// Its time has come, but it is in use.
    InUse(String),
    /// Its time has come, but it is the newest that can be restored from.
    Newest,
    /// Its time has come.
    Due(chrono::NaiveDate),
}

impl Why {
    /// Something that a person should look at.
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::Refused(_) | Self::UnknownRetain | Self::Malformed(_) => true,
            Self::Holds(_)
            | Self::Last(_)
            | Self::NoPolicy
            | Self::NotReady
            | Self::Leaving
            | Self::Forever
            | Self::Unlimited
            | Self::Unmarked(_)
            | Self::NoTier
            | Self::Marked { .. }
            | Self::InUse(_)
            | Self::Newest
            | Self::Due(_) => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds(tiers) => write!(f, "it is the {}", tiers.iter().map(|tier| tier.name()).collect::<Vec<_>>().join(", ")),
            Self::Last(false) => f.write_str("it is among the last"),
            Self::Last(true) => f.write_str("it is marked, but among the last"),
            Self::NoPolicy => f.write_str("nobody says what to keep: there is no annotation borgherd.dev/keep"),
            Self::Refused(problem) => write!(f, "the policy is invalid, so nothing goes: {problem}"),
            Self::NotReady => f.write_str("it is not ready to be restored from, or its cut is not known"),
            Self::Leaving => f.write_str("it is being deleted"),
            Self::Forever => f.write_str("it was made to stay for ever"),
            Self::UnknownRetain => f.write_str("its label retain is none of tiers, days, forever"),
            Self::Unlimited => f.write_str("its mark was taken off"),
            Self::Unmarked(until) => write!(f, "its mark was taken off; it is not marked again before {until:?}"),
            Self::NoTier => f.write_str("no tier holds it any more"),
            Self::Marked { day, not_before } => write!(f, "it is marked; it goes after {day}, not before {not_before:?}"),
            Self::Malformed(text) => write!(f, "its mark delete-after='{text}' is no day like 2026-11-21, so it stays"),
            Self::InUse(what) => write!(f, "its time has come, but {what}"),
            Self::Newest => f.write_str("its time has come, but it is the newest that can be restored from"),
            Self::Due(day) => write!(f, "it was marked to be deleted after {day}"),
        }
    }
}
