//! The order of hooks, what is written down, and what comes next.

use super::hooks;
use crate::crd::{ActionResult, QuiescePhase, QuiesceStatus, Release, StepKind, Workload};
use crate::hooks::plan::{Next, Seen, awaits, backoff, is_sound, is_void, next};
use crate::hooks::resolve::{Dumped, Found, Placed, deadline, order, resolve};
use crate::hooks::{Hook, Mode, OnError};
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

fn at(seconds: i64) -> DateTime<Utc> {
    "2026-11-21T10:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

fn seen(seconds: i64) -> Seen {
    Seen { all_cut: false, deleted: false, now: at(seconds) }
}

/// Three hooks: the first alone, the others together; each with a pre and a post in one pod.
fn written() -> QuiesceStatus {
    let list = hooks(
        "- {pre: {in: pod/x, command: [a]}, post: {command: [a2]}}\n\
         - {pre: {in: pod/x, command: [b]}, post: {command: [b2]}, parallel: true}\n\
         - {pre: {in: pod/x, command: [c], timeout: 50s}, post: {command: [c2]}, parallel: true}\n",
    );
    let found = vec![Found { pod: "x".into(), pod_uid: "u".into(), container: "app".into(), shell: true, ..Found::default() }];
    let place = |(group, hook)| Placed { hook, group, pre: found.clone(), post: found.clone() };
    let placed: Vec<Placed> = order(&[list]).into_iter().map(place).collect();
    resolve("backup", &[], &placed, Duration::from_mins(1), at(0))
}

fn begin(status: &mut QuiesceStatus, group: u32, result: Option<ActionResult>) {
    for hook in status.hooks.iter_mut().filter(|hook| hook.group == group) {
        hook.begun_at = Some(at(1));
        hook.pre[0].result = result;
    }
}

#[test]
fn neighbours_that_are_parallel_go_together_and_lists_do_not_mix() {
    let p = |name: &str| format!("- {{pre: {{in: pod/{name}, command: [a]}}, parallel: true}}\n");
    let s = |name: &str| format!("- {{pre: {{in: pod/{name}, command: [a]}}}}\n");
    let groups = |lists: &[String]| {
        let lists: Vec<_> = lists.iter().map(|text| hooks(text)).collect();
        order(&lists).into_iter().map(|(group, hook)| format!("{group}{}", hook.pre.unwrap().place)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(groups(&[s("a") + &p("b") + &p("c") + &s("d") + &p("e")]), "1pod/a 2pod/b 2pod/c 3pod/d 4pod/e");
    assert_eq!(groups(&[p("a"), p("b")]), "1pod/a 2pod/b");
    assert_eq!(groups(&[s("a") + &s("b"), s("a") + &s("b"), s("c")]), "1pod/a 2pod/b 3pod/c", "inherited by two PVCs: once");
}

#[test]
fn the_debt_and_the_deadline_are_there_before_anything_runs() {
    let status = written();
    assert_eq!(status.deadline, at(30 + 50 + 60 + 5), "the longest of each group, the limit, the controller's lead");
    assert_eq!(status.hooks.iter().map(|h| h.group).collect::<Vec<_>>(), [1, 2, 2]);
    assert_eq!(status.hooks[2].post[0].command, ["c2"]);
    let tokens: std::collections::BTreeSet<_> = status.hooks.iter().map(|h| h.pre[0].token.clone()).collect();
    assert_eq!(tokens.len(), 3);
    assert_eq!(status.hooks[0].pre[0].token, status.hooks[0].post[0].token);
    assert_eq!(status.debts(), 0, "nothing is owed before it is begun");
}

#[test]
fn pre_hooks_run_group_by_group_then_the_cut_is_awaited_then_all_is_paid_in_reverse() {
    let mut status = written();
    assert_eq!(next(&status, seen(0)), Next::Begin(1));
    begin(&mut status, 1, Some(ActionResult::Succeeded));
    assert_eq!((next(&status, seen(2)), status.debts()), (Next::Begin(2), 1));
    begin(&mut status, 2, Some(ActionResult::Succeeded));
    assert_eq!((next(&status, seen(3)), status.debts()), (Next::Hold, 3));
    status.phase = QuiescePhase::Frozen;
    status.limit = Some(at(63));
    assert_eq!(next(&status, seen(4)), Next::Wait(at(63)));
    assert_eq!(next(&status, Seen { all_cut: true, ..seen(5) }), Next::Release(Release::Cut));
    status.phase = QuiescePhase::Thawing;
    assert_eq!(next(&status, seen(5)), Next::Pay(vec![vec![2, 1], vec![0]]));
    status.hooks[2].post[0].result = Some(ActionResult::Failed);
    status.hooks[2].post[0].not_before = Some(at(7));
    status.hooks[1].post[0].result = Some(ActionResult::Succeeded);
    status.hooks[0].post[0].result = Some(ActionResult::Void);
    assert_eq!((next(&status, seen(6)), status.debts()), (Next::Wait(at(7)), 1));
    assert_eq!(next(&status, seen(7)), Next::Pay(vec![vec![2]]));
    status.hooks[2].post[0].result = Some(ActionResult::Succeeded);
    assert_eq!((next(&status, seen(8)), is_sound(&status)), (Next::Finish, true));
    status.phase = QuiescePhase::Thawed;
    assert_eq!(next(&status, seen(9)), Next::Done);
}

#[test]
fn a_failed_pre_hook_stops_the_later_ones_unless_it_may_fail() {
    for result in [ActionResult::Failed, ActionResult::TimedOut, ActionResult::MayStillRun, ActionResult::Void] {
        let mut status = written();
        begin(&mut status, 1, Some(result));
        assert_eq!(next(&status, seen(2)), Next::Release(Release::HookFailed), "{result:?}");
        status.hooks[0].on_error = crate::hooks::OnError::Continue;
        assert_eq!((next(&status, seen(2)), is_sound(&status)), (Next::Begin(2), false), "{result:?}");
    }
    let mut status = written();
    begin(&mut status, 1, Some(ActionResult::Failed));
    status.phase = QuiescePhase::Thawing;
    assert_eq!(next(&status, seen(2)), Next::Pay(vec![vec![0]]), "only what was begun is resumed");
}

#[test]
fn whoever_finds_hooks_begun_and_not_ended_resumes() {
    let mut status = written();
    begin(&mut status, 1, None);
    assert_eq!(next(&status, seen(2)), Next::Release(Release::Interrupted));
}

#[test]
fn limits_and_deletion_end_a_freeze_whatever_is_cut() {
    let mut status = written();
    assert_eq!(next(&status, seen(145)), Next::Release(Release::FreezeLimit));
    assert_eq!(next(&status, Seen { deleted: true, ..seen(0) }), Next::Release(Release::Deleted));
    status.phase = QuiescePhase::Frozen;
    status.limit = Some(at(63));
    assert_eq!(next(&status, Seen { deleted: true, all_cut: true, ..seen(0) }), Next::Release(Release::Deleted));
    assert_eq!(next(&status, seen(63)), Next::Release(Release::FreezeLimit));
    assert_eq!(next(&status, Seen { all_cut: true, ..seen(144) }), Next::Release(Release::Cut), "seen before anything was resumed");
    assert_eq!(next(&status, Seen { all_cut: true, ..seen(145) }), Next::Release(Release::FreezeLimit), "the watchdog may have been first");
    status.limit = Some(at(1000));
    assert_eq!(next(&status, seen(145)), Next::Release(Release::FreezeLimit));
}

#[test]
fn retries_come_later_and_later() {
    assert_eq!([1, 2, 3, 7, 8, 100].map(|attempt| backoff(attempt).num_seconds()), [1, 2, 4, 60, 60, 60]);
}

/// A database before one hook with pre and post.
fn dumped() -> QuiesceStatus {
    let preset = crate::database::parse("- postgres: {in: pod/x, file: /data/dump.sql.gz, timeout: 10m}").unwrap().remove(0);
    let at_pod = Found { pod: "x".into(), pod_uid: "u".into(), container: "app".into(), shell: true, ..Found::default() };
    let list = hooks("- {pre: {in: pod/x, command: [a]}, post: {command: [a2]}, onError: Continue}");
    let place = |(group, hook)| Placed { hook, group, pre: vec![at_pod.clone()], post: vec![at_pod.clone()] };
    let placed: Vec<Placed> = order(&[list]).into_iter().map(place).collect();
    resolve("backup", &[Dumped { preset, at: at_pod.clone() }], &placed, Duration::from_mins(1), at(0))
}

#[test]
fn databases_are_looked_at_then_dumped_and_only_then_something_is_held() {
    let mut status = dumped();
    assert_eq!(status.deadline, at(60 + 600 + 30 + 60 + 5));
    let told: Vec<_> = status.hooks.iter().map(|h| (h.group, h.kind, h.pre[0].command[0].as_str())).collect();
    assert_eq!(told, [(1, StepKind::Check, "check"), (2, StepKind::Dump, "dump"), (3, StepKind::Hook, "a")]);
    assert_ne!(status.hooks[0].pre[0].token, status.hooks[1].pre[0].token);
    for group in [1, 2] {
        assert_eq!(next(&status, seen(0)), Next::Begin(group));
        begin(&mut status, group, Some(ActionResult::Succeeded));
    }
    assert_eq!((next(&status, seen(3)), status.is_holding(), status.debts()), (Next::Begin(3), false, 0));
    assert_eq!(deadline(&status.hooks, Duration::from_mins(1), at(3)), at(3 + 30 + 60 + 5), "the dump's time is over");
    begin(&mut status, 3, Some(ActionResult::Succeeded));
    assert_eq!((next(&status, seen(4)), status.is_holding(), status.debts()), (Next::Hold, true, 1));
    assert!(!status.fails(), "a late cut does not void where hooks may fail and the dumps are there");
}

#[test]
fn a_failed_look_or_dump_stops_all_that_follows() {
    for group in [1, 2] {
        let mut status = dumped();
        begin(&mut status, 1, Some(ActionResult::Succeeded));
        begin(&mut status, group, Some(ActionResult::Failed));
        assert_eq!((next(&status, seen(2)), status.fails()), (Next::Release(Release::HookFailed), true), "{group}");
        status.phase = QuiescePhase::Thawing;
        assert_eq!(next(&status, seen(2)), Next::Finish, "nothing was held");
        begin(&mut status, group, None);
        status.phase = QuiescePhase::Freezing;
        assert_eq!((next(&status, seen(2)), status.fails()), (Next::Release(Release::Interrupted), true), "{group}");
    }
}

#[test]
fn dumps_alone_hold_nothing() {
    let mut status = dumped();
    status.hooks.retain(|hook| !hook.kind.is_hook());
    for group in [1, 2] {
        begin(&mut status, group, Some(ActionResult::Succeeded));
    }
    assert_eq!((next(&status, seen(3)), status.holds()), (Next::Finish, false));
}

/// One hook of a mode, in a pod or of a Deployment of 3, already begun.
fn begun(text: &str, result: Option<ActionResult>) -> QuiesceStatus {
    let at_pod = Found { pod: "x".into(), pod_uid: "u".into(), container: "app".into(), shell: true, ..Found::default() };
    let scaled = Found { pod: "x".into(), pod_uid: "u".into(), replicas: Some((Workload::Deployment, 3)), ..Found::default() };
    let place = |(group, hook): (u32, Hook)| {
        let found = if matches!(hook.mode, Mode::Scale(_)) { scaled.clone() } else { at_pod.clone() };
        Placed { hook, group, pre: vec![found.clone()], post: vec![found] }
    };
    let placed: Vec<Placed> = order(&[hooks(text)]).into_iter().map(place).collect();
    let mut status = resolve("backup", &[], &placed, Duration::from_mins(1), at(0));
    begin(&mut status, 1, result);
    status
}

const BESIDE: &str = "- {pre: {in: pod/x, command: [a]}, post: {command: [b]}, wait: false}";

#[test]
fn what_runs_beside_the_snapshot_is_awaited_after_the_cut_and_only_then_paid() {
    let mut status = begun(BESIDE, None);
    assert_eq!((status.deadline, next(&status, seen(1))), (at(60 + 5), Next::Hold), "nobody waits for its time before the cut");
    status.phase = QuiescePhase::Frozen;
    assert_eq!(next(&status, Seen { all_cut: true, ..seen(2) }), Next::Release(Release::Cut));
    (status.phase, status.release) = (QuiescePhase::Thawing, Some(Release::Cut));
    assert_eq!((next(&status, seen(3)), awaits(&status)), (Next::Wait(at(13)), true));
    let mut failed = status.clone();
    failed.hooks[0].pre[0].result = Some(ActionResult::Failed);
    assert_eq!(
        (next(&failed, seen(3)), awaits(&failed), is_void(&failed), is_sound(&failed)),
        (Next::Pay(vec![vec![0]]), false, true, true)
    );
    failed.hooks[0].on_error = OnError::Continue;
    assert!(!is_void(&failed));
    for release in [Release::HookFailed, Release::FreezeLimit, Release::Interrupted, Release::Deleted] {
        status.release = Some(release);
        assert_eq!((next(&status, seen(3)), awaits(&status)), (Next::Pay(vec![vec![0]]), false), "{release:?}: nobody waits for it");
    }
}

#[test]
fn a_command_beside_the_snapshot_that_fails_before_the_cut_ends_the_freeze() {
    let mut status = begun(BESIDE, Some(ActionResult::Failed));
    assert_eq!(next(&status, seen(1)), Next::Release(Release::HookFailed));
    status.hooks[0].on_error = OnError::Continue;
    assert_eq!((next(&status, seen(1)), is_sound(&status)), (Next::Hold, true));
}

#[test]
fn a_session_that_is_lost_while_held_ends_the_freeze_or_makes_it_unsound() {
    let mut status = begun("- {pre: {in: pod/x, command: [a]}, session: true}", Some(ActionResult::Succeeded));
    assert_eq!((next(&status, seen(1)), status.debts()), (Next::Hold, 1));
    status.phase = QuiescePhase::Frozen;
    status.limit = Some(at(61));
    status.hooks[0].pre[0].result = Some(ActionResult::Failed);
    assert_eq!(next(&status, Seen { all_cut: true, ..seen(2) }), Next::Release(Release::HookFailed));
    status.hooks[0].on_error = OnError::Continue;
    assert_eq!((next(&status, Seen { all_cut: true, ..seen(2) }), is_sound(&status)), (Next::Release(Release::Cut), false));
}

#[test]
fn what_is_scaled_says_what_it_was_and_goes_back_to_that() {
    let status = begun("- {pre: {in: deployment/x, timeout: 1m}, scale: 0}", None);
    let told: Vec<_> =
        [&status.hooks[0].pre[0], &status.hooks[0].post[0]].map(|a| a.scale.unwrap()).map(|s| (s.kind, s.from, s.to)).to_vec();
    assert_eq!(told, [(Workload::Deployment, 3, 0), (Workload::Deployment, 0, 3)]);
    assert_eq!((status.hooks[0].kind, status.deadline, status.debts()), (StepKind::Scale, at(60 + 60 + 5), 1));
    assert_eq!(next(&status, seen(1)), Next::Release(Release::Interrupted));
}
