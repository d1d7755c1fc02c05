//! The same for a live volume.

use super::*;
use crate::backup::live::find::Reader;
use borgherd_api::crd::LiveStatus;
use borgherd_api::names::GO;
use k8s_openapi::api::core::v1::PersistentVolume;

fn live(phase: VolumePhase) -> VolumeStatus {
    VolumeStatus { live: Some(LiveStatus { pv: "pv".into(), ..LiveStatus::default() }), attempt: 1, ..volume(phase) }
}

fn read_by(reader: Reader) -> Seen {
    Seen { live: super::super::live::Seen { reader: Some(reader), ..Default::default() }, ..Seen::default() }
}

fn pod(pod: &str) -> Consumer {
    Consumer { pod: pod.into(), uid: "uid".into(), node: "n1".into(), restarts: 0 }
}

fn consumer(found: Result<&str, &str>) -> Seen {
    read_by(found.map_or_else(|why| Reader::Nobody(why.to_owned()), |name| Reader::Pod(pod(name))))
}

#[test]
fn a_volume_that_nobody_has_mounted_waits_without_a_turn_and_not_for_ever() {
    let mut waiting = live(VolumePhase::Waiting);
    let soon = rules("2026-11-21T10:01:00Z");
    let none = consumer(Err("no pod"));
    let late = rules("2026-11-21T10:10:00Z");
    for rules in [&soon, &late] {
        // however long it had one and waited for its turn: from here on it counts
        assert_eq!(decide(&waiting, &none, rules), Step::Tell(Reason::PodNotFound, "no pod".into()));
    }
    (waiting.reason, waiting.message) = (Some(Reason::PodNotFound), Some("no pod".into()));
    assert_eq!(decide(&waiting, &none, &soon), Step::Wait(Some(at("2026-11-21T10:01:05Z"))));
    assert_eq!(decide(&waiting, &consumer(Ok("db-0")), &soon), Step::Admit);
    assert_eq!(reason(&decide(&waiting, &none, &late)), Some(Reason::PodNotFound));
    assert_eq!(decide(&waiting, &consumer(Ok("db-0")), &late), Step::Admit);
    waiting.not_before = Some(at("2026-11-21T10:30:00Z"));
    assert_eq!(decide(&waiting, &none, &late), Step::Wait(waiting.not_before));
    let no_turn = rules("2026-11-21T12:30:00Z");
    assert_eq!(reason(&decide(&waiting, &consumer(Ok("db-0")), &no_turn)), Some(Reason::DeadlineExceeded));
}

#[test]
fn admitted_it_is_read_where_its_pod_is_or_tried_again() {
    let step = decide(&live(VolumePhase::Cloning), &consumer(Ok("db-0")), &rules(BEGAN));
    assert!(matches!(step, Step::RunLive(Consumer { ref node, .. }) if node == "n1"), "{step:?}");
    assert_eq!(reason(&decide(&live(VolumePhase::Cloning), &consumer(Err("none")), &rules(BEGAN))), Some(Reason::PodGone));
}

/// A run, with `readyAt` and the annotation as told.
fn reads(phase: RunPhase, is_ready: bool, go: bool) -> Option<Arc<BorgRun>> {
    let mut run = BorgRun::clone(&run(phase, None).unwrap());
    run.status.as_mut().unwrap().ready_at = is_ready.then(|| at(BEGAN));
    if go {
        run.metadata.annotations = Some([(GO.to_owned(), BEGAN.to_owned())].into());
    }
    Some(Arc::new(run))
}

#[test]
fn it_is_read_from_a_written_moment_on_once_all_is_held() {
    let seen = |is_ready: bool, go: bool, may_begin: bool| Seen {
        exposed: Exposed { run: reads(RunPhase::Running, is_ready, go), ..Exposed::default() },
        live: super::super::live::Seen { may_begin, ..Default::default() },
        ..Seen::default()
    };
    let (mut reading, rules) = (live(VolumePhase::Archiving), rules("2026-11-21T10:01:00Z"));
    let check = Step::Wait(Some(at("2026-11-21T10:01:02Z")));
    for (is_ready, go, may_begin, expected) in [
        (false, false, true, check.clone()),
        (true, false, false, check.clone()),
        (true, false, true, Step::Begin),
        (true, true, true, check.clone()),
    ] {
        assert_eq!(decide(&reading, &seen(is_ready, go, may_begin), &rules), expected, "{is_ready} {go} {may_begin}");
    }
    reading.cut = Some(at(BEGAN));
    assert_eq!(decide(&reading, &seen(true, false, true), &rules), Step::Go(at(BEGAN)));
    assert_eq!(decide(&reading, &seen(true, false, false), &rules), check);
    assert_eq!(decide(&live(VolumePhase::Queued), &seen(true, false, true), &rules), Step::Follow(VolumePhase::Archiving));
}

#[test]
fn it_is_concluded_when_applications_go_on_and_never_well_without_its_pod() {
    let ended = |held: bool, gone: Option<&str>| Seen {
        held,
        exposed: Exposed { run: reads(RunPhase::Succeeded, true, true), ..Exposed::default() },
        live: super::super::live::Seen { gone: gone.map(|why| (Reason::PodGone, why.to_owned())), ..Default::default() },
        ..Seen::default()
    };
    let (reading, rules) = (live(VolumePhase::Archiving), rules(BEGAN));
    assert_eq!(decide(&reading, &ended(true, None), &rules), Step::Wait(Some(at(BEGAN))));
    assert_eq!(decide(&reading, &ended(false, None), &rules), Step::Conclude);
    for held in [true, false] {
        assert_eq!(decide(&reading, &ended(held, Some("gone")), &rules), Step::Fail(Reason::PodGone, "gone".into()));
    }
}

