//! Each phase's next step, by table: what is seen, what time it is, what follows.

#![allow(clippy::unwrap_used, clippy::unnecessary_wraps, reason = "a test may panic; what is seen is mostly optional")]

use super::*;
use borgherd_api::crd::snapshot::{
    VolumeSnapshotContent, VolumeSnapshotContentSpec, VolumeSnapshotError, VolumeSnapshotSpec, VolumeSnapshotStatus,
};
use borgherd_api::crd::{BorgRunSpec, BorgRunStatus, ListOptions, Operation, Owner, Progress, RunRepository, Subject};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::json;

mod live;

const BEGAN: &str = "2026-11-21T10:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

fn rules(now: &str) -> Rules {
    let timeouts = Timeouts {
        freeze: Duration::from_mins(1),
        cut: minutes(2),
        ready: minutes(60),
        clone: minutes(10),
        holder: minutes(10),
        queue: minutes(120),
        run: minutes(240),
        cleanup: minutes(10),
        handover: minutes(5),
    };
    Rules { timeouts, agent_check: Duration::from_secs(30), now: at(now) }
}

fn volume(phase: VolumePhase) -> VolumeStatus {
    VolumeStatus { pvc: "data".into(), phase, since: Some(at(BEGAN)), ..VolumeStatus::default() }
}

fn snapshot(status: VolumeSnapshotStatus) -> Option<Arc<VolumeSnapshot>> {
    let mut object = VolumeSnapshot::new("snap", VolumeSnapshotSpec::default());
    object.status = Some(status);
    Some(Arc::new(object))
}

fn bound(ready: bool) -> Option<Arc<VolumeSnapshot>> {
    snapshot(VolumeSnapshotStatus {
        bound_volume_snapshot_content_name: Some("content".into()),
        creation_time: Some(at(BEGAN)),
        ready_to_use: Some(ready),
        ..VolumeSnapshotStatus::default()
    })
}

fn refused() -> Option<Arc<VolumeSnapshot>> {
    let error = VolumeSnapshotError { message: Some("no space".into()), time: None };
    snapshot(VolumeSnapshotStatus { error: Some(error), ..VolumeSnapshotStatus::default() })
}

fn pvc(phase: &str) -> Option<Arc<PersistentVolumeClaim>> {
    Some(Arc::new(serde_json::from_value(json!({"spec": {"volumeName": "pv"}, "status": {"phase": phase}})).unwrap()))
}

fn holder(phase: &str) -> Option<Arc<Pod>> {
    let condition = json!([{"type": "PodScheduled", "status": if phase == "Pending" { "False" } else { "True" }, "message": "0/2 nodes"}]);
    Some(Arc::new(
        serde_json::from_value(json!({
            "metadata": {"uid": "uid"}, "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": phase, "conditions": condition}
        }))
        .unwrap(),
    ))
}

fn run(phase: RunPhase, progress: Option<Progress>) -> Option<Arc<BorgRun>> {
    let mut run = BorgRun::new(
        "run",
        BorgRunSpec {
            node: "n1".into(),
            subject: Subject::default(),
            owner: Owner::default(),
            repository: RunRepository::default(),
            volume: None,
            operation: Operation::List(ListOptions::default()),
            time_zone: "UTC".into(),
            deadline: at("2026-11-21T14:00:00Z"),
        },
    );
    run.status = Some(BorgRunStatus { phase, progress, ..BorgRunStatus::default() });
    Some(Arc::new(run))
}

fn reason(step: &Step) -> Option<Reason> {
    if let Step::Fail(reason, _) = step { Some(*reason) } else { None }
}

#[test]
fn while_applications_are_held_nothing_is_done_about_a_cut() {
    let seen = Seen { held: true, snapshot: bound(true), ..Seen::default() };
    assert_eq!(decide(&volume(VolumePhase::Cutting), &seen, &rules(BEGAN)), Step::Wait(None));
    let seen = Seen { held: false, ..seen };
    assert_eq!(decide(&volume(VolumePhase::Cutting), &seen, &rules(BEGAN)), Step::RecordCut(at(BEGAN)));
}

