//! The points at which a Backup's controller is killed, in the order of a Backup's life.

use super::seen::Seen;
use borgherd_api::crd::{RunPhase, VolumePhase};

/// One point: between what was done and what is refused.
#[derive(Clone, Copy)]
pub(super) struct Point {
    /// For people, and in the refusals.
    pub(super) name: &'static str,
    /// What the turnstile refuses here: APP and VOLUMES stand for the namespaces. Empty: nothing is wanted any more.
    pub(super) refused: &'static [&'static str],
    /// What is there, and what is not.
    pub(super) at: fn(&Seen) -> bool,
    /// What the world does once the controller is dead.
    pub(super) then: Then,
}

/// What is done to the agents while the controller is dead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// Somebody takes all slots, so that the run has to wait.
    TakeSlots,
    /// They are let go; borg is stopped as soon as it runs.
    StopBorg,
    /// Borg goes on.
    ContinueBorg,
}

const fn point(name: &'static str, refused: &'static [&'static str], at: fn(&Seen) -> bool) -> Point {
    Point { name, refused, at, then: Then::Nothing }
}

const fn then(point: Point, then: Then) -> Point {
    Point { then, ..point }
}

/// All of them.
pub(super) const POINTS: [Point; 26] = [
    point("due but not created", &["CREATE backups APP"], |s| s.backups.is_empty()),
    point("created, no snapshot", &["CREATE volumesnapshots APP"], |s| {
        !s.backups.is_empty() && s.status().is_none() && s.snapshot.is_none()
    }),
    point("snapshot, not written", &["backups Cutting"], |s| s.status().is_none() && s.snapshot.is_some()),
    point("cut, nothing recorded", &["UPDATE volumesnapshots APP", "UPDATE volumesnapshotcontents"], |s| {
        s.is(VolumePhase::Cutting) && s.is_cut() && !s.snapshot_marked() && !s.content_kept()
    }),
    point("content kept, snapshot not marked", &["UPDATE volumesnapshots APP"], |s| {
        s.is(VolumePhase::Cutting) && !s.snapshot_marked() && s.content_kept()
    }),
    point("cut recorded, not written", &["backups Cut"], |s| s.is(VolumePhase::Cutting) && s.snapshot_marked() && s.content_kept()),
    point("ready and admitted, not written", &["backups Cloning"], |s| s.is(VolumePhase::Cut) && s.ready()),
    point("admitted, no static content", &["CREATE volumesnapshotcontents"], |s| s.is(VolumePhase::Cloning) && s.clone_content.is_none()),
    point("static content, no snapshot of it", &["CREATE volumesnapshots VOLUMES"], |s| {
        s.is(VolumePhase::Cloning) && s.clone_content.is_some() && s.clone_snapshot.is_none()
    }),
    point("its snapshot, no clone", &["CREATE persistentvolumeclaims VOLUMES"], |s| {
        s.is(VolumePhase::Cloning) && s.clone_ready() && s.claim.is_none()
    }),
    point("clone, no holder", &["CREATE pods VOLUMES"], |s| s.is(VolumePhase::Cloning) && s.claim.is_some() && s.holder.is_none()),
    point("held, volume not marked", &["UPDATE persistentvolumes"], |s| s.is(VolumePhase::Cloning) && s.held() && !s.volume_ours()),
    then(
        point("volume marked, no run", &["CREATE borgruns OWN"], |s| s.is(VolumePhase::Cloning) && s.volume_ours() && s.run.is_none()),
        Then::TakeSlots,
    ),
    point("run queued, not written", &["backups Queued"], |s| s.is(VolumePhase::Cloning) && s.run_is(RunPhase::Queued)),
    // the run waits for its slot: nothing is refused, for nothing is wanted
    then(point("queued", &[], |s| s.is(VolumePhase::Queued) && s.run_is(RunPhase::Queued)), Then::StopBorg),
    point("run running, not written", &["backups Archiving"], |s| s.is(VolumePhase::Queued) && s.run_is(RunPhase::Running)),
    then(point("archiving", &[], |s| s.is(VolumePhase::Archiving) && s.run_is(RunPhase::Running)), Then::ContinueBorg),
    point("run succeeded, not recorded", &["CREATE configmaps OWN", "UPDATE configmaps OWN"], |s| {
        s.is(VolumePhase::Archiving) && s.run_is(RunPhase::Succeeded) && s.record.is_none()
    }),
    point("recorded, not written", &["backups Cleaning"], |s| s.is(VolumePhase::Archiving) && s.record.is_some()),
    point("success written, nothing cleaned", &["DELETE borgruns OWN"], |s| s.is(VolumePhase::Cleaning) && s.run.is_some()),
    point("run deleted, holder there", &["DELETE pods VOLUMES"], |s| s.is(VolumePhase::Cleaning) && s.run.is_none() && s.holder.is_some()),
    point("holder deleted, clone there", &["DELETE persistentvolumeclaims VOLUMES"], |s| {
        s.is(VolumePhase::Cleaning) && s.holder.is_none() && s.claim.is_some()
    }),
    point("clone deleted, snapshot there", &["DELETE volumesnapshots VOLUMES"], |s| {
        s.is(VolumePhase::Cleaning) && s.claim.is_none() && s.volume.is_none() && s.clone_snapshot.is_some()
    }),
    point("snapshot deleted, static content there", &["DELETE volumesnapshotcontents"], |s| {
        s.is(VolumePhase::Cleaning) && s.clone_snapshot.is_none() && s.clone_content.is_some()
    }),
    point("all deleted, not finished", &["backups Finished"], |s| {
        s.is(VolumePhase::Cleaning) && s.clone_content.is_none() && !s.in_flight()
    }),
    point("finished", &[], |s| s.is(VolumePhase::Finished)),
];
