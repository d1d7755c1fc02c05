//! What one sandbox is to be, as data: written by the agent, read by the sandbox.
//!
//! Invariant: a plan holds secrets, so it only ever goes through a pipe, and its `Debug` does not show them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The volume that borg sees at [`super::VOLUME`].
    pub volume: Option<SandboxVolume>,
    /// The folder on the host that borg sees, writable, at [`super::STATE`].
    pub state: PathBuf,
    /// For a repository that is a folder below [`super::REPOSITORIES`]: bound writable at the same path. A path at which there is
    /// nothing stays so, and borg says by itself that the repository does not exist.
    pub repository_path: Option<PathBuf>,
    /// Makes the folder `repository_path` and its parents first. Only for `borg init`.
    pub create_repository_path: bool,
    /// What borg needs to open the repository.
    pub secrets: Secrets,
    /// More files for borg, by name, which it finds in [`super::FILES`]. For what is too long for a command line.
    pub files: BTreeMap<String, String>,
    /// The program, found by `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// The environment, beside the little that is always there; `BORG_PASSPHRASE_FD` is set by the sandbox.
    pub env: BTreeMap<String, String>,
    /// Which capabilities borg keeps.
    pub capabilities: Capabilities,
}

/// The one volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxVolume {
    /// Where it is mounted in the agent; a mount point of its own.
    pub source: PathBuf,
    /// In place of the mount itself, this folder beneath it, to which no link leads: of a hostPath volume.
    pub beneath: Option<PathBuf>,
    /// Borg cannot write to it. Must be so for an archive.
    pub read_only: bool,
}

/// What borg needs to open the repository.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Secrets {
    /// The repository's passphrase; reaches borg by a pipe, not by its environment.
    pub passphrase: String,
    /// For `ssh -i`, at [`super::SSH_PRIVATEKEY`].
    pub ssh_privatekey: Option<String>,
    /// For `ssh -o UserKnownHostsFile`, at [`super::KNOWN_HOSTS`].
    pub known_hosts: Option<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// What borg may do beyond an ordinary process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capabilities {
    /// Read every file.
    Archive,
    /// Write files of every owner, mode and kind.
    Restore,
    /// Nothing: for work on the repository alone.
    Repository,
}

/// What goes through the pipe: the plan, and how many descriptors from 3 on the sandbox is to leave open.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) plan: Plan,
    pub(super) inherited: usize,
}