#[test]
fn the_cut_is_waited_for_and_not_the_readiness() {
    let cutting = volume(VolumePhase::Cutting);
    let seen = |snapshot| Seen { snapshot, ..Seen::default() };
    let early = rules("2026-11-21T10:01:00Z");
    let late = rules("2026-11-21T10:02:00Z");
    assert_eq!(decide(&cutting, &seen(None), &early), Step::Wait(Some(at("2026-11-21T10:02:00Z"))));
    assert_eq!(decide(&cutting, &seen(None), &late), Step::FindSnapshot);
    assert_eq!(decide(&cutting, &seen(bound(false)), &late), Step::RecordCut(at(BEGAN)), "a cut is a cut, also after the deadline");
    assert_eq!(decide(&cutting, &seen(refused()), &early), Step::Tell(Reason::SnapshotFailed, "no space".into()));
    let told = VolumeStatus { message: Some("no space".into()), ..cutting.clone() };
    assert!(matches!(decide(&told, &seen(refused()), &early), Step::Wait(_)), "told once");
    assert_eq!(reason(&decide(&cutting, &seen(refused()), &late)), Some(Reason::SnapshotFailed));
}

#[test]
fn a_snapshot_that_never_gets_ready_fails_at_its_deadline() {
    let cut = volume(VolumePhase::Cut);
    let seen = |snapshot| Seen { snapshot, ..Seen::default() };
    assert_eq!(decide(&cut, &seen(bound(true)), &rules(BEGAN)), Step::MarkReady);
    assert_eq!(decide(&cut, &seen(bound(false)), &rules(BEGAN)), Step::Wait(Some(at("2026-11-21T11:00:00Z"))));
    assert_eq!(reason(&decide(&cut, &seen(bound(false)), &rules("2026-11-21T11:00:00Z"))), Some(Reason::SnapshotNotReady));
    assert_eq!(decide(&cut, &seen(None), &rules(BEGAN)), Step::FindSnapshot);
}

#[test]
fn a_retry_waits_for_its_time_and_a_turn_does_not_take_for_ever() {
    let waiting = volume(VolumePhase::Waiting);
    let seen = Seen { snapshot: bound(true), ..Seen::default() };
    assert_eq!(decide(&waiting, &seen, &rules(BEGAN)), Step::Admit);
    let later = VolumeStatus { not_before: Some(at("2026-11-21T10:05:00Z")), ..waiting.clone() };
    assert_eq!(decide(&later, &seen, &rules(BEGAN)), Step::Wait(Some(at("2026-11-21T10:05:00Z"))));
    assert_eq!(decide(&later, &seen, &rules("2026-11-21T10:05:00Z")), Step::Admit);
    assert_eq!(reason(&decide(&waiting, &seen, &rules("2026-11-21T12:00:00Z"))), Some(Reason::DeadlineExceeded));
    assert_eq!(decide(&waiting, &Seen::default(), &rules(BEGAN)), Step::FindSnapshot);
}

#[test]
fn exposing_goes_step_by_step_and_each_wait_ends() {
    let cloning = volume(VolumePhase::Cloning);
    let seen = |exposed| Seen { snapshot: bound(true), exposed, ..Seen::default() };
    let step = |exposed: Exposed, now: &str| decide(&cloning, &seen(exposed), &rules(now));
    let content = || Some(Arc::new(VolumeSnapshotContent::new("c", VolumeSnapshotContentSpec::default())));
    let cloned = |ready| Exposed { content: content(), snapshot: bound(ready), ..Exposed::default() };
    assert_eq!(step(Exposed::default(), BEGAN), Step::CloneSnapshot);
    assert!(matches!(step(cloned(false), BEGAN), Step::Wait(_)));
    assert_eq!(step(cloned(true), BEGAN), Step::Clone);
    let pending = Exposed { claim: pvc("Pending"), holder: holder("Pending"), ..cloned(true) };
    assert_eq!(step(pending.clone(), BEGAN), Step::Tell(Reason::HolderUnschedulable, "0/2 nodes".into()));
    assert_eq!(reason(&step(pending, "2026-11-21T10:10:00Z")), Some(Reason::HolderUnschedulable));
    let starting = Exposed { claim: pvc("Bound"), holder: holder("ContainerCreating"), ..cloned(true) };
    assert!(matches!(step(starting.clone(), "2026-11-21T10:15:00Z"), Step::Wait(_)));
    assert_eq!(reason(&step(starting, "2026-11-21T10:20:00Z")), Some(Reason::HolderNotStarted));
    let unbound = Exposed { claim: pvc("Pending"), holder: holder("ContainerCreating"), ..cloned(true) };
    assert_eq!(reason(&step(unbound, "2026-11-21T10:10:00Z")), Some(Reason::CloneNotBound));
    let mounted = Exposed { claim: pvc("Bound"), holder: holder("Running"), ..cloned(true) };
    assert_eq!(step(mounted, BEGAN), Step::Run { node: "n1".into(), holder: "uid".into(), pv: "pv".into() });
    let gone = Seen { snapshot: None, exposed: cloned(true), ..Seen::default() };
    assert_eq!(decide(&cloning, &gone, &rules(BEGAN)), Step::FindSnapshot);
}

