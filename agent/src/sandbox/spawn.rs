//! The agent's side of a sandbox: starts it, hands it the plan, sends it signals.
//!
//! Invariant: the plan goes through a pipe and never through arguments, environment or files, and a descriptor that the sandbox inherits is
//! made inheritable in that one child only.

use super::plan::Order;
use super::{Plan, SandboxError};
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// Exit code of a sandbox that could not be set up. Borg itself has no such code; [`failure`] tells for certain.
pub const EXIT_CODE: u8 = 125;
/// First descriptor after standard input, output and error.
pub(super) const FIRST_INHERITED: RawFd = 3;

/// The sandbox could not even be started.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// Two descriptors for one number.
    #[error("cannot pass the locks on to the sandbox: {0}")]
    Descriptors(#[from] command_fds::FdMappingCollision),
    /// The plan is no JSON: a path that is not UTF-8.
    #[error("cannot write the sandbox's plan: {0}")]
    Plan(#[from] serde_json::Error),
    /// This program could not be started again.
    #[error("cannot start the sandbox: {0}")]
    Start(#[source] io::Error),
    /// The plan did not reach it.
    #[error("cannot send the sandbox its plan: {0}")]
    Send(#[source] io::Error),
}

/// A sandbox that is being set up or has become borg. Dropping it does not end it: its locks stay with it.
#[derive(Debug)]
pub struct Sandbox {
    child: Child,
    pid: Option<Pid>,
}

/// Starts `exe sandbox` as leader of its own process group, with `inherit` as its descriptors 3 and up, and sends it the plan.
pub async fn spawn(exe: &Path, plan: &Plan, inherit: Vec<OwnedFd>) -> Result<Sandbox, SpawnError> {
    let inherited = inherit.len();
    let order = serde_json::to_vec(&Order { plan: plan.clone(), inherited })?;
    let mut child = command(exe, inherit)?.spawn().map_err(SpawnError::Start)?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(&order).await {
            // It has ended already: it says why on standard error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            sent => sent.map_err(SpawnError::Send)?,
        }
    }
    Ok(Sandbox { child, pid })
}

fn command(exe: &Path, inherit: Vec<OwnedFd>) -> Result<Command, SpawnError> {
    let mut command = std::process::Command::new(exe);
    command
        .arg("sandbox")
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mappings = (FIRST_INHERITED..).zip(inherit).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings)?;
    Ok(Command::from(command))
}

impl Sandbox {
    /// Of the sandbox and then of borg: it stays the same.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Borg's standard output, once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Borg's standard error, once. A line of it may be a [`failure`].
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// To borg alone: its ssh must live on for a checkpoint to be written. Nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.if_alive(|pid| kill(pid, signal))
    }

    /// SIGKILL to borg and all that it has started.
    pub fn kill(&self) -> io::Result<()> {
        self.if_alive(|pid| killpg(pid, Signal::SIGKILL))
    }

    /// Waits for borg's end.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// As long as the child is not waited for, its pid cannot be another's.
    fn if_alive(&self, send: impl FnOnce(Pid) -> nix::Result<()>) -> io::Result<()> {
        match self.pid.filter(|_| self.child.id().is_some()) {
            Some(pid) => send(pid).map_err(io::Error::from),
            None => Ok(()),
        }
    }
}

/// How a failure looks on standard error: one line of JSON that no borg writes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailureLine {
    borgherd_sandbox_failed: SandboxError,
}

/// The failure that a line of standard error reports, if it is one.
pub fn failure(line: &str) -> Option<SandboxError> {
    let line: FailureLine = serde_json::from_str(line.trim()).ok()?;
    Some(line.borgherd_sandbox_failed)
}

/// The line for standard error that [`failure`] reads.
pub fn failure_line(error: SandboxError) -> String {
    serde_json::to_string(&FailureLine { borgherd_sandbox_failed: error }).unwrap_or_default()
}
