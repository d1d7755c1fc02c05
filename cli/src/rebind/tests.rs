//! Against an API server of the tests' own; with a real snapshot controller see `tests/tests/e2e/rebind.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::testing::{Answer, Asked, Server, err, found, list as listed, modified, no, out};
use serde_json::{Value, json};
use std::time::Duration;

fn content(name: &str, change: impl Fn(&mut Value)) -> Value {
    let mut object = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "resourceVersion": "7",
            "labels": {"borgherd.dev/pvc": "data", "borgherd.dev/retain": "tiers"},
            "annotations": {"borgherd.dev/cut": "2026-11-21T10:00:00Z", "borgherd.dev/pvc-name": "data"},
        },
        "spec": {
            "deletionPolicy": "Retain", "driver": "d", "source": {"volumeHandle": "v"},
            "volumeSnapshotRef": {"namespace": "shop", "name": "data-1", "uid": "gone"},
        },
        "status": {"snapshotHandle": "h", "restoreSize": 1_200_000_000},
    });
    change(&mut object);
    object
}

fn snapshot(uid: &str, content: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {
            "name": "data-1", "namespace": "shop", "uid": uid, "resourceVersion": "9", "labels": {"borgherd.dev/pvc": "data"},
            "annotations": {"borgherd.dev/cut": "2026-11-21T10:00:00Z"},
        },
        "spec": {"source": {"volumeSnapshotContentName": content}},
        "status": {"readyToUse": ready, "boundVolumeSnapshotContentName": content},
    })
}

fn new_name() -> String {
    let old: VolumeSnapshotContent = serde_json::from_value(content("old", |_| {})).unwrap();
    rebind::pair(&old, "shop", &Prefix::default()).unwrap().0.name_any()
}

/// One that has the old content, which `change` makes special; the new snapshot is ready, or never.
fn server(change: impl Fn(&mut Value) + Send + Sync + 'static, ready: bool, other: Option<Value>) -> Server {
    Server::new(move |asked: &Asked| {
        let last = asked.what.rsplit('/').next().unwrap().to_owned();
        let name = new_name();
        match (asked.what.split(' ').next().unwrap(), last.as_str()) {
            ("GET" | "DELETE", "old") => found(content("old", &change)),
            ("GET", "data-1") => other.clone().map_or_else(|| no("volumesnapshots", "data-1"), found),
            ("GET", "shop") => found(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})),
            ("POST", "volumesnapshotcontents") => Answer::Json(201, asked.body.clone()),
            ("POST", "volumesnapshots") => Answer::Json(201, snapshot("new", &name, false)),
            ("WATCH", "volumesnapshots") => Answer::Events(vec![modified(&snapshot("new", &name, ready))]),
            ("GET", "volumesnapshots") => listed(&[snapshot("new", &name, false)]),
            (_, missing) => no("things", missing),
        }
    })
}

fn args() -> args::Rebind {
    args::Rebind { content: Some("old".into()), list: false, timeout: Duration::from_millis(200) }
}

#[tokio::test]
async fn the_old_content_goes_when_the_new_pair_is_ready_and_in_the_version_that_was_seen() {
    let server = server(|_| {}, true, None);
    run(&server.session, &args(), None).await.unwrap();
    let writes: Vec<String> = server.asked().into_iter().filter(|what| !what.starts_with("GET ") && !what.starts_with("WATCH ")).collect();
    let api = "/apis/snapshot.storage.k8s.io/v1";
    let expected = [
        format!("POST {api}/volumesnapshotcontents"),
        format!("POST {api}/namespaces/shop/volumesnapshots"),
        format!("DELETE {api}/volumesnapshotcontents/old"),
    ];
    assert_eq!(writes, expected);
    assert_eq!(server.body_of("DELETE")["preconditions"], json!({"uid": "uid-old", "resourceVersion": "7"}));
    let told = out();
    assert!(told.contains("rebound as VolumeSnapshot shop/data-1 of PVC data") && told.contains("borgherd restore -n shop data"), "{told}");
}

