//! What retention knows of one snapshot, and what it writes on it.

use super::prefix::Prefix;
use crate::crd::Restore;
use crate::crd::snapshot::VolumeSnapshot;
use crate::names;
use crate::policy::{Key, Tier};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use std::collections::HashMap;

/// What retention reads and writes on a snapshot. Labels: the tiers and the mark; the rest are annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The period that this is the snapshot of.
    Tier(Tier),
    /// The mark: the day after which it may be swept, `2026-11-21`.
    DeleteAfter,
    /// The tiers it had when it became ready, `hourly,daily`; present but empty: it never had one.
    TiersAtBirth,
    /// When the mark was set, RFC 3339.
    MarkedAt,
    /// When a mark was seen to have been taken off, RFC 3339.
    UnmarkedAt,
    /// `keep` in force when it was made.
    Keep,
    /// `time-zone` in force when it was made.
    TimeZone,
}

impl Field {
    /// How many there are.
    const COUNT: usize = Self::ALL.len();
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Tier(Tier::Hourly),
        Self::Tier(Tier::Daily),
        Self::Tier(Tier::Weekly),
        Self::Tier(Tier::Monthly),
        Self::Tier(Tier::Yearly),
        Self::DeleteAfter,
        Self::TiersAtBirth,
        Self::MarkedAt,
        Self::UnmarkedAt,
        Self::Keep,
        Self::TimeZone,
    ];

    const fn index(self) -> usize {
        match self {
            Self::Tier(tier) => tier as usize,
            Self::DeleteAfter => 5,
            Self::TiersAtBirth => 6,
            Self::MarkedAt => 7,
            Self::UnmarkedAt => 8,
            Self::Keep => 9,
            Self::TimeZone => 10,
        }
    }

    /// Labels are searched for; everything else is an annotation.
    pub const fn is_label(self) -> bool {
        match self {
            Self::Tier(_) | Self::DeleteAfter => true,
            Self::TiersAtBirth | Self::MarkedAt | Self::UnmarkedAt | Self::Keep | Self::TimeZone => false,
        }
    }

    /// The whole key; of a label the one under Borgherd's own prefix.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Tier(Tier::Hourly) => names::HOURLY,
            Self::Tier(Tier::Daily) => names::DAILY,
            Self::Tier(Tier::Weekly) => names::WEEKLY,
            Self::Tier(Tier::Monthly) => names::MONTHLY,
            Self::Tier(Tier::Yearly) => names::YEARLY,
            Self::DeleteAfter => names::DELETE_AFTER,
            Self::TiersAtBirth => names::TIERS_AT_BIRTH,
            Self::MarkedAt => names::MARKED_AT,
            Self::UnmarkedAt => names::UNMARKED_AT,
            Self::Keep => Key::Keep.annotation(),
            Self::TimeZone => Key::TimeZone.annotation(),
        }
    }
}

/// One field to write; `None`: to take off.
pub type Change = (Field, Option<String>);

/// How long a snapshot stays: the value of the label `retain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// As long as a tier of the policy holds it.
    Tiers,
    /// Until the day of its mark, which it was born with.
    Days,
    /// For ever.
    Forever,
    /// Somebody wrote something else: it is kept.
    Unknown,
}

impl Retain {
    /// As the label has it; `unknown` is never written.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Tiers => "tiers",
            Self::Days => "days",
            Self::Forever => "forever",
            Self::Unknown => "unknown",
        }
    }

    /// `daily_weekly_monthly`, tiers by name, is how programs before Borgherd write that tiers hold it.
    fn read(text: &str) -> Self {
        let known = [Self::Tiers, Self::Days, Self::Forever];
        let is_tier = |name: &str| Tier::ALL.iter().any(|tier| tier.name() == name);
        match known.into_iter().find(|retain| retain.as_label() == text) {
            Some(retain) => retain,
            None if text.split('_').all(is_tier) => Self::Tiers,
            None => Self::Unknown,
        }
    }
}

