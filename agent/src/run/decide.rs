//! What this process has to do with a `BorgRun` it sees: pure.
//!
//! Invariant: only a run that nobody has begun is taken, and only a run whose borg may have been running under another process of this
//! node is recovered. A finished run is never touched again.

use borgherd_api::crd::{AgentRef, BorgRun, RunPhase};

/// What is to be done about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is over, being deleted, or another process's that still lives as far as we know.
    Leave,
    /// Nobody has begun it: claim it, queue it, run it.
    Take,
    /// Another process of this node was running it: prove that its borg is dead, then end it as interrupted.
    Recover,
}

/// When a run is seen: what was there before this process started, or what came while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// In the first listing.
    AtStart,
    /// Later.
    Later,
}

/// What `me` has to do with `run`.
///
/// A run that another process had only queued is taken over at start, when that process is most likely dead. It may be alive (an agent
/// pod being replaced): then its next write conflicts with ours and it stops before borg. Taking over later, too, would let two living
/// processes take one run from each other for ever.
pub(super) fn decide(run: &BorgRun, me: &AgentRef, seen: Seen) -> Action {
    if run.metadata.deletion_timestamp.is_some() {
        return Action::Leave;
    }
    let status = run.status.as_ref();
    let agent = status.and_then(|status| status.agent.as_ref());
    let phase = status.map(|status| status.phase).unwrap_or_default();
    let is_mine = agent == Some(me);
    match phase {
        RunPhase::Pending => Action::Take,
        RunPhase::Queued if !is_mine && seen == Seen::AtStart => Action::Take,
        RunPhase::Running if !is_mine => Action::Recover,
        RunPhase::Queued | RunPhase::Running | RunPhase::Succeeded | RunPhase::Incomplete | RunPhase::Failed | RunPhase::Interrupted => {
            Action::Leave
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use borgherd_api::crd::BorgRunStatus;

    fn agent(uid: &str, instance: &str) -> AgentRef {
        AgentRef { pod: "agent-x".to_owned(), uid: uid.to_owned(), instance: instance.to_owned() }
    }

    fn run(phase: RunPhase, agent: Option<AgentRef>) -> BorgRun {
        let mut run = crate::run::example::run("r", "u");
        run.status = Some(BorgRunStatus { phase, agent, ..BorgRunStatus::default() });
        run
    }

    #[test]
    fn who_does_what() {
        let me = agent("pod-1", "b");
        let before = Some(agent("pod-1", "a"));
        let older_pod = Some(agent("pod-0", "z"));
        let table = [
            (RunPhase::Pending, None, Action::Take, Action::Take),
            (RunPhase::Queued, Some(me.clone()), Action::Leave, Action::Leave),
            (RunPhase::Queued, before.clone(), Action::Take, Action::Leave),
            (RunPhase::Queued, older_pod.clone(), Action::Take, Action::Leave),
            (RunPhase::Running, Some(me.clone()), Action::Leave, Action::Leave),
            (RunPhase::Running, before.clone(), Action::Recover, Action::Recover),
            (RunPhase::Running, older_pod.clone(), Action::Recover, Action::Recover),
            (RunPhase::Running, None, Action::Recover, Action::Recover),
            (RunPhase::Succeeded, before.clone(), Action::Leave, Action::Leave),
            (RunPhase::Incomplete, before.clone(), Action::Leave, Action::Leave),
            (RunPhase::Failed, older_pod, Action::Leave, Action::Leave),
            (RunPhase::Interrupted, before, Action::Leave, Action::Leave),
        ];
        for (phase, agent, at_start, later) in table {
            let run = run(phase, agent);
            assert_eq!(decide(&run, &me, Seen::AtStart), at_start, "{:?} at start", run.status);
            assert_eq!(decide(&run, &me, Seen::Later), later, "{:?} later", run.status);
        }
    }

    #[test]
    fn a_run_without_status_is_taken_and_one_being_deleted_left() {
        let me = agent("pod-1", "b");
        let mut run = crate::run::example::run("r", "u");
        assert_eq!(decide(&run, &me, Seen::Later), Action::Take);
        run.metadata.deletion_timestamp = Some(serde_json::from_str("\"2026-11-21T10:00:00Z\"").unwrap());
        assert_eq!(decide(&run, &me, Seen::Later), Action::Leave);
    }
}
