//! What the controller knows of the cluster, in compact form: PVCs, namespaces and what became of past Backups.
//!
//! Invariant: only what deciding needs is kept (10,000 PVCs and 50,000 snapshots must fit into tens of MiB); nothing here is
//! ever the ground for a deletion.

use crate::config::Annotations;
use borgherd_api::crd::{Backup, Outcome, Owner, Trigger, VolumeStatus};
use borgherd_api::names::{self, GROUP};
use borgherd_api::policy::{self, Effective, Exclusion, Policy, Problem};
use borgherd_api::{Reason, time};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::ResourceExt;
use std::collections::{BTreeMap, HashMap};

/// What the planner needs of a PVC.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// UID.
    pub uid: String,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// Its `borgherd.dev/` annotations, whole keys.
    pub annotations: Annotations,
    /// Why it is left out, whatever its policy.
    pub exclusion: Option<Exclusion>,
}

impl Claim {
    /// Reduces a PVC to it.
    pub fn of(pvc: &PersistentVolumeClaim) -> Self {
        Self {
            uid: pvc.uid().unwrap_or_default(),
            created: time::created(pvc).unwrap_or_default(),
            annotations: own(pvc.annotations()),
            exclusion: policy::exclusion(pvc),
        }
    }
}

/// The annotations that are Borgherd's.
fn own(annotations: &BTreeMap<String, String>) -> Annotations {
    annotations
        .iter()
        .filter(|(key, _)| key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/')))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What past Backups tell of one PVC.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// Newest scheduled time that a Backup or a snapshot was made for.
    pub scheduled: Option<DateTime<Utc>>,
    /// Newest scheduled time of a Backup that was to be archived.
    pub archive_scheduled: Option<DateTime<Utc>>,
    /// Cut of the newest one that ended well.
    pub success: Option<DateTime<Utc>>,
    /// Node of the newest archive, where borg's cache is.
    pub node: Option<String>,
    /// How the newest one ended, and why.
    pub last: Option<(DateTime<Utc>, Outcome, Option<Reason>)>,
    /// The newest archive of a Backup that is over.
    pub archived: Option<Box<Archived>>,
}

/// An archive, and the Backup that made it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Archived {
    /// The Backup.
    pub owner: Owner,
    /// What its status says of the volume, but for what is of the backup alone.
    pub volume: VolumeStatus,
}

impl Archived {
    /// The archive of a volume, if one was made.
    fn of(backup: &Backup, volume: &VolumeStatus) -> Option<Self> {
        let over = backup.status.as_ref().is_some_and(|s| s.phase.is_final());
        let made = matches!(volume.outcome, Some(Outcome::Succeeded | Outcome::Incomplete)) && volume.archive.is_some();
        let kept = VolumeStatus {
            pvc: volume.pvc.clone(),
            outcome: volume.outcome,
            cut: volume.cut,
            repository: volume.repository.clone(),
            location: volume.location.clone(),
            node: volume.node.clone(),
            progress: volume.progress,
            maintenance: volume.maintenance.clone(),
            ..VolumeStatus::default()
        };
        (over && made).then(|| Self { owner: Owner::of(backup), volume: kept })
    }
}

/// What was decided about one PVC, kept for metrics and Events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// Expected seconds between backups; none: not scheduled.
    pub interval: Option<f64>,
    /// What is wrong with its annotations, so that it is not backed up.
    pub problem: Option<String>,
    /// What is probably not meant, though nothing stops for it.
    pub warning: Option<String>,
}

/// One namespace as the planner sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Space {
    /// The namespace's `borgherd.dev/` annotations.
    pub annotations: Annotations,
    /// It is being deleted: nothing new starts there.
    pub deleting: bool,
    /// Its PVCs by name.
    pub claims: BTreeMap<String, Claim>,
    /// By PVC name.
    pub past: HashMap<String, Past>,
    /// What the planner last decided, by PVC name: those with a schedule or a problem.
    pub decided: BTreeMap<String, Decided>,
}

/// All namespaces by name.
#[derive(Debug, Default)]
pub struct World {
    /// By name.
    pub spaces: HashMap<String, Space>,
    /// The chart's defaults.
    pub defaults: Annotations,
}

impl Space {
    /// The policy values in force for a claim, and where each is from.
    pub fn effective(&self, claim: &Claim, defaults: &Annotations) -> Effective {
        policy::merge(&claim.annotations, &self.annotations, defaults)
    }
}

impl World {
    /// An empty world with the chart's defaults.
    pub fn new(defaults: Annotations) -> Self {
        Self { spaces: HashMap::new(), defaults }
    }

