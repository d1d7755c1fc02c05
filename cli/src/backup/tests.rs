//! `backup` against an API server of the test's own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::output::Format;
use crate::testing::{Answer, Asked, Server, err, forbidden, found, list, modified, no, out, unknown_kind};
use serde_json::{Value, json};

fn args(pvcs: &[&str]) -> args::Backup {
    args::Backup { pvcs: pvcs.iter().map(|p| (*p).to_owned()).collect(), no_archive: false, keep_days: None, wait: false, timeout: None }
}

fn waiting(pvcs: &[&str]) -> args::Backup {
    args::Backup { wait: true, ..args(pvcs) }
}

fn pvc(name: &str, changes: &Value) -> Value {
    let mut pvc = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "annotations": {}},
        "spec": {"volumeName": format!("pv-{name}"), "volumeMode": "Filesystem"}, "status": {"phase": "Bound"}
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        pvc[key].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    }
    pvc
}

/// A cluster with the PVCs `data`, `logs` and some that cannot be backed up; `watched` says how a Backup goes on.
fn server(watched: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Server {
    let made = std::sync::Mutex::new(Value::Null);
    Server::new(move |asked: &Asked| {
        let (method, path) = asked.what.split_once(' ').unwrap();
        if method == "POST" {
            let mut backup = asked.body.clone();
            backup["metadata"]["uid"] = json!("u1");
            backup["metadata"]["resourceVersion"] = json!("2");
            *made.lock().unwrap() = backup.clone();
            return found(backup);
        }
        let name = path.rsplit('/').next().unwrap();
        match (method, path.rsplit('/').nth(1).unwrap(), name) {
            ("WATCH", ..) => watched(&made.lock().unwrap()),
            ("GET", _, "backups") => list(&[made.lock().unwrap().clone()]),
            ("GET", "persistentvolumeclaims", "data" | "logs") => found(pvc(name, &Value::Null)),
            ("GET", "persistentvolumeclaims", "device") => found(pvc(name, &json!({"spec": {"volumeMode": "Block"}}))),
            ("GET", "persistentvolumeclaims", "new") => found(pvc(name, &json!({"status": {"phase": "Pending"}}))),
            ("GET", "persistentvolumeclaims", "wrong") => {
                found(pvc(name, &json!({"metadata": {"annotations": {"borgherd.dev/compression": "zip"}}})))
            }
            ("GET", "persistentvolumes", "pv-nfs") => {
                found(json!({"metadata": {"name": name}, "spec": {"nfs": {"server": "s", "path": "/"}}}))
            }
            ("GET", "persistentvolumes", _) => {
                found(json!({"metadata": {"name": name}, "spec": {"csi": {"driver": "d", "volumeHandle": "h"}}}))
            }
            ("GET", "namespaces", "shop") => found(json!({"metadata": {"name": "shop"}})),
            ("GET", "configmaps", _) => found(json!({"metadata": {"name": "borgherd-defaults"}, "data": {"defaults.json": "{}"}})),
            ("GET", kind, _) => no(kind, name),
            other => unreachable!("{other:?}"),
        }
    })
}

fn with_status(backup: &Value, status: &Value) -> Value {
    let mut backup = backup.clone();
    backup["status"] = status.clone();
    backup
}

fn succeeded() -> Value {
    json!({
        "phase": "Succeeded", "startedAt": "2026-11-21T11:59:30Z", "finishedAt": "2026-11-21T11:59:42.5Z",
        "volumes": [{
            "pvc": "data", "phase": "Finished", "outcome": "Succeeded", "snapshot": "data-1", "cut": "2026-11-21T11:59:31Z",
            "repository": "nas", "archive": "shop_data_2026-11-21T11-59-31Z", "node": "node-1",
            "progress": {"files": 12000, "bytes": 1_200_000_000_u64, "compressedBytes": 800_000_000, "deduplicatedBytes": 1_000_000},
            "durations": {"cutVisible": 0.31, "cutToReady": 1.2, "admission": 0.0, "clone": 2.0, "slotWait": 0.04, "borg": 8.1, "clean": 0.6}
        }]
    })
}

#[tokio::test]
async fn several_pvcs_are_one_backup_whatever_their_order() {
    let server = server(|_| Answer::Silence);
    run(&server.session, &args(&["logs", "data", "logs"])).await.unwrap();
    let made = server.body_of("POST");
    assert_eq!(made["spec"], json!({"volumes": ["data", "logs"], "archive": true, "trigger": "Manual"}));
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("data-logs-") && name.ends_with("-20261121120000"), "{name}");
    assert_eq!(out(), format!("backup shop/{name} created\nfollow it with: kubectl -n shop get backups -w\n"));
    assert_eq!(err(), "", "nothing to warn of");
}

