//! One Backup being worked on: what every step of its volumes needs.

use super::{decide, live};
use crate::admission::Ticket;
use crate::context::Context;
use crate::repository::Unusable;
use crate::stores;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, Outcome, Owner, VolumeFacts, VolumePhase, VolumeStatus};
use borgherd_api::names::{self, NODE_AFFINITY, VOLUME_FACTS};
use borgherd_api::policy::Policy;
use borgherd_api::{Reason, time};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{ConfigMap, NodeSelector};
use kube::ResourceExt;
use kube::api::Api;
use std::sync::Arc;

/// One Backup being worked on.
pub struct Work<'a> {
    /// Everything shared.
    pub ctx: &'a Context,
    /// The Backup as it was last written.
    pub backup: &'a Backup,
    /// It, as the owner of what is made.
    pub owner: Owner,
    /// Now.
    pub now: DateTime<Utc>,
}

impl<'a> Work<'a> {
    /// Of a Backup.
    pub fn new(ctx: &'a Context, backup: &'a Backup) -> Self {
        let owner = Owner::of(backup);
        Self { ctx, backup, owner, now: (ctx.clock)() }
    }

    /// Name of everything temporary of a volume.
    pub fn temporary(&self, pvc: &str) -> String {
        names::temporary(&self.owner.uid, pvc)
    }

    /// The volume's place in the ledger.
    pub fn ticket(&self, pvc: &str) -> Ticket {
        Ticket { uid: self.owner.uid.clone(), pvc: pvc.to_owned() }
    }

    /// The volume's snapshot in the application's namespace, as cached.
    pub(super) fn cached_snapshot(&self, volume: &VolumeStatus) -> Option<Arc<VolumeSnapshot>> {
        stores::get(&self.ctx.stores.snapshots, Some(&self.owner.namespace), volume.snapshot.as_deref()?)
    }

    pub(super) fn snapshots(&self) -> Api<VolumeSnapshot> {
        Api::namespaced(self.ctx.client.clone(), &self.owner.namespace)
    }

    pub(super) fn contents(&self) -> Api<VolumeSnapshotContent> {
        Api::all(self.ctx.client.clone())
    }

    pub(super) fn records(&self) -> Api<ConfigMap> {
        Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace)
    }

    pub(super) fn enter(&self, volume: &VolumeStatus, phase: VolumePhase) -> VolumeStatus {
        VolumeStatus { phase, since: Some(self.now), reason: None, message: None, ..volume.clone() }
    }

    pub(super) fn since(&self, from: Option<DateTime<Utc>>) -> Option<f64> {
        from.map(|from| seconds(self.now - from))
    }

    pub(crate) fn policy(&self, pvc: &str) -> Result<Policy, Unusable> {
        self.ctx.world().policy(&self.owner.namespace, pvc).map_err(|problems| Unusable {
            reason: Reason::Invalid,
            message: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })
    }

    /// Gives the volume's turn to the next.
    pub fn leave(&self, pvc: &str) {
        let woken = self.ctx.admission.leave(&self.ticket(pvc), self.ctx.capacity());
        self.ctx.wake(&woken);
    }

    /// The attempt has failed: cleaning comes next, and then a retry or the end.
    pub fn failed(&self, volume: &VolumeStatus, reason: Reason, message: impl Into<String>) -> VolumeStatus {
        self.leave(&volume.pvc);
        let retry = match volume.attempt {
            0 => None,
            attempt => decide::retry(reason, attempt, &self.ctx.config.limits, self.now),
        };
        VolumeStatus {
            reason: Some(reason),
            message: Some(message.into().chars().take(4000).collect()),
            not_before: retry,
            outcome: retry.is_none().then_some(Outcome::Failed),
            ..self.enter(&live::void(volume.clone()), VolumePhase::Cleaning)
        }
    }
}

/// What is written on a snapshot about its volume; defaults where it is not Borgherd's.
pub fn facts(snapshot: Option<&VolumeSnapshot>) -> VolumeFacts {
    let text = snapshot.and_then(|s| s.annotations().get(VOLUME_FACTS));
    text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default()
}

/// Node affinity of the volume that a snapshot was cut from, if it has one.
pub fn affinity(snapshot: Option<&VolumeSnapshot>) -> Option<NodeSelector> {
    snapshot.and_then(|s| serde_json::from_str(s.annotations().get(NODE_AFFINITY)?).ok())
}

/// A duration in seconds, with fractions.
pub fn seconds(duration: chrono::Duration) -> f64 {
    duration.as_seconds_f64()
}

/// The time that names of a Backup's snapshots carry.
pub fn named_at(backup: &Backup) -> DateTime<Utc> {
    backup.spec.scheduled_time.or_else(|| time::created(backup)).unwrap_or_default()
}