/// One snapshot that has the labels `retain` and `pvc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Namespace of it and of its PVC.
    pub namespace: String,
    /// Name of the PVC, which may be gone.
    pub pvc: String,
    /// Its own name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its version, as the API server counts it.
    pub version: String,
    /// The content that it is bound to.
    pub content: Option<String>,
    /// The instant captured.
    pub cut: Option<DateTime<Utc>>,
    /// A volume can be made from it.
    pub ready: bool,
    /// Since when it is being deleted.
    pub deleting: Option<DateTime<Utc>>,
    /// What it is being used for.
    pub in_use: Option<String>,
    /// How long it stays.
    pub retain: Retain,
    fields: [Option<String>; Field::COUNT],
}

impl Snapshot {
    /// Reads one whose labels stand under Borgherd's own prefix.
    pub fn of(object: &VolumeSnapshot) -> Option<Self> {
        Self::under(&Prefix::default(), object)
    }

    /// Reads one; `None`: none of ours to judge, as it lacks a label or is made for one Backup or Restore only.
    pub fn under(prefix: &Prefix, object: &VolumeSnapshot) -> Option<Self> {
        let (labels, annotations) = (object.labels(), object.annotations());
        let label = |own: &'static str| labels.get(&*prefix.key(own));
        if labels.contains_key(names::TEMPORARY) {
            return None;
        }
        let retain = Retain::read(label(names::RETAIN)?);
        let pvc = label(names::PVC).map(|short| annotations.get(names::PVC_NAME).unwrap_or(short))?;
        let status = object.status.clone().unwrap_or_default();
        let written = annotations.get(names::CUT).and_then(|cut| cut.parse().ok());
        let mut snapshot = Self {
            namespace: object.namespace().unwrap_or_default(),
            pvc: pvc.clone(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version().unwrap_or_default(),
            content: status.bound_volume_snapshot_content_name,
            cut: written.or(status.creation_time),
            ready: status.ready_to_use == Some(true),
            deleting: object.metadata.deletion_timestamp.as_ref().and_then(crate::time::from_k8s),
            in_use: in_use(object),
            retain,
            fields: [const { None }; Field::COUNT],
        };
        for field in Field::ALL {
            let found = if field.is_label() { label(field.key()) } else { annotations.get(field.key()) };
            snapshot.fields[field.index()] = found.cloned();
        }
        Some(snapshot)
    }

    /// What stands there.
    pub fn get(&self, field: Field) -> Option<&str> {
        self.fields[field.index()].as_deref()
    }

    /// Notes a Restore of its PVC that is under way.
    pub fn note_restores(&mut self, restored: &Restored) {
        if let Some(restore) = restored.get(&(self.namespace.clone(), self.pvc.clone())) {
            self.in_use.get_or_insert_with(|| format!("Restore {restore} of its PVC is under way"));
        }
    }

    /// Takes over what was written.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for (field, value) in changes {
            self.fields[field.index()] = value;
        }
    }

    /// It can be restored from, and stays to be.
    pub(super) fn is_good(&self) -> bool {
        self.ready && self.cut.is_some() && self.deleting.is_none()
    }

    /// It takes part in the tiers.
    pub(super) fn counts(&self) -> bool {
        self.is_good() && self.retain == Retain::Tiers
    }

    /// A moment that stands in a field; `None` also when it cannot be read.
    pub(super) fn moment(&self, field: Field) -> Option<DateTime<Utc>> {
        Some(DateTime::parse_from_rfc3339(self.get(field)?).ok()?.to_utc())
    }
}

/// The PVCs (namespace, name) of which a Restore is under way, and its name.
pub type Restored = HashMap<(String, String), String>;

/// Whether a Restore is under way: of which PVC, and its name. Which snapshot it will take may not be settled yet.
pub fn restored(restore: &Restore) -> Option<((String, String), String)> {
    let ended = restore.status.as_ref().is_some_and(|status| status.phase.is_final());
    let of = (restore.namespace().unwrap_or_default(), restore.spec.source.pvc.clone());
    (!ended && !restore.spec.preview).then(|| (of, restore.name_any()))
}

/// What the snapshot itself tells of its use: a Backup works on it, or a volume is being made from it.
fn in_use(object: &VolumeSnapshot) -> Option<String> {
    if object.labels().contains_key(names::IN_FLIGHT) {
        return Some("a Backup works on it".to_owned());
    }
    let cloned = object.finalizers().iter().any(|finalizer| finalizer == names::BEING_CLONED);
    cloned.then(|| "a volume is being made from it".to_owned())
}
