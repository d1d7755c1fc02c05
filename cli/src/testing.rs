//! For tests: an API server that answers as a test tells it and records what it is asked, and a screen that can be read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::output::{Format, Screen};
use crate::session::Session;
use chrono::{DateTime, FixedOffset, Utc};
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

thread_local! {
    // Tests of tokio run on one thread, each its own.
    static OUT: RefCell<String> = const { RefCell::new(String::new()) };
    static ERR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What the clock of tests shows.
pub(crate) fn now() -> DateTime<Utc> {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// A moment.
pub(crate) fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Local time in tests.
pub(crate) fn offset(_: DateTime<Utc>) -> FixedOffset {
    FixedOffset::east_opt(3600).unwrap()
}

/// Moments as of [`now`].
pub(crate) fn here() -> crate::instant::Here {
    crate::instant::Here { now: now(), offset }
}

/// A screen whose lines [`out`] and [`err`] give back.
pub(crate) fn screen() -> Screen {
    Screen {
        format: Format::Table,
        colours: false,
        bars: false,
        error_colours: false,
        out: |text| {
            OUT.with_borrow_mut(|out| out.push_str(text));
            Ok(())
        },
        err: |line| ERR.with_borrow_mut(|err| err.extend([line, "\n"])),
    }
}

/// What went to stdout.
pub(crate) fn out() -> String {
    OUT.take()
}

/// What went to stderr.
pub(crate) fn err() -> String {
    ERR.take()
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET /api/v1/namespaces`; watches as `WATCH`.
    pub(crate) what: String,
    /// What came with it.
    pub(crate) body: Value,
}

/// What the server says.
pub(crate) enum Answer {
    /// A code and an object.
    Json(u16, Value),
    /// A code and plain text, as for a path that the server does not know.
    Text(u16, &'static str),
    /// Events, after which the connection stays open.
    Events(Vec<Value>),
    /// Nothing, ever.
    Silence,
}

/// An object, as it is.
pub(crate) fn found(object: Value) -> Answer {
    Answer::Json(200, object)
}

/// A list of objects.
pub(crate) fn list(items: &[Value]) -> Answer {
    Answer::Json(200, json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}))
}

/// An event of a watch: the object has changed.
pub(crate) fn modified(object: &Value) -> Value {
    json!({"type": "MODIFIED", "object": object})
}

/// The object is not there.
pub(crate) fn no(kind: &str, name: &str) -> Answer {
    let message = format!("{kind} \"{name}\" not found");
    Answer::Json(
        404,
        json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": message, "details": {"kind": kind, "name": name}}),
    )
}

/// RBAC says no.
pub(crate) fn forbidden(message: &str) -> Answer {
    Answer::Json(403, json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": message}))
}

/// The API server's answer to a kind that is not installed.
pub(crate) fn unknown_kind() -> Answer {
    Answer::Text(404, "404 page not found\n")
}

/// An API server of a test's own.
pub(crate) struct Server {
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Its user.
    pub(crate) session: Session,
    /// Sending `true` is Ctrl-C.
    pub(crate) ctrl_c: watch::Sender<bool>,
}

impl Server {
    /// One that answers with `answer`, for a session in namespace `shop`.
    pub(crate) fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (record, answer) = (Arc::clone(&asked), Arc::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
            async move {
                let request = read(request).await;
                record.lock().unwrap().push(request.clone());
                Ok::<_, Infallible>(written(answer(&request)).await)
            }
        });
        let (ctrl_c, stop) = watch::channel(false);
        let session = Session {
            client: kube::Client::new(service, "shop"),
            namespace: "shop".to_owned(),
            borgherd_namespace: "borgherd".to_owned(),
            clock: now,
            offset,
            screen: screen(),
            stop,
        };
        Self { asked, session, ctrl_c }
    }

    /// Everything that was asked, in its order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|a| a.what.clone()).collect()
    }

    /// What came with the first request that begins with `what`.
    pub(crate) fn body_of(&self, what: &str) -> Value {
        let asked = self.asked.lock().unwrap();
        asked.iter().find(|a| a.what.starts_with(what)).map(|a| a.body.clone()).unwrap_or_default()
    }

    /// Ctrl-C as soon as something is waited for.
    pub(crate) async fn press_ctrl_c_while_watching(&self) {
        while !self.asked().iter().any(|what| what.starts_with("WATCH")) {
            tokio::task::yield_now().await;
        }
        self.ctrl_c.send_replace(true);
    }

    /// Nothing was changed.
    pub(crate) fn was_only_read(&self) -> bool {
        self.asked().iter().all(|what| what.starts_with("GET ") || what.starts_with("WATCH "))
    }
}

async fn read(request: Request<Body>) -> Asked {
    let watches = request.uri().query().is_some_and(|q| q.contains("watch=true") || q.contains("watch=1"));
    let method = if watches { "WATCH" } else { request.method().as_str() };
    let what = format!("{method} {}", request.uri().path());
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    Asked { what, body: serde_json::from_slice(&bytes).unwrap_or_default() }
}

async fn written(answer: Answer) -> Response<BoxBody<Bytes, Infallible>> {
    let (code, text) = match answer {
        Answer::Json(code, value) => (code, value.to_string()),
        Answer::Text(code, text) => (code, text.to_owned()),
        Answer::Events(events) => return Response::new(open_end(events)),
        Answer::Silence => std::future::pending().await,
    };
    let body = BoxBody::new(Full::new(Bytes::from(text)));
    Response::builder().status(code).body(body).unwrap()
}

/// A line for each event, and no end.
fn open_end(events: Vec<Value>) -> BoxBody<Bytes, Infallible> {
    let lines = stream::iter(events).map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
    BoxBody::new(BodyExt::boxed(StreamBody::new(lines.chain(stream::pending()))))
}