#[tokio::test]
async fn what_is_not_ready_in_time_leaves_the_old_content() {
    let server = server(|_| {}, false, None);
    let failure = run(&server.session, &args(), None).await.unwrap_err();
    assert_eq!(failure.exit, Exit::TimedOut, "{failure}");
    assert!(server.asked().iter().all(|what| !what.starts_with("DELETE")), "{:?}", server.asked());
}

#[tokio::test]
async fn what_could_lose_something_is_refused_and_nothing_is_made() {
    let belongs = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": "data-1", "namespace": "shop", "uid": "gone"}, "spec": {"source": {"persistentVolumeClaimName": "data"}},
    });
    let mut another = belongs.clone();
    another["metadata"]["uid"] = json!("another");
    for (name, server, exit, said) in [
        ("at Delete", server(|o| o["spec"]["deletionPolicy"] = json!("Delete"), true, None), Exit::Invalid, "deletion policy is Delete"),
        (
            "leaving",
            server(|o| o["metadata"]["deletionTimestamp"] = json!("2026-11-21T11:00:00Z"), true, None),
            Exit::Invalid,
            "being deleted",
        ),
        ("no handle", server(|o| o["status"] = json!({}), true, None), Exit::Invalid, "no snapshot handle"),
        ("has its snapshot", server(|_| {}, true, Some(belongs)), Exit::Invalid, "which is there"),
        ("another of that name", server(|_| {}, true, Some(another)), Exit::Exists, "another VolumeSnapshot"),
    ] {
        let failure = run(&server.session, &args(), None).await.unwrap_err();
        assert_eq!(failure.exit, exit, "{name}: {failure}");
        assert!(failure.to_string().contains(said), "{name}: {failure}");
        assert!(server.was_only_read(), "{name}: {:?}", server.asked());
    }
    let server = server(|_| {}, true, None);
    let nowhere = run(&server.session, &args(), Some("nowhere")).await.unwrap_err();
    assert_eq!((nowhere.exit, server.was_only_read()), (Exit::NotFound, true), "{nowhere}");
}

#[tokio::test]
async fn one_that_is_set_to_delete_meanwhile_is_left() {
    let seen = std::sync::atomic::AtomicUsize::new(0);
    let server = server(
        move |object| {
            if seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
                object["spec"]["deletionPolicy"] = json!("Delete");
            }
        },
        true,
        None,
    );
    run(&server.session, &args(), None).await.unwrap();
    assert!(server.asked().iter().all(|what| !what.starts_with("DELETE")), "{:?}", server.asked());
    assert!(err().contains("is left: its deletion policy is Delete"));
}

#[tokio::test]
async fn the_list_has_what_has_no_snapshot_and_is_borgherds() {
    let server = Server::new(|asked: &Asked| match asked.what.rsplit('/').next().unwrap() {
        "volumesnapshotcontents" => listed(&[
            content("frozen", |_| {}),
            content("going", |o| o["spec"]["deletionPolicy"] = json!("Delete")),
            content("alive", |o| o["spec"]["volumeSnapshotRef"]["uid"] = json!("there")),
            content("not-bound", |o| o["spec"]["volumeSnapshotRef"]["uid"] = Value::Null),
            content("clone", |o| o["metadata"]["labels"]["borgherd.dev/temporary"] = json!("true")),
            content("foreign", |o| o["metadata"] = json!({"name": "foreign", "uid": "f"})),
        ]),
        "volumesnapshots" => listed(&[snapshot("there", "alive", true)]),
        missing => no("configmaps", missing),
    });
    run(&server.session, &args::Rebind { content: None, list: true, timeout: Duration::ZERO }, None).await.unwrap();
    let told = out();
    let names: Vec<&str> = told.lines().skip(1).map(|line| line.split("GB").nth(1).unwrap().split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["frozen", "going"], "{told}");
    assert!(told.contains("1.2 GB") && told.contains("its deletion policy is Delete"), "{told}");
    assert!(server.was_only_read());
}
