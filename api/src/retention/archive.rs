//! Which archives of one PVC stay: facts of a complete listing in, one verdict an archive out, or the reason why none is deleted.
//!
//! The tiers are those of `borg prune`, tested against it: the *last* archive of a period stands for it, a tier does not count what a shorter
//! one holds already, and where there are fewer than wanted the oldest stays. What borg's own prune cannot know is decided here: that an
//! archive lacks files, whose it is, and that the newest good one always stays.
//!
//! Invariants, each a property in `tests/archives`: the newest good archive is never deleted; nothing whose name or comment is not Borgherd's
//! is; one that lacks files never evicts a good one; carried out, a plan leaves nothing to do; a policy that keeps more keeps all that one that
//! keeps less does.

use super::accept::Accepted;
use super::period::{Period, local};
use crate::names;
use crate::policy::{Keep, Tier};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// So few deletions at once are no alarm, whatever part of all they are.
const NO_ALARM: usize = 3;

/// An archive as borg lists it, checkpoints too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Its name.
    pub name: String,
    /// UID of the cluster that its comment names; `None`: the comment is not Borgherd's.
    pub cluster: Option<String>,
}

/// By what the archives of one PVC are judged.
#[derive(Clone, Copy, Debug)]
pub struct ArchiveRule<'a> {
    /// How many stay.
    pub keep: Keep,
    /// By whose clock.
    pub zone: Tz,
    /// UID of this cluster.
    pub cluster: &'a str,
    /// Cuts of archives that lack files.
    pub incomplete: &'a BTreeSet<DateTime<Utc>>,
    /// Names of archives that a Restore is made from.
    pub in_use: &'a BTreeSet<String>,
    /// What a person has accepted.
    pub accepted: &'a Accepted,
}

/// Why nothing at all is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// There are archives of the same name that other clusters have made, and nobody has accepted them: their UIDs.
    Foreign(BTreeSet<String>),
    /// The newest archive lacks files.
    NewestIncomplete(DateTime<Utc>),
    /// There is no good archive.
    NoneGood,
    /// It would be more than half of all.
    TooMany {
        /// So many would go.
        deleted: usize,
        /// Of so many.
        of: usize,
        /// Cut of the newest that would go: accepting up to it is enough.
        until: DateTime<Utc>,
    },
}

/// Why an archive stays or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveWhy {
    /// The newest good one.
    Newest,
    /// One of the newest N.
    Last,
    /// It stands for a period.
    Tier(Tier),
    /// The oldest, where there are fewer than wanted.
    Oldest(Tier),
    /// Its name or comment is not Borgherd's: it neither counts nor goes.
    NotOurs,
    /// A Restore is made from it, or its content is being read.
    InUse,
    /// A later good one is missing.
    Unreplaced,
    /// A run that died has left it, and a later good one is there.
    Leftover,
    /// No tier holds it.
    NoTier,
}

impl ArchiveWhy {
    /// It is deleted.
    pub const fn deletes(self) -> bool {
        match self {
            Self::Leftover | Self::NoTier => true,
            Self::Newest | Self::Last | Self::Tier(_) | Self::Oldest(_) | Self::NotOurs | Self::InUse | Self::Unreplaced => false,
        }
    }
}

impl fmt::Display for ArchiveWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("the newest good one always stays"),
            Self::Last => f.write_str("last"),
            Self::Tier(tier) => f.write_str(tier.name()),
            Self::Oldest(tier) => write!(f, "{}, the oldest there is", tier.name()),
            Self::NotOurs => f.write_str("it is not Borgherd's"),
            Self::InUse => f.write_str("it is restored from, or its content is being read"),
            Self::Unreplaced => f.write_str("there is no later good one"),
            Self::Leftover => f.write_str("a run that died has left it"),
            Self::NoTier => f.write_str("no tier holds it"),
        }
    }
}

/// What becomes of each archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivePlan<'a> {
    /// One for each, in the order of their names.
    pub verdicts: Vec<(&'a Archive, ArchiveWhy)>,
    /// Why none of it is carried out.
    pub stop: Option<Stop>,
}

impl ArchivePlan<'_> {
    /// Names of those that go; none if something stops it.
    pub fn deleted(&self) -> Vec<&str> {
        if self.stop.is_some() {
            return Vec::new();
        }
        self.verdicts.iter().filter(|(_, why)| why.deletes()).map(|(archive, _)| archive.name.as_str()).collect()
    }
}

/// What an archive's name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An archive of that cut.
    Whole(DateTime<Utc>),
    /// What a run that died has left of one: a checkpoint, or an archive that stepped aside since nobody knew it to be complete.
    Rest(DateTime<Utc>),
    /// Nothing of Borgherd's.
    Other,
}

fn kind(namespace: &str, pvc: &str, name: &str) -> Kind {
    let cut = |name: &str| names::cut_of_archive(namespace, pvc, name).filter(|cut| names::archive(namespace, pvc, *cut) == name);
    if let Some(cut) = cut(name) {
        return Kind::Whole(cut);
    }
    rest_of(name).and_then(cut).map_or(Kind::Other, Kind::Rest)
}

/// The name of the archive that `name` is a rest of: `….checkpoint`, `….checkpoint.2`, `….incomplete-0a1b2c3d`.
fn rest_of(name: &str) -> Option<&str> {
    if let Some((archive, number)) = name.rsplit_once(".checkpoint") {
        let digits = number.strip_prefix('.').is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
        return (number.is_empty() || digits).then_some(archive);
    }
    let (archive, id) = name.rsplit_once(".incomplete-")?;
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(archive)
}

