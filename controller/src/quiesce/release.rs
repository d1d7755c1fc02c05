//! The end of a freeze: claimed first, with what it means for each volume; only then do post hooks begin.
//!
//! Invariant: a volume is quiesced only if its cut was seen before the claim, before the watchdogs' deadline, and no pre hook failed.

use super::{Turn, again, is_cut, late, restarted, scale, write};
use crate::backup::report;
use crate::backup::work::Work;
use crate::error::Error;
use crate::events;
use borgherd_api::Reason;
use borgherd_api::crd::{ActionResult, ActionStatus, QuiescePhase, QuiesceStatus, Release, Scaling, StepKind, VolumePhase, VolumeStatus};
use borgherd_api::hooks::plan;
use futures::future::join_all;

/// Claims the end of the freeze.
pub(super) async fn release(work: &Work<'_>, volumes: &[VolumeStatus], quiesce: QuiesceStatus, why: Release) -> Result<Turn, Error> {
    let counts = |volume: &VolumeStatus| (volume.phase == VolumePhase::Cutting || volume.is_read()) && is_cut(work, volume);
    let (quiesce, why) = match why {
        Release::Cut if volumes.iter().any(counts) => still_held(work, quiesce).await,
        Release::Cut | Release::HookFailed | Release::FreezeLimit | Release::Interrupted | Release::Deleted => (quiesce, why),
    };
    let now = (work.ctx.clock)();
    let is_sound = plan::is_sound(&quiesce) && now < quiesce.deadline && quiesce.phase == QuiescePhase::Frozen;
    let (reason, message) = told(&quiesce, why, super::reading::volume(volumes).is_some());
    let voids = why == Release::HookFailed || quiesce.fails();
    let mut next = Vec::with_capacity(volumes.len());
    for volume in volumes {
        let is_open = matches!(volume.phase, VolumePhase::Pending | VolumePhase::Cutting) || volume.is_read();
        let quiesced = is_sound && volume.phase != VolumePhase::Pending && is_open && is_cut(work, volume);
        // a run that has made no archive says itself why
        let has_failed = why == Release::Cut && volume.is_read() && !is_cut(work, volume);
        next.push(match (is_open && !has_failed, quiesced) {
            (false, _) => volume.clone(),
            (true, true) => VolumeStatus { quiesced: Some(true), ..volume.clone() },
            (true, false) if voids || why == Release::Deleted => {
                VolumeStatus { quiesced: Some(false), ..work.failed(volume, reason, &message) }
            }
            (true, false) => VolumeStatus { quiesced: Some(false), ..volume.clone() },
        });
    }
    let message = (why != Release::Cut).then(|| message.chars().take(4000).collect());
    let released = QuiesceStatus { phase: QuiescePhase::Thawing, released_at: Some(now), release: Some(why), message, ..quiesce };
    let written = write(work, next.clone(), Some(released)).await?;
    // telling takes time: it waits until the applications go on
    let written = Work::new(work.ctx, &written);
    let backup = match super::reading::volume(volumes).filter(|_| why == Release::Deleted) {
        Some(volume) => {
            let (thawed, abandoned) = tokio::join!(super::debt::first(&written), written.stop_reading(volume));
            abandoned.and(thawed)?
        }
        None => super::debt::first(&written).await?,
    };
    let work = Work::new(work.ctx, &backup);
    report::transitions(&work, volumes, &next).await;
    warn_of_unquiesced(&work, volumes, &next).await;
    Ok(again(backup.clone()))
}

/// What was held still, or scaled, must still be so when all is cut.
async fn still_held(work: &Work<'_>, mut quiesce: QuiesceStatus) -> (QuiesceStatus, Release) {
    restarted::look(work, &mut quiesce).await;
    let scaled = quiesce.hooks.iter_mut().filter(|hook| hook.kind == StepKind::Scale).flat_map(|hook| &mut hook.pre);
    let looks = scaled.filter(|pre| pre.result == Some(ActionResult::Succeeded)).map(|pre| async move {
        if let Some(said) = scale::not_held(&work.ctx.client, &work.owner.namespace, pre).await {
            late::pre_failed(work, pre, &said);
        }
    });
    join_all(looks).await;
    let why = if plan::is_void(&quiesce) { Release::HookFailed } else { Release::Cut };
    (quiesce, why)
}

