//! Holding applications still for the moment of the cut, and letting them go, whatever dies.
//!
//! [`step`] takes one step of a Backup's freeze: observed by `Seen`, decided by `borgherd_api::hooks::plan`, carried out here and
//! written with the resourceVersion that it was read with. Whoever gets the 409 execs nothing.

mod database;
mod debt;
mod exec;
mod find;
mod late;
mod reading;
mod release;
mod restarted;
mod running;
mod scale;
mod session;

pub use debt::{let_go, settle};
pub use running::Running;

use crate::backup::status;
use crate::backup::work::Work;
use crate::error::{Doing, Error};
use crate::events;
use crate::repository::Unusable;
use borgherd_api::crd::{ActionStatus, Backup, HookStatus, QuiescePhase, QuiesceStatus, StepKind, VolumePhase, VolumeStatus};
use borgherd_api::database::{Preset, script};
use borgherd_api::hooks::plan::{self, Next};
use borgherd_api::hooks::{self, Hook, resolve, wrapper};
use borgherd_api::{Reason, names};
use chrono::{DateTime, Utc};
use exec::Ended;
use find::Finder;
use futures::future::join_all;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use tracing::info;

/// A command beside the snapshot is over for so long before its watchdog resumes.
const BESIDE: Duration = Duration::from_secs(15);
/// As many entries as `status.quiesce.hooks` may have.
const MAX_ENTRIES: usize = 64;

/// What the volumes may do after a step.
pub enum Turn {
    /// The Backup has changed: look again before anything else is done.
    Again(Box<Backup>),
    /// The volumes go on; those whose cut is awaited do not look at it while `held`. Looked at again at `wake`.
    Go {
        /// The freeze lasts.
        held: bool,
        /// A live volume whose run is ready may be read: what has to be held still is.
        may_begin: bool,
        /// Next deadline or try.
        wake: Option<DateTime<Utc>>,
    },
}

impl Turn {
    /// Nothing is held, and nothing has to be.
    const FREE: Self = Self::Go { held: false, may_begin: true, wake: None };
}

/// One step of the freeze of a Backup that is not being deleted. `is_prepared`: every volume without a snapshot has been checked.
pub async fn step(work: &Work<'_>, volumes: &[VolumeStatus], is_prepared: bool) -> Result<Turn, Error> {
    let known = work.backup.status.as_ref().and_then(|s| s.quiesce.clone());
    let awaited = reading::awaited(work, volumes);
    let begins = match &known {
        None => awaited.is_some() || is_prepared && volumes.iter().any(|v| v.phase == VolumePhase::Pending),
        // the last attempt's is over
        Some(quiesce) => awaited.is_some() && quiesce.phase == QuiescePhase::Thawed && quiesce.attempt != awaited,
    };
    if begins {
        return begin(work, volumes, awaited).await;
    }
    let Some(mut quiesce) = known else {
        return Ok(Turn::Go { held: false, may_begin: false, wake: None });
    };
    if late::collect(work, &mut quiesce) {
        return late::write(work, volumes, quiesce).await.map(again);
    }
    let seen = plan::Seen { all_cut: all_cut(work, volumes), deleted: false, now: work.now };
    match plan::next(&quiesce, seen) {
        Next::Begin(group) => run_group(work, quiesce, group).await,
        Next::Hold => hold(work, quiesce).await,
        Next::Wait(at) => {
            let is_frozen = quiesce.phase == QuiescePhase::Frozen;
            let may_begin = is_frozen && awaited.is_some() && quiesce.attempt == awaited;
            Ok(Turn::Go { held: is_frozen || plan::awaits(&quiesce), may_begin, wake: Some(at) })
        }
        Next::Release(why) => release::release(work, volumes, quiesce, why).await,
        Next::Pay(groups) => debt::pay(work, quiesce, groups).await,
        Next::Finish => debt::finish(work, quiesce).await,
        Next::Done => Ok(Turn::Go { held: false, may_begin: awaited.is_some(), wake: None }),
    }
}

