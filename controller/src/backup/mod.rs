//! Leading one Backup to its end: observe → decide → apply → status, volume by volume, all volumes side by side.

mod apply;
mod archive;
pub mod decide;
pub mod history;
pub mod live;
pub mod prepare;
pub mod report;
mod snapshot;
pub mod status;
pub mod work;
mod written;

use crate::context::Context;
use crate::echo;
use crate::error::Error;
use crate::expose::Exposed;
use crate::lost;
use crate::quiesce::{self, Turn};
use borgherd_api::Reason;
use borgherd_api::crd::{Backup, QuiescePhase, Release, Trigger, VolumePhase, VolumeStatus};
use borgherd_api::names::DEBT_FINALIZER;
use borgherd_api::policy::ArchiveWhen;
use chrono::{DateTime, Utc};
use decide::{Rules, Seen, Step, decide};
use futures::future::join_all;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use std::sync::Arc;
use std::time::Duration;
use tracing::{Instrument, info_span, warn};
use work::Work;

/// Looked at again at the latest: watches lose events.
const RESYNC: Duration = Duration::from_mins(5);
/// Looked at again while something is being taken away: its own deadline has to be seen, and a twin waits for a pod that nobody watches.
const CLEANING_LOOK: chrono::Duration = chrono::Duration::seconds(5);
/// Passes in one reconcile; each is one step for every volume.
const PASSES: usize = 16;

/// Brings a Backup as far as it can get now.
pub async fn reconcile(backup: Arc<Backup>, ctx: Arc<Context>) -> Result<Action, Error> {
    if ctx.is_late(&*backup) {
        return Ok(Action::requeue(echo::PATIENCE));
    }
    if backup.status.as_ref().is_some_and(|s| s.phase.is_final()) || backup.metadata.deletion_timestamp.is_some() {
        let uid = backup.uid().unwrap_or_default();
        ctx.cuts_done(&uid);
        ctx.wake(&ctx.admission.forget(&uid, ctx.capacity()));
        let owed = backup.finalizers().iter().any(|f| f == DEBT_FINALIZER);
        let next = if owed { quiesce::settle(&backup, &ctx).await? } else { None };
        return Ok(Action::requeue(until(next, &ctx)));
    }
    let uid = backup.uid().unwrap_or_default();
    let span = info_span!("backup", namespace = backup.namespace(), name = backup.name_any(), uid);
    let next = lead(Backup::clone(&backup), &ctx).instrument(span).await?;
    ctx.went_well(&uid);
    Ok(Action::requeue(until(next, &ctx)))
}

/// How long to wait when something is to be done at `next`.
fn until(next: Option<DateTime<Utc>>, ctx: &Context) -> Duration {
    let wait = next.map_or(RESYNC, |at| (at - (ctx.clock)()).to_std().unwrap_or_default() + Duration::from_millis(50));
    wait.min(RESYNC)
}

/// What follows a failed reconcile: the same again, later and later.
#[allow(clippy::needless_pass_by_value, reason = "the signature that kube's Controller calls")]
pub fn on_error(backup: Arc<Backup>, error: &Error, ctx: Arc<Context>) -> Action {
    let longest = if is_frozen(&backup) { Duration::from_secs(1) } else { RESYNC };
    let wait = ctx.backoff(&backup.uid().unwrap_or_default()).min(longest);
    if error.is_passing() {
        tracing::debug!(name = backup.name_any(), %error, "looking again");
        return Action::requeue(wait.min(Duration::from_secs(1)));
    }
    warn!(namespace = backup.namespace(), name = backup.name_any(), %error, "could not go on; trying again");
    Action::requeue(wait)
}

