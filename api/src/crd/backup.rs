//! `Backup`: one attempt for one group of PVCs: snapshot, archive.

use super::maintenance::Maintenance;
use super::quiesce::QuiesceStatus;
use super::run::Progress;
use crate::Reason;
use crate::hooks::HookSpec;
use chrono::{DateTime, Utc};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One attempt to back up one group of PVCs of one namespace, all cut together.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "borgherd.dev",
    version = "v1alpha1",
    kind = "Backup",
    namespaced,
    status = "BackupStatus",
    derive = "PartialEq",
    category = "borgherd",
    doc = "One attempt to back up one group of PVCs: snapshot, then archive.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Volumes", type_ = "string", json_path = ".spec.volumes"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec == oldSelf.spec").message("a Backup's spec cannot be changed; make a new Backup")
)]
#[serde(rename_all = "camelCase")]
pub struct BackupSpec {
    /// Names of the PVCs, all in the Backup's namespace.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub volumes: Vec<String>,
    /// Whether the snapshots are archived with Borg; `false`: snapshots only.
    #[serde(default = "yes")]
    pub archive: bool,
    /// What asked for it.
    #[serde(default)]
    pub trigger: Trigger,
    /// For how many days the snapshots of a manual one are kept; absent: for ever. Those of the schedule are kept by the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub keep_days: Option<u32>,
    /// The time it was due, for scheduled ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<DateTime<Utc>>,
    /// What quiesces and resumes the applications, in place of the PVCs' own `borgherd.dev/hooks`; empty: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub hooks: Option<Vec<HookSpec>>,
}

const fn yes() -> bool {
    true
}

/// What asked for a Backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Trigger {
    /// A person.
    #[default]
    Manual,
    /// The schedule.
    Scheduled,
}

impl Trigger {
    /// The value of the label [`crate::names::TYPE`].
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Scheduled => "scheduled",
        }
    }
}

/// Where a Backup stands, over all its volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    /// Not begun.
    #[default]
    Pending,
    /// Snapshots are being cut or made ready.
    Snapshotting,
    /// At least one volume is on its way into an archive.
    Archiving,
    /// Every volume ended well.
    Succeeded,
    /// Some volumes ended well, others did not.
    PartiallyFailed,
    /// No volume ended well.
    Failed,
}

impl BackupPhase {
    /// Nothing more will happen.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Snapshotting | Self::Archiving => false,
            Self::Succeeded | Self::PartiallyFailed | Self::Failed => true,
        }
    }
}

/// The controller's account of a Backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// Where it stands.
    #[serde(default)]
    pub phase: BackupPhase,
    /// Why it failed: that of the first volume that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same in a sentence, with the volume's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// When the controller first acted on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When the last volume ended and was cleaned up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// The freeze of the applications, where there are hooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<QuiesceStatus>,
    /// One entry a PVC, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub volumes: Vec<VolumeStatus>,
}

/// Where one volume of a Backup stands. A volume only ever moves down this list, or back to `Waiting` for a retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum VolumePhase {
    /// No snapshot yet.
    #[default]
    Pending,
    /// The VolumeSnapshot exists, its cut is not visible.
    Cutting,
    /// Cut; the storage is not ready to clone from it.
    Cut,
    /// Ready; waiting to be admitted (writer's turn, limits, retry).
    Waiting,
    /// The clone and its holder are being made and mounted; of a live volume: its run is made.
    Cloning,
    /// The run exists; it waits for a slot of its node.
    Queued,
    /// Borg runs.
    Archiving,
    /// The run ended; clone and holder are being deleted. What follows is in `outcome`.
    Cleaning,
    /// At its end, successful or not: `outcome` says which.
    Finished,
}

/// How a volume ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Snapshot, and archive where one was asked for.
    Succeeded,
    /// An archive exists, files are missing from it.
    Incomplete,
    /// A newer cut of the same PVC was archived in its place; the snapshot stays.
    Superseded,
    /// `reason` says why.
    Failed,
}

/// One volume of a Backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// Name of the PVC.
    #[schemars(length(max = 253))]
    pub pvc: String,
    /// UID of the PVC when it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc_uid: Option<String>,
    /// Where it stands.
    #[serde(default)]
    pub phase: VolumePhase,
    /// How it ended, or will have ended after cleaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it failed, or why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same in a sentence that says what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// When it entered `phase`; deadlines count from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// The VolumeSnapshotClass that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_class: Option<String>,
    /// The VolumeSnapshot in the Backup's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The instant captured; of a live volume: when its reading began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<DateTime<Utc>>,
    /// Of a volume that is read in place; no snapshot is made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveStatus>,
    /// Where there are hooks: whether it was cut (of a live volume: read as a whole) while the applications were held still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesced: Option<bool>,
    /// When the controller saw the snapshot ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<DateTime<Utc>>,
    /// The Repository that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Its location for this volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Which try this is, from 1; 0 before the first.
    #[serde(default)]
    pub attempt: u32,
    /// A retry does not begin before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// Node of the holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The BorgRun of this attempt, in Borgherd's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How far Borg is, while it runs; the totals when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Bytes that the volume's source asks for, to relate progress to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// The archive, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// What was done about the PVC's archives after this one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Seconds that each phase took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durations: Option<Durations>,
}

/// How a volume is read in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LiveStatus {
    /// Its PersistentVolume.
    #[schemars(length(max = 253))]
    pub pv: String,
    /// Of a hostPath volume: its path on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub host_path: Option<String>,
    /// No pod uses it: in this attempt a holder mounts it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The pod by whose mount it is read in this attempt: one of the application's, or the holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// Its UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub pod_uid: Option<String>,
    /// How often its containers had been restarted when it was chosen: one that is restarted holds nothing still any more.
    #[serde(default)]
    pub restarts: i32,
    /// When the reads of attempts began that came to nothing: an archive of such a moment, if there is one, does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub void: Vec<DateTime<Utc>>,
}

impl VolumeStatus {
    /// It is read in place: its run has a slot.
    pub fn is_read(&self) -> bool {
        self.live.is_some() && self.phase == VolumePhase::Archiving
    }
}

/// Seconds from one milestone to the next, as the controller and the agent saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Durations {
    /// Creation of the VolumeSnapshot until its cut was visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_visible: Option<f64>,
    /// Cut visible until ready to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_to_ready: Option<f64>,
    /// Ready until admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<f64>,
    /// Admitted until the clone was mounted and the run created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone: Option<f64>,
    /// Run created until it held a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_wait: Option<f64>,
    /// Borg's own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borg: Option<f64>,
    /// Run ended until everything temporary was gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<f64>,
}
