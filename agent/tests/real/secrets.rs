//! The key Job with an API server's answers and a real ssh-keygen, ssh and sshd.

use crate::machine::Machine;
use crate::ssh::{Sshd, free_port};
use borgherd_agent::secrets::{Args, Made, ensure_secret};
use http_body_util::BodyExt;
use hyper::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Secrets by name, and the requests that were made.
#[derive(Default)]
struct Api {
    secrets: BTreeMap<String, Value>,
    /// Made by somebody else between `get` and `create`.
    appears: Option<Value>,
    requests: Vec<String>,
}

type Shared = Arc<Mutex<Api>>;

fn client(api: &Shared) -> Client {
    let api = api.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let api = api.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (status, answer) = api.lock().unwrap().answer(&head.method, head.uri.path(), &body);
            let response = Response::builder().status(status).header("content-type", "application/json");
            Ok::<_, std::io::Error>(response.body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    Client::new(service, "borgherd")
}

impl Api {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        self.requests.push(format!("{method} {path}"));
        let failure = |code: StatusCode, reason: &str| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16()}),
            )
        };
        let all = "/api/v1/namespaces/borgherd/secrets";
        if method == Method::POST && path == all {
            let secret: Value = serde_json::from_slice(body).unwrap();
            let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
            if let Some(other) = self.appears.take() {
                self.secrets.insert(name.clone(), other);
            }
            if self.secrets.contains_key(&name) {
                return failure(StatusCode::CONFLICT, "AlreadyExists");
            }
            self.secrets.insert(name, secret.clone());
            return (StatusCode::CREATED, secret);
        }
        assert_eq!(method, Method::GET, "the key Job only gets and creates");
        match self.secrets.get(path.strip_prefix(all).unwrap().trim_start_matches('/')) {
            Some(secret) => (StatusCode::OK, secret.clone()),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }
}

fn args(port: u16) -> Args {
    Args {
        secret: "borgherd-server".to_owned(),
        namespace: "borgherd".to_owned(),
        hosts: vec!["127.0.0.1".to_owned(), "borgherd-server.borgherd.svc".to_owned()],
        port,
        scratch: "/dev/shm".into(),
        log_format: "text".to_owned(),
    }
}

/// What the key Job makes for a server at 127.0.0.1 and `port`.
pub(crate) async fn made(port: u16) -> BTreeMap<String, String> {
    let api = Shared::default();
    assert_eq!(ensure_secret(client(&api), &args(port), &mut SysRng).await.unwrap(), Made::New);
    let secret = api.lock().unwrap().secrets["borgherd-server"].clone();
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
    let data = secret.data.unwrap();
    data.into_iter().map(|(key, value)| (key, String::from_utf8(value.0).unwrap())).collect()
}

fn scratch_is_empty() -> bool {
    !fs::read_dir("/dev/shm").unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("borgherd-keys"))
}

#[tokio::test]
async fn the_secret_is_made_once_with_all_its_keys() {
    let machine = Machine::new();
    Machine::mount_tmpfs(std::path::Path::new("/dev/shm"));
    let (one, other) = (made(2222).await, made(2222).await);
    assert_eq!(one.keys().collect::<Vec<_>>(), ["authorized_keys", "known_hosts", "passphrase", "ssh-host-key", "ssh-privatekey"]);
    for key in one.keys() {
        assert_ne!(one[key], other[key], "{key} is new each time");
    }
    assert_eq!(one["passphrase"].len(), 44, "32 bytes in base64");
    assert!(one["known_hosts"].starts_with("[127.0.0.1]:2222,[borgherd-server.borgherd.svc]:2222 ssh-ed25519 AAAA"));
    let forced = r#"restrict,command="cd /repositories && borg serve --restrict-to-path /repositories" ssh-ed25519 AAAA"#;
    assert!(one["authorized_keys"].starts_with(forced));
    // The public halves belong to the private ones.
    for (private, public) in [("ssh-privatekey", "authorized_keys"), ("ssh-host-key", "known_hosts")] {
        let file = machine.path().join(private);
        fs::write(&file, &one[private]).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let output = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&file).output().unwrap();
        let key = String::from_utf8(output.stdout).unwrap();
        assert!(one[public].contains(key.split_whitespace().nth(1).unwrap()), "{public}");
    }
    assert!(scratch_is_empty());
}

