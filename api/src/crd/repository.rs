//! `Repository`: where Borg repositories live and with which secret.

use crate::Reason;
use chrono::{DateTime, Utc};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Where Borg repositories live. The controller resolves `location` for each volume; agents read the Secret.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "borgherd.dev",
    version = "v1alpha1",
    kind = "Repository",
    plural = "repositories",
    status = "RepositoryStatus",
    derive = "PartialEq",
    category = "borgherd",
    doc = "Where Borg repositories live and with which secret.",
    printcolumn(name = "Location", type_ = "string", json_path = ".spec.location"),
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(name = "Ready", type_ = "boolean", json_path = ".status.ready"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason")
)]
#[serde(rename_all = "camelCase")]
pub struct RepositorySpec {
    /// A template with the placeholders {cluster}, {namespace}, {pvc}: `ssh://borg@nas/./backups/{namespace}/{pvc}`,
    /// or an absolute path below /repositories, mounted by the chart's `agent.repositoryVolumes`. No placeholder: one
    /// shared Borg repository.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('ssh://') || self.startsWith('/repositories/')").message("must begin with ssh:// or /repositories/"))]
    #[x_kube(validation = Rule::new("!self.contains('..')").message("must not contain '..'"))]
    pub location: String,
    /// Name of a Secret in Borgherd's own namespace with `passphrase`, and for ssh `ssh-privatekey` and `known_hosts`.
    #[schemars(length(min = 1, max = 253))]
    pub secret_ref: String,
    /// Used by every PVC that names no repository. At most one Repository may be the default.
    #[serde(default)]
    pub default: bool,
    /// Borg's encryption mode, used when a repository is created.
    #[serde(default)]
    pub encryption: Encryption,
    /// How many runs may use this Repository at once; absent: as many as there are slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent: Option<u32>,
    /// Upload limit of one run in KiB/s; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rate_limit: Option<u32>,
    /// The server lets archives be added only: nothing is pruned or compacted from here.
    #[serde(default)]
    pub append_only: bool,
    /// How its Borg repositories are looked at for damage, where not as the chart says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Namespaces that may use it; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 63)))]
    pub namespaces: Vec<String>,
}

/// How often something is looked at: durations such as `7d` or `12h`, `0s` for never; absent: as the chart's `maintenance.check` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// The segments of each Borg repository, in pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub repository: Option<String>,
    /// The metadata of its archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub archives: Option<String>,
    /// The content of the newest archive of each volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub data: Option<String>,
    /// Any text, such as today's date: when it is another one than before, the content of all archives is read once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub verify_data: Option<String>,
}

/// Borg's encryption modes; the names are Borg's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// Key in the repository, AES-CTR with HMAC-SHA256.
    Repokey,
    /// Key in the repository, AES-CTR with keyed `BLAKE2b`: Borgherd's default.
    #[default]
    RepokeyBlake2,
    /// No encryption, authenticated.
    Authenticated,
    /// No encryption, authenticated by `BLAKE2b`.
    AuthenticatedBlake2,
    /// Neither encrypted nor authenticated.
    None,
}

impl Encryption {
    /// The word that `borg init --encryption` takes.
    pub const fn as_borg(self) -> &'static str {
        match self {
            Self::Repokey => "repokey",
            Self::RepokeyBlake2 => "repokey-blake2",
            Self::Authenticated => "authenticated",
            Self::AuthenticatedBlake2 => "authenticated-blake2",
            Self::None => "none",
        }
    }
}

/// Whether the Repository can be used, as the controller sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// Nothing in the spec stands against using it.
    #[serde(default)]
    pub ready: bool,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// It cannot be reached since then: its runs wait, and one at a time tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_since: Option<DateTime<Utc>>,
}
