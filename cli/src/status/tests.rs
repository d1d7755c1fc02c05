//! `status` from PVCs, annotations and Backups to what is printed, against an API server of the test's own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::assess::State;
use super::*;
use crate::errors::Exit;
use crate::testing::{Answer, Asked, Server, err, forbidden, found, list, no, out, unknown_kind};
use serde_json::{Value, json};

fn all() -> args::Status {
    args::Status { pvcs: Vec::new(), all_namespaces: false, explain: false }
}

fn pvc(name: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<_, _> = annotations.iter().map(|(k, v)| (format!("borgherd.dev/{k}"), json!(v))).collect();
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "creationTimestamp": "2026-11-01T00:00:00Z", "annotations": annotations},
        "spec": {"volumeName": format!("pv-{name}")}, "status": {"phase": "Bound"}
    })
}

fn backup(name: &str, at: &str, status: &Value) -> Value {
    let pvc = status["volumes"][0]["pvc"].clone();
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": at},
        "spec": {"volumes": [pvc], "archive": true, "trigger": "Scheduled", "scheduledTime": at}, "status": status
    })
}

fn succeeded(pvc: &str, at: &str) -> Value {
    let progress = json!({"files": 12000, "bytes": 1_200_000_000_u64});
    let volume = json!({"pvc": pvc, "phase": "Finished", "outcome": "Succeeded", "archive": format!("shop_{pvc}_x"), "snapshot": "s", "progress": progress});
    backup(&format!("{pvc}-ok"), at, &json!({"phase": "Succeeded", "finishedAt": at, "volumes": [volume]}))
}

fn failed(pvc: &str, at: &str) -> Value {
    let volume = json!({"pvc": pvc, "phase": "Finished", "outcome": "Failed", "reason": "ConnectionFailed", "message": "nas did not answer on port 22; is it up, and does the network policy let the agents through?"});
    backup(&format!("{pvc}-bad"), at, &json!({"phase": "Failed", "reason": "ConnectionFailed", "finishedAt": at, "volumes": [volume]}))
}

fn running(pvc: &str, at: &str) -> Value {
    let volume = json!({"pvc": pvc, "phase": "Archiving", "node": "node-1", "progress": {"files": 3, "bytes": 1000}});
    backup(&format!("{pvc}-now"), at, &json!({"phase": "Archiving", "startedAt": at, "volumes": [volume]}))
}

/// A namespace with a PVC in each state there is.
fn pvcs() -> Vec<Value> {
    let mut device = pvc("device", &[]);
    device["spec"]["volumeMode"] = json!("Block");
    let mut scratch = pvc("scratch", &[("schedule", "")]);
    scratch["metadata"]["labels"] = json!({"app": "x"});
    vec![
        pvc("busy", &[]),
        pvc("data", &[("archive-schedule", "@weekly"), ("exclude", "*.tmp\ncache/"), ("shedule", "@hourly")]),
        device,
        pvc("fresh", &[("group", "pair")]),
        pvc("fresh-too", &[("group", "pair"), ("time-zone", "Asia/Tokyo")]),
        pvc("late", &[("schedule", "0 */2 * * *")]),
        pvc("nowhere", &[("repository", "tape")]),
        pvc("paused", &[("suspend", "true")]),
        scratch,
        pvc("snaps", &[("archive-schedule", ""), ("time-zone", "Europe/Berlin")]),
        pvc("unlucky", &[]),
        pvc("wrong", &[("schedule", "61 * * * *"), ("suspend", "maybe")]),
    ]
}

fn backups() -> Vec<Value> {
    vec![
        succeeded("data", "2026-11-21T00:00:05Z"),
        failed("data", "2026-11-20T00:00:05Z"),
        succeeded("busy", "2026-11-20T00:00:05Z"),
        running("busy", "2026-11-21T11:59:00Z"),
        succeeded("late", "2026-11-21T08:00:00Z"),
        succeeded("paused", "2026-11-19T00:00:00Z"),
        succeeded("snaps", "2026-11-21T00:00:00Z"),
        succeeded("unlucky", "2026-11-20T00:00:05Z"),
        failed("unlucky", "2026-11-21T00:00:05Z"),
        json!({"metadata": {"name": "from-the-future", "namespace": "shop"}, "spec": {"volumes": "all"}}),
    ]
}

fn repository(name: &str, default: bool) -> Value {
    json!({"metadata": {"name": name}, "spec": {"location": "ssh://nas/./x", "secretRef": "s", "default": default}})
}