/// Hooks begin for it: it has no snapshot yet, or is about to be read in place.
fn is_awaiting(volume: &VolumeStatus) -> bool {
    volume.phase == VolumePhase::Pending || volume.is_read()
}

/// Whether nothing is left that a cut is awaited of.
fn all_cut(work: &Work<'_>, volumes: &[VolumeStatus]) -> bool {
    volumes.iter().all(|volume| match volume.phase {
        VolumePhase::Pending => false,
        VolumePhase::Cutting => is_cut(work, volume),
        VolumePhase::Archiving => reading::has_ended(work, volume),
        VolumePhase::Cut
        | VolumePhase::Waiting
        | VolumePhase::Cloning
        | VolumePhase::Queued
        | VolumePhase::Cleaning
        | VolumePhase::Finished => true,
    })
}

/// Whether the snapshot's cut is visible; of a live volume, whether its archive was made.
fn is_cut(work: &Work<'_>, volume: &VolumeStatus) -> bool {
    if volume.live.is_some() {
        return reading::is_archived(work, volume);
    }
    let name = volume.snapshot.as_deref().unwrap_or_default();
    let snapshot = crate::stores::get(&work.ctx.stores.snapshots, Some(&work.owner.namespace), name);
    snapshot.is_some_and(|s| s.status.as_ref().is_some_and(|s| s.creation_time.is_some()))
}

/// The hooks of a Backup: its own, else those of its PVCs.
fn lists(work: &Work<'_>, volumes: &[VolumeStatus]) -> Result<Vec<Vec<Hook>>, Unusable> {
    if let Some(own) = &work.backup.spec.hooks {
        let message = |said: String| Unusable { reason: Reason::Invalid, message: format!("spec.hooks: {said}") };
        return hooks::check(own).map(|list| vec![list]).map_err(message);
    }
    let awaiting = volumes.iter().filter(|v| is_awaiting(v));
    awaiting.map(|volume| Ok(work.policy(&volume.pvc)?.hooks)).collect()
}

/// The databases that the PVCs of a Backup name.
fn databases(work: &Work<'_>, volumes: &[VolumeStatus]) -> Result<Vec<(Preset, bool)>, Unusable> {
    let awaiting = volumes.iter().filter(|v| is_awaiting(v));
    let all: Result<Vec<_>, Unusable> = awaiting.map(|volume| Ok(work.policy(&volume.pvc)?.databases)).collect();
    all.map(database::merge)
}

/// Finds the places and writes down what will be owed. Nothing is frozen. `attempt`: of the live volume that is about to be read.
async fn begin(work: &Work<'_>, volumes: &[VolumeStatus], attempt: Option<u32>) -> Result<Turn, Error> {
    let said = lists(work, volumes).and_then(|lists| Ok((resolve::order(&lists), databases(work, volumes)?)));
    let (ordered, databases) = match said {
        Ok(said) => said,
        Err(Unusable { reason, message }) => return refuse(work, volumes, reason, &message).await,
    };
    if ordered.is_empty() && databases.is_empty() {
        return Ok(Turn::FREE);
    }
    let config = &work.ctx.config;
    let namespace = &work.owner.namespace;
    if [&config.namespace, &config.volumes_namespace].contains(&namespace) {
        return refuse(work, volumes, Reason::Invalid, "hooks are not run in Borgherd's own namespaces").await;
    }
    let pvcs: Vec<&str> = volumes.iter().filter(|v| is_awaiting(v)).map(|v| v.pvc.as_str()).collect();
    let mut finder = Finder::new(&work.ctx.client, namespace);
    let dumped = match database::place(&mut finder, databases, &pvcs).await {
        Ok(dumped) => dumped,
        Err(said) => return refuse(work, volumes, Reason::DumpFailed, &said).await,
    };
    let placed = match finder.place(ordered).await {
        Ok(placed) => placed,
        Err(said) => return refuse(work, volumes, Reason::HookFailed, &said).await,
    };
    if dumped.is_empty() && placed.is_empty() {
        return Ok(Turn::FREE);
    }
    if let Some(said) = reading::taken_away(work, volumes, &placed).await? {
        return refuse(work, volumes, Reason::Invalid, &said).await;
    }
    if 2 * dumped.len() + placed.len() > MAX_ENTRIES {
        return refuse(work, volumes, Reason::Invalid, "its PVCs have more hooks and databases than one backup can have").await;
    }
    let held = debt::hold_on(work).await?;
    let (key, limit) = (reading::key(work, attempt), reading::limit(work, volumes));
    let quiesce = resolve::resolve(&key, &dumped, &placed, limit, (work.ctx.clock)());
    write(&Work::new(work.ctx, &held), volumes.to_vec(), Some(QuiesceStatus { attempt, ..quiesce })).await.map(again)
}

