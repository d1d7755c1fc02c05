//! How borg is started: the agent does it in the sandbox, tests without one. This module only says what a starter has to keep to.

use crate::sandbox::Sandbox;
use futures::future::BoxFuture;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::process::ExitStatus;
use tokio::process::{Child, ChildStderr, ChildStdout};

/// What one borg may touch, and where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Working directory: the volume, read-only. May read every file, without the right to write every file (no `CAP_DAC_OVERRIDE`):
    /// that borg cannot write into another repository than the expected one rests on it, see [`super::state`].
    Archive,
    /// Working directory: the volume, writable, with the capabilities to make files of every owner and kind.
    Restore,
    /// No volume: work on the repository alone. No `CAP_DAC_OVERRIDE` either.
    Repository,
}

/// One call of borg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Arguments, without the program.
    pub argv: Vec<String>,
    /// The whole environment but `PATH` and the passphrase, which the launcher gives by `BORG_PASSPHRASE_FD`.
    pub env: BTreeMap<String, String>,
    /// Files that borg finds in [`super::Places::files`], by name.
    pub files: BTreeMap<String, String>,
    /// What it may touch.
    pub access: Access,
    /// Most bytes of its standard output that are kept.
    pub answer_max: u64,
    /// `borg init`: the folder of a path repository may be made.
    pub creates_repository: bool,
}

/// Starts borg as a [`Call`] says. Standard output and error must be pipes, standard input must be at its end.
pub trait Launch: Send + Sync {
    /// Starts it. A failure is one of the sandbox, not of borg.
    fn launch<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, io::Result<Running>>;
}

/// A borg that runs.
pub struct Running {
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
    /// To signal it and to wait for it.
    pub process: Box<dyn Process>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running(..)")
    }
}

/// A child process.
pub trait Process: Send + Sync {
    /// Sends a signal to borg alone: its ssh must live on for a checkpoint to be written. Nothing happens if it has ended.
    fn signal(&self, signal: Signal) -> io::Result<()>;
    /// SIGKILL, to borg and all that it has started where that is possible.
    fn kill(&self) -> io::Result<()>;
    /// Waits for its end. May be dropped and called again.
    fn wait(&mut self) -> BoxFuture<'_, io::Result<ExitStatus>>;
}

impl Process for Sandbox {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        Self::signal(self, signal)
    }

    fn kill(&self) -> io::Result<()> {
        Self::kill(self)
    }

    fn wait(&mut self) -> BoxFuture<'_, io::Result<ExitStatus>> {
        Box::pin(Self::wait(self))
    }
}

impl Process for Child {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        // `id` is there until the child has been waited for: until then its pid cannot be another's.
        match self.id().and_then(|id| i32::try_from(id).ok()) {
            Some(id) => kill(Pid::from_raw(id), signal).map_err(io::Error::from),
            None => Ok(()),
        }
    }

    fn kill(&self) -> io::Result<()> {
        Process::signal(self, Signal::SIGKILL)
    }

    fn wait(&mut self) -> BoxFuture<'_, io::Result<ExitStatus>> {
        Box::pin(Self::wait(self))
    }
}
