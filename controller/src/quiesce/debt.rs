//! What is owed to applications that were quiesced: paid at least once, struck out only after it succeeded.
//!
//! A finalizer keeps the Backup while anything is owed.

use super::{Turn, again, exec, late, reading, record, release, scale, session, set_finalizers, write};
use crate::backup::status;
use crate::backup::work::Work;
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::events;
use borgherd_api::crd::{ActionResult, ActionStatus, Backup, HookStatus, QuiescePhase, QuiesceStatus, StepKind};
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
    work.ctx.owe(&work.owner.uid, held(&quiesce));
    let begun = (work.ctx.clock)();
    for group in groups {
        let hooks = quiesce.hooks.iter_mut().enumerate().filter(|(index, _)| group.contains(index)).map(|(_, hook)| hook);
        let now = (work.ctx.clock)();
        join_all(hooks.map(|hook| posts(work, hook, now))).await;
    }
    work.ctx.owe(&work.owner.uid, held(&quiesce));
    let written = late::write(work, &status::volumes(work.backup), quiesce.clone()).await?;
    tell(work, &quiesce, begun).await;
    Ok(written)
}

/// Resumes that are owed to applications: a command that still runs beside the snapshot holds none, and while a live volume is read none is due.
pub(super) fn held(quiesce: &QuiesceStatus) -> usize {
    if quiesce.attempt.is_some() && quiesce.phase == QuiescePhase::Frozen {
        return 0;
    }
    let runs_beside = |hook: &&HookStatus| hook.kind == StepKind::Beside && hook.pre.iter().any(|pre| pre.result.is_none());
    quiesce.debts() - quiesce.hooks.iter().filter(runs_beside).map(|hook| hook.debts().count()).sum::<usize>()
}

/// The post hooks of one entry that are due.
async fn posts(work: &Work<'_>, hook: &mut HookStatus, now: DateTime<Utc>) {
    let HookStatus { kind, begun_at, pre, post, .. } = hook;
    let due = post.iter_mut().filter(|a| !a.is_paid() && a.not_before.is_none_or(|at| at <= now));
    let before: &[ActionStatus] = pre;
    let paid = due.map(|action| async {
        let of = before.iter().find(|pre| pre.token == action.token);
        let not_held = pay_one(work, *kind, *begun_at, of, action).await;
        not_held.map(|said| (action.token.clone(), said))
    });
    for (token, said) in join_all(paid).await.into_iter().flatten() {
        let held = pre.iter_mut().filter(|pre| pre.token == token && pre.result == Some(ActionResult::Succeeded));
        held.for_each(|pre| late::pre_failed(work, pre, &said));
    }
}

/// Tries one post hook. Returns why the application was not held until now, if it turns out so.
async fn pay_one(
    work: &Work<'_>,
    kind: StepKind,
    claimed: Option<DateTime<Utc>>,
    pre: Option<&ActionStatus>,
    action: &mut ActionStatus,
) -> Option<String> {
    let (client, namespace) = (&work.ctx.client, work.owner.namespace.as_str());
    let (ended, not_held) = match kind {
        StepKind::Session => session::end(work, action).await,
        StepKind::Scale => (scale::post(client, namespace, action, pre, claimed, (work.ctx.clock)()).await, None),
        StepKind::Hook | StepKind::Beside | StepKind::Check | StepKind::Dump => {
            let argv = if action.shell { wrapper::post(action) } else { action.command.clone() };
            let ended = exec::run(client, namespace, action, &argv).await;
            let not_held = (ended.result == ActionResult::Void && action.attempts == 0 && is_read(work))
                .then(|| format!("pod {} was gone before all of the volume was read", action.pod));
            (ended, not_held)
        }
    };
    record(work, "post", action, ended);
    action.not_before = (!action.is_paid()).then(|| (work.ctx.clock)() + plan::backoff(action.attempts));
    not_held
}

/// A live volume is read, or was until now.
fn is_read(work: &Work<'_>) -> bool {
    reading::volume(&status::volumes(work.backup)).is_some()
}

/// One Event for each first failure, one when it went well after all, and one for what was left as somebody else has made it; of what was tried
/// since `begun`.
async fn tell(work: &Work<'_>, quiesce: &QuiesceStatus, begun: DateTime<Utc>) {
    let about = events::about(work.backup);
    let tried = |action: &&ActionStatus| action.ended_at.is_some_and(|at| at >= begun);
    for action in quiesce.hooks.iter().filter(|h| h.begun_at.is_some()).flat_map(|h| &h.post).filter(tried) {
        let said = release::sentence(action);
        if action.scale.is_some() && action.result == Some(ActionResult::Void) {
            work.ctx.events.warning(&about, "Quiesce", "NotScaledBack", &said).await;
            continue;
        }
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
    work.ctx.running.forget(&quiesce_of(&written));
    crate::backup::report::ended(work, &written);
    let work = Work::new(work.ctx, &written);
    let freed = let_go(&work).await?;
    Ok(again(freed.unwrap_or_else(|| written.clone())))
}

fn quiesce_of(backup: &Backup) -> QuiesceStatus {
    backup.status.as_ref().and_then(|s| s.quiesce.clone()).unwrap_or_default()
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
        let Some(mut quiesce) = backup.status.as_ref().and_then(|s| s.quiesce.clone()) else {
            let_go(&work).await?;
            return Ok(None);
        };
        if late::collect(&work, &mut quiesce) {
            backup = late::write(&work, &status::volumes(&backup), quiesce).await?;
            continue;
        }
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
