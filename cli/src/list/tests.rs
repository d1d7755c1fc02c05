//! `list` against an API server of the test's own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::testing::{Answer, Asked, Server, err, forbidden, found, here, list, modified, no, out, unknown_kind, utc};
use serde_json::{Value, json};

const RESTORES: &str = "/apis/borgherd.dev/v1alpha1/namespaces/shop/restores";

fn args() -> args::List {
    args::List { pvc: "data".to_owned(), snapshots: false, archives: false, repository: None, timeout: Duration::from_secs(20) }
}

/// The preview as the server keeps it.
fn kept(status: &Value) -> Value {
    json!({
        "apiVersion": "borgherd.dev/v1alpha1", "kind": "Restore",
        "metadata": {"name": "list-x7k2p", "namespace": "shop", "uid": "u1", "resourceVersion": "2"},
        "spec": {"source": {"pvc": "data"}, "preview": true}, "status": status
    })
}

fn candidates() -> Value {
    json!([
        {"kind": "Snapshot", "name": "data-snap-2", "cut": "2026-11-21T10:00:03.7Z", "bytes": 2_000_000_000_u64},
        {"kind": "Archive", "name": "shop_data_2026-11-21T10-00-03Z", "cut": "2026-11-21T10:00:03Z", "bytes": 1_200_000_000_u64, "files": 12000, "repository": "nas"},
        {"kind": "Archive", "name": "shop_data_2026-11-21T10-00-03Z", "cut": "2026-11-21T10:00:03Z", "bytes": 1_200_000_000_u64, "files": 12000, "repository": "cloud"},
        {"kind": "Archive", "name": "shop_data_2026-10-01T10-00-00Z", "cut": "2026-10-01T10:00:00Z", "repository": "nas"}
    ])
}

/// A server that makes the preview; its state comes by a watch.
fn server(watched: impl Fn() -> Answer + Send + Sync + 'static) -> Server {
    Server::new(move |asked: &Asked| match asked.what.split_once(' ').unwrap().0 {
        "POST" | "DELETE" => found(kept(&Value::Null)),
        "GET" => list(&[kept(&Value::Null)]),
        "WATCH" => watched(),
        other => unreachable!("{other}"),
    })
}

fn deletes(server: &Server) -> usize {
    let gone = format!("DELETE {RESTORES}/list-x7k2p");
    server.asked().iter().filter(|a| **a == gone).count()
}

#[tokio::test]
async fn what_there_is_is_shown_by_cut_and_the_preview_deleted() {
    let server = server(|| {
        let resolving = kept(&json!({"phase": "Resolving"}));
        Answer::Events(vec![modified(&resolving), modified(&kept(&json!({"phase": "Succeeded", "candidates": candidates()})))])
    });
    run(&server.session, &args()).await.unwrap();
    insta::assert_snapshot!(out());
    assert_eq!(deletes(&server), 1);
    let made = server.body_of("POST");
    assert_eq!(made["spec"], json!({"source": {"pvc": "data"}, "preview": true}));
    assert_eq!(made["metadata"], json!({"generateName": "list-", "namespace": "shop"}));
}

