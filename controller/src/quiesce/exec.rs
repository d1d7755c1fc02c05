//! One command in one container, by the API server.
//!
//! Invariant: a command counts as succeeded only when its exit code 0 was told; whatever is not known is a failure.

use borgherd_api::crd::{ActionResult, ActionStatus};
use borgherd_api::hooks::{pod, redact, wrapper};
use futures::future::join;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams};
use kube::{Client, ResourceExt};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// So much of what a command says is read; the rest is dropped.
pub(super) const READ: usize = 32 * 1024;
/// Beyond the command's own deadline, before it is disconnected: the way there and back.
const SLACK: Duration = Duration::from_secs(10);
/// Until a container tells whether it has a shell: nothing is held still yet, so a busy node may take its time.
const PROBE: Duration = Duration::from_secs(30);
/// Until the API server answers about a pod.
const ANSWER: Duration = Duration::from_secs(10);

/// How a command ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// As it stands in the status.
    pub result: ActionResult,
    /// What it said, or what became of it; may be shown.
    pub output: String,
}

/// What came back of an exec.
pub(super) enum Answer {
    Code(i32, String),
    /// The command was not started.
    Refused(String),
    /// It was started, and its end is not known.
    Lost(String),
}

/// Runs `argv` at the place of `action`, if its pod is still that one.
pub(super) async fn run(client: &Client, namespace: &str, action: &ActionStatus, argv: &[String]) -> Ended {
    if let Err(ended) = is_there(client, namespace, action).await {
        return ended;
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let answer = exec(&pods, &action.pod, &action.container, argv, limit(action)).await;
    ended(action, answer)
}

/// How long the end of a command is waited for: where there is a shell, it is killed there before.
pub(super) fn limit(action: &ActionStatus) -> Duration {
    let own = Duration::from_secs(u64::from(action.timeout_seconds));
    if action.shell { own + Duration::from_secs(u64::from(wrapper::GRACE)) + SLACK } else { own }
}

/// Whether the pod of `action` is still that one; if not, or if that is not known, how the command ended for it.
pub(super) async fn is_there(client: &Client, namespace: &str, action: &ActionStatus) -> Result<(), Ended> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let failed = |output: String| Err(Ended { result: ActionResult::Failed, output });
    match timeout(ANSWER, pods.get_opt(&action.pod)).await {
        Err(_) => failed(format!("the API server does not answer about pod {}", action.pod)),
        Ok(Err(error)) => failed(format!("reading pod {}: {error}", action.pod)),
        Ok(Ok(found)) if !found.as_ref().is_some_and(|pod| is_the_one(pod, action)) => {
            Err(Ended { result: ActionResult::Void, output: format!("pod {} of UID {} is gone", action.pod, action.pod_uid) })
        }
        Ok(Ok(_)) => Ok(()),
    }
}

/// Whether there is a shell in a container: an error says why that cannot be known.
pub(super) async fn has_shell(pods: &Api<Pod>, pod: &str, container: &str) -> Result<bool, String> {
    match exec(pods, pod, container, &wrapper::probe(), PROBE).await {
        Answer::Code(0, _) => Ok(true),
        Answer::Code(126 | 127, _) => Ok(false),
        Answer::Code(code, said) => Err(format!("a shell in pod {pod}, container {container}, ended with exit code {code}: {said}")),
        Answer::Refused(said) if is_missing(&said) => Ok(false),
        Answer::Refused(said) | Answer::Lost(said) => Err(format!("cannot run a command in pod {pod}, container {container}: {said}")),
    }
}

/// Whether a container runtime says that there is no such program: runc and crun have different words for it.
fn is_missing(said: &str) -> bool {
    let said = said.to_lowercase();
    (said.contains("executable file") && said.contains("not found")) || said.contains("no such file or directory")
}

/// The same pod, and not at its end.
fn is_the_one(pod: &Pod, action: &ActionStatus) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.uid().as_ref() == Some(&action.pod_uid) && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// What the answer means for a command at the place of `action`.
pub(super) fn ended(action: &ActionStatus, answer: Answer) -> Ended {
    let shown = |said: &str| if action.shell { redact(said) } else { String::new() };
    match answer {
        Answer::Code(0, said) => Ended { result: ActionResult::Succeeded, output: shown(&said) },
        Answer::Code(wrapper::TIMED_OUT, said) if action.shell => {
            let output = format!("killed after {} s: {}", action.timeout_seconds, shown(&said));
            Ended { result: ActionResult::TimedOut, output }
        }
        Answer::Code(code, said) => Ended { result: ActionResult::Failed, output: format!("exit code {code}: {}", shown(&said)) },
        Answer::Refused(said) => Ended { result: ActionResult::Failed, output: format!("could not be started: {}", redact(&said)) },
        Answer::Lost(said) if action.shell => {
            Ended { result: ActionResult::Failed, output: format!("{said}; it is killed {} s after its start", action.timeout_seconds) }
        }
        Answer::Lost(said) => {
            Ended { result: ActionResult::MayStillRun, output: format!("{said}; there is no shell in the container that would kill it") }
        }
    }
}

async fn exec(pods: &Api<Pod>, pod: &str, container: &str, argv: &[String], limit: Duration) -> Answer {
    let params = AttachParams::default().container(container).stdout(true).stderr(true);
    let mut process = match timeout(limit, pods.exec(pod, argv.iter().map(String::as_str), &params)).await {
        Err(_) => return Answer::Lost(format!("no answer within {limit:?}")),
        Ok(Err(error)) => return Answer::Refused(error.to_string()),
        Ok(Ok(process)) => process,
    };
    let Some(status) = process.take_status() else {
        return Answer::Lost("the API server tells no status".to_owned());
    };
    let streams = async { join(all_of(process.stdout()), all_of(process.stderr())).await };
    match timeout(limit, join(streams, status)).await {
        Err(_) => {
            process.abort();
            Answer::Lost(format!("it had not ended within {limit:?} and was disconnected"))
        }
        Ok((_, None)) => Answer::Lost("the connection ended before the command did".to_owned()),
        Ok(((out, err), Some(status))) => told(&status, if out.trim().is_empty() { err } else { out }),
    }
}

pub(super) fn told(status: &Status, said: String) -> Answer {
    let refused = || Answer::Refused(status.message.clone().unwrap_or_default());
    pod::exit_code(status).map_or_else(refused, |code| Answer::Code(code, said))
}

/// Reads a stream to its end and keeps the first of it.
pub(super) async fn all_of(stream: Option<impl AsyncRead + Unpin>) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0_u8; 4096]);
    if let Some(mut stream) = stream {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let room = READ.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_known_by_the_words_of_each_runtime() {
        for said in [
            r#"OCI runtime exec failed: exec failed: unable to start container process: exec: "sh": executable file not found in $PATH: unknown"#,
            "OCI runtime exec failed: executable file `sh` not found in $PATH: No such file or directory: unknown",
            r#"exec failed: unable to start container process: exec: "/bin/sh": stat /bin/sh: no such file or directory"#,
        ] {
            assert!(is_missing(said), "{said}");
        }
        for said in ["container not found (\"app\")", "pods \"db-0\" not found", "context deadline exceeded"] {
            assert!(!is_missing(said), "{said}");
        }
    }
}
