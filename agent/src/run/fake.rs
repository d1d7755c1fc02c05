//! An API server for tests: one collection of `BorgRun`s with real resourceVersion semantics and watches, and Secrets. Records requests.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "only tests use it")]

use borgherd_api::crd::{BorgRun, BorgRunStatus};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

type Answer = UnsyncBoxBody<Bytes, std::io::Error>;

/// What happens to a write of a status.
pub(crate) enum Fault {
    /// This happens just before it.
    Before(Box<dyn FnOnce(&mut State) + Send>),
    /// It is done, but its answer is lost.
    AnswerLost,
    /// It is not done.
    Unavailable,
    /// It is not accepted.
    Invalid,
}

#[derive(Default)]
pub(crate) struct State {
    runs: BTreeMap<String, BorgRun>,
    pub(crate) secrets: BTreeMap<String, Value>,
    version: u64,
    faults: VecDeque<Fault>,
    watchers: Vec<UnboundedSender<Value>>,
    pub(crate) requests: Vec<String>,
    /// Objects in listings that are no readable runs.
    pub(crate) strange: Vec<Value>,
    /// As last applied.
    pub(crate) lease: Option<Value>,
    pub(crate) is_lease_refused: bool,
    /// Every status that was accepted, oldest first.
    pub(crate) written: Vec<BorgRunStatus>,
}

impl State {
    /// Create or replace a run as another client would.
    pub(crate) fn put(&mut self, mut run: BorgRun) {
        self.version += 1;
        run.metadata.resource_version = Some(self.version.to_string());
        let kind = if self.runs.contains_key(&run.name_any()) { "MODIFIED" } else { "ADDED" };
        self.tell(kind, &run);
        self.runs.insert(run.name_any(), run);
    }

    /// Change a run as another client would.
    pub(crate) fn change(&mut self, name: &str, change: impl FnOnce(&mut BorgRun)) {
        let mut run = self.runs.get(name).unwrap().clone();
        change(&mut run);
        self.put(run);
    }

    pub(crate) fn delete(&mut self, name: &str) {
        let run = self.runs.remove(name).unwrap();
        self.version += 1;
        self.tell("DELETED", &run);
    }

    /// Ends all watches, as after a compaction; what happens until they list again is not told.
    pub(crate) fn forget_watches(&mut self) {
        let error = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}});
        for watcher in self.watchers.drain(..) {
            assert!(watcher.unbounded_send(error.clone()).is_ok());
        }
    }

    fn tell(&mut self, kind: &str, run: &BorgRun) {
        let event = json!({"type": kind, "object": run});
        self.watchers.retain(|watcher| watcher.unbounded_send(event.clone()).is_ok());
    }
}

/// The server. Clones are one.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Fake {
    pub(crate) fn new(runs: Vec<BorgRun>) -> Self {
        let fake = Self { state: Arc::default(), changed: watch::Sender::new(0) };
        for run in runs {
            fake.state().put(run);
        }
        let passphrase = json!({"metadata": {"name": "nas"}, "data": {"passphrase": "c2VjcmV0"}});
        fake.state().secrets.insert("nas".to_owned(), passphrase);
        fake
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    pub(crate) fn run(&self, name: &str) -> BorgRun {
        self.state().runs.get(name).unwrap().clone()
    }

    pub(crate) fn status(&self, name: &str) -> BorgRunStatus {
        self.run(name).status.unwrap_or_default()
    }

    /// Waits until a request has made `condition` true.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition(self) {
            changed.changed().await.unwrap();
        }
    }

    pub(crate) fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let response = fake.answer(&head.method, &head.uri, &body);
                fake.changed.send_modify(|count| *count += 1);
                Ok::<_, tower::BoxError>(response)
            }
        });
        Client::new(service, "borgherd")
    }

    fn answer(&self, method: &Method, uri: &hyper::Uri, body: &Bytes) -> Response<Answer> {
        let mut state = self.state();
        state.requests.push(format!("{method} {}", uri.path()));
        let path: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
        match (method.as_str(), path.as_slice()) {
            ("GET", [.., "secrets", name]) => state.secrets.get(*name).map_or_else(not_found, json_response),
            ("GET", [.., "borgruns"]) => {
                assert!(uri.query().unwrap_or_default().contains("fieldSelector=spec.node%3Dn1"), "{uri}");
                if uri.query().unwrap_or_default().contains("watch=true") { watching(&mut state) } else { list(&state) }
            }
            ("GET", [.., "borgruns", name]) => state.runs.get(*name).map_or_else(not_found, |run| json_response(&json!(run))),
            ("PUT", [.., "borgruns", name, "status"]) => write(&mut state, name, serde_json::from_slice(body).unwrap()),
            ("PATCH", [.., "leases", "agent-n1"]) if state.is_lease_refused => refusal(503, "ServiceUnavailable"),
            ("PATCH", [.., "leases", "agent-n1"]) => {
                state.lease = Some(serde_json::from_slice(body).unwrap());
                Response::new(full(body.clone()))
            }
            _ => unreachable!("{method} {uri}"),
        }
    }
}

fn list(state: &State) -> Response<Answer> {
    let items: Vec<Value> = state.runs.values().map(|run| json!(run)).chain(state.strange.iter().cloned()).collect();
    let version = state.version.to_string();
    json_response(&json!({
        "apiVersion": "borgherd.dev/v1alpha1", "kind": "BorgRunList", "metadata": {"resourceVersion": version}, "items": items
    }))
}

fn watching(state: &mut State) -> Response<Answer> {
    let (sender, receiver) = unbounded();
    state.watchers.push(sender);
    let lines = receiver.map(|event: Value| Ok::<_, std::io::Error>(Frame::data(Bytes::from(format!("{event}\n")))));
    Response::new(BodyExt::boxed_unsync(StreamBody::new(lines)))
}

fn write(state: &mut State, name: &str, wanted: BorgRun) -> Response<Answer> {
    let fault = state.faults.pop_front();
    let lost = match fault {
        Some(Fault::Unavailable) => return refusal(503, "ServiceUnavailable"),
        Some(Fault::Invalid) => return refusal(422, "Invalid"),
        Some(Fault::Before(change)) => {
            change(state);
            false
        }
        Some(Fault::AnswerLost) => true,
        None => false,
    };
    let Some(current) = state.runs.get(name).cloned() else { return not_found() };
    if current.metadata.resource_version != wanted.metadata.resource_version {
        return refusal(409, "Conflict");
    }
    let mut run = current;
    run.status = wanted.status;
    state.written.extend(run.status.clone());
    state.put(run);
    if lost { refusal(500, "the answer was lost") } else { json_response(&json!(state.runs[name])) }
}

fn json_response(body: &Value) -> Response<Answer> {
    Response::new(full(Bytes::from(body.to_string())))
}

fn full(body: Bytes) -> Answer {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn not_found() -> Response<Answer> {
    refusal(404, "NotFound")
}

fn refusal(code: u16, reason: &str) -> Response<Answer> {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code});
    let mut response = json_response(&status);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
