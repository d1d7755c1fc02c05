//! The same for a live volume.

use super::*;
use borgherd_api::crd::LiveStatus;
use borgherd_api::names::GO;

fn live(phase: VolumePhase) -> VolumeStatus {
    VolumeStatus { live: Some(LiveStatus { pv: "pv".into(), ..LiveStatus::default() }), attempt: 1, ..volume(phase) }
}

fn consumer(found: Result<&str, &str>) -> Seen {
    let pod = |pod: &str| Consumer { pod: pod.into(), uid: "uid".into(), node: "n1".into(), restarts: 0 };
    let consumer = Some(found.map(pod).map_err(str::to_owned));
    Seen { live: super::super::live::Seen { consumer, ..Default::default() }, ..Seen::default() }
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
        live: super::super::live::Seen { gone: gone.map(str::to_owned), ..Default::default() },
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
