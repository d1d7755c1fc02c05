//! What turns out after the fact: a command beside the snapshot has ended, a session did not hold as long as it should have.
//!
//! Invariant: no volume gets further than its cut before all of it is known; the write that says so is the one that voids the volumes.

use super::running::{Over, State};
use super::{record, release};
use crate::backup::report;
use crate::backup::work::Work;
use crate::error::Error;
use crate::events;
use borgherd_api::Reason;
use borgherd_api::crd::{ActionResult, ActionStatus, Backup, QuiescePhase, QuiesceStatus, Release, StepKind, VolumePhase, VolumeStatus};
use borgherd_api::hooks::plan;

/// Takes over what became of the commands that this process runs; whether there was anything.
pub(super) fn collect(work: &Work<'_>, quiesce: &mut QuiesceStatus) -> bool {
    let is_held = matches!(quiesce.phase, QuiescePhase::Freezing | QuiescePhase::Frozen);
    let is_open = quiesce.phase != QuiescePhase::Thawed;
    let mut changed = false;
    for hook in quiesce.hooks.iter_mut().filter(|hook| hook.begun_at.is_some()) {
        for pre in &mut hook.pre {
            changed |= match hook.kind {
                StepKind::Beside if is_open && pre.result.is_none() => beside(work, pre),
                StepKind::Session if is_held && pre.result == Some(ActionResult::Succeeded) => session(work, pre),
                StepKind::Beside | StepKind::Session | StepKind::Hook | StepKind::Scale | StepKind::Check | StepKind::Dump => false,
            };
        }
    }
    changed
}

fn beside(work: &Work<'_>, pre: &mut ActionStatus) -> bool {
    match work.ctx.running.state(&pre.token) {
        State::Runs => return false,
        State::Over(Over { ended, .. }) => record(work, "pre", pre, ended),
        State::Unknown => pre_failed(work, pre, "the controller that ran it has ended, so how it ended is not known"),
    }
    true
}

fn session(work: &Work<'_>, pre: &mut ActionStatus) -> bool {
    match work.ctx.running.state(&pre.token) {
        State::Runs => return false,
        State::Over(Over { ended, .. }) => pre_failed(work, pre, &format!("the session ended by itself: {}", ended.output)),
        State::Unknown => pre_failed(work, pre, "the session was lost with the controller that held it"),
    }
    true
}

/// It did not do what it seemed to.
pub(super) fn pre_failed(work: &Work<'_>, pre: &mut ActionStatus, said: &str) {
    pre.result = Some(ActionResult::Failed);
    pre.ended_at = Some((work.ctx.clock)());
    pre.output = Some(said.chars().take(4000).collect());
}

/// Writes what has turned out, with what it means for the volumes, and tells it.
pub(super) async fn write(work: &Work<'_>, volumes: &[VolumeStatus], quiesce: QuiesceStatus) -> Result<Backup, Error> {
    let known = work.backup.status.as_ref().and_then(|s| s.quiesce.clone()).unwrap_or_default();
    let next = judge(work, volumes, &quiesce);
    let written = super::write(work, next.clone(), Some(quiesce.clone())).await?;
    let known: Vec<_> = release::failed(&known, None).map(|(_, action)| action.clone()).collect();
    for (kind, action) in release::failed(&quiesce, None).filter(|(_, action)| !known.contains(action)) {
        let (reason, said) = release::failure(kind, action);
        work.ctx.events.warning(&events::about(work.backup), "Quiesce", &reason.to_string(), &format!("pre hook: {said}")).await;
    }
    let work = Work::new(work.ctx, &written);
    report::transitions(&work, volumes, &next).await;
    release::warn_of_unquiesced(&work, volumes, &next).await;
    Ok(written)
}

/// The volumes of a freeze whose end was claimed with all of them cut, as what is known by now has them.
fn judge(work: &Work<'_>, volumes: &[VolumeStatus], quiesce: &QuiesceStatus) -> Vec<VolumeStatus> {
    let (voids, is_sound) = (plan::is_void(quiesce), plan::is_sound(quiesce));
    let judged = |volume: &VolumeStatus| {
        let is_open = quiesce.release == Some(Release::Cut) && (volume.phase == VolumePhase::Cutting || volume.is_read());
        match (is_open, voids, is_sound) {
            (true, true, _) => {
                let said = release::failed(quiesce, None).next().map(|(_, action)| release::sentence(action)).unwrap_or_default();
                let what = if volume.live.is_some() { "archive" } else { "snapshot" };
                let message = format!("a pre hook turned out to have failed, so the {what} does not count: {said}");
                VolumeStatus { quiesced: Some(false), ..work.failed(volume, Reason::HookFailed, message) }
            }
            (true, false, false) => VolumeStatus { quiesced: Some(false), ..volume.clone() },
            (true, false, true) | (false, _, _) => volume.clone(),
        }
    };
    volumes.iter().map(judged).collect()
}
