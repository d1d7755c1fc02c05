//! Runs that a dead agent of this node had been running.
//!
//! Invariant: such a run is ended only after its repository's lock was had, which its borg has inherited and which its agent holds until
//! its report is written. So the lock in hand proves both dead, and what the status says then is all that will ever be said. It is never
//! ended as a success: whether borg had finished, the next try learns from the repository.

use super::account::Account;
use super::conclude::conclude;
use super::context::Context;
use super::{PATIENCE, next_pause};
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, BorgRunStatus, RunPhase};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// End `run` as interrupted, as soon as that is proven.
pub(super) async fn recover(ctx: &Context, run: BorgRun, cancel: CancellationToken) {
    tracing::info!("was running when an agent ended; waiting for proof that its borg is dead");
    let lock = tokio::select! {
        biased;
        () = cancel.cancelled() => return,
        lock = ctx.repository_lock(&run) => lock,
    };
    let lock = match lock {
        Ok(lock) => lock,
        Err(error) => {
            tracing::error!(%error, "no proof, left as it is: the controller ends it at its deadline");
            return;
        }
    };
    let mut account = Account::new(ctx.runs.clone(), run);
    let mut pause = PATIENCE;
    loop {
        match account.refresh().await {
            Ok(true) => break,
            Ok(false) => return,
            Err(error) => tracing::warn!(%error, "trying again"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(pause) => pause = next_pause(pause),
        }
    }
    if let Some(status) = interrupted(account.run(), &ctx.me.instance) {
        ctx.metrics.lost_runs.inc();
        conclude(ctx, account, status, &cancel).await;
    }
    drop(lock);
}

/// The end of `run` as it stands now; `None` if it has one, or has begun anew with this process.
fn interrupted(run: &BorgRun, instance: &str) -> Option<BorgRunStatus> {
    let status = run.status.clone()?;
    let ours = status.agent.as_ref().is_some_and(|agent| agent.instance == instance);
    if status.phase != RunPhase::Running || ours {
        return None;
    }
    let who = status.agent.as_ref().map_or("an agent", |agent| agent.pod.as_str());
    let message =
        format!("The agent {who} ended while borg ran. Borg is no longer running; whether it had finished is seen by the next try.");
    Some(BorgRunStatus { phase: RunPhase::Interrupted, reason: Some(Reason::Interrupted), message: Some(message), ..status })
}
