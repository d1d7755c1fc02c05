//! Leading one Restore to its end: resolve → prepare an empty volume → run → hand it over; or only look (`preview`).
//!
//! Invariant: nothing is made in the application's namespace before the data is whole. Room for the full restore (paths, existing
//! targets) is in the spec's source and target.

pub mod apply;
pub mod decide;
mod fill;
mod find;
pub mod handover;
pub mod resolve;
mod verdicts;

use crate::backup::decide::Rules;
use crate::context::Context;
use crate::echo;
use crate::error::{Doing, Error};
use crate::expose::Exposed;
use crate::{events, lost};
use apply::Work;
use borgherd_api::crd::{Restore, RestorePhase, RestoreStatus};
use borgherd_api::names;
use chrono::{DateTime, Utc};
use decide::{Step, decide};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use std::sync::Arc;
use std::time::Duration;
use tracing::{Instrument, info, info_span, warn};

/// Looked at again at the latest: watches lose events.
const RESYNC: Duration = Duration::from_mins(5);
/// Between looks at a handover, which is driven by live reads.
const HANDOVER_LOOK: Duration = Duration::from_millis(300);
/// The same once its status says what it waits for: a person, mostly.
const STUCK_LOOK: Duration = Duration::from_secs(5);
/// Steps in one reconcile.
const PASSES: usize = 16;

/// Brings a Restore as far as it can get now.
pub async fn reconcile(restore: Arc<Restore>, ctx: Arc<Context>) -> Result<Action, Error> {
    if ctx.is_late(&*restore) {
        return Ok(Action::requeue(echo::PATIENCE));
    }
    let uid = restore.uid().unwrap_or_default();
    if restore.metadata.deletion_timestamp.is_some() {
        ctx.wake(&ctx.admission.forget(&uid, ctx.capacity()));
        return Ok(Action::requeue(RESYNC));
    }
    let span = info_span!("restore", namespace = restore.namespace(), name = restore.name_any(), uid);
    let next = lead(Restore::clone(&restore), &ctx).instrument(span).await?;
    ctx.went_well(&uid);
    let wait = next.map_or(RESYNC, |at| (at - (ctx.clock)()).to_std().unwrap_or_default());
    Ok(Action::requeue(wait.clamp(Duration::from_millis(50), RESYNC)))
}

/// What follows a failed reconcile: the same again, later and later.
#[allow(clippy::needless_pass_by_value, reason = "the signature that kube's Controller calls")]
pub fn on_error(restore: Arc<Restore>, error: &Error, ctx: Arc<Context>) -> Action {
    let wait = ctx.backoff(&restore.uid().unwrap_or_default());
    if error.is_passing() {
        return Action::requeue(wait.min(Duration::from_secs(1)));
    }
    warn!(namespace = restore.namespace(), name = restore.name_any(), %error, "could not go on; trying again");
    Action::requeue(wait)
}

async fn lead(mut restore: Restore, ctx: &Context) -> Result<Option<DateTime<Utc>>, Error> {
    for _ in 0..PASSES {
        let status = restore.status.clone().unwrap_or_default();
        let work = Work::new(ctx, &restore);
        let name = names::temporary(&work.owner.uid, &restore.spec.source.pvc);
        let exposed = Exposed::see(&ctx.stores, &ctx.config, &name, &work.owner.uid, status.run.as_deref());
        let running = matches!(status.phase, RestorePhase::Queued | RestorePhase::Extracting | RestorePhase::Resolving);
        let lost = match exposed.run.as_deref().filter(|_| running) {
            Some(run) => lost::check(ctx, status.since, run, work.now).await?,
            None => None,
        };
        let rules = Rules { timeouts: ctx.config.timeouts, agent_check: lost::AGENT_CHECK, now: work.now };
        let step = decide(&restore, &status, &exposed, lost, &rules);
        if let Step::Wait(at) = step {
            return Ok(at);
        }
        let next = work.apply(&status, &exposed, step.clone()).await?;
        if next == status {
            let look = if next.reason.is_some() { STUCK_LOOK } else { HANDOVER_LOOK };
            let handing = matches!(step, Step::HandOver).then(|| work.now + chrono::Duration::from_std(look).unwrap_or_default());
            return Ok(handing); // what was asked for takes time; its watch wakes us
        }
        report(&work, &status, &next).await;
        restore = write(ctx, &restore, next).await?;
    }
    Ok(Some((ctx.clock)()))
}

/// Written with the resourceVersion it was computed from: whoever is late gets a 409 and looks again.
async fn write(ctx: &Context, restore: &Restore, status: RestoreStatus) -> Result<Restore, Error> {
    let api: Api<Restore> = Api::namespaced(ctx.client.clone(), &restore.namespace().unwrap_or_default());
    let next = Restore { status: Some(status), ..restore.clone() };
    let written = api.replace_status(&restore.name_any(), &PostParams::default(), &next).await.doing("writing the Restore's status")?;
    ctx.wrote(restore, &written);
    Ok(written)
}

async fn report(work: &Work<'_>, before: &RestoreStatus, after: &RestoreStatus) {
    let stuck = after.phase == RestorePhase::HandingOver && after.reason.is_some() && after.reason != before.reason;
    if before.phase == after.phase && !stuck {
        return;
    }
    info!(from = ?before.phase, to = ?after.phase, reason = ?after.reason, attempt = after.attempt, "restore");
    let about = events::about(work.restore);
    let events = &work.ctx.events;
    match after.phase {
        RestorePhase::Succeeded if !work.restore.spec.preview => {
            let from = after.resolved.as_ref().map(|r| r.name.clone()).unwrap_or_default();
            let to = work.restore.spec.target.as_ref().map(|t| t.pvc.clone()).unwrap_or_default();
            events.normal(&about, "Restore", "Restored", &format!("PVC {to} from {from}")).await;
        }
        RestorePhase::Cleaning | RestorePhase::Failed | RestorePhase::HandingOver
            if stuck || (after.phase != RestorePhase::HandingOver && before.phase != RestorePhase::Cleaning) =>
        {
            let reason = after.reason.map(|r| r.to_string()).unwrap_or_default();
            events.warning(&about, "Restore", &reason, after.message.as_deref().unwrap_or_default()).await;
        }
        RestorePhase::Pending
        | RestorePhase::Resolving
        | RestorePhase::Preparing
        | RestorePhase::Queued
        | RestorePhase::Extracting
        | RestorePhase::HandingOver
        | RestorePhase::Cleaning
        | RestorePhase::Succeeded
        | RestorePhase::Failed => {}
    }
    if after.phase.is_final() {
        work.ctx.metrics.restore_ended(after);
    }
}