#[test]
fn a_run_is_followed_until_it_ends_or_is_lost_or_overdue() {
    let queued = volume(VolumePhase::Queued);
    let seen = |run| Seen { exposed: Exposed { run, ..Exposed::default() }, ..Seen::default() };
    assert_eq!(decide(&queued, &seen(None), &rules(BEGAN)), Step::FindRun);
    assert_eq!(decide(&queued, &seen(run(RunPhase::Running, None)), &rules(BEGAN)), Step::Follow(VolumePhase::Archiving));
    for end in [RunPhase::Succeeded, RunPhase::Incomplete, RunPhase::Failed, RunPhase::Interrupted] {
        assert_eq!(decide(&queued, &seen(run(end, None)), &rules("2026-11-22T10:00:00Z")), Step::Conclude, "{end:?}, however late");
    }
    assert!(matches!(decide(&queued, &seen(run(RunPhase::Queued, None)), &rules(BEGAN)), Step::Wait(Some(_))));
    assert_eq!(
        reason(&decide(&queued, &seen(run(RunPhase::Queued, None)), &rules("2026-11-21T12:00:00Z"))),
        Some(Reason::DeadlineExceeded)
    );
    let archiving = volume(VolumePhase::Archiving);
    let progress = Some(Progress { files: 3, ..Progress::default() });
    assert_eq!(decide(&archiving, &seen(run(RunPhase::Running, progress)), &rules(BEGAN)), Step::Follow(VolumePhase::Archiving));
    assert!(matches!(decide(&archiving, &seen(run(RunPhase::Running, None)), &rules("2026-11-21T14:01:00Z")), Step::Wait(_)));
    assert_eq!(
        reason(&decide(&archiving, &seen(run(RunPhase::Running, None)), &rules("2026-11-21T14:02:00Z"))),
        Some(Reason::DeadlineExceeded)
    );
    let lost = Seen { lost: Some((Reason::Interrupted, "gone".into())), ..seen(run(RunPhase::Running, None)) };
    assert_eq!(reason(&decide(&archiving, &lost, &rules(BEGAN))), Some(Reason::Interrupted));
}

#[test]
fn a_volume_is_finished_when_nothing_temporary_is_left_or_that_takes_too_long() {
    let cleaning = volume(VolumePhase::Cleaning);
    let left = Seen { exposed: Exposed { claim: pvc("Bound"), ..Exposed::default() }, ..Seen::default() };
    assert_eq!(decide(&cleaning, &Seen::default(), &rules(BEGAN)), Step::Finish);
    assert_eq!(decide(&cleaning, &left, &rules(BEGAN)), Step::Clean);
    assert_eq!(decide(&cleaning, &left, &rules("2026-11-21T10:10:00Z")), Step::Abandon);
    assert_eq!(decide(&volume(VolumePhase::Finished), &left, &rules(BEGAN)), Step::Wait(None));
}

#[test]
fn what_may_pass_is_tried_again_later_and_later_and_not_for_ever() {
    let limits = Limits { max_cuts: 1, max_clones_per_class: 1, attempts: 3, retry_delay: minutes(1) };
    let after = |reason, attempt| retry(reason, attempt, &limits, at(BEGAN));
    assert_eq!(after(Reason::Interrupted, 1), Some(at(BEGAN)));
    assert_eq!(after(Reason::ConnectionFailed, 1), Some(at("2026-11-21T10:01:00Z")));
    assert_eq!(after(Reason::ConnectionFailed, 2), Some(at("2026-11-21T10:02:00Z")));
    assert_eq!(after(Reason::ConnectionFailed, 3), None);
    assert_eq!(after(Reason::PassphraseWrong, 1), None);
}

#[test]
fn only_a_run_that_says_so_is_a_success() {
    for (phase, outcome) in [
        (RunPhase::Succeeded, Some(Outcome::Succeeded)),
        (RunPhase::Incomplete, Some(Outcome::Incomplete)),
        (RunPhase::Failed, None),
        (RunPhase::Interrupted, None),
        (RunPhase::Running, None),
    ] {
        let (told, reason, _) = ended(&run(phase, None).unwrap());
        assert_eq!(told, outcome, "{phase:?}");
        assert_eq!(reason.is_none(), phase == RunPhase::Succeeded, "{phase:?}");
    }
}