fn answer(asked: &Asked) -> Answer {
    let path = asked.what.strip_prefix("GET ").unwrap();
    let mut parts = path.rsplit('/');
    let (name, kind) = (parts.next().unwrap(), parts.next().unwrap());
    match (kind, name) {
        (_, "persistentvolumeclaims") => list(&pvcs()),
        (_, "backups") => list(&backups()),
        (_, "repositories") => list(&[repository("nas", true), repository("cloud", false)]),
        (_, "volumesnapshots") => list(&[json!({
            "metadata": {"name": "fresh-1", "namespace": "shop", "annotations": {"borgherd.dev/scheduled-time": "2026-11-21T00:00:00Z"}},
            "spec": {"source": {"persistentVolumeClaimName": "fresh"}}
        })]),
        (_, "persistentvolumes") => list(&[]),
        ("persistentvolumes", _) => found(json!({"metadata": {"name": name}, "spec": {"csi": {"driver": "d", "volumeHandle": "h"}}})),
        ("namespaces", "shop") => found(json!({"metadata": {"name": "shop", "annotations": {"borgherd.dev/schedule": "@daily"}}})),
        ("configmaps", "borgherd-defaults") => {
            found(json!({"metadata": {"name": name}, "data": {"defaults.json": "{\"compression\": \"zstd,3\"}"}}))
        }
        _ => no(kind, name),
    }
}

#[tokio::test]
async fn a_line_for_each_pvc() {
    let server = Server::new(answer);
    run(&server.session, &all()).await.unwrap();
    insta::assert_snapshot!(format!("{}---\n{}", err(), out()));
    assert!(server.was_only_read());
}

#[tokio::test]
async fn wide_says_where_values_come_from() {
    let mut server = Server::new(answer);
    server.session.screen.format = Format::Wide;
    run(&server.session, &all()).await.unwrap();
    insta::assert_snapshot!(out());
}

#[tokio::test]
async fn a_block_for_each_that_is_named() {
    let server = Server::new(answer);
    let asked =
        args::Status { pvcs: ["data", "wrong", "unlucky", "snaps", "device", "late", "fresh-too"].map(str::to_owned).to_vec(), ..all() };
    run(&server.session, &asked).await.unwrap();
    insta::assert_snapshot!(out());
}

#[tokio::test]
async fn programs_get_all_of_it() {
    let mut server = Server::new(answer);
    server.session.screen.format = Format::Yaml;
    let asked = args::Status { pvcs: vec!["unlucky".to_owned()], ..all() };
    run(&server.session, &asked).await.unwrap();
    insta::assert_snapshot!(out());
}

#[tokio::test]
async fn every_state_is_reached() {
    let server = Server::new(answer);
    let seen = Box::pin(observe::observe(&server.session, &all())).await.unwrap();
    let items = assess::assess(&seen, crate::testing::now());
    let states: Vec<_> = items.iter().map(|i| (i.pvc.as_str(), i.state)).collect();
    assert_eq!(
        states,
        [
            ("busy", State::Running),
            ("data", State::Ok),
            ("device", State::Excluded),
            ("fresh", State::Waiting),
            ("fresh-too", State::Overdue),
            ("late", State::Overdue),
            ("nowhere", State::Invalid),
            ("paused", State::Suspended),
            ("scratch", State::Off),
            ("snaps", State::Ok),
            ("unlucky", State::Failed),
            ("wrong", State::Invalid),
        ]
    );
}

#[tokio::test]
async fn what_may_not_be_read_is_said_once_and_left_out() {
    let server = Server::new(|asked: &Asked| match &asked.what {
        what if what.ends_with("/persistentvolumeclaims") || what.ends_with("/backups") => answer(asked),
        _ => forbidden("no"),
    });
    run(&server.session, &all()).await.unwrap();
    let said = err();
    assert_eq!(said.matches("what PVCs inherit from their namespace is left out").count(), 1, "{said}");
    assert_eq!(said.matches("the chart's defaults are unknown and left out").count(), 1, "{said}");
    assert!(out().contains("late"));
}

#[tokio::test]
async fn without_borgherd_pvc_or_namespace_it_says_so() {
    let named = |name: &str| args::Status { pvcs: vec![name.to_owned()], ..all() };
    let failure = run(&Server::new(answer).session, &named("gone")).await.unwrap_err();
    assert_eq!((failure.exit, failure.message.as_str()), (Exit::NotFound, "there is no PVC shop/gone"));
    assert!(failure.hint.unwrap().contains("borgherd list -n shop gone"));

    let not_installed = Server::new(|asked: &Asked| if asked.what.contains("borgherd.dev") { unknown_kind() } else { answer(asked) });
    let failure = run(&not_installed.session, &all()).await.unwrap_err();
    assert!(failure.message.contains("Borgherd is not installed"), "{failure}");

    let empty = Server::new(|asked: &Asked| match &asked.what {
        what if what.ends_with("/namespaces/shop") => no("namespaces", "shop"),
        _ => list(&[]),
    });
    let failure = run(&empty.session, &all()).await.unwrap_err();
    assert_eq!((failure.exit, failure.message.as_str()), (Exit::NotFound, "there is no namespace shop"));
}