    /// Takes a PVC in; says whether anything that matters changed.
    pub fn put_claim(&mut self, pvc: &PersistentVolumeClaim) -> bool {
        let space = self.spaces.entry(pvc.namespace().unwrap_or_default()).or_default();
        let claim = Claim::of(pvc);
        let changed = space.claims.get(&pvc.name_any()) != Some(&claim);
        space.claims.insert(pvc.name_any(), claim);
        changed
    }

    /// Forgets a PVC, and with it what its series in the metrics are made of.
    pub fn drop_claim(&mut self, namespace: &str, name: &str) {
        if let Some(space) = self.spaces.get_mut(namespace) {
            space.claims.remove(name);
            space.past.remove(name);
        }
    }

    /// Takes a namespace in; says whether anything that matters changed.
    pub fn put_namespace(&mut self, namespace: &Namespace) -> bool {
        let space = self.spaces.entry(namespace.name_any()).or_default();
        let annotations = own(namespace.annotations());
        let deleting = namespace.metadata.deletion_timestamp.is_some();
        let changed = space.annotations != annotations || space.deleting != deleting;
        space.annotations = annotations;
        space.deleting = deleting;
        changed
    }

    /// Takes in what a Backup tells.
    pub fn put_backup(&mut self, backup: &Backup) {
        let space = self.spaces.entry(backup.namespace().unwrap_or_default()).or_default();
        let scheduled = (backup.spec.trigger == Trigger::Scheduled).then_some(backup.spec.scheduled_time).flatten();
        for pvc in &backup.spec.volumes {
            let past = space.past.entry(pvc.clone()).or_default();
            past.scheduled = past.scheduled.max(scheduled);
            if backup.spec.archive {
                past.archive_scheduled = past.archive_scheduled.max(scheduled);
            }
        }
        for volume in backup.status.iter().flat_map(|s| &s.volumes) {
            let (Some(outcome), Some(cut)) = (volume.outcome, volume.cut.or_else(|| time::created(backup))) else {
                continue;
            };
            let past = space.past.entry(volume.pvc.clone()).or_default();
            if let Some(archived) = Archived::of(backup, volume)
                && past.archived.as_ref().is_none_or(|newest| newest.volume.cut <= volume.cut)
            {
                past.archived = Some(Box::new(archived));
            }
            if past.last.as_ref().is_none_or(|(at, _, _)| cut >= *at) {
                past.last = Some((cut, outcome, volume.reason));
            }
            if outcome == Outcome::Succeeded && past.success.is_none_or(|at| cut >= at) {
                past.success = Some(cut);
                past.node = volume.node.clone().or(past.node.take());
            }
        }
    }

    /// Forgets the newest archive of a PVC: the Backup that made it is gone.
    pub fn forget_archive(&mut self, namespace: &str, pvc: &str) {
        if let Some(past) = self.spaces.get_mut(namespace).and_then(|space| space.past.get_mut(pvc)) {
            past.archived = None;
        }
    }

    /// Takes in the scheduled time that a snapshot was made for: it may outlive its Backup.
    pub fn put_scheduled(&mut self, namespace: &str, pvc: &str, scheduled: DateTime<Utc>) {
        let past = self.spaces.entry(namespace.to_owned()).or_default().past.entry(pvc.to_owned()).or_default();
        past.scheduled = past.scheduled.max(Some(scheduled));
    }

    /// The policy in force for a PVC; an unknown one has that of its namespace.
    pub fn policy(&self, namespace: &str, pvc: &str) -> Result<Policy, Vec<Problem>> {
        policy::resolve(namespace, pvc, &self.effective(namespace, pvc))
    }

    /// The values that make it.
    pub fn effective(&self, namespace: &str, pvc: &str) -> Effective {
        let nothing = Space::default();
        let none = Annotations::new();
        let space = self.spaces.get(namespace).unwrap_or(&nothing);
        let annotations = space.claims.get(pvc).map_or(&none, |c| &c.annotations);
        policy::merge(annotations, &space.annotations, &self.defaults)
    }

    /// Node where the newest archive of a PVC was made.
    pub fn last_node(&self, namespace: &str, pvc: &str) -> Option<String> {
        self.spaces.get(namespace)?.past.get(pvc)?.node.clone()
    }
}

/// Name of the PVC a snapshot is of: the annotation where the label is shortened.
pub fn pvc_of(object: &impl ResourceExt) -> Option<String> {
    object.annotations().get(names::PVC_NAME).or_else(|| object.labels().get(names::PVC)).cloned()
}
