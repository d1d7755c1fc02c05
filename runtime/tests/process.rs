//! Signals and logs as another process sees them: each test starts this program again as a child.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

/// A child that runs one of the ignored tests below, and its standard error.
fn child(test: &str, log: Option<&str>) -> (Child, BufReader<ChildStderr>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env_remove("RUST_LOG");
    if let Some(log) = log {
        command.env("RUST_LOG", log);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

/// Reads until a line has `words`.
fn wait_for(stderr: &mut impl BufRead, words: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(words) {
        let begin = seen.len();
        assert_ne!(stderr.read_line(&mut seen).unwrap(), 0, "ended without '{words}': {seen}");
        seen.drain(..begin);
    }
    seen
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn after(signal: Signal) -> ExitStatus {
    let (mut child, mut stderr) = child("as_child_ends_in_order", None);
    wait_for(&mut stderr, "waiting");
    send(&child, signal);
    wait_for(&mut stderr, "shutting down");
    wait_for(&mut stderr, "in order");
    child.wait().unwrap()
}

#[test]
fn sigterm_and_sigint_end_a_process_in_order() {
    assert!(after(Signal::SIGTERM).success());
    assert!(after(Signal::SIGINT).success());
}

#[test]
fn a_second_sigint_ends_it_at_once() {
    let (mut child, mut stderr) = child("as_child_never_ends", None);
    wait_for(&mut stderr, "waiting");
    send(&child, Signal::SIGINT);
    wait_for(&mut stderr, "shutting down");
    send(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_second_sigterm_changes_nothing() {
    let (mut child, mut stderr) = child("as_child_never_ends", None);
    wait_for(&mut stderr, "waiting");
    send(&child, Signal::SIGTERM);
    wait_for(&mut stderr, "shutting down");
    send(&child, Signal::SIGTERM);
    send(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130), "it lived until the interrupt");
}

fn logged(test: &str, log: Option<&str>) -> String {
    let (mut child, mut stderr) = child(test, log);
    let mut all = String::new();
    stderr.read_to_string(&mut all).unwrap();
    assert!(child.wait().unwrap().success());
    all
}

#[test]
fn json_logs_are_one_object_a_line() {
    let logs = logged("as_child_logs_json", None);
    let lines: Vec<serde_json::Value> = logs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [line] = lines.as_slice() else {
        assert_eq!(lines.len(), 1, "{logs}");
        return;
    };
    assert_eq!(line["message"], "one\nline");
    assert_eq!(line["pvc"], "db");
    assert_eq!(line["level"], "INFO");
}

#[test]
fn rust_log_chooses_and_nonsense_in_it_is_told() {
    let text = logged("as_child_logs_text", None);
    assert!(text.contains("INFO") && text.contains("pvc=\"db\"") && !text.contains("detail"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours into a pipe: {text}");
    assert!(logged("as_child_logs_text", Some("debug")).contains("detail"));
    assert!(!logged("as_child_logs_text", Some("error")).contains("INFO"));
    let nonsense = logged("as_child_logs_text", Some("process=loud"));
    assert!(nonsense.contains("RUST_LOG is not understood") && nonsense.contains("pvc=\"db\""), "{nonsense}");
}

#[tokio::test]
#[ignore = "what a child of another test does"]
async fn as_child_ends_in_order() {
    borgherd_runtime::logging::init(false);
    let token = borgherd_runtime::shutdown::token();
    tracing::info!("waiting");
    token.cancelled().await;
    tracing::info!("in order");
}

#[tokio::test]
#[ignore = "what a child of another test does"]
async fn as_child_never_ends() {
    borgherd_runtime::logging::init(false);
    let _token = borgherd_runtime::shutdown::token();
    tracing::info!("waiting");
    std::future::pending::<()>().await;
}

#[test]
#[ignore = "what a child of another test does"]
fn as_child_logs_json() {
    borgherd_runtime::logging::init(true);
    tracing::debug!("detail");
    tracing::info!(pvc = "db", "one\nline");
}

#[test]
#[ignore = "what a child of another test does"]
fn as_child_logs_text() {
    borgherd_runtime::logging::init(false);
    tracing::debug!("detail");
    tracing::info!(pvc = "db", "a line");
}