#[test]
fn a_read_that_came_to_nothing_is_remembered() {
    let mut reading = live(VolumePhase::Archiving);
    for second in 0..20 {
        reading.cut = Some(at(BEGAN) + chrono::Duration::seconds(second));
        reading = super::super::super::live::void(reading);
    }
    let void = reading.live.unwrap().void;
    assert_eq!((reading.cut, void.len(), void.last()), (None, 16, Some(&at("2026-11-21T10:00:19Z"))));
    let snapshot = VolumeStatus { cut: Some(at(BEGAN)), ..volume(VolumePhase::Archiving) };
    assert_eq!(super::super::super::live::void(snapshot.clone()), snapshot);
}

fn held(phase: VolumePhase) -> VolumeStatus {
    let volume = live(phase);
    VolumeStatus { live: volume.live.map(|live| LiveStatus { held: true, ..live }), ..volume }
}

/// What is there of twin, claim and holder, the last two in that phase.
fn exposed(phase: &str) -> Exposed {
    let twin = json!({"metadata": {"name": "twin", "labels": {"borgherd.dev/twin": "true"}}});
    Exposed {
        volume: Some(Arc::new(serde_json::from_value(twin).unwrap())),
        claim: pvc("Bound"),
        holder: holder(phase),
        ..Exposed::default()
    }
}

#[test]
fn what_no_pod_uses_is_mounted_by_a_holder_and_read_by_its_mount() {
    let rules = rules("2026-11-21T10:01:00Z");
    let by_holder = |exposed: Exposed| Seen { exposed, ..read_by(Reader::Holder) };
    let first = VolumeStatus { attempt: 0, ..live(VolumePhase::Waiting) };
    let soon = super::rules("2026-11-21T10:00:29Z");
    assert_eq!(decide(&first, &by_holder(Exposed::default()), &soon), Step::Admit);
    let looked = Step::Wait(Some(at("2026-11-21T10:00:34Z")));
    assert_eq!(decide(&live(VolumePhase::Waiting), &by_holder(Exposed::default()), &soon), looked, "its pod was there a moment ago");
    assert_eq!(decide(&live(VolumePhase::Waiting), &by_holder(Exposed::default()), &rules), Step::Admit);
    assert_eq!(decide(&live(VolumePhase::Waiting), &by_holder(exposed("Running")), &rules), Step::Clean, "an earlier try's");
    assert_eq!(decide(&live(VolumePhase::Cloning), &by_holder(Exposed::default()), &rules), Step::Hold);
    let cloning = held(VolumePhase::Cloning);
    assert_eq!(decide(&cloning, &by_holder(Exposed::default()), &rules), Step::Mount);
    assert_eq!(decide(&cloning, &by_holder(Exposed { holder: None, ..exposed("Running") }), &rules), Step::Mount);
    assert_eq!(decide(&cloning, &by_holder(exposed("Pending")), &rules), Step::Tell(Reason::HolderUnschedulable, "0/2 nodes".into()));
    let step = decide(&cloning, &by_holder(exposed("Running")), &rules);
    assert!(matches!(step, Step::RunLive(Consumer { ref node, .. }) if node == "n1"), "{step:?}");
    let unbound = Exposed { claim: pvc("Pending"), ..exposed("Running") };
    let look = Step::Wait(Some(at("2026-11-21T10:01:01Z")));
    assert_eq!(decide(&cloning, &by_holder(unbound), &rules), look);
    let late = super::rules("2026-11-21T10:10:00Z");
    let refused = VolumeStatus { reason: Some(Reason::HolderNotStarted), message: Some("forbidden".into()), ..cloning.clone() };
    for (volume, told) in [(&cloning, "within 600s"), (&refused, "within 600s: forbidden")] {
        let step = decide(volume, &by_holder(Exposed::default()), &late);
        assert!(matches!(&step, Step::Fail(Reason::HolderNotStarted, message) if message.ends_with(told)), "{step:?}");
    }
    let mut leaving = PersistentVolume::clone(exposed("Running").volume.as_ref().unwrap());
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!(BEGAN)).unwrap();
    let leaving = Exposed { volume: Some(Arc::new(leaving)), ..Exposed::default() };
    assert_eq!(decide(&cloning, &by_holder(leaving.clone()), &rules), look, "that of an earlier try");
    assert!(leaving.is_empty());
}

#[test]
fn a_pod_that_starts_ends_the_holders_part_unless_all_is_read() {
    let rules = rules(BEGAN);
    for seen in [Seen { exposed: exposed("Running"), ..read_by(Reader::Pod(pod("db-0"))) }, read_by(Reader::Pods("db-0 waits".into()))] {
        assert_eq!(reason(&decide(&held(VolumePhase::Cloning), &seen, &rules)), Some(Reason::PodStarted));
    }
    let reading = |phase: RunPhase, why: Reason| Seen {
        exposed: Exposed { run: reads(phase, true, true), ..exposed("Running") },
        live: super::super::live::Seen { gone: Some((why, "db-0".to_owned())), ..Default::default() },
        ..Seen::default()
    };
    let volume = held(VolumePhase::Archiving);
    assert_eq!(decide(&volume, &reading(RunPhase::Running, Reason::PodStarted), &rules), Step::Fail(Reason::PodStarted, "db-0".into()));
    assert_eq!(decide(&volume, &reading(RunPhase::Succeeded, Reason::PodStarted), &rules), Step::Conclude);
    assert_eq!(decide(&volume, &reading(RunPhase::Succeeded, Reason::PvcNotFound), &rules), Step::Fail(Reason::PvcNotFound, "db-0".into()));
}
