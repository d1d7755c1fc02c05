//! The database's script in its container.

use super::target::Target;
use crate::errors::{Attempt, Exit, Failure};
use crate::session::Session;
use borgherd_api::database::script::{Mode, command, words};
use borgherd_api::hooks::pod;
use futures::future::join3;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachParams;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// So long the way into the container may take.
const CONNECT: Duration = Duration::from_secs(30);
/// So much of what is said for people is kept.
const SAID: usize = 64 * 1024;

/// How a command in a container ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None`: the connection broke before it was known.
    pub(crate) code: Option<i32>,
    /// What it said on standard error.
    pub(crate) errors: String,
}

/// The script's command for a mode, with more words.
pub(crate) fn script(mode: Mode, target: &Target, further: &[String]) -> Vec<String> {
    command(&[words(mode, &target.preset), further.to_vec()].concat())
}

/// The way into a container, once it is open.
pub(crate) async fn open(
    session: &Session,
    target: &Target,
    argv: &[String],
    params: &AttachParams,
) -> Result<kube::api::AttachedProcess, Failure> {
    let attempt = Attempt::new::<Pod>("create", Some(&session.namespace), Some(&target.pod));
    let api = session.api::<Pod>(&session.namespace);
    let opened = tokio::time::timeout(CONNECT, api.exec(&target.pod, argv.iter().map(String::as_str), params)).await;
    match opened {
        Err(_) => Err(Failure::no_answer(&attempt, CONNECT.as_secs())),
        Ok(Ok(process)) => Ok(process),
        Ok(Err(error)) => Err(refused(session, target, &attempt, &error)),
    }
}

/// The API server tells with the status of an upgrade who may not exec.
fn refused(session: &Session, target: &Target, attempt: &Attempt, error: &kube::Error) -> Failure {
    let said = error.to_string();
    if said.contains("403") {
        let message = format!("not allowed to run commands in pod {} of namespace {}", target.pod, session.namespace);
        return Failure::new(Exit::Forbidden, message).hint(format!("ask for the right to create pods/exec in {}", session.namespace));
    }
    if let kube::Error::Api(_) = error {
        return Failure::of(attempt, error);
    }
    Failure::new(Exit::Unreachable, format!("cannot run a command in pod {}, container {}: {said}", target.pod, target.container))
}

/// Runs a command and gives its standard output to `sink` as it comes. After an error of `sink` the rest is dropped.
pub(crate) async fn stream(
    session: &Session,
    target: &Target,
    argv: &[String],
    mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<Ended, Failure> {
    let params = AttachParams::default().container(&target.container).stdout(true).stderr(true).max_stdout_buf_size(1 << 16);
    let mut process = open(session, target, argv, &params).await?;
    let status = process.take_status();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let output = async {
        let Some(mut stdout) = stdout else { return Ok(()) };
        let mut buffer = vec![0; 1 << 16];
        let mut kept = Ok(());
        // read to its end, or the command would wait for ever
        while let Ok(count @ 1..) = stdout.read(&mut buffer).await {
            kept = kept.and_then(|()| sink(buffer.get(..count).unwrap_or_default()));
        }
        kept
    };
    let status = async {
        match status {
            Some(status) => status.await,
            None => None,
        }
    };
    let (written, errors, status) = tokio::select! {
        ended = join3(output, text(stderr), status) => ended,
        () = session.stopped() => return Err(Failure::interrupted()),
    };
    written.map_err(|error: std::io::Error| Failure::new(Exit::Failed, format!("cannot keep what was read: {error}")))?;
    Ok(Ended { code: status.map(|status| code(&status)), errors })
}

/// Runs a command and gives back what it said; one that ended badly is an error with its last words.
pub(crate) async fn run(session: &Session, target: &Target, argv: &[String]) -> Result<String, Failure> {
    let mut said = Vec::new();
    let keep = |bytes: &[u8]| {
        let room = SAID.saturating_sub(said.len()).min(bytes.len());
        said.extend_from_slice(bytes.get(..room).unwrap_or_default());
        Ok(())
    };
    let ended = stream(session, target, argv, keep).await?;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    match ended.code {
        Some(0) => Ok(said),
        Some(_) => {
            let words = if ended.errors.trim().is_empty() { said } else { ended.errors };
            Err(Failure::new(Exit::Failed, format!("pod {}, container {}: {}", target.pod, target.container, words.trim())))
        }
        None => Err(Failure::new(Exit::Unreachable, format!("the connection to pod {} broke; what was begun there goes on", target.pod))),
    }
}

async fn text(stream: Option<impl AsyncRead + Unpin>) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0_u8; 4096]);
    if let Some(mut stream) = stream {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let room = SAID.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// One that could not be started is 127, as a shell has it.
pub(crate) fn code(status: &Status) -> i32 {
    pod::exit_code(status).unwrap_or(127)
}