/// The verdicts about all archives whose names begin with the prefix of one PVC.
pub fn plan_archives<'a>(namespace: &str, pvc: &str, archives: &'a [Archive], rule: &ArchiveRule<'_>) -> ArchivePlan<'a> {
    let mut all: Vec<(&Archive, Kind)> = archives.iter().map(|archive| (archive, kind(namespace, pvc, &archive.name))).collect();
    all.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    let ours = |archive: &Archive| archive.cluster.as_deref().is_some_and(|uid| uid == rule.cluster || rule.accepted.foreign.contains(uid));
    let mut whole: Vec<DateTime<Utc>> = all
        .iter()
        .filter_map(|(archive, kind)| match kind {
            Kind::Whole(cut) if ours(archive) => Some(*cut),
            Kind::Whole(_) | Kind::Rest(_) | Kind::Other => None,
        })
        .collect();
    whole.sort_unstable_by(|one, other| other.cmp(one));
    let good: Vec<DateTime<Utc>> = whole.iter().copied().filter(|cut| !rule.incomplete.contains(cut)).collect();
    let (held, held_of_all) = (hold(&good, rule), hold(&whole, rule));
    let newest = good.first().copied();
    let why = |(archive, kind): &(&Archive, Kind)| match *kind {
        Kind::Whole(_) if !ours(archive) => ArchiveWhy::NotOurs,
        Kind::Whole(cut) if Some(cut) == newest => held.get(&cut).copied().unwrap_or(ArchiveWhy::Newest),
        Kind::Whole(cut) if rule.incomplete.contains(&cut) => {
            if newest.is_none_or(|newest| newest < cut) {
                ArchiveWhy::Unreplaced
            } else {
                held_of_all.get(&cut).copied().unwrap_or(ArchiveWhy::NoTier)
            }
        }
        Kind::Whole(cut) => held.get(&cut).copied().unwrap_or(ArchiveWhy::NoTier),
        // a checkpoint has no comment; the archive itself, if it was made in the end, is as new as its rest
        Kind::Rest(cut) if newest.is_some_and(|newest| newest >= cut) && archive.cluster.as_deref().is_none_or(|_| ours(archive)) => {
            ArchiveWhy::Leftover
        }
        Kind::Rest(_) => ArchiveWhy::Unreplaced,
        Kind::Other => ArchiveWhy::NotOurs,
    };
    let spared =
        |archive: &Archive, why: ArchiveWhy| if why.deletes() && rule.in_use.contains(&archive.name) { ArchiveWhy::InUse } else { why };
    let verdicts: Vec<(&Archive, ArchiveWhy, Kind)> =
        all.iter().map(|judged| (judged.0, spared(judged.0, why(judged)), judged.1)).collect();
    let stop = stop(&verdicts, &whole, newest, rule);
    ArchivePlan { verdicts: verdicts.into_iter().map(|(archive, why, _)| (archive, why)).collect(), stop }
}

fn stop(
    verdicts: &[(&Archive, ArchiveWhy, Kind)],
    whole: &[DateTime<Utc>],
    newest_good: Option<DateTime<Utc>>,
    rule: &ArchiveRule<'_>,
) -> Option<Stop> {
    let of_borgherd = verdicts.iter().filter(|(_, _, kind)| *kind != Kind::Other);
    let foreign: BTreeSet<String> = of_borgherd
        .filter_map(|(archive, _, _)| archive.cluster.clone())
        .filter(|uid| uid != rule.cluster && !rule.accepted.foreign.contains(uid))
        .collect();
    if !foreign.is_empty() {
        return Some(Stop::Foreign(foreign));
    }
    let Some(newest_good) = newest_good else { return Some(Stop::NoneGood) };
    if let Some(newest) = whole.first().filter(|newest| **newest > newest_good) {
        return Some(Stop::NewestIncomplete(*newest));
    }
    let going = verdicts.iter().filter_map(|(_, why, kind)| match kind {
        Kind::Whole(cut) if why.deletes() => Some(*cut),
        Kind::Whole(_) | Kind::Rest(_) | Kind::Other => None,
    });
    let unasked: Vec<DateTime<Utc>> = going.filter(|cut| rule.accepted.prune.is_none_or(|until| *cut > until)).collect();
    let until = unasked.iter().max().copied()?;
    let too_many = unasked.len() > NO_ALARM && unasked.len() * 2 > whole.len();
    too_many.then_some(Stop::TooMany { deleted: unasked.len(), of: whole.len(), until })
}

/// Which of `cuts`, newest first, the tiers hold. Rule: `prune_split` of borg 1.4, in borg's order.
fn hold(cuts: &[DateTime<Utc>], rule: &ArchiveRule<'_>) -> BTreeMap<DateTime<Utc>, ArchiveWhy> {
    let mut held: BTreeMap<DateTime<Utc>, ArchiveWhy> = cuts.iter().take(rule.keep.last()).map(|cut| (*cut, ArchiveWhy::Last)).collect();
    for tier in Tier::ALL {
        let wanted = rule.keep.of(tier);
        let (mut count, mut before) = (0, None);
        for cut in cuts {
            if count == wanted {
                break;
            }
            let period = Some(Period::at(tier, local(*cut, rule.zone)));
            if period != before && !held.contains_key(cut) {
                held.insert(*cut, ArchiveWhy::Tier(tier));
                count += 1;
            }
            before = period;
        }
        if let Some(oldest) = cuts.last().filter(|oldest| count < wanted && !held.contains_key(oldest)) {
            held.insert(*oldest, ArchiveWhy::Oldest(tier));
        }
    }
    held
}
