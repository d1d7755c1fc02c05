//! The end of a freeze: claimed first, with what it means for each volume; only then do post hooks begin.
//!
//! Invariant: a volume is quiesced only if its cut was seen before the claim, before the watchdogs' deadline, and no pre hook failed.

use super::{Turn, again, is_cut, write};
use crate::backup::report;
use crate::backup::work::Work;
use crate::error::Error;
use crate::events;
use borgherd_api::Reason;
use borgherd_api::crd::{ActionResult, ActionStatus, QuiescePhase, QuiesceStatus, Release, VolumePhase, VolumeStatus};
use borgherd_api::hooks::plan;

/// Claims the end of the freeze.
pub(super) async fn release(work: &Work<'_>, volumes: &[VolumeStatus], quiesce: QuiesceStatus, why: Release) -> Result<Turn, Error> {
    let now = (work.ctx.clock)();
    let is_sound = plan::is_sound(&quiesce) && now < quiesce.deadline && quiesce.phase == QuiescePhase::Frozen;
    let (reason, message) = told(&quiesce, why);
    let voids = quiesce.fails();
    let mut next = Vec::with_capacity(volumes.len());
    for volume in volumes {
        let is_open = matches!(volume.phase, VolumePhase::Pending | VolumePhase::Cutting);
        let quiesced = is_sound && volume.phase == VolumePhase::Cutting && is_cut(work, volume);
        next.push(match (is_open, quiesced) {
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
    let backup = super::debt::first(&Work::new(work.ctx, &written)).await?;
    let work = Work::new(work.ctx, &backup);
    report::transitions(&work, volumes, &next).await;
    warn_of_unquiesced(&work, &next).await;
    Ok(again(backup.clone()))
}

/// Snapshots that are kept though they were not cut in time.
async fn warn_of_unquiesced(work: &Work<'_>, volumes: &[VolumeStatus]) {
    for volume in volumes.iter().filter(|v| v.quiesced == Some(false) && v.outcome.is_none() && v.phase < VolumePhase::Cleaning) {
        let note = format!("{}: its snapshot is kept, but was not cut while the applications were held still", volume.pvc);
        work.ctx.events.warning(&events::about(work.backup), "Quiesce", "NotQuiesced", &note).await;
    }
}

/// Reason and sentence for the volumes that were not cut.
fn told(quiesce: &QuiesceStatus, why: Release) -> (Reason, String) {
    let failed = || quiesce.hooks.iter().flat_map(|h| &h.pre).find(|a| plan::has_failed(a));
    match why {
        Release::Cut => (Reason::HookFailed, "a pre hook failed, so its snapshot is not quiesced".to_owned()),
        Release::HookFailed => match failed() {
            Some(action) => (reason_of(action), format!("a pre hook failed, so no snapshot was made: {}", sentence(action))),
            None => (Reason::HookFailed, "a pre hook failed, so no snapshot was made".to_owned()),
        },
        Release::FreezeLimit => (
            Reason::FreezeLimit,
            "it was not cut while the applications were held still; look at the storage, or raise timeouts.freeze in the chart".to_owned(),
        ),
        Release::Interrupted => {
            (Reason::Interrupted, "the controller ended while the pre hooks ran, so no snapshot was made; back up again".to_owned())
        }
        Release::Deleted => (Reason::Interrupted, "the Backup was deleted".to_owned()),
    }
}

/// The reason that a failed pre hook gives its volumes.
pub(super) fn reason_of(action: &ActionStatus) -> Reason {
    if action.result == Some(ActionResult::MayStillRun) { Reason::HookMayStillRun } else { Reason::HookFailed }
}

/// What became of a command, for people.
pub(super) fn sentence(action: &ActionStatus) -> String {
    let ActionStatus { pod, container, command, output, .. } = action;
    let program = command.first().map(String::as_str).unwrap_or_default();
    format!("{program} in pod {pod}, container {container}: {}", output.as_deref().unwrap_or("it said nothing"))
}
