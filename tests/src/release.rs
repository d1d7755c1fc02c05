//! The installed chart: other values for the time of one test.

use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Pods that restart, an agent after another.
const UPGRADE: Duration = Duration::from_mins(5);

/// The Helm release that the tests run against.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    pub(crate) settings: &'a Settings,
}

impl Release<'_> {
    /// Sets values (`agent.slots=1`), runs `body`, and puts the values back whatever came of it.
    /// Only in a test that runs alone.
    pub async fn with<T>(&self, values: &[&str], body: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        let before = self.helm(&["get", "values", &self.settings.release, "--output", "json"]).await?;
        let mut upgrade = vec!["--reuse-values"];
        for value in values {
            upgrade.extend(["--set", value]);
        }
        let outcome = match self.upgrade(&upgrade, "").await {
            Ok(()) => body().await,
            Err(error) => Err(error),
        };
        let before = if before.trim() == "null" { "{}" } else { before.trim() };
        let back = self.upgrade(&["--reset-values", "--values", "-"], before).await.context("put the release's values back");
        let outcome = outcome?;
        back?;
        Ok(outcome)
    }

    async fn upgrade(&self, arguments: &[&str], stdin: &str) -> Result<()> {
        let chart = self.settings.root.join("charts/borgherd");
        let chart = chart.to_string_lossy();
        let mut all = vec!["upgrade", &self.settings.release, &*chart, "--wait", "--timeout", "4m"];
        all.extend(arguments);
        self.run(&all, stdin).await.map(drop)
    }

    async fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments, "").await
    }

    async fn run(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        use tokio::io::AsyncWriteExt;
        let shown = arguments.join(" ");
        let run = async {
            let mut child = Command::new("helm")
                .args(["--namespace", &self.settings.namespace])
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .context("helm is not on the PATH (hack/test e2e puts it there)")?;
            if let Some(mut pipe) = child.stdin.take() {
                pipe.write_all(stdin.as_bytes()).await?;
            }
            anyhow::Ok(child.wait_with_output().await?)
        };
        let output = tokio::time::timeout(UPGRADE, run).await.with_context(|| format!("helm {shown} does not end"))??;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        bail!("helm {shown}: {}", String::from_utf8_lossy(&output.stderr))
    }
}
