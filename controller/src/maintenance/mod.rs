//! Archives kept in order: after the newest archive of each PVC pruning, and compacting where enough would be freed.
//!
//! observe → decide → apply → status, for all PVCs in one loop. The state is `maintenance` of the volume in the status of the Backup whose
//! archive it is; a run's name follows from that Backup, stage and try. A run begins when the clone is gone and the Backup is over, has
//! the writer's turn of its repository, goes after restores and backups, and gives way to a restore.

mod apply;
mod check;
mod decide;
mod observe;
pub mod preview;
mod suspect;
mod tell;

use crate::admission::Ticket;
use crate::context::Context;
use crate::error::Error;
use crate::lost;
use borgherd_api::crd::{Backup, BorgRun, Owner};
use borgherd_api::names::{self, COMPONENT, MAINTENANCE, OWNER, OWNER_UID};
use borgherd_api::time;
use chrono::{DateTime, TimeDelta, Utc};
use decide::{Seen, Stage, Step, decide};
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::WriterDropped;
use observe::Newest;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

pub use apply::adopt;

/// Looked at again at the latest: what a person accepts is seen then.
const LOOK: Duration = Duration::from_secs(10);
/// What changes together is looked at together.
const GATHER: Duration = Duration::from_millis(500);

/// Looks for as long as the process leads.
pub async fn run(ctx: &Context, backups: Store<Backup>) -> Result<(), WriterDropped> {
    // by then the world knows what they tell
    backups.wait_until_ready().await?;
    loop {
        let next = look(ctx).await;
        let now = (ctx.clock)();
        let wait = next.map_or(LOOK, |at| (at - now).to_std().unwrap_or_default()).clamp(GATHER, LOOK);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = ctx.touch.maintenance.notified() => tokio::time::sleep(GATHER).await,
        }
    }
}

/// Labels and annotations of a run of maintenance: it is not what its Backup has to clean up.
pub fn marks(owner: &Owner) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let Owner { kind: _, namespace, name, uid } = owner;
    (
        BTreeMap::from([(COMPONENT.into(), MAINTENANCE.into()), (OWNER_UID.into(), uid.clone())]),
        BTreeMap::from([(OWNER.into(), format!("{MAINTENANCE}/{namespace}/{name}"))]),
    )
}

/// Its place in the ledger, which is not that of the Backup.
fn ticket(owner_uid: &str, pvc: &str) -> Ticket {
    Ticket { uid: format!("{MAINTENANCE}/{owner_uid}"), pvc: pvc.to_owned() }
}

/// One look at all PVCs. Returns when to look again.
async fn look(ctx: &Context) -> Option<DateTime<Utc>> {
    let all = observe::newest(&ctx.world());
    let runs = ctx.stores.runs.state().into_iter().filter(|run| observe::is_maintenance(run)).map(|run| (run.name_any(), run));
    let mut runs: HashMap<String, Arc<BorgRun>> = runs.collect();
    let (mut next, mut wanted) = (None, HashSet::new());
    for newest in &all {
        match one(ctx, newest, &mut runs).await {
            Ok(Turned { holds, at }) => {
                if holds {
                    wanted.insert(ticket(&newest.owner.uid, &newest.volume.pvc));
                }
                next = next.into_iter().chain(at).min();
            }
            Err(error) => {
                // what it held it holds on, until it is known what became of it
                wanted.insert(ticket(&newest.owner.uid, &newest.volume.pvc));
                let (namespace, pvc) = (&newest.owner.namespace, &newest.volume.pvc);
                if error.is_passing() {
                    debug!(namespace, pvc, %error, "looking again at its archives");
                } else {
                    warn!(namespace, pvc, %error, "could not keep its archives in order; trying again");
                }
            }
        }
    }
    check::look(ctx, &all, &mut runs, &mut wanted).await;
    // of a Backup that is gone or is not the newest any more
    for run in runs.into_values() {
        if let Err(error) = apply::discard(ctx, &run).await {
            warn!(run = run.name_any(), %error, "could not delete a run of maintenance; trying again");
        }
    }
    ctx.wake(&ctx.admission.keep_maintenance(&wanted, ctx.capacity()));
    tell::stopped(ctx, &all);
    next
}

/// What a look at one PVC came to.
struct Turned {
    /// It asks for the writer's turn, or has it.
    holds: bool,
    /// When to look again.
    at: Option<DateTime<Utc>>,
}

/// One step for one PVC. The run that belongs to it is taken out of `runs`.
async fn one(ctx: &Context, newest: &Newest, runs: &mut HashMap<String, Arc<BorgRun>>) -> Result<Turned, Error> {
    let (owner, volume) = (&newest.owner, &newest.volume);
    let (said, accepted) = observe::said(ctx, &owner.namespace, &volume.pvc);
    let stage = Stage::of(volume.maintenance.as_ref(), &accepted);
    let run = stage.and_then(|stage| runs.remove(&run_name(newest, stage)));
    let now = (ctx.clock)();
    let lost = match run.as_deref().filter(|run| run.metadata.deletion_timestamp.is_none()) {
        Some(run) => lost::check(ctx, time::created(run), run, now).await?,
        None => None,
    };
    let restore_waits = ctx.admission.restore_waits(&newest.location);
    let seen = Seen { said, accepted: &accepted, run: run.as_deref(), lost, restore_waits };
    let check = TimeDelta::from_std(lost::AGENT_CHECK).unwrap_or_default();
    let step = decide(volume, &seen, check, now);
    let holds = matches!(step, Step::Begin(_) | Step::Follow(_));
    let at = match step {
        Step::Wait(at) => at,
        Step::Follow(at) => Some(at),
        Step::Begin(stage) => apply::begin(ctx, newest, stage, &seen).await?,
        Step::Conclude(stage) => apply::conclude(ctx, newest, stage, run.as_ref(), &accepted).await?,
        Step::Fail(stage, reason, message) => apply::fail(ctx, newest, stage, run.as_ref(), (reason, message), &accepted).await?,
        Step::Yield => apply::give_way(ctx, run.as_ref()).await?,
        Step::Stop(reason, message) => apply::stop(ctx, newest, (reason, message), &accepted).await?,
    };
    Ok(Turned { holds, at })
}

/// Name of the run for the next try of a stage.
fn run_name(newest: &Newest, stage: Stage) -> String {
    let attempt = newest.volume.maintenance.as_ref().map_or(0, |m| m.attempt);
    names::maintenance(&newest.owner.uid, &newest.volume.pvc, stage.name(), attempt + 1)
}
