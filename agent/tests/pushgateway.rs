//! Results of runs in a real Pushgateway (Debian: prometheus-pushgateway).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use borgherd_agent::push::{Gateway, PushError};
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRunSpec, BorgRunStatus, Progress, RunPhase};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const PROGRAM: &str = "prometheus-pushgateway";

struct Pushgateway {
    address: String,
    _process: Child,
}

/// Last part of the next gateway's loopback address: with one of its own, no other test can be given its port in between.
static NEXT: AtomicU8 = AtomicU8::new(2);

/// A gateway on a free port, once it answers.
async fn start() -> Pushgateway {
    let own = format!("127.0.0.{}:0", NEXT.fetch_add(1, Ordering::Relaxed));
    let address = TcpListener::bind(own).await.unwrap().local_addr().unwrap().to_string();
    let process = Command::new(PROGRAM)
        .arg(format!("--web.listen-address={address}"))
        .arg("--web.route-prefix=/base")
        .arg("--persistence.file=") // Debian's default is a file that all would share
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("apt-get install prometheus-pushgateway");
    let gateway = Pushgateway { address, _process: process };
    let answers = async {
        while get(&gateway.address, "/base/-/ready").await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answers).await.expect("the Pushgateway starts");
    gateway
}

/// The body of an answer with status 200.
async fn get(address: &str, path: &str) -> Option<String> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::get(path).header("host", address).body(Empty::<Bytes>::new()).ok()?;
    let response = sender.send_request(request).await.ok()?;
    let is_ok = response.status().is_success();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    is_ok.then(|| String::from_utf8_lossy(&body).into_owned())
}

impl Pushgateway {
    fn client(&self) -> Gateway {
        Gateway::new(&format!("http://{}/base", self.address)).unwrap()
    }

    /// The value of the series whose line has all of `parts`, if there is exactly one.
    async fn value(&self, metric: &str, parts: &[&str]) -> Option<f64> {
        let text = get(&self.address, "/base/metrics").await.unwrap();
        let mut found =
            text.lines().filter(|line| line.starts_with(&format!("{metric}{{")) && parts.iter().all(|part| line.contains(part)));
        let value = found.next()?.rsplit(' ').next()?.parse().ok();
        assert_eq!(found.next(), None, "one series of {metric} {parts:?}");
        value
    }
}

fn spec(pvc: &str, operation: &serde_json::Value) -> BorgRunSpec {
    serde_json::from_value(json!({
        "node": "n1",
        "subject": {"namespace": "shop", "pvc": pvc},
        "owner": {"kind": "Backup", "namespace": "shop", "name": "b", "uid": "u"},
        "repository": {"name": "nas", "location": "/repositories/r", "secretRef": "nas"},
        "operation": operation,
        "timeZone": "UTC",
        "deadline": "2026-11-22T10:00:00Z",
    }))
    .unwrap()
}

fn archive(pvc: &str) -> BorgRunSpec {
    spec(pvc, &json!({"archive": {"name": "a", "cut": "2026-11-21T10:00:00Z", "facts": {}}}))
}

fn status(phase: RunPhase, reason: Option<Reason>) -> BorgRunStatus {
    BorgRunStatus {
        phase,
        reason,
        progress: Some(Progress {
            files: 12,
            bytes: 4096,
            total_bytes: None,
            compressed_bytes: Some(2048),
            deduplicated_bytes: Some(1024),
        }),
        ..BorgRunStatus::default()
    }
}

#[tokio::test]
async fn a_failure_changes_the_outcome_and_keeps_the_last_success() {
    let gateway = start().await;
    let client = gateway.client();
    let db = ["namespace=\"shop\"", "pvc=\"db\"", "job=\"borgherd\"", "operation=\"archive\""];
    client.push(&archive("db"), &status(RunPhase::Succeeded, None), 1000.0, 5.0).await.unwrap();
    assert_eq!(gateway.value("borgherd_last_run_success_timestamp_seconds", &db).await, Some(1000.0));
    assert_eq!(gateway.value("borgherd_last_run_deduplicated_bytes", &db).await, Some(1024.0));
    assert_eq!(gateway.value("borgherd_last_run_outcome", &["pvc=\"db\"", "outcome=\"Succeeded\""]).await, Some(1.0));

    let failed = status(RunPhase::Failed, Some(Reason::ConnectionFailed));
    client.push(&archive("db"), &failed, 2000.0, 1.0).await.unwrap();
    assert_eq!(gateway.value("borgherd_last_run_timestamp_seconds", &db).await, Some(2000.0));
    assert_eq!(gateway.value("borgherd_last_run_success_timestamp_seconds", &db).await, Some(1000.0), "kept");
    assert_eq!(gateway.value("borgherd_last_run_files", &db).await, Some(12.0), "kept");
    assert_eq!(gateway.value("borgherd_last_run_outcome", &["pvc=\"db\"", "outcome=\"Succeeded\""]).await, None);
    assert_eq!(gateway.value("borgherd_last_run_outcome", &["pvc=\"db\"", "reason=\"ConnectionFailed\""]).await, Some(1.0));

    client.push(&archive("db"), &status(RunPhase::Succeeded, None), 3000.0, 5.0).await.unwrap();
    assert_eq!(gateway.value("borgherd_last_run_success_timestamp_seconds", &db).await, Some(3000.0));
}

#[tokio::test]
async fn pvcs_and_operations_do_not_touch_each_other() {
    let gateway = start().await;
    let client = gateway.client();
    let done = status(RunPhase::Succeeded, None);
    client.push(&archive("db"), &done, 1000.0, 5.0).await.unwrap();
    client.push(&archive("db.2"), &done, 1001.0, 5.0).await.unwrap();
    client.push(&spec("db", &json!({"restore": {"archive": "a"}})), &done, 1002.0, 5.0).await.unwrap();
    for (parts, at) in [
        (["pvc=\"db\"", "operation=\"archive\""], 1000.0),
        (["pvc=\"db.2\"", "operation=\"archive\""], 1001.0),
        (["pvc=\"db\"", "operation=\"restore\""], 1002.0),
    ] {
        assert_eq!(gateway.value("borgherd_last_run_timestamp_seconds", &parts).await, Some(at), "{parts:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_not_there_or_refuses_is_an_error_that_says_so() {
    let done = status(RunPhase::Succeeded, None);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Gateway::new(&format!("http://{nobody}")).unwrap().push(&archive("db"), &done, 1.0, 1.0).await.unwrap_err();
    assert!(matches!(&error, PushError::Connect { address, .. } if *address == nobody.to_string()), "{error}");

    let gateway = start().await;
    let wrong = Gateway::new(&format!("http://{}/elsewhere", gateway.address)).unwrap();
    let error = wrong.push(&archive("db"), &done, 1.0, 1.0).await.unwrap_err();
    assert!(matches!(&error, PushError::Refused { status, .. } if status.as_u16() == 404), "{error}");
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::new(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let done = status(RunPhase::Succeeded, None);
    let error = gateway.push(&archive("db"), &done, 1.0, 1.0).await.unwrap_err();
    assert!(matches!(error, PushError::Timeout), "{error}");
}
