//! What is owed to applications that were quiesced: paid at least once, struck out only after it succeeded.
//!
//! A finalizer keeps the Backup while anything is owed.

use super::{Turn, again, exec, record, release, set_finalizers, write};
use crate::backup::status;
use crate::backup::work::Work;
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::events;
use borgherd_api::crd::{ActionStatus, Backup, QuiescePhase, QuiesceStatus};
use borgherd_api::hooks::plan::{self, Next};
use borgherd_api::hooks::wrapper;
use borgherd_api::names::DEBT_FINALIZER;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use kube::ResourceExt;
use kube::api::Api;

/// Steps in one go of a Backup that is at its end.
const STEPS: usize = 8;

/// Sets the finalizer; what comes back carries the new resourceVersion.
pub(super) async fn hold_on(work: &Work<'_>) -> Result<Backup, Error> {
    let mut finalizers = work.backup.finalizers().to_vec();
    if finalizers.iter().any(|f| f == DEBT_FINALIZER) {
        return Ok(work.backup.clone());
    }
    finalizers.push(DEBT_FINALIZER.to_owned());
    set_finalizers(work, &finalizers).await
}

/// Takes the finalizer off, if it is there.
pub async fn let_go(work: &Work<'_>) -> Result<Option<Backup>, Error> {
    let finalizers = work.backup.finalizers();
    if !finalizers.iter().any(|f| f == DEBT_FINALIZER) {
        return Ok(None);
    }
    let left: Vec<String> = finalizers.iter().filter(|f| *f != DEBT_FINALIZER).cloned().collect();
    match set_finalizers(work, &left).await {
        Err(Error::Api { source: kube::Error::Api(status), .. }) if status.code == 404 => Ok(None),
        other => other.map(Some),
    }
}

/// The first tries right after the freeze's end was claimed.
pub(super) async fn first(work: &Work<'_>) -> Result<Backup, Error> {
    let Some(quiesce) = work.backup.status.as_ref().and_then(|s| s.quiesce.clone()) else {
        return Ok(work.backup.clone());
    };
    let seen = plan::Seen { all_cut: false, deleted: false, now: (work.ctx.clock)() };
    let groups = match plan::next(&quiesce, seen) {
        Next::Pay(groups) => groups,
        Next::Begin(_) | Next::Hold | Next::Wait(_) | Next::Release(_) | Next::Finish | Next::Done => return Ok(work.backup.clone()),
    };
    tried(work, quiesce, groups).await
}

/// Runs the post hooks that are due, group after group, and writes how they ended.
pub(super) async fn pay(work: &Work<'_>, quiesce: QuiesceStatus, groups: Vec<Vec<usize>>) -> Result<Turn, Error> {
    tried(work, quiesce, groups).await.map(again)
}

async fn tried(work: &Work<'_>, mut quiesce: QuiesceStatus, groups: Vec<Vec<usize>>) -> Result<Backup, Error> {
    if quiesce.window.is_none() {
        let last = quiesce.hooks.iter().filter_map(|h| h.begun_at).max();
        quiesce.window = last.map(|last| ((work.ctx.clock)() - last).as_seconds_f64());
        work.ctx.metrics.freeze_ended(quiesce.window);
    }
    work.ctx.owe(&work.owner.uid, quiesce.debts());
    for group in groups {
        let hooks = quiesce.hooks.iter_mut().enumerate().filter(|(index, _)| group.contains(index)).map(|(_, hook)| hook);
        let now = (work.ctx.clock)();
        let due = |a: &&mut ActionStatus| !a.is_paid() && a.not_before.is_none_or(|at| at <= now);
        join_all(hooks.flat_map(|hook| hook.post.iter_mut().filter(due)).map(|action| post(work, action))).await;
    }
    let debts = quiesce.debts();
    work.ctx.owe(&work.owner.uid, debts);
    let written = write(work, status::volumes(work.backup), Some(quiesce.clone())).await?;
    tell(work, &quiesce).await;
    Ok(written)
}

async fn post(work: &Work<'_>, action: &mut ActionStatus) {
    let argv = if action.shell { wrapper::post(action) } else { action.command.clone() };
    let ended = exec::run(&work.ctx.client, &work.owner.namespace, action, &argv).await;
    record(work, "post", action, ended);
    action.not_before = (!action.is_paid()).then(|| (work.ctx.clock)() + plan::backoff(action.attempts));
}

/// One Event for each first failure, and one when it went well after all.
async fn tell(work: &Work<'_>, quiesce: &QuiesceStatus) {
    let about = events::about(work.backup);
    for action in quiesce.hooks.iter().filter(|h| h.begun_at.is_some()).flat_map(|h| &h.post) {
        let said = release::sentence(action);
        match (action.is_paid(), action.attempts) {
            (false, 1 | 5 | 20) => {
                let note = format!("an application may still be held: post hook failed {} times, it is tried on: {said}", action.attempts);
                work.ctx.events.warning(&about, "Quiesce", "ThawOwed", &note).await;
            }
            (true, 2..) => work.ctx.events.normal(&about, "Quiesce", "Thawed", &format!("post hook after all: {said}")).await,
            (true | false, _) => {}
        }
    }
}

/// Nothing is owed: written down first, then the finalizer goes.
pub(super) async fn finish(work: &Work<'_>, quiesce: QuiesceStatus) -> Result<Turn, Error> {
    let thawed = QuiesceStatus { phase: QuiescePhase::Thawed, thawed_at: Some((work.ctx.clock)()), ..quiesce };
    let written = write(work, status::volumes(work.backup), Some(thawed)).await?;
    work.ctx.owe(&work.owner.uid, 0);
    crate::backup::report::ended(work, &written);
    let work = Work::new(work.ctx, &written);
    let freed = let_go(&work).await?;
    Ok(again(freed.unwrap_or_else(|| written.clone())))
}

/// Of a Backup that is being deleted or at its end: pays what is owed, whatever becomes of the volumes. When to look again.
pub async fn settle(backup: &Backup, ctx: &Context) -> Result<Option<DateTime<Utc>>, Error> {
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), &backup.namespace().unwrap_or_default());
    let Some(mut backup) = api.get_opt(&backup.name_any()).await.doing("reading the Backup")?.filter(|b| b.uid() == backup.uid()) else {
        ctx.owe(&backup.uid().unwrap_or_default(), 0);
        return Ok(None);
    };
    for _ in 0..STEPS {
        let work = Work::new(ctx, &backup);
        let Some(quiesce) = backup.status.as_ref().and_then(|s| s.quiesce.clone()) else {
            let_go(&work).await?;
            return Ok(None);
        };
        let seen = plan::Seen { all_cut: false, deleted: true, now: work.now };
        let turn = match plan::next(&quiesce, seen) {
            Next::Release(why) => release::release(&work, &status::volumes(&backup), quiesce, why).await?,
            Next::Pay(groups) => pay(&work, quiesce, groups).await?,
            Next::Finish => finish(&work, quiesce).await?,
            Next::Wait(at) => return Ok(Some(at)),
            Next::Done | Next::Begin(_) | Next::Hold => {
                let_go(&work).await?;
                return Ok(None);
            }
        };
        match turn {
            Turn::Again(next) => backup = *next,
            Turn::Go { .. } => break,
        }
    }
    Ok(None)
}
