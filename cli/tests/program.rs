//! The program as people and scripts start it: names, exit codes, what goes to stdout and stderr, Ctrl-C, closed pipes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;

const BORGHERD: &str = env!("CARGO_BIN_EXE_borgherd");
const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-borgherd");

/// A home without a kubeconfig of its own.
fn command(program: &str, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("HOME", home).env("TZ", "UTC");
    command
}

fn run(args: &[&str]) -> Output {
    let home = TempDir::new().unwrap();
    command(BORGHERD, home.path(), args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn kubeconfig(home: &TempDir, server: &str) -> PathBuf {
    let path = home.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}]
    });
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[test]
fn help_and_version_go_to_stdout_and_wrong_usage_to_stderr() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let shown = text(&help.stdout);
    for line in ["Usage: borgherd ", "  0    done", "  1    ", "  2    ", "  3    ", "  4    ", "  5    ", "  6    ", "  130  "] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(run(&["--version"]).status.code(), Some(0));

    let wrong = run(&["backup"]);
    assert_eq!((wrong.status.code(), text(&wrong.stdout).as_str()), (Some(2), ""));
    assert!(text(&wrong.stderr).contains("<PVC>"));
}

#[test]
fn as_plugin_it_calls_itself_as_kubectl_does() {
    let home = TempDir::new().unwrap();
    let help = command(PLUGIN, home.path(), &["restore", "--help"]).output().unwrap();
    assert!(text(&help.stdout).contains("Usage: kubectl borgherd restore "), "{}", text(&help.stdout));
    let named = home.path().join("kubectl-borgherd");
    std::os::unix::fs::symlink(BORGHERD, &named).unwrap();
    let help = command(named.to_str().unwrap(), home.path(), &["--help"]).output().unwrap();
    assert!(text(&help.stdout).contains("Usage: kubectl borgherd "));
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_named() {
    let home = TempDir::new().unwrap();
    let config = kubeconfig(&home, "http://127.0.0.1:1");
    let config = config.to_str().unwrap();
    let broken = home.path().join("broken");
    std::fs::write(&broken, "contexts: 7\n").unwrap();
    for (args, said) in [
        (vec!["status"], vec![".kube/config", "--kubeconfig FILE"]),
        (vec!["status", "--kubeconfig", "/nowhere"], vec!["/nowhere"]),
        (vec!["status", "--kubeconfig", broken.to_str().unwrap()], vec!["cannot use the kubeconfig"]),
        (vec!["status", "--kubeconfig", config, "--context", "there"], vec!["no context there", "contexts: here"]),
    ] {
        let output = command(BORGHERD, home.path(), &args).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{args:?}: {errors}");
        assert!(errors.starts_with("error: ") && errors.lines().count() <= 2, "{errors}");
        assert!(said.iter().all(|s| errors.contains(s)), "{args:?}: {errors}");
    }
}

#[test]
fn a_cluster_that_does_not_answer_is_told_in_two_lines() {
    let home = TempDir::new().unwrap();
    // Bound and closed: nobody listens on it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = kubeconfig(&home, &format!("http://127.0.0.1:{port}"));
    for args in [vec!["status"], vec!["backup", "data"], vec!["list", "data"], vec!["restore", "data", "--to", "new"]] {
        let output = command(BORGHERD, home.path(), &args).arg("--kubeconfig").arg(&config).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{args:?}: {errors}");
        assert!(errors.contains("refused") && errors.lines().count() == 2, "{errors}");
    }
}

#[test]
fn who_closes_the_pipe_has_read_enough() {
    let home = TempDir::new().unwrap();
    let mut child = command(BORGHERD, home.path(), &["completion", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

/// What was asked, as `DELETE /path`.
type Asked = Arc<Mutex<Vec<String>>>;
type Body = BoxBody<Bytes, Infallible>;

/// An API server that makes every Restore and never works on it.
async fn api_server() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let record = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let record = Arc::clone(&record);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let watches = request.uri().query().is_some_and(|q| q.contains("watch=true"));
                let method = if watches { "WATCH".to_owned() } else { request.method().to_string() };
                record.lock().unwrap().push(format!("{method} {}", request.uri().path()));
                std::future::ready(Ok::<_, Infallible>(answer(&method)))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, asked)
}

fn answer(method: &str) -> Response<Body> {
    let restore = json!({
        "apiVersion": "borgherd.dev/v1alpha1", "kind": "Restore",
        "metadata": {"name": "list-abcde", "namespace": "shop", "uid": "u", "resourceVersion": "1"},
        "spec": {"source": {"pvc": "data"}, "preview": true}
    });
    let whole = |value: &Value| Response::new(Full::new(Bytes::from(value.to_string())).boxed());
    match method {
        "WATCH" => Response::new(BodyExt::boxed(StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>()))),
        "GET" => whole(&json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": [restore]})),
        _ => whole(&restore),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_and_kill_delete_the_preview_and_end_with_130() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        interrupted_by(signal).await;
    }
}

async fn interrupted_by(signal: &str) {
    let home = TempDir::new().unwrap();
    let (address, asked) = api_server().await;
    let config = kubeconfig(&home, &address);
    let args = ["list", "data", "--kubeconfig", config.to_str().unwrap()];
    let child = command(BORGHERD, home.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let has = |what: &str| asked.lock().unwrap().iter().any(|a| a.starts_with(what));
    tokio::time::timeout(Duration::from_secs(20), async {
        while !has("WATCH") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(130), "error: interrupted\n"));
    assert!(has("DELETE /apis/borgherd.dev/v1alpha1/namespaces/shop/restores/list-abcde"), "{asked:?}");
}
