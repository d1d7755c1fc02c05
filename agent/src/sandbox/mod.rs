//! The sandbox that every borg runs in: one volume, one state folder, its own secrets, the network, and nothing else.
//!
//! `spawn` starts this same program again as `borgherd-agent sandbox` (a re-exec, so that no threaded process has to fork), which reads
//! the [`Plan`] from its standard input, gives up everything the plan does not need, and becomes borg.
//! Invariant: borg is executed only when every step has succeeded; else nothing runs and the parent learns which step failed.

mod descriptors;
mod enter;
mod filter;
mod mounts;
mod plan;
mod privileges;
mod spawn;

pub use enter::enter;
pub use plan::{Capabilities, Plan, SandboxVolume, Secrets};
pub use spawn::{EXIT_CODE, Sandbox, SpawnError, failure, failure_line, spawn};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where borg finds the volume, and its working directory. The same for all, so that borg's files cache knows the files again.
pub const VOLUME: &str = "/run/borg/volume";
/// Where borg finds the repository's state on this node: caches, security and config folders. Writable.
pub const STATE: &str = "/run/borg/state";
/// Folder of the files of the plan: `Plan::files` by their names.
pub const FILES: &str = "/run/borg/files";
/// The SSH key, if the plan has one.
pub const SSH_PRIVATEKEY: &str = "/run/borg/secrets/ssh-privatekey";
/// The SSH host keys, if the plan has them.
pub const KNOWN_HOSTS: &str = "/run/borg/secrets/known_hosts";
/// Below it are repositories that are folders, at the same path inside and outside.
pub const REPOSITORIES: &str = "/repositories";

/// A step that could not be done, as the parent reads it from standard error.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("cannot set up the sandbox: {step}: {error}")]
pub struct SandboxError {
    /// What was tried.
    pub step: String,
    /// What came of it.
    pub error: String,
}

impl SandboxError {
    fn new(step: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self { step: step.into(), error: error.to_string() }
    }
}
