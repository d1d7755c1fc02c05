//! What comes next for the archives of one PVC after its newest archive: pure, from the Backup's status and what is seen.

use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, Maintenance, MaintenancePhase, Outcome, VolumeStatus};
use chrono::{DateTime, TimeDelta, Utc};

/// How long after its deadline a run may still be told as ended.
const OVERDUE: TimeDelta = TimeDelta::minutes(2);

/// What is done with the archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Those that no tier holds are deleted.
    Prune,
    /// What nothing uses is freed.
    Compact,
    /// The repository is looked at for damage.
    Check,
}

impl Stage {
    /// In names of runs and in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Prune => "prune",
            Self::Compact => "compact",
            Self::Check => "check",
        }
    }

    /// The one that is to be done, if any.
    pub(super) fn of(maintenance: Option<&Maintenance>, accepted: &str) -> Option<Self> {
        let Some(maintenance) = maintenance else { return Some(Self::Prune) };
        match maintenance.phase {
            MaintenancePhase::Pruning => Some(Self::Prune),
            MaintenancePhase::Compacting => Some(Self::Compact),
            MaintenancePhase::Stopped if maintenance.accepted != accepted => Some(Self::Prune),
            MaintenancePhase::Stopped | MaintenancePhase::Done | MaintenancePhase::Failed => None,
        }
    }
}

/// What is said about how many archives stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// So many, as `archive-keep` says it.
    Keep(String),
    /// Nothing, or the PVC is gone: none is deleted.
    Nothing,
    /// What is said cannot be.
    Invalid(String),
}

/// What is seen beside the status.
#[derive(Clone, Debug)]
pub(super) struct Seen<'a> {
    pub(super) said: Said,
    /// The annotation by which a person accepts something.
    pub(super) accepted: &'a str,
    /// The run of the stage and try that are due.
    pub(super) run: Option<&'a BorgRun>,
    /// Why nobody will ever end it, if that is so.
    pub(super) lost: Option<(Reason, String)>,
    /// Somebody waits to restore from the same repository.
    pub(super) restore_waits: bool,
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing until something changes, or until then.
    Wait(Option<DateTime<Utc>>),
    /// Ask for the turn, and begin.
    Begin(Stage),
    /// The run goes on; it is looked after then.
    Follow(DateTime<Utc>),
    /// Take over how the run ended.
    Conclude(Stage),
    /// End this try without a run's result.
    Fail(Stage, Reason, String),
    /// Interrupt the run: it begins again later.
    Yield,
    /// Nothing is deleted after this archive.
    Stop(Reason, String),
}

/// The next step after the newest archive of a PVC.
pub(super) fn decide(volume: &VolumeStatus, seen: &Seen<'_>, check: TimeDelta, now: DateTime<Utc>) -> Step {
    let maintenance = volume.maintenance.as_ref();
    let Some(stage) = Stage::of(maintenance, seen.accepted) else { return Step::Wait(None) };
    if let Some(run) = seen.run {
        return follow(stage, run, seen, check, now);
    }
    if let Some(at) = maintenance.and_then(|m| m.not_before).filter(|at| *at > now) {
        return Step::Wait(Some(at));
    }
    match (&seen.said, stage, volume.outcome) {
        (Said::Nothing, _, _) => Step::Wait(None),
        (Said::Invalid(problem), _, _) => {
            Step::Stop(Reason::Invalid, format!("no archive is deleted by a policy that cannot be: {problem}"))
        }
        (Said::Keep(_), Stage::Prune, Some(Outcome::Incomplete)) => Step::Stop(
            Reason::NewestIncomplete,
            "the newest archive lacks files, so none is deleted: see to the files that could not be read, and back up again".into(),
        ),
        (Said::Keep(_), Stage::Prune | Stage::Compact | Stage::Check, _) => Step::Begin(stage),
    }
}