#[tokio::test]
async fn snapshots_only() {
    let server = server(|_| Answer::Silence);
    let asked = args::Backup { no_archive: true, keep_days: Some(30), ..args(&["data"]) };
    run(&server.session, &asked).await.unwrap();
    let spec = &server.body_of("POST")["spec"];
    assert_eq!((&spec["archive"], &spec["keepDays"]), (&json!(false), &json!(30)));
}

#[tokio::test]
async fn what_cannot_be_backed_up_is_refused_before_anything_is_made() {
    for (pvcs, exit, named) in [
        (vec!["data", "gone"], Exit::NotFound, "there is no PVC shop/gone"),
        (vec!["data", "device"], Exit::Invalid, "PVC shop/device cannot be backed up: it has volumeMode Block"),
        (vec!["new"], Exit::Invalid, "it is not bound"),
        (vec!["wrong"], Exit::Invalid, "borgherd.dev/compression on the PVC, value 'zip'"),
    ] {
        let server = server(|_| Answer::Silence);
        let failure = run(&server.session, &args(&pvcs)).await.unwrap_err();
        assert_eq!(failure.exit, exit, "{failure}");
        assert!(failure.message.contains(named), "{failure}");
        assert!(server.was_only_read(), "{:?}", server.asked());
    }
}

#[tokio::test]
async fn waiting_shows_each_phase_and_ends_with_a_summary() {
    let server = server(|made| {
        let at = |volume: Value| modified(&with_status(made, &json!({"phase": "Archiving", "volumes": [volume]})));
        Answer::Events(vec![
            at(json!({"pvc": "data", "phase": "Cutting"})),
            at(json!({"pvc": "data", "phase": "Waiting", "reason": "WaitingForRepository", "cut": "2026-11-21T11:59:31Z"})),
            at(json!({"pvc": "data", "phase": "Archiving", "node": "node-1", "attempt": 1, "progress": {"files": 10, "bytes": 1000}})),
            at(json!({"pvc": "data", "phase": "Archiving", "node": "node-1", "attempt": 1, "progress": {"files": 20, "bytes": 2000}})),
            modified(&with_status(made, &succeeded())),
        ])
    });
    run(&server.session, &waiting(&["data"])).await.unwrap();
    insta::assert_snapshot!(format!("{}---\n{}", err(), out()));
}

#[tokio::test]
async fn a_failed_backup_fails_the_command_and_says_why() {
    let status = json!({
        "phase": "Failed", "reason": "PassphraseWrong", "message": "volume data: borg refused the passphrase in Secret nas",
        "volumes": [{"pvc": "data", "phase": "Finished", "outcome": "Failed", "reason": "PassphraseWrong", "message": "borg refused the passphrase in Secret nas"}]
    });
    let mut server = server(move |made| Answer::Events(vec![modified(&with_status(made, &status))]));
    server.session.screen.format = Format::Json;
    let failure = run(&server.session, &waiting(&["data"])).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.message.ends_with("failed: PassphraseWrong: volume data: borg refused the passphrase in Secret nas"), "{failure}");
    let shown: Value = serde_json::from_str(&out()).unwrap();
    assert_eq!(shown["status"]["phase"], json!("Failed"), "programs get the object all the same");
}

