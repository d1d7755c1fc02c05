//! Carrying out one step of one volume. Returns the volume's new status; nothing else is kept.
//!
//! Each step is get-or-create or a write that may be repeated.

use super::archive;
use super::decide::{self, Step};
use super::prepare::{self, Prepared};
use crate::admission::Ticket;
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::events;
use crate::expose::{self, clean};
use crate::repository::Unusable;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, Durations, Outcome, Owner, RunVolume, VolumeFacts, VolumePhase, VolumeStatus};
use borgherd_api::names::{self, IN_FLIGHT, VOLUME_FACTS};
use borgherd_api::policy::Policy;
use borgherd_api::{Reason, time};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::json;

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
        let owner = Owner {
            kind: "Backup".into(),
            namespace: backup.namespace().unwrap_or_default(),
            name: backup.name_any(),
            uid: backup.uid().unwrap_or_default(),
        };
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

    /// Carries `step` out.
    pub async fn apply(
        &self,
        volume: &VolumeStatus,
        seen: &decide::Seen,
        step: Step,
        prepared: &mut Option<Prepared>,
    ) -> Result<VolumeStatus, Error> {
        let exposed = &seen.exposed;
        match step {
            Step::Wait(_) => Ok(volume.clone()),
            Step::Tell(reason, message) => Ok(VolumeStatus { reason: Some(reason), message: Some(message), ..volume.clone() }),
            Step::Prepare => match prepare::check(self, volume).await? {
                Ok(done) => {
                    *prepared = Some(done);
                    Ok(volume.clone())
                }
                Err(Unusable { reason, message }) => Ok(self.failed(volume, reason, message)),
            },
            Step::Snapshot => self.snapshot(volume, prepared.as_ref()).await,
            Step::FindSnapshot => self.find_snapshot(volume).await,
            Step::RecordCut(cut) => self.record_cut(volume, seen.snapshot.as_deref(), cut).await,
            Step::MarkReady => Ok(self.mark_ready(volume, seen.archive)),
            Step::Admit => Ok(self.admit(volume, seen.snapshot.as_deref())),
            Step::CloneSnapshot => self.clone_snapshot(volume, seen.snapshot.as_deref()).await,
            Step::Clone => self.clone_volume(volume, seen.snapshot.as_deref(), exposed).await,
            Step::Run { node, holder, pv } => {
                let at = RunVolume { holder_uid: holder, pv };
                self.run(volume, seen.snapshot.as_deref(), exposed, node, at).await
            }
            Step::FindRun => self.find_run(volume).await,
            Step::Follow(phase) => Ok(archive::follow(volume, exposed, phase)),
            Step::Conclude => self.conclude(volume, exposed).await,
            Step::Fail(reason @ (Reason::CloneNotBound | Reason::HolderNotStarted), message) => {
                let why = self.why_not_exposed(&volume.pvc).await;
                Ok(self.failed(volume, reason, format!("{message} ({why})")))
            }
            Step::Fail(reason, message) => Ok(self.failed(volume, reason, message)),
            Step::Clean => {
                clean::step(self.ctx, exposed).await.doing("cleaning up")?;
                Ok(volume.clone())
            }
            Step::Finish => self.finish(volume).await,
            Step::Abandon => self.abandon(volume).await,
        }
    }

    /// Ends the volume though something temporary is still there: the next try would meet it under the same names.
    async fn abandon(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let name = self.temporary(&volume.pvc);
        let limit = self.ctx.config.timeouts.cleanup;
        let note = format!("{}: {name} in {} was not gone within {limit:?}; it is tried on", volume.pvc, self.ctx.config.volumes_namespace);
        self.ctx.events.warning(&events::about(self.backup), "Clean", "LeftOver", &note).await;
        let outcome = volume.outcome.or(Some(Outcome::Failed));
        self.finish(&VolumeStatus { outcome, ..volume.clone() }).await
    }

    /// What the driver or the kubelet says of a clone or holder that does not come.
    async fn why_not_exposed(&self, pvc: &str) -> String {
        let said = expose::last_warning(self.ctx, &self.temporary(pvc)).await;
        let said = said.unwrap_or_else(|| "no Event says why".to_owned());
        format!("{said}; look at the storage's driver, or raise timeouts.clone and timeouts.holder in the chart")
    }

    pub(super) fn policy(&self, pvc: &str) -> Result<Policy, Unusable> {
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
            ..self.enter(volume, VolumePhase::Cleaning)
        }
    }

    /// Everything temporary is gone: the end, or the wait for the next try.
    async fn finish(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let durations = Durations { clean: self.since(volume.since), ..volume.durations.unwrap_or_default() };
        let mut done = VolumeStatus { durations: Some(durations), run: None, since: Some(self.now), ..volume.clone() };
        if volume.outcome.is_none() {
            done.phase = VolumePhase::Waiting;
            return Ok(done);
        }
        done.phase = VolumePhase::Finished;
        if let Some(name) = &volume.snapshot {
            if volume.cut.is_some() {
                self.patch_snapshot(name, json!({"metadata": {"labels": {IN_FLIGHT: null}}})).await?;
            } else {
                self.delete_uncut(name).await?;
            }
        }
        Ok(done)
    }
}

/// What is written on a snapshot about its volume; defaults where it is not Borgherd's.
pub fn facts(snapshot: Option<&VolumeSnapshot>) -> VolumeFacts {
    let text = snapshot.and_then(|s| s.annotations().get(VOLUME_FACTS));
    text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default()
}

/// A duration in seconds, with fractions.
pub fn seconds(duration: chrono::Duration) -> f64 {
    duration.as_seconds_f64()
}

/// The time that names of a Backup's snapshots carry.
pub fn named_at(backup: &Backup) -> DateTime<Utc> {
    backup.spec.scheduled_time.or_else(|| time::created(backup)).unwrap_or_default()
}
