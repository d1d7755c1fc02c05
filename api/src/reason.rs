//! Why something failed or waits: one bounded set for status, Events and metric labels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a volume, a run or a restore failed or waits. The word stands in status, Events and metrics alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    // what was asked for
    /// An annotation or a field has a value that cannot be.
    Invalid,
    /// The PVC is not there.
    PvcNotFound,
    /// The PVC cannot be backed up: Block mode, unbound, being deleted, not of a CSI driver.
    VolumeNotSupported,
    /// Nothing matches what a Restore asks for.
    NoMatch,
    /// The PVC that a Restore should make exists.
    TargetExists,
    /// The API server refuses the PVC that a Restore should make: a quota, a policy.
    TargetRefused,
    // snapshot
    /// No such VolumeSnapshotClass, or none for the driver.
    SnapshotClassNotFound,
    /// The driver refused to take the snapshot.
    SnapshotFailed,
    /// Cut, but not ready within the deadline.
    SnapshotNotReady,
    /// The snapshot was deleted before its clone was bound.
    SnapshotGone,
    /// A pre hook failed: no snapshot was made.
    HookFailed,
    /// A hook took too long where nothing can kill it: it may still run.
    HookMayStillRun,
    /// The snapshot was not cut while the applications were held still.
    FreezeLimit,
    /// A database could not be dumped: no snapshot was made.
    DumpFailed,
    // clone and holder
    /// The clone was not bound within the deadline.
    CloneNotBound,
    /// No node can run the holder.
    HolderUnschedulable,
    /// The holder was placed but did not start within the deadline.
    HolderNotStarted,
    // live volumes
    /// No running pod has the live volume mounted.
    PodNotFound,
    /// The pod whose live volume was read is gone, or ends.
    PodGone,
    /// A pod of the application uses the live volume that a holder had mounted.
    PodStarted,
    // repository, as configured
    /// The Repository object does not exist, or none is the default.
    RepositoryNotFound,
    /// More than one Repository is marked default.
    RepositoryAmbiguous,
    /// The Repository may not be used from this namespace.
    RepositoryNotAllowed,
    /// The Repository's Secret does not exist.
    SecretNotFound,
    /// The Repository's Secret lacks a key.
    SecretInvalid,
    // repository, as found
    /// The server did not answer, or the connection broke.
    ConnectionFailed,
    /// The server's host key is not in `known_hosts`.
    HostKeyUnknown,
    /// The server refused the key.
    AuthenticationFailed,
    /// Borg refused the passphrase.
    PassphraseWrong,
    /// No space left where the repository is.
    RepositoryFull,
    /// There is no repository where archives were.
    RepositoryVanished,
    /// There is another repository where archives were.
    RepositoryReplaced,
    /// There is no repository, and this operation does not create one.
    RepositoryMissing,
    /// Borg found the repository damaged.
    RepositoryCorrupted,
    /// Somebody else holds the repository's lock.
    RepositoryLocked,
    /// An archive of that name exists and is not this Backup's.
    ArchiveNameTaken,
    /// The archive to restore is not in the repository.
    ArchiveNotFound,
    // archives that are kept in order
    /// Archives of the same name are another cluster's.
    ForeignArchives,
    /// The newest archive lacks files.
    NewestIncomplete,
    /// No archive is known to be good.
    NoGoodArchive,
    /// It would delete more than half of the archives.
    TooManyDeletions,
    /// The newest archive has far less in it than the one before, or nearly all of it is new.
    SuspectArchive,
    // run
    /// No agent serves the node.
    AgentNotFound,
    /// The mounted volume could not be found on the node, or is no mount point.
    VolumeNotMounted,
    /// Files could not be read; the archive lacks them.
    FilesUnreadable,
    /// Files could not be restored completely.
    FilesNotRestored,
    /// Borg failed in a way that Borgherd does not know.
    BorgFailed,
    /// Borg was killed, by the kernel for memory or by someone.
    BorgKilled,
    /// The agent was stopped or died while borg ran.
    Interrupted,
    /// The sandbox could not be set up.
    SandboxFailed,
    /// Took longer than the chart allows.
    DeadlineExceeded,
    /// A newer cut of the same PVC goes first.
    Superseded,
    // waits
    /// Waits for another writer of the same repository.
    WaitingForRepository,
    /// Waits for a free place within a limit.
    WaitingForCapacity,
    /// Waits until the Repository can be reached again.
    RepositoryParked,
}

/// What becomes of something that failed for a [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once: nothing stands against it.
    Now,
    /// After a while: it may pass by itself.
    Later,
    /// Not before someone has changed something; the next Backup of the schedule tries anyway.
    Never,
}

impl Reason {
    /// Whether trying again helps.
    pub const fn retry(self) -> Retry {
        match self {
            Self::Interrupted | Self::VolumeNotMounted | Self::PodGone | Self::PodStarted => Retry::Now,
            Self::ConnectionFailed
            | Self::RepositoryLocked
            | Self::BorgKilled
            | Self::AgentNotFound
            | Self::SandboxFailed
            | Self::CloneNotBound
            | Self::HolderNotStarted
            | Self::WaitingForRepository
            | Self::WaitingForCapacity
            | Self::RepositoryParked => Retry::Later,
            Self::Invalid
            | Self::PvcNotFound
            | Self::VolumeNotSupported
            | Self::NoMatch
            | Self::TargetExists
            | Self::TargetRefused
            | Self::SnapshotClassNotFound
            | Self::SnapshotFailed
            | Self::SnapshotNotReady
            | Self::SnapshotGone
            | Self::HookFailed
            | Self::HookMayStillRun
            | Self::FreezeLimit
            | Self::DumpFailed
            | Self::HolderUnschedulable
            | Self::PodNotFound
            | Self::RepositoryNotFound
            | Self::RepositoryAmbiguous
            | Self::RepositoryNotAllowed
            | Self::SecretNotFound
            | Self::SecretInvalid
            | Self::HostKeyUnknown
            | Self::AuthenticationFailed
            | Self::PassphraseWrong
            | Self::RepositoryFull
            | Self::RepositoryVanished
            | Self::RepositoryReplaced
            | Self::RepositoryMissing
            | Self::RepositoryCorrupted
            | Self::ArchiveNameTaken
            | Self::ArchiveNotFound
            | Self::ForeignArchives
            | Self::NewestIncomplete
            | Self::NoGoodArchive
            | Self::TooManyDeletions
            | Self::SuspectArchive
            | Self::FilesUnreadable
            | Self::FilesNotRestored
            | Self::BorgFailed
            | Self::DeadlineExceeded
            | Self::Superseded => Retry::Never,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