/// No snapshot is made, and nothing was frozen.
async fn refuse(work: &Work<'_>, volumes: &[VolumeStatus], reason: Reason, message: &str) -> Result<Turn, Error> {
    let fail = |v: &VolumeStatus| if is_awaiting(v) { work.failed(v, reason, message) } else { v.clone() };
    let next: Vec<VolumeStatus> = volumes.iter().map(fail).collect();
    crate::backup::report::transitions(work, volumes, &next).await;
    let before = work.backup.status.as_ref().and_then(|s| s.quiesce.clone());
    write(work, next, before).await.map(again)
}

fn again(backup: Backup) -> Turn {
    Turn::Again(Box::new(backup))
}

/// Claims the hooks of a group, runs their pre side by side, writes how they ended.
async fn run_group(work: &Work<'_>, mut quiesce: QuiesceStatus, group: u32) -> Result<Turn, Error> {
    let now = (work.ctx.clock)();
    if !quiesce.is_holding() {
        // what the dumps have left of their time is not the freeze's
        let limit = reading::limit(work, &status::volumes(work.backup));
        quiesce.deadline = resolve::deadline(&quiesce.hooks, limit, now);
    }
    for hook in quiesce.hooks.iter_mut().filter(|h| h.group == group) {
        hook.begun_at = Some(now);
    }
    let claimed = write(work, status::volumes(work.backup), Some(quiesce.clone())).await?;
    work.ctx.owe(&work.owner.uid, debt::held(&quiesce));
    let deadline = quiesce.deadline;
    let runs = quiesce.hooks.iter_mut().filter(|h| h.group == group).flat_map(|HookStatus { kind, pre, post, .. }| {
        let (kind, post): (StepKind, &[ActionStatus]) = (*kind, post);
        pre.iter_mut().map(move |action| async move {
            let owed = post.iter().find(|p| p.token == action.token);
            let left = (deadline - (work.ctx.clock)()).to_std().unwrap_or_default();
            if let Some(ended) = pre_of(work, kind, action, owed, left, now).await {
                record(work, label(kind), action, ended);
            }
        })
    });
    join_all(runs).await;
    tell_failures(work, &quiesce, group).await;
    let work = Work::new(work.ctx, &claimed);
    write(&work, status::volumes(&claimed), Some(quiesce)).await.map(again)
}

/// Runs the pre of an entry that was claimed at `claimed`; `left`: until its watchdog's time comes. `None`: it runs on.
async fn pre_of(
    work: &Work<'_>,
    kind: StepKind,
    action: &ActionStatus,
    owed: Option<&ActionStatus>,
    left: Duration,
    claimed: DateTime<Utc>,
) -> Option<Ended> {
    let (client, namespace) = (&work.ctx.client, work.owner.namespace.as_str());
    match kind {
        StepKind::Scale => Some(scale::pre(client, namespace, action, claimed, work.ctx.clock).await),
        StepKind::Session => Some(session::begin(work, action, owed.unwrap_or(action), left).await),
        StepKind::Beside => {
            // its watchdog would end it: it may take all of its time
            let left = left.max(exec::limit(action) + BESIDE);
            running::beside(work, action.clone(), argv(kind, action, owed.map(|p| (p, left))));
            None
        }
        StepKind::Hook | StepKind::Check | StepKind::Dump => {
            Some(exec::run(client, namespace, action, &argv(kind, action, owed.map(|p| (p, left)))).await)
        }
    }
}

