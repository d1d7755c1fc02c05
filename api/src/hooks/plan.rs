//! What comes next in a freeze: pure, total, from its written status.
//!
//! Invariant: a process that finds pre hooks begun and not ended did not run them itself, or has lost their results: it resumes.

use crate::crd::{ActionResult, ActionStatus, HookStatus, QuiescePhase, QuiesceStatus, Release, StepKind};
use crate::hooks::OnError;
use chrono::{DateTime, Utc};

/// What is seen besides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Every snapshot that is still expected is cut; a live volume is not read any more.
    pub all_cut: bool,
    /// The Backup is being deleted.
    pub deleted: bool,
    /// Now.
    pub now: DateTime<Utc>,
}

/// The next step of a freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Claim the hooks of this group, then run their pre.
    Begin(u32),
    /// All pre hooks have run: the snapshots are made.
    Hold,
    /// Wait for the cuts until then.
    Wait(DateTime<Utc>),
    /// Claim the end of the freeze, for this reason.
    Release(Release),
    /// Run these post hooks one group after the other; hooks as indices of [`QuiesceStatus::hooks`].
    Pay(Vec<Vec<usize>>),
    /// Nothing is owed: write that down.
    Finish,
    /// Nothing is left to do.
    Done,
}

/// The next step.
pub fn next(status: &QuiesceStatus, seen: Seen) -> Next {
    match status.phase {
        QuiescePhase::Freezing => freezing(status, seen),
        QuiescePhase::Frozen => frozen(status, seen),
        QuiescePhase::Thawing => thawing(status, seen),
        QuiescePhase::Thawed => Next::Done,
    }
}

fn freezing(status: &QuiesceStatus, seen: Seen) -> Next {
    let hooks = || status.hooks.iter();
    if seen.deleted {
        return Next::Release(Release::Deleted);
    }
    if is_void(status) {
        return Next::Release(Release::HookFailed);
    }
    if hooks().any(|hook| hook.kind != StepKind::Beside && is_running(hook)) {
        return Next::Release(Release::Interrupted);
    }
    if seen.now >= status.deadline {
        return Next::Release(Release::FreezeLimit);
    }
    let group = hooks().filter(|hook| hook.begun_at.is_none()).map(|hook| hook.group).min();
    // dumps hold nothing: the snapshots may take their time
    group.map_or(if status.holds() { Next::Hold } else { Next::Finish }, Next::Begin)
}

fn frozen(status: &QuiesceStatus, seen: Seen) -> Next {
    let limit = status.limit.map_or(status.deadline, |limit| limit.min(status.deadline));
    if seen.deleted {
        return Next::Release(Release::Deleted);
    }
    // a session that is lost lets its application go
    if is_void(status) {
        return Next::Release(Release::HookFailed);
    }
    // a cut that is seen after the watchdogs' deadline may have come after a thaw
    if seen.all_cut && seen.now < status.deadline {
        return Next::Release(Release::Cut);
    }
    if seen.now >= limit { Next::Release(Release::FreezeLimit) } else { Next::Wait(limit) }
}

fn thawing(status: &QuiesceStatus, seen: Seen) -> Next {
    let is_awaited = |hook: &HookStatus| is_awaited(status, hook);
    let owed: Vec<(usize, &HookStatus)> =
        status.hooks.iter().enumerate().filter(|(_, hook)| hook.debts().next().is_some() && !is_awaited(hook)).collect();
    let awaits = awaits(status);
    if owed.is_empty() && !awaits {
        return Next::Finish;
    }
    let is_due = |post: &ActionStatus| post.not_before.is_none_or(|at| at <= seen.now);
    let mut due: Vec<(usize, &HookStatus)> = owed.iter().copied().filter(|(_, hook)| hook.debts().any(is_due)).collect();
    // the last begun first
    due.sort_by_key(|(index, hook)| (std::cmp::Reverse(hook.group), std::cmp::Reverse(*index)));
    let groups: Vec<Vec<usize>> = due.chunk_by(|(_, a), (_, b)| a.group == b.group).map(|g| g.iter().map(|(i, _)| *i).collect()).collect();
    if !groups.is_empty() {
        return Next::Pay(groups);
    }
    // who has run beside the snapshot tells its end; this is in case that is missed
    let end = awaits.then(|| seen.now + LOOK);
    let next = owed.iter().flat_map(|(_, hook)| hook.debts()).filter_map(|post| post.not_before).chain(end).min();
    Next::Wait(next.unwrap_or(seen.now))
}

/// How often it is looked whether a command beside the snapshot has ended.
const LOOK: chrono::Duration = chrono::Duration::seconds(10);

/// Begun, and an end not known.
fn is_running(hook: &HookStatus) -> bool {
    hook.begun_at.is_some() && hook.pre.iter().any(|pre| pre.result.is_none())
}

/// A pre that runs beside the snapshot and decides whether that counts. Where the freeze has failed, nobody waits for it.
fn is_awaited(status: &QuiesceStatus, hook: &HookStatus) -> bool {
    hook.kind == StepKind::Beside && status.release == Some(Release::Cut) && is_running(hook)
}

/// Whether the snapshots are cut, and wait to count until a command beside them has ended.
pub fn awaits(status: &QuiesceStatus) -> bool {
    status.phase == QuiescePhase::Thawing && status.hooks.iter().any(|hook| is_awaited(status, hook))
}

/// Whether a failure of a pre hook voids the backup.
pub fn is_void(status: &QuiesceStatus) -> bool {
    status.hooks.iter().any(|hook| hook.on_error == OnError::Fail && hook.pre.iter().any(has_failed))
}

/// Whether a command ended otherwise than it should.
pub const fn has_failed(action: &ActionStatus) -> bool {
    match action.result {
        Some(ActionResult::Failed | ActionResult::TimedOut | ActionResult::MayStillRun | ActionResult::Void) => true,
        Some(ActionResult::Succeeded) | None => false,
    }
}

/// Whether snapshots that were cut while it held are quiesced: no pre hook failed, but for those that run beside the snapshot and so hold
/// nothing.
pub fn is_sound(status: &QuiesceStatus) -> bool {
    !status.hooks.iter().filter(|hook| hook.kind != StepKind::Beside).flat_map(|hook| &hook.pre).any(has_failed)
}

/// How long after the `attempts`th failure a post hook is tried again: 1, 2, 4 … 60 seconds.
pub fn backoff(attempts: u32) -> chrono::Duration {
    chrono::Duration::seconds((1_i64 << attempts.saturating_sub(1).min(6)).min(60))
}
