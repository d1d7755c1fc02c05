//! `BorgRun`: one Borg operation on one node. Internal: the controller writes it whole, the agent of its node executes it.

use super::maintenance::{CheckOptions, CheckResult, CompactOptions, Judged, PruneOptions, PruneResult};
use super::repository::Encryption;
use crate::Reason;
use chrono::{DateTime, Utc};
use kube::{CustomResource, KubeSchema, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One Borg operation on one node.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "borgherd.dev",
    version = "v1alpha1",
    kind = "BorgRun",
    namespaced,
    status = "BorgRunStatus",
    derive = "PartialEq",
    category = "borgherd",
    selectable = ".spec.node",
    doc = "One Borg operation on one node: written by the controller, executed by the agent of spec.node.",
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.subject.namespace"),
    printcolumn(name = "PVC", type_ = "string", json_path = ".spec.subject.pvc"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec == oldSelf.spec").message("a BorgRun's spec cannot be changed")
)]
#[serde(rename_all = "camelCase")]
pub struct BorgRunSpec {
    /// The node whose agent executes it.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// Whose data it is about.
    pub subject: Subject,
    /// The Backup or Restore it is for.
    pub owner: Owner,
    /// The Borg repository.
    pub repository: RunRepository,
    /// The mounted volume; absent for operations on the repository alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<RunVolume>,
    /// What to do.
    pub operation: Operation,
    /// IANA name; `TZ` of borg.
    #[schemars(length(max = 64))]
    pub time_zone: String,
    /// The run is ended with reason `DeadlineExceeded` when it has not ended by itself.
    pub deadline: DateTime<Utc>,
}

/// The PVC a run is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub pvc: String,
}

/// The object a run is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// `Backup` or `Restore`.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 63))]
    pub uid: String,
}

impl Owner {
    /// `object` as an owner.
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let meta = object.meta();
        Self { kind: K::kind(&()).into_owned(), namespace: text(&meta.namespace), name: text(&meta.name), uid: text(&meta.uid) }
    }
}

/// A Borg repository as a run needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRepository {
    /// Name of the Repository object.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Without placeholders: `ssh://…` or a path below /repositories.
    #[schemars(length(min = 1, max = 2048))]
    pub location: String,
    /// Name of the Secret in Borgherd's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub secret_ref: String,
    /// For a repository that has to be created.
    #[serde(default)]
    pub encryption: Encryption,
    /// Upload limit in KiB/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// Nothing records an archive at this location: a repository that does not exist may be created.
    #[serde(default)]
    pub may_init: bool,
    /// The id that the repository at this location had; another one is `RepositoryReplaced`, none `RepositoryVanished`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub expected_id: Option<String>,
}

/// A volume that a pod keeps mounted on the run's node: a holder, or the application's own whose live volume is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunVolume {
    /// UID of that pod: the name of its folder below the kubelet's pods.
    #[schemars(length(min = 1, max = 63))]
    pub holder_uid: String,
    /// Name of the PersistentVolume: the name of the mount's folder.
    #[schemars(length(min = 1, max = 253))]
    pub pv: String,
}

/// What borg is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::large_enum_variant, reason = "a run has one operation; there are never many of them")]
pub enum Operation {
    /// `borg create` of the volume, which is read-only to borg.
    Archive(ArchiveOptions),
    /// `borg extract` into the volume, which is empty.
    Restore(RestoreOptions),
    /// `borg list` of the archives of the subject.
    List(ListOptions),
    /// `borg delete` of the subject's archives that no tier holds.
    Prune(PruneOptions),
    /// `borg compact`.
    Compact(CompactOptions),
    /// `borg check`, which repairs nothing.
    Check(CheckOptions),
}

impl Operation {
    /// Of the repository, after and apart from any backup.
    pub const fn is_maintenance(&self) -> bool {
        match self {
            Self::Archive(_) | Self::Restore(_) | Self::List(_) => false,
            Self::Prune(_) | Self::Compact(_) | Self::Check(_) => true,
        }
    }
}

/// For `borg create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveOptions {
    /// Name of the archive; of a live volume the one of the moment it is let go.
    #[schemars(length(min = 1, max = 600))]
    pub name: String,
    /// The cut, borg's `--timestamp`; of a live volume the moment it is let go.
    pub cut: DateTime<Utc>,
    /// Facts for the archive's comment.
    pub facts: VolumeFacts,
    /// Patterns for `--exclude`, one each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 4096)))]
    pub exclude: Vec<String>,
    /// Borg's `--compression`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub compression: Option<String>,
    /// Borg's `--files-cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub files_cache: Option<String>,
    /// The volume is read in place, while it may be written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveOptions>,
}

