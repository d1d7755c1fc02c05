//! One deletion against an API server of the test's own, which can die before or after it has done what any request asks for. (With a
//! real one, and a real snapshot controller, see `tests/`; there no request can be made to fail at will.)
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::super::content::{Taken, take_one_back};
use super::*;
use borgherd_api::crd::snapshot::VolumeSnapshotContent;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const CONTENTS: &str = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents";
const SNAPSHOT: &str = "/apis/snapshot.storage.k8s.io/v1/namespaces/shop/volumesnapshots/data-1";

/// Objects by path, and how long it lives.
#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    asked: Vec<String>,
    /// The number of the request at which it dies, and whether that one is still carried out.
    dies: Option<(usize, bool)>,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

/// What a merge patch changes of an object; `null` takes away.
fn merge(object: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            if !object[key].is_object() {
                object[key] = json!({});
            }
            merge(&mut object[key], value);
        }
    }
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason, "message": reason}),
    )
}

impl State {
    fn carry_out(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        if *method == Method::GET && path == CONTENTS {
            let items: Vec<_> = self.objects.iter().filter(|(at, _)| at.starts_with(CONTENTS)).map(|(_, object)| object).collect();
            return (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}));
        }
        let Some(object) = self.objects.get_mut(path) else { return status(404, "NotFound") };
        let judged = if *method == Method::DELETE { &body["preconditions"] } else { &body["metadata"] };
        let differs = |key: &str| judged.get(key).is_some_and(|wanted| *wanted != object["metadata"][key]);
        if differs("uid") || differs("resourceVersion") {
            return status(409, "Conflict");
        }
        match *method {
            Method::DELETE => (200, self.objects.remove(path).unwrap()),
            Method::PATCH => {
                merge(object, body);
                let version: u32 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
                object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
                (200, object.clone())
            }
            _ => (200, object.clone()),
        }
    }

    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> Option<(u16, Value)> {
        let number = self.asked.len();
        self.asked.push(format!("{method} {}", path.rsplit('/').next().unwrap_or_default()));
        match self.dies {
            Some((at, _)) if number > at => None,
            Some((at, is_done)) if number == at => {
                if is_done {
                    self.carry_out(method, path, body);
                }
                None
            }
            Some(_) | None => Some(self.carry_out(method, path, body)),
        }
    }
}

impl Server {
    fn client(&self) -> Client {
        let state = Arc::clone(&self.0);
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = Arc::clone(&state);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let answer = state.lock().unwrap().answer(&head.method, head.uri.path(), &body);
                let (code, object) = answer.ok_or("the server is gone")?;
                Ok::<_, tower::BoxError>(Response::builder().status(code).body(Body::from(object.to_string().into_bytes()))?)
            }
        });
        Client::new(service, "default")
    }

    /// A snapshot that is due, and its content.
    fn new() -> Self {
        let server = Self::default();
        server.put(
            SNAPSHOT,
            json!({
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                "metadata": {
                    "name": "data-1", "namespace": "shop", "uid": "u1", "resourceVersion": "5",
                    "labels": {"borgherd.dev/pvc": "data", "borgherd.dev/retain": "tiers"},
                },
                "spec": {"source": {"persistentVolumeClaimName": "data"}},
                "status": {"readyToUse": true, "boundVolumeSnapshotContentName": "c1"},
            }),
        );
        server.put(&format!("{CONTENTS}/c1"), content("c1", "u1", &json!({})));
        server
    }

    fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().objects.insert(path.to_owned(), object);
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    fn dies(&self, dies: Option<(usize, bool)>) {
        let mut state = self.0.lock().unwrap();
        state.asked.clear();
        state.dies = dies;
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    /// As a listing would give it.
    fn judged(&self) -> Option<Snapshot> {
        Snapshot::of(&serde_json::from_value::<VolumeSnapshot>(self.get(SNAPSHOT)?).unwrap())
    }

    fn policy(&self) -> (String, bool) {
        let found: VolumeSnapshotContent = serde_json::from_value(self.get(&format!("{CONTENTS}/c1")).unwrap()).unwrap();
        let swept = found.metadata.labels.unwrap_or_default().contains_key("borgherd.dev/swept");
        (found.spec.deletion_policy, swept)
    }
}

