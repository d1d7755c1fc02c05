//! The freeze for a live volume, which lasts until its run has ended: what in it differs from that for snapshots.

use super::scale;
use crate::backup::live::decide::is_ready;
use crate::backup::work::Work;
use crate::error::{Doing, Error};
use crate::stores;
use borgherd_api::crd::{BorgRun, RunPhase, VolumeStatus};
use borgherd_api::hooks::Mode;
use borgherd_api::hooks::resolve::Placed;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use std::sync::Arc;
use std::time::Duration;

/// The live volume of a Backup that is being read, or about to be: there is one at most.
pub(super) fn volume(volumes: &[VolumeStatus]) -> Option<&VolumeStatus> {
    volumes.iter().find(|volume| volume.is_read())
}

fn run(work: &Work<'_>, volume: &VolumeStatus) -> Option<Arc<BorgRun>> {
    stores::get(&work.ctx.stores.runs, Some(&work.ctx.config.namespace), volume.run.as_deref()?)
}

/// The attempt of the live volume whose run waits to be let go.
pub(super) fn awaited(work: &Work<'_>, volumes: &[VolumeStatus]) -> Option<u32> {
    let volume = volume(volumes)?;
    run(work, volume).is_some_and(|run| is_ready(&run)).then_some(volume.attempt)
}

/// Why hooks cannot be run: they would take away the pod by which the live volume is read.
pub(super) async fn taken_away(work: &Work<'_>, volumes: &[VolumeStatus], placed: &[Placed]) -> Result<Option<String>, Error> {
    let live = volume(volumes).and_then(|volume| volume.live.as_ref());
    let scales = |placed: &Placed| matches!(placed.hook.mode, Mode::Scale(_));
    let Some(name) = live.and_then(|live| live.pod.as_ref()).filter(|_| placed.iter().any(scales)) else { return Ok(None) };
    let pods: Api<Pod> = Api::namespaced(work.ctx.client.clone(), &work.owner.namespace);
    let found = pods.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await.doing("looking for the pod")?;
    Ok(found.items.first().and_then(|pod| scale::takes_away(pod, placed)))
}

/// Whether nothing is read any more: then applications go on, however it ended.
pub(super) fn has_ended(work: &Work<'_>, volume: &VolumeStatus) -> bool {
    let is_over = |run: &BorgRun| run.status.as_ref().is_some_and(|s| s.phase.is_final());
    !volume.is_read() || run(work, volume).is_some_and(|run| is_over(&run))
}

/// Whether the archive was made.
pub(super) fn is_archived(work: &Work<'_>, volume: &VolumeStatus) -> bool {
    let is_made = |run: &BorgRun| run.status.as_ref().is_some_and(|s| matches!(s.phase, RunPhase::Succeeded | RunPhase::Incomplete));
    volume.is_read() && run(work, volume).is_some_and(|run| is_made(&run))
}

/// How long applications may be held still: for snapshots as the chart says, for a live volume until its run's own deadline.
pub(super) fn limit(work: &Work<'_>, volumes: &[VolumeStatus]) -> Duration {
    let run = volume(volumes).and_then(|volume| run(work, volume));
    let left = run.map(|run| (run.spec.deadline - (work.ctx.clock)()).to_std().unwrap_or_default());
    left.unwrap_or(work.ctx.config.timeouts.freeze)
}

/// What the tokens of hooks are made of: those of each attempt are its own.
pub(super) fn key(work: &Work<'_>, attempt: Option<u32>) -> String {
    attempt.map_or_else(|| work.owner.uid.clone(), |attempt| format!("{} {attempt}", work.owner.uid))
}
