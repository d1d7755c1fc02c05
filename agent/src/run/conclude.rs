//! The end of a run: its final status, written until it is written or nobody wants it any more; then metrics and Pushgateway.

use super::account::{Account, WriteError};
use super::context::Context;
use super::{PATIENCE, bounds, next_pause};
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRunSpec, BorgRunStatus, RunPhase};
use borgherd_runtime::refusal::words;
use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Write `status`, which is final, as the end of the run. Of a run that was deleted nothing is written.
///
/// Does not give up: the agent's own end ends it, and then the next agent finds the run.
pub(super) async fn conclude(ctx: &Context, mut account: Account, mut status: BorgRunStatus, cancel: &CancellationToken) {
    status.finished_at = Some((ctx.now)());
    let spec = account.run().spec.clone();
    if cancel.is_cancelled() && !ctx.stop.is_cancelled() {
        tracing::info!(phase = ?status.phase, "deleted");
        ctx.metrics.deleted(&spec);
        return;
    }
    let mut pause = PATIENCE;
    loop {
        match account.write(status.clone()).await {
            Ok(()) => break,
            Err(WriteError::Gone) => {
                tracing::info!(phase = ?status.phase, "deleted before its end was written");
                ctx.metrics.deleted(&spec);
                return;
            }
            Err(why @ WriteError::NotOurs { .. }) => {
                tracing::warn!(%why, phase = ?status.phase, "its end is not ours to write");
                return;
            }
            Err(WriteError::Refused(error)) => {
                tracing::error!(error = words(&error), "status refused, writing what matters of it");
                status = reduced(&status, &words(&error));
            }
            Err(error @ (WriteError::Request(_) | WriteError::Timeout)) => {
                tracing::warn!(%error, phase = ?status.phase, "its end is not written, trying again");
            }
        }
        ctx.metrics.status_failures.inc();
        sleep(pause).await;
        pause = next_pause(pause);
    }
    tracing::info!(phase = ?status.phase, reason = ?status.reason, why = status.message, "ended");
    // the BorgRun, where they stand too, goes soon
    if status.phase != RunPhase::Succeeded {
        status.log.iter().for_each(|line| tracing::info!(line, "borg said"));
    }
    ctx.metrics.ended(&spec, &status);
    push(ctx, &spec, &status).await;
}

/// What matters of a status that was refused. A list without its archives would look like an empty repository, so it is a failure, and so are
/// verdicts that are missing.
fn reduced(status: &BorgRunStatus, refusal: &str) -> BorgRunStatus {
    let mut essence = bounds::essence(status, refusal);
    if !status.archives.is_empty() || status.judged.is_some() {
        essence.phase = RunPhase::Failed;
        essence.reason = Some(Reason::BorgFailed);
    }
    essence
}

async fn push(ctx: &Context, spec: &BorgRunSpec, status: &BorgRunStatus) {
    let Some(gateway) = &ctx.gateway else { return };
    let ended = status.finished_at.unwrap_or_default();
    let took = ended - status.started_at.unwrap_or(ended);
    let pushed = gateway.push(spec, status, seconds(ended), took.as_seconds_f64()).await;
    if let Err(error) = pushed {
        ctx.metrics.push_failures.inc();
        tracing::warn!(%error, "result not pushed");
    }
}

/// Seconds since 1970.
fn seconds(at: DateTime<Utc>) -> f64 {
    (at - DateTime::UNIX_EPOCH).as_seconds_f64()
}