/// What is executed; `owed`: the post hook at the same place and how long its watchdog waits.
fn argv(kind: StepKind, action: &ActionStatus, owed: Option<(&ActionStatus, Duration)>) -> Vec<String> {
    match (kind, action.shell) {
        (StepKind::Hook | StepKind::Beside, true) => wrapper::pre(action, owed),
        (StepKind::Hook | StepKind::Beside | StepKind::Session | StepKind::Scale, _) => action.command.clone(),
        (StepKind::Check | StepKind::Dump, _) => {
            wrapper::pre(&ActionStatus { command: script::command(&action.command), ..action.clone() }, None)
        }
    }
}

const fn label(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Hook | StepKind::Beside | StepKind::Session | StepKind::Scale => "pre",
        StepKind::Check => "check",
        StepKind::Dump => "dump",
    }
}

/// Takes over how a command ended.
fn record(work: &Work<'_>, kind: &'static str, action: &mut ActionStatus, ended: Ended) {
    let Ended { result, output } = ended;
    let (attempts, seconds) = (action.attempts + 1, action.timeout_seconds);
    info!(kind, pod = action.pod, container = action.container, ?result, output, attempts, seconds, "hook");
    work.ctx.metrics.hook_ended(kind, result);
    action.attempts = attempts;
    action.ended_at = Some((work.ctx.clock)());
    action.result = Some(result);
    action.output = Some(output.chars().take(4000).collect::<String>()).filter(|o| !o.is_empty());
}

async fn tell_failures(work: &Work<'_>, quiesce: &QuiesceStatus, group: u32) {
    for (kind, action) in release::failed(quiesce, Some(group)) {
        let (reason, said) = release::failure(kind, action);
        let note = if kind.is_hook() { format!("pre hook: {said}") } else { said };
        work.ctx.events.warning(&events::about(work.backup), "Quiesce", &reason.to_string(), &note).await;
    }
}

/// All pre hooks have run: from here the snapshots are made, or the live volume is read, until the limit.
async fn hold(work: &Work<'_>, quiesce: QuiesceStatus) -> Result<Turn, Error> {
    let now = (work.ctx.clock)();
    let volumes = status::volumes(work.backup);
    let limit = now + chrono::Duration::from_std(reading::limit(work, &volumes)).unwrap_or_default();
    let frozen = QuiesceStatus { phase: QuiescePhase::Frozen, frozen_at: Some(now), limit: Some(limit), ..quiesce };
    work.ctx.owe(&work.owner.uid, debt::held(&frozen));
    write(work, volumes, Some(frozen)).await.map(again)
}

/// Writes volumes and freeze with the resourceVersion that they were read with. When only the Backup's metadata has changed since (an
/// annotation, say), what was decided still holds.
async fn write(work: &Work<'_>, volumes: Vec<VolumeStatus>, quiesce: Option<QuiesceStatus>) -> Result<Backup, Error> {
    let next = status::summary(work.backup.status.as_ref(), quiesce, volumes, work.now);
    match status::write(work.ctx, work.backup, next.clone()).await {
        Err(error) if error.is_passing() => {
            let api: Api<Backup> = Api::namespaced(work.ctx.client.clone(), &work.owner.namespace);
            let live = api.get(&work.owner.name).await.doing("reading the Backup")?;
            let is_same = live.uid().as_ref() == Some(&work.owner.uid) && live.status == work.backup.status;
            if is_same { status::write(work.ctx, &live, next).await } else { Err(error) }
        }
        other => other,
    }
}

/// Sets the finalizers of a Backup; what comes back carries the new resourceVersion.
async fn set_finalizers(work: &Work<'_>, finalizers: &[String]) -> Result<Backup, Error> {
    let version = work.backup.resource_version();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version, "uid": work.owner.uid}});
    let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
    let api: Api<Backup> = Api::namespaced(work.ctx.client.clone(), &work.owner.namespace);
    api.patch(&work.owner.name, &params, &Patch::Merge(patch)).await.doing("setting the Backup's finalizer")
}
