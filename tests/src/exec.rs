//! Commands in pods, with their output and exit code.

use anyhow::{Context, Result, bail};
use futures::future::join;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code.
    pub code: i32,
    /// Standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Output {
    /// Standard output as text, without the last newline.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// The output, or an error when the exit code is not 0.
    pub fn ok(self, what: &str) -> Result<Self> {
        if self.code == 0 {
            return Ok(self);
        }
        bail!("exit code {} of: {what}\nstdout: {}\nstderr: {}", self.code, self.text(), self.stderr)
    }
}

async fn all_of(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Runs `command` in a container of a pod and waits for its end.
pub(crate) async fn exec(api: &Api<Pod>, pod: &str, container: &str, command: &[&str], deadline: Duration) -> Result<Output> {
    let shown = command.join(" ");
    let run = async {
        let params = AttachParams::default().container(container).stdout(true).stderr(true).max_stdout_buf_size(1 << 16);
        let mut process = api.exec(pod, command.iter().copied(), &params).await?;
        let status = process.take_status().context("exec gave no status")?;
        // both at once: a full buffer of the one stops the other
        let (stdout, stderr) = join(all_of(process.stdout()), all_of(process.stderr())).await;
        let status = status.await.context("the connection ended before the command did")?;
        let output = Output { code: exit_code(&status)?, stdout: stdout?, stderr: String::from_utf8_lossy(&stderr?).into_owned() };
        anyhow::Ok(output)
    };
    tokio::time::timeout(deadline, run)
        .await
        .with_context(|| format!("exec in {pod} did not end within {deadline:?}: {shown}"))?
        .with_context(|| format!("exec in {pod}: {shown}"))
}

/// Rule: the API server reports a non-zero exit as Failure with a cause `ExitCode`.
fn exit_code(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> Result<i32> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.as_ref().and_then(|d| d.causes.clone()).unwrap_or_default();
    let code = causes.into_iter().find(|c| c.reason.as_deref() == Some("ExitCode")).and_then(|c| c.message);
    match code {
        Some(code) => Ok(code.parse()?),
        None => bail!("the command did not run: {}", status.message.clone().unwrap_or_default()),
    }
}