/// Step after step until every volume waits for something. Returns when to look again.
async fn lead(mut backup: Backup, ctx: &Context) -> Result<Option<DateTime<Utc>>, Error> {
    let mut prepared = vec![None; backup.spec.volumes.len()];
    let mut wait = None;
    let mut passes = 0;
    while passes < PASSES {
        let work = Work::new(ctx, &backup);
        let before = status::volumes(&backup);
        if !may_cut(&work, &before) && !is_frozen(&backup) {
            return Ok(None); // whose end lets it in wakes it
        }
        let is_prepared = before.iter().zip(&prepared).all(|(v, prepared)| v.phase != VolumePhase::Pending || prepared.is_some());
        let (go, wake) = match Box::pin(quiesce::step(&work, &before, is_prepared)).await? {
            Turn::Go { held, may_begin, wake } => (Go { held, may_begin }, wake),
            Turn::Again(next) => {
                backup = *next;
                continue;
            }
        };
        passes += 1;
        let rules = Rules { timeouts: ctx.config.timeouts, agent_check: lost::AGENT_CHECK, now: work.now };
        let mut steps = Vec::with_capacity(before.len());
        for (volume, prepared) in before.iter().zip(&prepared) {
            let seen = observe(&work, volume, prepared.is_some(), go).await?;
            let step = decide(volume, &seen, &rules);
            let asks = !is_made(&step) || ctx.echo.asks(&format!("{step:?} {}", work.temporary(&volume.pvc)));
            let later = Step::Wait(Some(work.now + echo::PATIENCE));
            steps.push((if asks { step } else { later }, seen));
        }
        wait = wake.into_iter().chain(steps.iter().filter_map(|(step, _)| if let Step::Wait(at) = step { *at } else { None })).min();
        if steps.iter().all(|(step, _)| matches!(step, Step::Wait(_))) {
            break;
        }
        let asked = steps.iter().any(|(step, _)| is_asked_for(step));
        let clean_again = steps.iter().any(|(step, _)| matches!(step, Step::Clean | Step::Finish)).then(|| work.now + CLEANING_LOOK);
        let applied = before.iter().zip(steps).zip(&mut prepared).map(|((volume, (step, seen)), prepared)| {
            let work = &work;
            async move { work.apply(volume, &seen, step, prepared).await }
        });
        let results = join_all(applied).await;
        let (next, failure) = settle(&before, results);
        let changed = next != before;
        if changed {
            report::transitions(&work, &before, &next).await;
            let frozen = backup.status.as_ref().and_then(|s| s.quiesce.clone());
            let written = status::write(ctx, &backup, status::summary(backup.status.as_ref(), frozen, next, work.now)).await?;
            report::ended(&work, &written);
            backup = written;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if asked && !changed {
            // the objects were asked for; their watch wakes us
            return Ok(wait.into_iter().chain(clean_again).min());
        }
    }
    Ok(wait)
}

/// A step that makes objects which the caches show a little later.
const fn is_made(step: &Step) -> bool {
    matches!(step, Step::CloneSnapshot | Step::Clone | Step::Mount)
}

/// Applications may be held still for it.
fn is_frozen(backup: &Backup) -> bool {
    backup.status.as_ref().and_then(|s| s.quiesce.as_ref()).is_some_and(|q| q.phase != QuiescePhase::Thawed)
}

/// A step that changes no status but asks the API server for something that takes time.
const fn is_asked_for(step: &Step) -> bool {
    matches!(step, Step::CloneSnapshot | Step::Clone | Step::Mount | Step::Clean | Step::Admit | Step::Go(_) | Step::Finish)
}

/// One volume's failure to make a step must not lose what the others did.
fn settle(before: &[VolumeStatus], results: Vec<Result<VolumeStatus, Error>>) -> (Vec<VolumeStatus>, Option<Error>) {
    let mut failure = None;
    let next = before.iter().zip(results).map(|(old, result)| match result {
        Ok(new) => new,
        Err(error) => {
            failure = Some(error);
            old.clone()
        }
    });
    (next.collect(), failure)
}

/// The whole group is cut at once or waits; the place among the cuts in flight is given back when the last one is cut.
fn may_cut(work: &Work<'_>, volumes: &[VolumeStatus]) -> bool {
    let (ctx, owner) = (work.ctx, &work.owner);
    let count = volumes.iter().filter(|v| v.phase <= VolumePhase::Cutting).count();
    let release = work.backup.status.as_ref().and_then(|s| s.quiesce.as_ref()?.release);
    // all are cut, and wait only for a command beside them
    if count == 0 || release == Some(Release::Cut) {
        ctx.cuts_done(&owner.uid);
        return true;
    }
    let begun = volumes.iter().any(|v| v.phase != VolumePhase::Pending);
    ctx.cuts.ask(&owner.uid, &(owner.namespace.clone(), owner.name.clone()), count, begun, ctx.config.limits.max_cuts)
}

/// What the freeze says to the volumes.
#[derive(Clone, Copy)]
struct Go {
    held: bool,
    may_begin: bool,
}

async fn observe(work: &Work<'_>, volume: &VolumeStatus, prepared: bool, go: Go) -> Result<Seen, Error> {
    let Go { held, may_begin } = go;
    let ctx = work.ctx;
    let name = work.temporary(&volume.pvc);
    let exposed = Exposed::see(&ctx.stores, &ctx.config, &name, &work.owner.uid, volume.run.as_deref());
    let running = matches!(volume.phase, VolumePhase::Queued | VolumePhase::Archiving);
    let lost = match exposed.run.as_deref().filter(|_| running) {
        Some(run) => lost::check(ctx, volume.since, run, work.now).await?,
        None => None,
    };
    let live = observe_live(work, volume, &exposed, may_begin).await?;
    Ok(Seen { archive: wants_archive(work, &volume.pvc), prepared, held, snapshot: work.cached_snapshot(volume), exposed, lost, live })
}

/// By what a live volume is to be read, or is.
async fn observe_live(work: &Work<'_>, volume: &VolumeStatus, exposed: &Exposed, may_begin: bool) -> Result<live::decide::Seen, Error> {
    let (ctx, namespace) = (work.ctx, work.owner.namespace.as_str());
    let seen = live::decide::Seen { may_begin, ..live::decide::Seen::default() };
    let Some(status) = &volume.live else { return Ok(seen) };
    Ok(match volume.phase {
        VolumePhase::Waiting | VolumePhase::Cloning => {
            live::decide::Seen { reader: Some(Box::pin(live::find::reader(work, &volume.pvc, &status.pv)).await?), ..seen }
        }
        VolumePhase::Queued | VolumePhase::Archiving if status.held => {
            live::decide::Seen { gone: Box::pin(live::hold::gone(work, volume, status, exposed)).await?, ..seen }
        }
        VolumePhase::Queued | VolumePhase::Archiving => {
            let quiesce = work.backup.status.as_ref().and_then(|s| s.quiesce.as_ref());
            let is_held = quiesce.is_some_and(|q| q.phase == QuiescePhase::Frozen && q.holds());
            let gone = live::find::gone(ctx, namespace, status, is_held).await?;
            live::decide::Seen { gone: gone.map(|why| (Reason::PodGone, why)), ..seen }
        }
        VolumePhase::Pending | VolumePhase::Cutting | VolumePhase::Cut | VolumePhase::Cleaning | VolumePhase::Finished => seen,
    })
}

/// A person who asks gets an archive; the schedule respects that a volume is never archived.
fn wants_archive(work: &Work<'_>, pvc: &str) -> bool {
    let spec = &work.backup.spec;
    let never = || work.ctx.world().policy(&work.owner.namespace, pvc).is_ok_and(|p| p.archive == ArchiveWhen::Never);
    spec.archive && (spec.trigger == Trigger::Manual || !never())
}