#[tokio::test]
async fn a_timeout_ends_the_wait_and_deletes_nothing() {
    let server = server(|_| Answer::Events(Vec::new()));
    let asked = args::Backup { timeout: Some(Duration::from_millis(30)), ..waiting(&["data"]) };
    let failure = run(&server.session, &asked).await.unwrap_err();
    assert_eq!(failure.exit, Exit::TimedOut);
    assert!(failure.message.ends_with("it goes on") && failure.hint.is_some(), "{failure}");
    assert!(err().contains("is its controller running?"));
    assert!(server.asked().iter().all(|a| !a.starts_with("DELETE")));
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_and_deletes_nothing() {
    let server = server(|_| Answer::Events(Vec::new()));
    let asked = waiting(&["data"]);
    let (ended, ()) = tokio::join!(run(&server.session, &asked), server.press_ctrl_c_while_watching());
    let failure = ended.unwrap_err();
    assert_eq!(failure.exit, Exit::Interrupted);
    assert!(failure.message.starts_with("stopped waiting; backup shop/data-"), "{failure}");
    assert!(server.asked().iter().all(|a| !a.starts_with("DELETE")));
}

#[tokio::test]
async fn a_backup_that_is_deleted_meanwhile_is_no_success() {
    let server = server(|made| Answer::Events(vec![json!({"type": "DELETED", "object": made})]));
    let failure = run(&server.session, &waiting(&["data"])).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.message.contains("was deleted before its end"));
}

#[tokio::test]
async fn a_user_without_the_right_is_told_which_one_and_one_without_borgherd_too() {
    for (answer, exit, named) in [
        (forbidden as fn(&str) -> Answer, Exit::Forbidden, "create backups.borgherd.dev"),
        (|_| unknown_kind(), Exit::NotFound, "helm install"),
    ] {
        let server = Server::new(move |asked: &Asked| match &asked.what {
            what if what.starts_with("POST") => answer("backups is forbidden: User \"eve\" cannot create resource \"backups\""),
            what if what.ends_with("persistentvolumeclaims/data") => found(pvc("data", &Value::Null)),
            _ => forbidden("no"),
        });
        let failure = run(&server.session, &args(&["data"])).await.unwrap_err();
        assert_eq!(failure.exit, exit, "{failure}");
        assert!(failure.hint.unwrap().contains(named));
        assert!(err().contains("what PVCs inherit from their namespace is left out"));
    }
}

#[tokio::test]
async fn the_same_backup_asked_for_twice_in_a_second_is_one() {
    let exists = |asked: &Asked| {
        Answer::Json(
            409,
            json!({"kind": "Status", "code": 409, "reason": "AlreadyExists", "message": "exists", "details": {"name": asked.body["metadata"]["name"]}}),
        )
    };
    let server = Server::new(move |asked: &Asked| match &asked.what {
        what if what.starts_with("POST") => exists(asked),
        what if what.ends_with("persistentvolumeclaims/data") => found(pvc("data", &Value::Null)),
        what if what.contains("/backups/") => {
            let name = what.rsplit('/').next().unwrap();
            found(
                json!({"metadata": {"name": name, "namespace": "shop", "uid": "u1"}, "spec": {"volumes": ["data"], "archive": true, "trigger": "Manual"}}),
            )
        }
        _ => forbidden("no"),
    });
    run(&server.session, &args(&["data"])).await.unwrap();
    assert!(out().contains("created"));
    let other = args::Backup { no_archive: true, ..args(&["data"]) };
    let failure = run(&server.session, &other).await.unwrap_err();
    assert_eq!((failure.exit, failure.exit.code()), (Exit::Exists, 2), "another one of the same name is another one");
}
