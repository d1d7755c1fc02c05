//! `restore` against an API server of the test's own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::testing::{Answer, Asked, Server, err, forbidden, found, list, modified, no, out};
use serde_json::{Value, json};

fn args() -> args::Restore {
    args::Restore {
        pvc: "data".to_owned(),
        to: "data-again".to_owned(),
        from: None,
        name: None,
        at: None,
        storage_class: None,
        size: None,
        repository: None,
        wait: false,
        timeout: None,
    }
}

fn waiting() -> args::Restore {
    args::Restore { wait: true, ..args() }
}

/// The Restore as the server keeps it.
fn kept(status: &Value) -> Value {
    json!({
        "apiVersion": "borgherd.dev/v1alpha1", "kind": "Restore",
        "metadata": {"name": "data-again-x7k2p", "namespace": "shop", "uid": "u1", "resourceVersion": "2"},
        "spec": {"source": {"pvc": "data"}, "target": {"pvc": "data-again"}}, "status": status
    })
}

fn resolved() -> Value {
    json!({"kind": "Archive", "name": "shop_data_2026-11-21T10-00-03Z", "cut": "2026-11-21T10:00:03Z", "bytes": 1_200_000_000_u64, "repository": "nas"})
}

/// A cluster with the PVC `data`, the StorageClass `fast` and the Repository `nas`; the Restore goes through `states`.
fn server(states: Vec<Value>) -> Server {
    Server::new(move |asked: &Asked| {
        let (method, path) = asked.what.split_once(' ').unwrap();
        let mut parts = path.rsplit('/');
        let (name, kind) = (parts.next().unwrap(), parts.next().unwrap());
        match (method, kind, name) {
            ("POST", _, "restores") => found(kept(&Value::Null)),
            ("WATCH", _, "restores") => Answer::Events(states.iter().map(|s| modified(&kept(s))).collect()),
            ("GET", _, "restores") => list(&[kept(&Value::Null)]),
            ("GET", "persistentvolumeclaims", "data") => found(json!({"metadata": {"name": name, "namespace": "shop"}})),
            ("GET", "storageclasses", "fast") => found(json!({"metadata": {"name": name}, "provisioner": "p"})),
            ("GET", "repositories", "nas") => {
                found(json!({"metadata": {"name": name}, "spec": {"location": "ssh://nas/./x", "secretRef": "s"}}))
            }
            ("GET", "storageclasses" | "repositories", "hidden") => forbidden("no"),
            ("GET", ..) => no(kind, name),
            other => unreachable!("{other:?}"),
        }
    })
}

#[tokio::test]
async fn without_waiting_it_ends_when_the_choice_is_made() {
    let server = server(vec![json!({"phase": "Resolving"}), json!({"phase": "Preparing", "resolved": resolved()})]);
    let asked = args::Restore {
        from: Some(Kind::Archive),
        at: Some("2026-11-21T11:00:00Z".to_owned()),
        storage_class: Some("fast".to_owned()),
        size: Some("20Gi".to_owned()),
        repository: Some("nas".to_owned()),
        ..args()
    };
    run(&server.session, &asked).await.unwrap();
    insta::assert_snapshot!(format!("{}---\n{}", err(), out()));
    let made = server.body_of("POST");
    assert_eq!(made["metadata"], json!({"generateName": "data-again-", "namespace": "shop"}));
    assert_eq!(
        made["spec"],
        json!({
            "source": {"pvc": "data", "from": "Archive", "at": "2026-11-21T11:00:00Z", "repository": "nas"},
            "target": {"pvc": "data-again", "storageClass": "fast", "size": "20Gi"}
        })
    );
}

