//! By which policy the snapshots of one PVC are judged.

use super::snapshot::{Field, Snapshot};
use crate::policy::{Keep, Policy, Problem};
use chrono_tz::Tz;

/// What is said about a PVC now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The PVC is there; its policy may say nothing about what to keep.
    Policy {
        /// How many stay.
        keep: Option<Keep>,
        /// By whose clock.
        zone: Tz,
    },
    /// The PVC is there and an annotation cannot be.
    Invalid(String),
    /// There is no such PVC.
    Gone,
}

impl Said {
    /// By the policy of a PVC that is there.
    pub fn by(policy: Result<Policy, Vec<Problem>>) -> Self {
        match policy {
            Ok(Policy { keep, time_zone, .. }) => Self::Policy { keep, zone: time_zone },
            Err(problems) => Self::Invalid(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }
}

/// What is in force for the snapshots of one PVC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// So many stay.
    Keep {
        /// How many.
        keep: Keep,
        /// By whose clock.
        zone: Tz,
    },
    /// Nobody says what to keep: no tier is taken off and nothing is marked.
    Nothing {
        /// By whose clock labels and marks are read and written.
        zone: Tz,
    },
    /// What is said cannot be: nothing is written and nothing swept.
    Refused(String),
}

impl Rule {
    /// The same with another number to keep, whatever was said: to try a policy.
    #[must_use]
    pub const fn keeping(&self, keep: Keep) -> Self {
        match self {
            Self::Keep { zone, .. } | Self::Nothing { zone } => Self::Keep { keep, zone: *zone },
            Self::Refused(_) => Self::Keep { keep, zone: Tz::UTC },
        }
    }

    /// What is said about the PVC; where that says nothing about what to keep (opted out, PVC gone), what was in force when the newest
    /// good snapshot of the tiers was made.
    pub fn of(said: &Said, snapshots: &[&Snapshot]) -> Self {
        let zone = match said {
            Said::Policy { keep: Some(keep), zone } => return Self::Keep { keep: *keep, zone: *zone },
            Said::Invalid(problem) => return Self::Refused(problem.clone()),
            Said::Policy { keep: None, zone } => *zone,
            Said::Gone => Tz::UTC,
        };
        let newest = snapshots.iter().filter(|snapshot| snapshot.counts()).max_by_key(|snapshot| (snapshot.cut, &snapshot.uid));
        let Some(newest) = newest else { return Self::Nothing { zone } };
        let wrong = |field: Field, text: &str, message: &str| {
            Self::Refused(format!("{} on VolumeSnapshot {}, value '{text}': {message}", field.key(), newest.name))
        };
        let zone = match newest.get(Field::TimeZone).map(|text| (text, text.parse())) {
            Some((_, Ok(zone))) => zone,
            Some((text, Err(_))) => return wrong(Field::TimeZone, text, "is no IANA time zone"),
            None => zone,
        };
        match newest.get(Field::Keep).map(|text| (text, Keep::parse(text))) {
            Some((_, Ok(keep))) => Self::Keep { keep, zone },
            Some((text, Err(message))) => wrong(Field::Keep, text, &message),
            None => Self::Nothing { zone },
        }
    }
}
