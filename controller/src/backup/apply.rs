//! Carrying out one step of one volume. Returns the volume's new status; nothing else is kept.
//!
//! Each step is get-or-create or a write that may be repeated.

use super::archive;
use super::decide::{self, Step};
use super::prepare::{self, Prepared};
use super::work::{Work, named_at};
use crate::error::{Doing, Error};
use crate::events;
use crate::expose::{self, clean};
use crate::repository::Unusable;
use borgherd_api::Reason;
use borgherd_api::crd::{Durations, Outcome, RunVolume, VolumePhase, VolumeStatus};
use borgherd_api::names::{self, IN_FLIGHT, NODE_AFFINITY};
use serde_json::json;

impl Work<'_> {
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
            Step::Tell(reason, message) => {
                let news = volume.reason != Some(reason);
                let mut told = VolumeStatus { reason: Some(reason), message: Some(message), ..volume.clone() };
                if reason == Reason::PodNotFound {
                    self.leave(&volume.pvc); // others go first until there is one
                    told.since = if news { Some(self.now) } else { volume.since };
                }
                Ok(told)
            }
            Step::Prepare if self.is_live(&volume.pvc) => self.prepare_live(volume).await,
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
            Step::MarkReady => {
                let ready = self.mark_ready(volume, seen.archive);
                Ok(if seen.archive { self.admit(&ready, seen.snapshot.as_deref()) } else { ready })
            }
            Step::Admit => Ok(self.admit(volume, seen.snapshot.as_deref())),
            Step::CloneSnapshot => self.clone_snapshot(volume, seen.snapshot.as_deref()).await,
            Step::Clone => self.clone_volume(volume, seen.snapshot.as_deref(), exposed).await,
            Step::Run { node, holder, pv } => {
                let at = RunVolume { holder_uid: holder, pv };
                self.run(volume, seen.snapshot.as_deref(), exposed, node, at).await
            }
            Step::Hold => Ok(Self::hold(volume)),
            Step::Mount => self.mount(volume).await,
            Step::RunLive(consumer) => self.run_live(volume, consumer).await,
            Step::Begin => Ok(self.begin_reading(volume)),
            Step::Go(at) => match &exposed.run {
                Some(run) => self.let_go(volume, run, at).await,
                None => Ok(volume.clone()),
            },
            Step::FindRun => self.find_run(volume).await,
            Step::Follow(phase) => Ok(archive::follow(volume, exposed, phase)),
            Step::Conclude => self.conclude(volume, exposed).await,
            Step::Fail(reason @ (Reason::CloneNotBound | Reason::HolderNotStarted), message) => {
                let why = self.why_not_exposed(&volume.pvc).await;
                Ok(self.failed(volume, reason, format!("{message} ({why})")))
            }
            Step::Fail(reason @ Reason::PodGone, message) => {
                // at once, since what follows may take its time
                self.stop_reading(volume).await?;
                Ok(self.failed(volume, reason, message))
            }
            Step::Fail(reason @ Reason::PodStarted, message) => {
                // run and holder, at once: the application waits for what they have
                clean::step(self.ctx, exposed).await.doing("letting go of the volume")?;
                Ok(self.failed(volume, reason, message))
            }
            Step::Fail(reason, message) => Ok(self.failed(volume, reason, message)),
            Step::Clean => {
                clean::step(self.ctx, exposed).await.doing("cleaning up")?;
                Ok(volume.clone())
            }
            Step::Finish if Box::pin(self.is_still_held(volume)).await? => Ok(volume.clone()),
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

    /// Everything temporary is gone: the end, or the wait for the next try.
    async fn finish(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let durations = Durations { clean: self.since(volume.since), ..volume.durations.unwrap_or_default() };
        let mut done = VolumeStatus { durations: Some(durations), run: None, since: Some(self.now), ..volume.clone() };
        if volume.outcome.is_none() {
            done.phase = VolumePhase::Waiting;
            return Ok(done);
        }
        done.phase = VolumePhase::Finished;
        match &volume.snapshot {
            _ if volume.live.is_some() => {}
            Some(name) if volume.cut.is_some() => {
                self.patch_snapshot(name, json!({"metadata": {"labels": {IN_FLIGHT: null}, "annotations": {NODE_AFFINITY: null}}})).await?;
            }
            Some(name) => self.delete_uncut(name).await?,
            // A controller that died may have made it and not said so.
            None => self.delete_uncut(&names::snapshot(&volume.pvc, &self.owner.uid, named_at(self.backup))).await?,
        }
        Ok(done)
    }
}