/// The next step of a run that is there.
pub(super) fn follow(stage: Stage, run: &BorgRun, seen: &Seen<'_>, check: TimeDelta, now: DateTime<Utc>) -> Step {
    if run.metadata.deletion_timestamp.is_some() {
        return Step::Follow(now + check);
    }
    if run.status.as_ref().is_some_and(|status| status.phase.is_final()) {
        return Step::Conclude(stage);
    }
    if let Some((reason, message)) = &seen.lost {
        return Step::Fail(stage, *reason, message.clone());
    }
    if seen.restore_waits {
        return Step::Yield;
    }
    let overdue = run.spec.deadline + OVERDUE;
    if now >= overdue {
        return Step::Fail(stage, Reason::DeadlineExceeded, "the run did not end by its deadline, nor did its agent say so".into());
    }
    Step::Follow((now + check).min(overdue))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use borgherd_api::crd::{BorgRunSpec, BorgRunStatus, CompactOptions, Operation, Owner, RunPhase, RunRepository, Subject};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn run(phase: RunPhase) -> BorgRun {
        let mut run = BorgRun::new(
            "run",
            BorgRunSpec {
                node: "n".into(),
                subject: Subject::default(),
                owner: Owner::default(),
                repository: RunRepository::default(),
                volume: None,
                operation: Operation::Compact(CompactOptions::default()),
                time_zone: "UTC".into(),
                deadline: at("2026-11-21T11:00:00Z"),
            },
        );
        run.status = Some(BorgRunStatus { phase, ..BorgRunStatus::default() });
        run
    }

    fn maintenance(phase: MaintenancePhase) -> Maintenance {
        Maintenance { phase, accepted: "a".into(), ..Maintenance::default() }
    }

    fn seen(said: Said) -> Seen<'static> {
        Seen { said, accepted: "a", run: None, lost: None, restore_waits: false }
    }

    fn decided(outcome: Outcome, maintenance: Option<Maintenance>, seen: &Seen<'_>, now: &str) -> Step {
        let volume = VolumeStatus { outcome: Some(outcome), maintenance, ..VolumeStatus::default() };
        decide(&volume, seen, TimeDelta::seconds(30), at(now))
    }

    const NOW: &str = "2026-11-21T10:00:00Z";

    #[test]
    fn what_begins_and_what_does_not() {
        use MaintenancePhase::{Compacting, Done, Failed, Pruning, Stopped};
        let keep = seen(Said::Keep("last=1".into()));
        for (maintenance, step) in [
            (None, Step::Begin(Stage::Prune)),
            (Some(maintenance(Pruning)), Step::Begin(Stage::Prune)),
            (Some(maintenance(Compacting)), Step::Begin(Stage::Compact)),
            (Some(maintenance(Done)), Step::Wait(None)),
            (Some(maintenance(Failed)), Step::Wait(None)),
            (Some(maintenance(Stopped)), Step::Wait(None)),
        ] {
            assert_eq!(decided(Outcome::Succeeded, maintenance, &keep, NOW), step);
        }
        let accepted = Seen { accepted: "b", ..keep.clone() };
        assert_eq!(decided(Outcome::Succeeded, Some(maintenance(Stopped)), &accepted, NOW), Step::Begin(Stage::Prune));
        assert!(matches!(decided(Outcome::Incomplete, None, &keep, NOW), Step::Stop(Reason::NewestIncomplete, _)));
        for maintenance in [None, Some(maintenance(Pruning)), Some(maintenance(Compacting))] {
            assert_eq!(decided(Outcome::Succeeded, maintenance.clone(), &seen(Said::Nothing), NOW), Step::Wait(None));
            let invalid = seen(Said::Invalid("no".into()));
            assert!(matches!(decided(Outcome::Succeeded, maintenance, &invalid, NOW), Step::Stop(Reason::Invalid, _)));
        }
        let later = Some(Maintenance { not_before: Some(at("2026-11-21T10:01:00Z")), ..Maintenance::default() });
        assert_eq!(decided(Outcome::Succeeded, later.clone(), &keep, NOW), Step::Wait(Some(at("2026-11-21T10:01:00Z"))));
        assert_eq!(decided(Outcome::Succeeded, later, &keep, "2026-11-21T10:01:00Z"), Step::Begin(Stage::Prune));
    }

    #[test]
    fn a_run_is_followed_to_its_end_and_gives_way_to_a_restore() {
        let (running, ended) = (run(RunPhase::Running), run(RunPhase::Failed));
        let keep = seen(Said::Nothing);
        let with = |run| Seen { run: Some(run), ..keep.clone() };
        assert_eq!(decided(Outcome::Succeeded, None, &with(&ended), NOW), Step::Conclude(Stage::Prune));
        assert_eq!(decided(Outcome::Succeeded, None, &with(&running), NOW), Step::Follow(at("2026-11-21T10:00:30Z")));
        let waits = Seen { restore_waits: true, ..with(&running) };
        assert_eq!(decided(Outcome::Succeeded, None, &waits, NOW), Step::Yield);
        let finished = Seen { restore_waits: true, ..with(&ended) };
        assert_eq!(decided(Outcome::Succeeded, None, &finished, NOW), Step::Conclude(Stage::Prune));
        let lost = Seen { lost: Some((Reason::Interrupted, "gone".into())), ..with(&running) };
        assert_eq!(decided(Outcome::Succeeded, None, &lost, NOW), Step::Fail(Stage::Prune, Reason::Interrupted, "gone".into()));
        let told_late = decided(Outcome::Succeeded, None, &with(&ended), "2026-11-21T12:00:00Z");
        assert_eq!(told_late, Step::Conclude(Stage::Prune), "what an agent has said counts, however late");
        let late = decided(Outcome::Succeeded, None, &with(&running), "2026-11-21T11:02:00Z");
        assert!(matches!(late, Step::Fail(_, Reason::DeadlineExceeded, _)));
    }
}