fn content(name: &str, uid: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "resourceVersion": "7", "labels": labels,
            "annotations": {"borgherd.dev/own-deletion-policy": "Delete"},
        },
        "spec": {
            "deletionPolicy": "Retain", "driver": "btrfs.test", "source": {"volumeHandle": "v"},
            "volumeSnapshotRef": {"namespace": "shop", "name": "data-1", "uid": uid},
        },
        "status": {"snapshotHandle": "handle-1"},
    })
}

async fn sweep(server: &Server) -> Result<bool, Poison> {
    let contents = content::all(&server.client()).await?;
    one(&server.client(), &server.judged().unwrap(), &contents).await
}

#[tokio::test]
async fn the_content_is_let_go_before_the_snapshot_is_deleted() {
    let server = Server::new();
    assert!(sweep(&server).await.unwrap());
    assert_eq!(server.asked(), ["GET volumesnapshotcontents", "GET c1", "PATCH c1", "DELETE data-1"]);
    assert_eq!((server.get(SNAPSHOT), server.policy()), (None, ("Delete".to_owned(), true)));
}

#[tokio::test]
async fn one_that_has_changed_since_stays_and_so_does_its_content() {
    for change in [json!({"metadata": {"resourceVersion": "6"}}), json!({"metadata": {"uid": "u2"}})] {
        let server = Server::new();
        let (judged, contents) = (server.judged().unwrap(), content::all(&server.client()).await.unwrap());
        let mut other = server.get(SNAPSHOT).unwrap();
        merge(&mut other, &change);
        server.put(SNAPSHOT, other);
        assert!(!one(&server.client(), &judged, &contents).await.unwrap());
        assert!(server.get(SNAPSHOT).is_some(), "{change}");
        assert_eq!(server.policy(), ("Retain".to_owned(), false), "{change}");
    }
}

#[tokio::test]
async fn what_another_program_kept_is_kept_again_too() {
    let server = Server::new();
    let mut theirs = content("c1", "u1", &json!({}));
    theirs["metadata"]["annotations"] = json!({});
    server.put(&format!("{CONTENTS}/c1"), theirs);
    let (judged, contents) = (server.judged().unwrap(), content::all(&server.client()).await.unwrap());
    let mut unmarked = server.get(SNAPSHOT).unwrap();
    unmarked["metadata"]["resourceVersion"] = json!("6");
    server.put(SNAPSHOT, unmarked);
    assert!(!one(&server.client(), &judged, &contents).await.unwrap());
    assert_eq!(server.policy(), ("Retain".to_owned(), false));
    // killed before that: found at Delete by the next look
    let left = content::find(&server.client(), "c1").await.unwrap().unwrap();
    content::let_go(&server.client(), &left).await.unwrap();
    assert_eq!(server.policy(), ("Delete".to_owned(), true));
    assert_eq!(content::all(&server.client()).await.unwrap().at_delete().map(|content| content.name.as_str()).collect::<Vec<_>>(), ["c1"]);
}

#[tokio::test]
async fn what_another_content_names_or_what_is_not_bound_is_not_touched() {
    let shared = Server::new();
    shared.put(&format!("{CONTENTS}/c2"), content("c2", "u9", &json!({})));
    let cloned = Server::new();
    cloned.put(&format!("{CONTENTS}/c2"), content("c2", "u9", &json!({"borgherd.dev/temporary": "true"})));
    let foreign = Server::new();
    foreign.put(&format!("{CONTENTS}/c1"), content("c1", "u9", &json!({})));
    assert!(matches!(sweep(&shared).await, Err(Poison::SharedHandle(name)) if name == "c2"));
    assert!(matches!(sweep(&cloned).await, Ok(false)), "its archive is being made: later");
    assert!(matches!(sweep(&foreign).await, Err(Poison::NoContent(_))));
    for server in [shared, cloned, foreign] {
        assert!(server.get(SNAPSHOT).is_some() && server.policy().0 == "Retain");
        assert!(server.asked().iter().all(|asked| asked.starts_with("GET ")), "{:?}", server.asked());
    }
}

