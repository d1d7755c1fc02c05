//! The custom resources: Borgherd's own, one file a kind, and what it uses of CSI's snapshot API.

#![allow(clippy::duplicated_attributes, reason = "each printcolumn repeats its type; the lint takes that for a slip")]
#![allow(unreachable_pub, reason = "KubeSchema derives a second, hidden copy of each struct that the lint looks at")]

mod backup;
mod maintenance;
mod quiesce;
mod repository;
mod restore;
mod run;
pub mod snapshot;

pub use backup::{Backup, BackupPhase, BackupSpec, BackupStatus, Durations, LiveStatus, Outcome, Trigger, VolumePhase, VolumeStatus};
pub use maintenance::{
    ArchiveVerdict, CheckOptions, CheckResult, CompactOptions, Judged, Maintenance, MaintenancePhase, PruneOptions, PruneResult,
};
pub use quiesce::{ActionResult, ActionStatus, HookStatus, QuiescePhase, QuiesceStatus, Release, Scaling, StepKind, Workload};
pub use repository::{Check, Encryption, Repository, RepositorySpec, RepositoryStatus};
pub use restore::{
    Candidate, Restore, RestorePhase, RestoreSource, RestoreSpec, RestoreStatus, RestoreTarget, RetentionQuestion, SourceKind,
};
pub use run::{
    AgentRef, ArchiveOptions, ArchiveResult, BorgRun, BorgRunSpec, BorgRunStatus, FoundArchive, HostFolder, ListOptions, LiveOptions,
    Operation, Owner, Progress, RestoreOptions, RunPhase, RunRepository, RunVolume, Subject, VolumeFacts,
};
