//! `Restore`: one archive or snapshot of a PVC into a new PVC of the same namespace, or only a look at what there is.

use super::maintenance::Judged;
use super::run::Progress;
use crate::Reason;
use chrono::{DateTime, Utc};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Restores an archive or a snapshot of a PVC into a new PVC in the same namespace.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "borgherd.dev",
    version = "v1alpha1",
    kind = "Restore",
    namespaced,
    status = "RestoreStatus",
    derive = "PartialEq",
    category = "borgherd",
    doc = "Restores an archive or a snapshot of a PVC into a new PVC in the same namespace.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "From", type_ = "string", json_path = ".status.resolved.name"),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.target.pvc"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec == oldSelf.spec").message("a Restore's spec cannot be changed; make a new Restore")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.target) != (has(self.preview) && self.preview)").message("give either target or preview: true"))]
#[x_kube(validation = Rule::new("!has(self.retention) || (has(self.preview) && self.preview)").message("retention goes with preview: true"))]
pub struct RestoreSpec {
    /// What to restore.
    pub source: RestoreSource,
    /// Where to; absent only with `preview`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RestoreTarget>,
    /// Restore nothing: `status.candidates` says which snapshots and archives there are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preview: bool,
    /// With `preview`, in place of the candidates: `status.judged` says what pruning would do with the archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionQuestion>,
}

/// By what the archives are judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionQuestion {
    /// How many would stay, as in the annotation `archive-keep`; absent: what is in force for the PVC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub archive_keep: Option<String>,
}

/// Which archive or snapshot. Without `name` and `at`: the latest.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.name) && has(self.at))").message("give name or at, not both"))]
pub struct RestoreSource {
    /// The PVC that was backed up; it need not exist any more.
    #[schemars(length(min = 1, max = 253))]
    pub pvc: String,
    /// `Snapshot` or `Archive`; absent: whichever is newest, a snapshot before an archive of the same cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SourceKind>,
    /// Name of the VolumeSnapshot or archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 600))]
    pub name: Option<String>,
    /// The newest one cut at or before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// The Repository to look into; absent: the one in force for the PVC, or the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub repository: Option<String>,
}

/// The PVC to make. What is absent is as it was on the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreTarget {
    /// Name of the new PVC; one that exists is refused.
    #[schemars(length(min = 1, max = 253))]
    pub pvc: String,
    /// StorageClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class: Option<String>,
    /// Size, a Kubernetes quantity such as `10Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub size: Option<String>,
}

/// A snapshot in the storage, or an archive in a Borg repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SourceKind {
    /// A VolumeSnapshot.
    Snapshot,
    /// A Borg archive.
    Archive,
}

/// One thing that could be restored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Snapshot or archive.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
    /// The instant it holds.
    pub cut: DateTime<Utc>,
    /// Bytes of its files (archive), or that a volume of it needs (snapshot), where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Number of its files, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The Repository that holds it (archives).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// In mode live, the reading did not end well (its pod went, a hook did not hold), or has not ended: it is restored only by its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubtful: bool,
}

/// Where a Restore stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestorePhase {
    /// Not begun.
    #[default]
    Pending,
    /// Looking for what matches.
    Resolving,
    /// A volume is being made and mounted in Borgherd's own namespace.
    Preparing,
    /// The run exists; it waits for a slot of its node.
    Queued,
    /// Borg runs.
    Extracting,
    /// The volume is being given to the target PVC, or the target PVC made from the snapshot.
    HandingOver,
    /// It failed; what it made is being deleted.
    Cleaning,
    /// The target PVC is there and whole.
    Succeeded,
    /// There is no target PVC; `reason` says why.
    Failed,
}

impl RestorePhase {
    /// Nothing more will happen.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Resolving | Self::Preparing | Self::Queued | Self::Extracting | Self::HandingOver | Self::Cleaning => {
                false
            }
            Self::Succeeded | Self::Failed => true,
        }
    }
}

/// The controller's account of a Restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// Where it stands.
    #[serde(default)]
    pub phase: RestorePhase,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same in a sentence that says what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// What was chosen; changed only when that archive was pruned before it could be read, and it was not asked for by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Candidate>,
    /// With `preview`: everything that could be restored, newest first, at most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub candidates: Vec<Candidate>,
    /// With `preview` and `retention`: what pruning would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// When it entered `phase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// When the controller first acted on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// Node of the holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The PersistentVolume that was restored into and is given to the target PVC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub volume: Option<String>,
    /// A retry does not begin before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// The BorgRun of this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Which try this is, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// How far Borg is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Size, class and modes of the source, from the archive's comment, the snapshot or the PVC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<super::run::VolumeFacts>,
}