/// Killed at every request, before and after it is carried out; the next process finds the verdict still holding, or not.
#[tokio::test]
async fn killed_anywhere_the_next_one_goes_on_or_takes_back() {
    for (at, is_done) in (0..4).flat_map(|at| [(at, false), (at, true)]) {
        for still_holds in [true, false] {
            let server = Server::new();
            server.dies(Some((at, is_done)));
            assert!(sweep(&server).await.is_err(), "it died at request {at}");
            server.dies(None);
            let told = format!("{at} {is_done} {still_holds}");
            if !still_holds && let Some(mut unmarked) = server.get(SNAPSHOT) {
                unmarked["metadata"]["resourceVersion"] = json!("6");
                server.put(SNAPSHOT, unmarked);
            }
            let there = server.get(SNAPSHOT).is_some();
            if there && still_holds {
                assert!(sweep(&server).await.unwrap(), "{told}");
            }
            let (left, all) =
                (content::find(&server.client(), "c1").await.unwrap().unwrap(), content::all(&server.client()).await.unwrap());
            let taken = if left.deletes { take_one_back(&server.client(), &left, &all).await.unwrap() } else { Taken::Nothing };
            if there && !still_holds {
                assert_eq!(server.policy(), ("Retain".to_owned(), false), "{told}");
                assert!(server.get(SNAPSHOT).is_some(), "{told}");
            } else {
                assert_eq!((server.get(SNAPSHOT), server.get(&format!("{CONTENTS}/c1")), taken), (None, None, Taken::Away), "{told}");
            }
        }
    }
}

/// The snapshot controller sees by its cache: it may let the snapshot go, and the content stay.
#[tokio::test]
async fn what_a_sweep_left_is_deleted_once_its_snapshot_is_gone_and_nobody_else_has_it() {
    let server = Server::new();
    assert!(sweep(&server).await.unwrap());
    let mut left = server.get(&format!("{CONTENTS}/c1")).unwrap();
    left["metadata"]["annotations"] = json!({"snapshot.storage.kubernetes.io/volumesnapshot-being-deleted": "yes"}); // it replaces all
    server.put(&format!("{CONTENTS}/c1"), left);
    assert_eq!(content::all(&server.client()).await.unwrap().at_delete().count(), 1);
    let taken = async || {
        let (left, all) = (content::find(&server.client(), "c1").await.unwrap().unwrap(), content::all(&server.client()).await.unwrap());
        take_one_back(&server.client(), &left, &all).await.unwrap()
    };
    server.put(&format!("{CONTENTS}/c2"), content("c2", "u9", &json!({})));
    assert_eq!(taken().await, Taken::Nothing, "another content has the same snapshot of the storage");
    server.0.lock().unwrap().objects.remove(&format!("{CONTENTS}/c2"));
    let mut leaving = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "spec": {"source": {}}});
    leaving["metadata"] = json!({"name": "data-1", "namespace": "shop", "uid": "u1", "deletionTimestamp": "2026-11-21T10:00:00Z"});
    server.put(SNAPSHOT, leaving.clone());
    assert_eq!(taken().await, Taken::Nothing, "it is on its way");
    leaving["metadata"] = json!({"name": "data-1", "namespace": "shop", "uid": "u2"});
    server.put(SNAPSHOT, leaving);
    assert_eq!(taken().await, Taken::Away);
    assert_eq!(server.get(&format!("{CONTENTS}/c1")), None);
    assert!(server.get(SNAPSHOT).is_some(), "another of the same name stays");
}