#[tokio::test]
async fn a_secret_that_exists_is_never_changed() {
    let api = Shared::default();
    let run = async || ensure_secret(client(&api), &args(2222), &mut StdRng::seed_from_u64(1)).await;
    assert_eq!(run().await.unwrap(), Made::New);
    let first = api.lock().unwrap().secrets.clone();
    assert_eq!(run().await.unwrap(), Made::Before);
    assert_eq!(api.lock().unwrap().secrets, first);
    let path = "/api/v1/namespaces/borgherd/secrets";
    let requests = [format!("GET {path}/borgherd-server"), format!("POST {path}"), format!("GET {path}/borgherd-server")];
    assert_eq!(api.lock().unwrap().requests, requests);

    // Another attempt is faster.
    let racing = Shared::default();
    racing.lock().unwrap().appears = first.get("borgherd-server").cloned();
    let made = ensure_secret(client(&racing), &args(2222), &mut StdRng::seed_from_u64(2)).await.unwrap();
    assert_eq!((made, &racing.lock().unwrap().secrets), (Made::Before, &first));
}

#[tokio::test]
async fn one_that_lacks_a_key_is_an_error_that_names_it_and_changes_nothing() {
    let api = Shared::default();
    let partial = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "borgherd-server"}, "data": {"passphrase": "eA==", "known_hosts": ""}});
    api.lock().unwrap().secrets.insert("borgherd-server".to_owned(), partial.clone());
    let error = ensure_secret(client(&api), &args(2222), &mut StdRng::seed_from_u64(1)).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("Secret borgherd-server in namespace borgherd"), "{error}");
    assert!(error.contains("lacks ssh-privatekey, known_hosts, ssh-host-key, authorized_keys; it is not changed"), "{error}");
    assert_eq!(api.lock().unwrap().secrets["borgherd-server"], partial);
    assert_eq!(api.lock().unwrap().requests.len(), 1);
}

#[tokio::test]
async fn keys_touch_no_disk() {
    let api = Shared::default();
    let args = Args { scratch: env!("CARGO_TARGET_TMPDIR").into(), ..args(2222) };
    let error = ensure_secret(client(&api), &args, &mut StdRng::seed_from_u64(1)).await.unwrap_err().to_string();
    assert!(error.contains("is not in memory"), "{error}");
    assert!(api.lock().unwrap().secrets.is_empty());
}

/// Whoever has the client's key gets `borg serve` and nothing else.
#[tokio::test]
async fn the_key_runs_only_what_it_is_for() {
    let machine = Machine::new();
    let port = free_port();
    let keys = made(port).await;
    let _sshd = Sshd::start(&machine, port, &keys["ssh-host-key"], &keys["authorized_keys"]);
    let file = |name: &str| {
        let path = machine.path().join(name);
        fs::write(&path, &keys[name]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let ssh = |key: &str, hosts: &str, more: &[&str]| {
        let port = port.to_string();
        let output = Command::new("ssh")
            .args([
                "-F",
                "none",
                "-p",
                &port,
                "-i",
                key,
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
                "GlobalKnownHostsFile=none",
            ])
            .args(["-o", "IdentitiesOnly=yes", "-o", &format!("UserKnownHostsFile={hosts}")])
            .args(more)
            .output()
            .unwrap();
        (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let (key, hosts) = (file("ssh-privatekey"), file("known_hosts"));
    let (code, said) = ssh(&key, &hosts, &["root@127.0.0.1", "echo", "escaped"]);
    assert!(code != Some(255), "it was let in: {said}");
    assert!(!said.contains("escaped"), "{said}");
    let (code, said) = ssh(&key, &hosts, &["-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1", "root@127.0.0.1"]);
    assert!(code == Some(255) && said.contains("forwarding failed"), "{said}");
    let (code, said) = ssh(&key, "/dev/null", &["root@127.0.0.1"]);
    assert!(code == Some(255) && said.contains("Host key verification failed"), "{said}");
    let (code, said) = ssh(&file("ssh-host-key"), &hosts, &["root@127.0.0.1"]);
    assert!(code == Some(255) && said.contains("Permission denied"), "{said}");
}
