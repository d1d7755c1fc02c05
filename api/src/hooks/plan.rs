//! What comes next in a freeze: pure, total, from its written status.
//!
//! Invariant: a process that finds pre hooks begun and not ended did not run them itself, or has lost their results: it resumes.

use crate::crd::{ActionResult, ActionStatus, HookStatus, QuiescePhase, QuiesceStatus, Release};
use crate::hooks::OnError;
use chrono::{DateTime, Utc};

/// What is seen besides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Every snapshot that is still expected is cut.
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
    if hooks().any(|hook| hook.on_error == OnError::Fail && hook.pre.iter().any(has_failed)) {
        return Next::Release(Release::HookFailed);
    }
    if hooks().any(|hook| hook.begun_at.is_some() && hook.pre.iter().any(|pre| pre.result.is_none())) {
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
    // a cut that is seen after the watchdogs' deadline may have come after a thaw
    if seen.all_cut && seen.now < status.deadline {
        return Next::Release(Release::Cut);
    }
    if seen.now >= limit { Next::Release(Release::FreezeLimit) } else { Next::Wait(limit) }
}

fn thawing(status: &QuiesceStatus, seen: Seen) -> Next {
    let owed: Vec<(usize, &HookStatus)> = status.hooks.iter().enumerate().filter(|(_, hook)| hook.debts().next().is_some()).collect();
    if owed.is_empty() {
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
    let next = owed.iter().flat_map(|(_, hook)| hook.debts()).filter_map(|post| post.not_before).min();
    Next::Wait(next.unwrap_or(seen.now))
}

/// Whether a command ended otherwise than it should.
pub const fn has_failed(action: &ActionStatus) -> bool {
    match action.result {
        Some(ActionResult::Failed | ActionResult::TimedOut | ActionResult::MayStillRun | ActionResult::Void) => true,
        Some(ActionResult::Succeeded) | None => false,
    }
}

/// Whether snapshots that were cut while it held are quiesced: no pre hook failed.
pub fn is_sound(status: &QuiesceStatus) -> bool {
    !status.hooks.iter().flat_map(|hook| &hook.pre).any(has_failed)
}

/// How long after the `attempts`th failure a post hook is tried again: 1, 2, 4 … 60 seconds.
pub fn backoff(attempts: u32) -> chrono::Duration {
    chrono::Duration::seconds((1_i64 << attempts.saturating_sub(1).min(6)).min(60))
}
