//! The port for metrics and probes, over a real socket.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use borgherd_runtime::Health;
use borgherd_runtime::serve::{ServeError, Server, serve};
use prometheus::{IntCounter, IntGaugeVec, Opts, Registry};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A server that runs, and what it shows.
struct Running {
    addr: SocketAddr,
    registry: Registry,
    health: Health,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start() -> Running {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = server.local_addr().unwrap();
    let (registry, health, shutdown) = (Registry::new(), Health::new(), CancellationToken::new());
    let task = tokio::spawn(server.run(registry.clone(), health.clone(), shutdown.clone()));
    Running { addr, registry, health, shutdown, task }
}

/// The whole answer to one request, on a connection of its own.
async fn ask(addr: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(addr: SocketAddr, path: &str) -> String {
    ask(addr, "GET", path).await
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let running = start().await;
    let counter = IntCounter::new("borgherd_runs_total", "Runs.").unwrap();
    let gauge = IntGaugeVec::new(Opts::new("borgherd_slots", "Slots."), &["node"]).unwrap();
    running.registry.register(Box::new(counter.clone())).unwrap();
    running.registry.register(Box::new(gauge.clone())).unwrap();
    counter.inc_by(3);
    gauge.with_label_values(&["a\"b\n"]).set(2);
    let answer = get(running.addr, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("\r\ncontent-type: text/plain; version=0.0.4\r\n"), "{answer}");
    assert!(answer.contains("# TYPE borgherd_runs_total counter\nborgherd_runs_total 3\n"), "{answer}");
    assert!(answer.contains("borgherd_slots{node=\"a\\\"b\\n\"} 2\n"), "{answer}");
    counter.inc();
    assert!(get(running.addr, "/metrics").await.contains("borgherd_runs_total 4\n"));
}

#[tokio::test]
async fn livez_names_the_loop_that_fell_silent() {
    let running = start().await;
    assert!(get(running.addr, "/livez").await.starts_with("HTTP/1.1 200 "), "nothing to watch yet");
    running.health.beat("watch", Duration::from_mins(1));
    running.health.beat("lease", Duration::ZERO);
    let answer = get(running.addr, "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("lease is silent for") && !answer.contains("watch"), "{answer}");
    running.health.beat("lease", Duration::from_mins(1));
    assert!(get(running.addr, "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn readyz_follows_the_process() {
    let running = start().await;
    assert!(get(running.addr, "/readyz").await.starts_with("HTTP/1.1 503 "));
    running.health.ready(true);
    assert!(get(running.addr, "/readyz").await.starts_with("HTTP/1.1 200 "));
    running.health.ready(false);
    assert!(get(running.addr, "/readyz").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn anything_else_is_refused() {
    let running = start().await;
    assert!(get(running.addr, "/").await.starts_with("HTTP/1.1 404 "));
    assert!(get(running.addr, "/metrics/x").await.starts_with("HTTP/1.1 404 "));
    assert!(get(running.addr, "/livez?verbose").await.starts_with("HTTP/1.1 200 "), "a query changes nothing");
    let answer = ask(running.addr, "POST", "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.to_lowercase().contains("allow: get, head"), "{answer}");
    let answer = ask(running.addr, "HEAD", "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "a head has no body: {answer}");
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let running = start().await;
    let error = serve(running.addr, Registry::new(), Health::new(), CancellationToken::new()).await.unwrap_err();
    let ServeError::Bind { addr, .. } = &error;
    assert_eq!(*addr, running.addr);
    assert!(error.to_string().contains(&running.addr.to_string()), "{error}");
}

#[tokio::test]
async fn ends_at_shutdown_though_clients_hang_on() {
    let running = start().await;
    let mut silent = TcpStream::connect(running.addr).await.unwrap();
    let mut idle = TcpStream::connect(running.addr).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut some = [0; 12];
    idle.read_exact(&mut some).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");

    running.shutdown.cancel();
    timeout(Duration::from_secs(5), running.task).await.unwrap().unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), silent.read_to_end(&mut rest)).await.unwrap().ok();
    timeout(Duration::from_secs(5), idle.read_to_end(&mut rest)).await.unwrap().ok();
    assert!(TcpStream::connect(running.addr).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn probes_are_answered_though_every_place_is_taken_by_silent_clients() {
    let running = start().await;
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(running.addr).await.unwrap());
    }
    let answer = timeout(Duration::from_secs(30), get(running.addr, "/livez")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(silent);
}