/// Snapshots that are kept though they were not cut in time.
pub(super) async fn warn_of_unquiesced(work: &Work<'_>, before: &[VolumeStatus], after: &[VolumeStatus]) {
    let changed = before.iter().zip(after).filter(|(old, new)| old.quiesced != new.quiesced).map(|(_, new)| new);
    for volume in changed.filter(|v| v.quiesced == Some(false) && v.outcome.is_none() && v.phase < VolumePhase::Cleaning) {
        let kept = match volume.live {
            None => "its snapshot is kept, but was not cut while the applications were held still",
            Some(_) => "it is read, but not while the applications are held still",
        };
        let note = format!("{}: {kept}", volume.pvc);
        work.ctx.events.warning(&events::about(work.backup), "Quiesce", "NotQuiesced", &note).await;
    }
}

/// Reason and sentence for the volumes that were not cut, or not read.
fn told(quiesce: &QuiesceStatus, why: Release, is_live: bool) -> (Reason, String) {
    let no_snapshot = if is_live { "the volume is not read" } else { "there is no snapshot" };
    match why {
        Release::FreezeLimit if is_live => (
            Reason::FreezeLimit,
            "it was not read as a whole while the applications were held still; raise timeouts.run in the chart".to_owned(),
        ),
        Release::Interrupted if is_live => (
            Reason::Interrupted,
            "the controller ended while pre hooks or dumps ran, so the volume was not read while they held".to_owned(),
        ),
        Release::Cut => (Reason::HookFailed, "a pre hook failed, so its snapshot is not quiesced".to_owned()),
        Release::HookFailed => match failed(quiesce, None).next() {
            Some((kind, action)) => {
                let (reason, said) = failure(kind, action);
                let what = match kind.is_hook() {
                    true => format!("a pre hook failed, so {no_snapshot}"),
                    false if is_live => "the volume was not read, the last dump stays".to_owned(),
                    false => "no snapshot was made, the last dump stays".to_owned(),
                };
                (reason, format!("{what}: {said}"))
            }
            None => (Reason::HookFailed, format!("a pre hook failed, so {no_snapshot}")),
        },
        Release::FreezeLimit => (
            Reason::FreezeLimit,
            "it was not cut while the applications were held still; look at the storage, or raise timeouts.freeze in the chart".to_owned(),
        ),
        Release::Interrupted => {
            (Reason::Interrupted, "the controller ended while pre hooks or dumps ran, so no snapshot was made; back up again".to_owned())
        }
        Release::Deleted => (Reason::Interrupted, "the Backup was deleted".to_owned()),
    }
}

/// What has failed before the cut, in order; of one group or of all.
pub(super) fn failed(quiesce: &QuiesceStatus, group: Option<u32>) -> impl Iterator<Item = (StepKind, &ActionStatus)> {
    let hooks = quiesce.hooks.iter().filter(move |h| group.is_none_or(|group| h.group == group));
    hooks.flat_map(|h| h.pre.iter().map(|a| (h.kind, a))).filter(|(_, a)| plan::has_failed(a))
}

/// The reason that a failure gives the volumes, and what became of it.
pub(super) fn failure(kind: StepKind, action: &ActionStatus) -> (Reason, String) {
    match kind {
        StepKind::Hook | StepKind::Beside | StepKind::Session | StepKind::Scale => {
            let reason = if action.result == Some(ActionResult::MayStillRun) { Reason::HookMayStillRun } else { Reason::HookFailed };
            (reason, sentence(action))
        }
        StepKind::Check | StepKind::Dump => (Reason::DumpFailed, dump_sentence(action)),
    }
}

/// The same of a database; rule for the words: `borgherd_api::database::script::words`.
fn dump_sentence(action: &ActionStatus) -> String {
    let ActionStatus { pod, container, command, output, .. } = action;
    let word = |index: usize| command.get(index).map(String::as_str).unwrap_or_default();
    let (database, file) = (word(1), word(2));
    format!("dump of {database} to {file} in pod {pod}, container {container}: {}", output.as_deref().unwrap_or("it said nothing"))
}

/// What became of a command, for people.
pub(super) fn sentence(action: &ActionStatus) -> String {
    let ActionStatus { pod, container, command, output, scale, .. } = action;
    let said = output.as_deref().unwrap_or("it said nothing");
    match (scale, command.first()) {
        (Some(Scaling { kind, to, .. }), _) => format!("scaling {kind:?} {pod} to {to}: {said}"),
        (None, Some(program)) => format!("{program} in pod {pod}, container {container}: {said}"),
        (None, None) => format!("the end of the session in pod {pod}, container {container}: {said}"),
    }
}