#[tokio::test]
async fn waiting_shows_each_phase_and_what_was_restored() {
    let progress = json!({"files": 12000, "bytes": 600_000_000, "totalBytes": 1_200_000_000_u64});
    let server = server(vec![
        json!({"phase": "Resolving"}),
        json!({"phase": "Preparing", "resolved": resolved()}),
        json!({"phase": "Queued", "resolved": resolved(), "node": "node-1"}),
        json!({"phase": "Extracting", "resolved": resolved(), "node": "node-1", "progress": progress}),
        json!({"phase": "HandingOver", "resolved": resolved()}),
        json!({"phase": "Succeeded", "resolved": resolved(), "startedAt": "2026-11-21T11:59:00Z", "finishedAt": "2026-11-21T12:00:35Z"}),
    ]);
    run(&server.session, &waiting()).await.unwrap();
    insta::assert_snapshot!(format!("{}---\n{}", err(), out()));
}

#[tokio::test]
async fn what_can_be_told_wrong_beforehand_changes_nothing() {
    let wrong = |change: fn(&mut args::Restore)| {
        let mut args = args();
        change(&mut args);
        args
    };
    for (asked, exit, named) in [
        (wrong(|a| a.to = "data".to_owned()), Exit::Invalid, "PVC shop/data exists"),
        (wrong(|a| a.at = Some("tomorrow".to_owned())), Exit::Invalid, "--at: tomorrow is no time"),
        (wrong(|a| a.at = Some("2030-01-01".to_owned())), Exit::Invalid, "lies in the future"),
        (wrong(|a| a.storage_class = Some("slow".to_owned())), Exit::NotFound, "there is no StorageClass slow"),
        (wrong(|a| a.repository = Some("tape".to_owned())), Exit::NotFound, "there is no Repository tape"),
    ] {
        let server = server(Vec::new());
        let failure = run(&server.session, &asked).await.unwrap_err();
        assert_eq!(failure.exit, exit, "{failure}");
        assert!(failure.message.contains(named), "{failure}");
        assert!(server.was_only_read(), "{:?}", server.asked());
    }
}

#[tokio::test]
async fn what_may_not_be_looked_at_is_left_to_the_controller() {
    let server = server(vec![json!({"phase": "Preparing", "resolved": resolved()})]);
    let asked = args::Restore { storage_class: Some("hidden".to_owned()), repository: Some("hidden".to_owned()), ..args() };
    run(&server.session, &asked).await.unwrap();
    assert!(!server.was_only_read());
}

#[tokio::test]
async fn a_restore_that_fails_fails_the_command_with_its_reason() {
    for (reason, exit) in [
        ("NoMatch", Exit::NotFound),
        ("TargetExists", Exit::Invalid),
        ("PassphraseWrong", Exit::Failed),
        ("FilesNotRestored", Exit::Failed),
    ] {
        for asked in [args(), waiting()] {
            let server = server(vec![json!({"phase": "Failed", "reason": reason, "message": "because"})]);
            let failure = run(&server.session, &asked).await.unwrap_err();
            assert_eq!((failure.exit, failure.message), (exit, format!("cannot restore shop/data: {reason}: because")));
            assert_eq!(out(), "", "no word of success");
        }
    }
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_and_deletes_nothing() {
    let server = server(Vec::new());
    let asked = waiting();
    let (ended, ()) = tokio::join!(run(&server.session, &asked), server.press_ctrl_c_while_watching());
    let failure = ended.unwrap_err();
    assert_eq!((failure.exit, failure.message.as_str()), (Exit::Interrupted, "stopped waiting; restore shop/data-again-x7k2p goes on"));
    assert!(server.asked().iter().all(|a| !a.starts_with("DELETE")));
}

#[tokio::test]
async fn a_wait_may_end_before_the_restore() {
    let server = server(vec![json!({"phase": "Extracting", "resolved": resolved()})]);
    let asked = args::Restore { timeout: Some(Duration::from_millis(50)), ..waiting() };
    let failure = run(&server.session, &asked).await.unwrap_err();
    assert_eq!(failure.exit, Exit::TimedOut);
    assert!(err().contains("chosen: archive shop_data_2026-11-21T10-00-03Z"));
}
