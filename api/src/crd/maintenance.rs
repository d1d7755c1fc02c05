//! Keeping archives in order: what a run is told, what it reports, and where it stands in the Backup that it follows.

use crate::Reason;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// For pruning the archives of the run's subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PruneOptions {
    /// How many stay: `last=1,daily=7`.
    #[schemars(length(min = 1, max = 256))]
    pub keep: String,
    /// UID of this cluster: archives of another one stop it.
    #[schemars(length(min = 1, max = 63))]
    pub cluster_uid: String,
    /// Cuts of archives that lack files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000))]
    pub incomplete: Vec<DateTime<Utc>>,
    /// Names of archives that a Restore is made from, and of one whose content is being read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 600)))]
    pub in_use: Vec<String>,
    /// What a person has accepted: the annotation `borgherd.dev/accept` of the PVC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub accepted: String,
}

/// What pruning would do with an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveVerdict {
    /// Its name.
    #[schemars(length(max = 600))]
    pub name: String,
    /// The cut, from its name; absent: it is no whole archive of Borgherd's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<DateTime<Utc>>,
    /// It would be deleted, if nothing keeps all of them.
    pub goes: bool,
    /// Why it would stay or go.
    #[schemars(length(max = 256))]
    pub why: String,
}

/// What pruning would do now with the archives of a PVC, by the code that carries it out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// Of everything whose name begins as those of the PVC do, in the order of their names; of more than 2000 the last ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000))]
    pub archives: Vec<ArchiveVerdict>,
    /// So many are left out here.
    #[serde(default)]
    pub left_out: u32,
    /// Why nothing would be deleted, where there is a word for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why nothing would be deleted, in a sentence; absent: nothing is against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}

/// For `borg compact`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompactOptions {
    /// A segment is written anew where so many per cent of it are not used; absent: Borg's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub threshold: Option<u8>,
}

/// For `borg check`, or for reading an archive as if to restore it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckOptions {
    /// The metadata of the archives; else the repository's segments.
    #[serde(default)]
    pub archives: bool,
    /// With `archives`: the content of all of them, too; the word by which that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub verify_data: Option<String>,
    /// Nothing but the content of the archive of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 600))]
    pub read: Option<String>,
    /// With `read`: so many items of the archive, from its first on, were read before and are passed over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: u64,
    /// With `after`: Borg's id of the archive that it is true of; another one of that name is read from its first item on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub archive_id: Option<String>,
    /// Of segments and of one archive's content: after so many seconds it ends, and the next one goes on there. Absent: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<u32>,
}

/// What a check found that found no damage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// It came to the end; else the next one goes on.
    #[serde(default)]
    pub finished: bool,
    /// Of an archive's content that was not read to its end: so many of its items, from the first on, are read, those before included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub position: u64,
    /// Borg's id of the archive that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub archive_id: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PruneResult {
    /// Archives that stay, others' included.
    #[serde(default)]
    pub kept: u32,
    /// Archives that were deleted, rests of dead runs included.
    #[serde(default)]
    pub deleted: u32,
    /// Bytes in the repository that only they used: what compacting may free.
    #[serde(default)]
    pub unused_bytes: u64,
    /// Bytes of all archives of the repository, compressed and deduplicated.
    #[serde(default)]
    pub repository_bytes: u64,
}

/// Where the maintenance after an archive stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MaintenancePhase {
    /// Archives are to be pruned; a try has failed, and another one follows.
    #[default]
    Pruning,
    /// Pruned; the repository is to be compacted.
    Compacting,
    /// Nothing more will happen.
    Done,
    /// It did not go; the next archive tries again. `reason` says why.
    Failed,
    /// Nothing was deleted, and nothing will be until a person has looked at it. `reason` says why.
    Stopped,
}

/// What was done about a PVC's archives after one was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Maintenance {
    /// Where it stands.
    #[serde(default)]
    pub phase: MaintenancePhase,
    /// Tries of this phase that have ended.
    #[serde(default)]
    pub attempt: u32,
    /// The next try does not begin before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// When this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// Why it stopped or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same in a sentence that says what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// What pruning did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<PruneResult>,
    /// What was accepted when it stopped: something else there is looked at anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub accepted: String,
}