#[tokio::test]
async fn programs_get_the_same_as_data() {
    let mut server = server(|| Answer::Events(vec![modified(&kept(&json!({"phase": "Succeeded", "candidates": candidates()})))]));
    server.session.screen.format = Format::Json;
    run(&server.session, &args()).await.unwrap();
    insta::assert_snapshot!(out());
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_controller() {
    let server = server(|| Answer::Events(vec![modified(&kept(&json!({"phase": "Succeeded"})))]));
    let asked = args::List { archives: true, repository: Some("cloud".to_owned()), ..args() };
    let failure = run(&server.session, &asked).await.unwrap_err();
    assert_eq!(server.body_of("POST")["spec"]["source"], json!({"pvc": "data", "from": "Archive", "repository": "cloud"}));
    assert_eq!((failure.exit, failure.message.as_str()), (Exit::NotFound, "there is no archive of shop/data"));
}

#[tokio::test]
async fn a_failure_is_told_and_what_was_found_nevertheless_is_shown() {
    let status = json!({"phase": "Failed", "reason": "ConnectionFailed", "message": "nas did not answer", "candidates": [candidates()[0]]});
    let server = server(move || Answer::Events(vec![modified(&kept(&status))]));
    let failure = run(&server.session, &args()).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert_eq!(failure.message, "cannot list what there is: ConnectionFailed: nas did not answer");
    assert!(out().contains("data-snap-2"));
    assert_eq!(deletes(&server), 1);
}

#[tokio::test]
async fn snapshots_alone_are_no_complete_answer() {
    for (candidates, shown) in [(json!([candidates()[0]]), true), (json!([]), false)] {
        let status =
            json!({"phase": "Succeeded", "reason": "RepositoryNotFound", "message": "no Repository is default", "candidates": candidates});
        let server = server(move || Answer::Events(vec![modified(&kept(&status))]));
        let failure = run(&server.session, &args()).await.unwrap_err();
        assert_eq!(
            (failure.exit, failure.message.as_str()),
            (Exit::Failed, "cannot list archives: RepositoryNotFound: no Repository is default")
        );
        assert_eq!(out().contains("data-snap-2"), shown);
    }
}

#[tokio::test]
async fn the_preview_is_deleted_when_nobody_answers() {
    let server = server(|| Answer::Events(Vec::new()));
    let asked = args::List { timeout: Duration::from_millis(50), ..args() };
    let failure = run(&server.session, &asked).await.unwrap_err();
    assert_eq!(failure.exit, Exit::TimedOut);
    assert!(failure.hint.unwrap().contains("kubectl -n borgherd get pods"));
    assert_eq!(deletes(&server), 1);
}

#[tokio::test]
async fn the_preview_is_deleted_after_ctrl_c() {
    let server = server(|| Answer::Events(Vec::new()));
    let asked = args();
    let (failure, ()) = tokio::join!(run(&server.session, &asked), server.press_ctrl_c_while_watching());
    assert_eq!(failure.unwrap_err().exit, Exit::Interrupted);
    assert_eq!(deletes(&server), 1);
}

#[tokio::test]
async fn the_preview_is_deleted_when_it_may_not_be_watched() {
    let server = server(|| forbidden("restores.borgherd.dev is forbidden: User \"eve\" cannot watch resource \"restores\""));
    let failure = run(&server.session, &args()).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Forbidden);
    assert!(failure.hint.unwrap().contains("kubectl auth can-i watch restores.borgherd.dev -n shop"));
    assert_eq!(deletes(&server), 1);
}

#[tokio::test]
async fn who_may_not_delete_the_preview_is_told_where_it_is() {
    let answered = kept(&json!({"phase": "Succeeded", "candidates": candidates()}));
    let server = Server::new(move |asked: &Asked| match asked.what.split_once(' ').unwrap().0 {
        "POST" => found(answered.clone()),
        "GET" => list(std::slice::from_ref(&answered)),
        "DELETE" => forbidden("cannot delete"),
        _ => Answer::Events(Vec::new()),
    });
    run(&server.session, &args()).await.unwrap();
    assert!(err().contains("kubectl -n shop delete restores.borgherd.dev list-x7k2p"));
}

#[tokio::test]
async fn without_borgherd_or_the_namespace_the_failure_says_so() {
    let server = Server::new(|_| unknown_kind());
    let failure = run(&server.session, &args()).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound);
    assert!(failure.message.contains("Borgherd is not installed"), "{failure}");
    assert!(failure.hint.unwrap().contains("helm install"));

    let server = Server::new(|_| no("namespaces", "shop"));
    let failure = run(&server.session, &args()).await.unwrap_err();
    assert_eq!(
        (failure.exit, failure.message.as_str()),
        (Exit::NotFound, "cannot create restores.borgherd.dev in namespace shop: there is no namespace shop")
    );
}

#[test]
fn wide_tells_the_offset_and_the_repository() {
    let moments = merge(serde_json::from_value(candidates()).unwrap());
    insta::assert_snapshot!(render(&moments, here(), Format::Wide, false));
}

#[test]
fn merging_loses_nothing_and_goes_from_new_to_old() {
    let moments = merge(serde_json::from_value(candidates()).unwrap());
    let cuts: Vec<_> = moments.iter().map(|m| m.cut.timestamp()).collect();
    assert_eq!(cuts, [utc("2026-11-21T10:00:03Z").timestamp(), utc("2026-10-01T10:00:00Z").timestamp()]);
    assert_eq!((moments[0].snapshot.is_some(), moments[0].archives.len()), (true, 2));
    assert_eq!((moments[1].snapshot.is_some(), moments[1].archives.len()), (false, 1));
}