/// For a volume that is read in place. The run says `readyAt` once borg could begin, and begins when the controller sets the annotation
/// [`crate::names::GO`]: only then are applications held still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LiveOptions {
    /// Seconds for which a run that is ready waits to be let go; then it ends as interrupted.
    pub patience: u32,
    /// A holder has it mounted: the application that starts waits for the end of the reading.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Of a hostPath volume, of which the kubelet makes no mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostFolder>,
}

/// A folder of the node. The agent reads it only below the paths that it was given, and follows no links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostFolder {
    /// Where, on the node.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
    /// With nothing in it, too.
    #[serde(default)]
    pub may_be_empty: bool,
}

/// What is needed to make a PVC again and to know whose it was: the JSON of an archive's comment and of the annotation
/// [`crate::names::VOLUME_FACTS`]. A repository alone is enough to rebuild from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeFacts {
    /// UID of the cluster: that of its namespace kube-system.
    #[schemars(length(max = 63))]
    pub cluster_uid: String,
    /// UID of the Backup.
    #[schemars(length(max = 63))]
    pub backup_uid: String,
    /// UID of the PVC.
    #[schemars(length(max = 63))]
    pub pvc_uid: String,
    /// What the PVC asks for, a Kubernetes quantity.
    #[schemars(length(max = 64))]
    pub size: String,
    /// Its StorageClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class: Option<String>,
    /// Its access modes.
    #[schemars(length(max = 8), inner(length(max = 64)))]
    pub access_modes: Vec<String>,
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Name of the VolumeSnapshot.
    #[schemars(length(max = 253))]
    pub snapshot: String,
}

/// For `borg extract`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreOptions {
    /// Name of the archive.
    #[schemars(length(min = 1, max = 600))]
    pub archive: String,
}

/// For `borg list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListOptions {
    /// Only the newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// In place of the list: what pruning by this would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<PruneOptions>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunPhase {
    /// No agent has taken it.
    #[default]
    Pending,
    /// An agent has it; it waits for a slot.
    Queued,
    /// It has a slot, borg runs.
    Running,
    /// Done, completely.
    Succeeded,
    /// The archive exists, but some files could not be read.
    Incomplete,
    /// `reason` says why.
    Failed,
    /// Ended from outside before borg had finished: agent stopped or died, run deleted.
    Interrupted,
}

impl RunPhase {
    /// The run is over.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Incomplete | Self::Failed | Self::Interrupted => true,
        }
    }
}

/// The agent's account of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BorgRunStatus {
    /// Where it stands.
    #[serde(default)]
    pub phase: RunPhase,
    /// Who has taken it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentRef>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same in a sentence that says what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// When the agent took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<DateTime<Utc>>,
    /// When it got its slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// Of a live volume: since when it has all it needs and waits to be let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// Seconds borg itself took, all its calls together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borg_seconds: Option<f64>,
    /// How far it is, or the totals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Of an archive operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveResult>,
    /// Id of the repository that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub repository_id: Option<String>,
    /// Of a list operation, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000))]
    pub archives: Vec<FoundArchive>,
    /// Of a list operation that was to judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// Of a prune operation that was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneResult>,
    /// Of a check that found no damage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckResult>,
    /// The last lines of borg's log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 1024)))]
    pub log: Vec<String>,
}

/// The agent process that has a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentRef {
    /// Name of the agent's pod.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// UID of the agent's pod: a run is lost when this pod is gone.
    #[schemars(length(max = 63))]
    pub uid: String,
    /// One start of the agent's process: after a restart in the same pod it differs.
    #[schemars(length(max = 63))]
    pub instance: String,
}

/// How far borg is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Files done.
    #[serde(default)]
    pub files: u64,
    /// Bytes read (archive) or written (restore).
    #[serde(default)]
    pub bytes: u64,
    /// Bytes in all, where borg knows (restore).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Bytes after compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed_bytes: Option<u64>,
    /// Bytes that were new to the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicated_bytes: Option<u64>,
}

/// The archive that a run made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveResult {
    /// Its name.
    #[schemars(length(max = 600))]
    pub name: String,
    /// Borg's id of it.
    #[schemars(length(max = 64))]
    pub id: String,
    /// It was there already, made by an earlier attempt of the same Backup whose report was lost.
    #[serde(default)]
    pub existed: bool,
}

/// An archive that a list operation found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundArchive {
    /// Its name.
    #[schemars(length(max = 600))]
    pub name: String,
    /// Borg's id of it.
    #[schemars(length(max = 64))]
    pub id: String,
    /// The cut, from its name.
    pub cut: DateTime<Utc>,
    /// Bytes of its files, where borg's listing says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Number of its files, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// What its comment says, where Borgherd wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<VolumeFacts>,
}
