//! The annotations that make a policy.

/// Prefix of every annotation of Borgherd.
pub(super) const PREFIX: &str = "borgherd.dev/";

/// An annotation that this version acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// When a backup is due.
    Schedule,
    /// When its snapshot is archived, too.
    ArchiveSchedule,
    /// What the clock of the schedules shows.
    TimeZone,
    /// Name of a `Repository`.
    Repository,
    /// How many snapshots stay.
    Keep,
    /// How many archives stay.
    ArchiveKeep,
    /// `snapshot` or `live`.
    Mode,
    /// `VolumeSnapshotClass`.
    SnapshotClass,
    /// `StorageClass` of the clone.
    CloneClass,
    /// Borg patterns, one a line.
    Exclude,
    /// Borg's `--compression`.
    Compression,
    /// Borg's `--files-cache`.
    FilesCache,
    /// `true`: nothing new starts.
    Suspend,
    /// PVCs of the namespace with the same value are cut together.
    Group,
    /// What quiesces and resumes the application.
    Hooks,
    /// Which databases are dumped.
    Database,
}

impl Key {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::Schedule,
        Self::ArchiveSchedule,
        Self::TimeZone,
        Self::Repository,
        Self::Keep,
        Self::ArchiveKeep,
        Self::Mode,
        Self::SnapshotClass,
        Self::CloneClass,
        Self::Exclude,
        Self::Compression,
        Self::FilesCache,
        Self::Suspend,
        Self::Group,
        Self::Hooks,
        Self::Database,
    ];

    /// As it stands on a PVC or a namespace: `borgherd.dev/schedule`.
    pub const fn annotation(self) -> &'static str {
        match self {
            Self::Schedule => "borgherd.dev/schedule",
            Self::ArchiveSchedule => "borgherd.dev/archive-schedule",
            Self::TimeZone => "borgherd.dev/time-zone",
            Self::Repository => "borgherd.dev/repository",
            Self::Keep => "borgherd.dev/keep",
            Self::ArchiveKeep => "borgherd.dev/archive-keep",
            Self::Mode => "borgherd.dev/mode",
            Self::SnapshotClass => "borgherd.dev/snapshot-class",
            Self::CloneClass => "borgherd.dev/clone-class",
            Self::Exclude => "borgherd.dev/exclude",
            Self::Compression => "borgherd.dev/compression",
            Self::FilesCache => "borgherd.dev/files-cache",
            Self::Suspend => "borgherd.dev/suspend",
            Self::Group => "borgherd.dev/group",
            Self::Hooks => "borgherd.dev/hooks",
            Self::Database => "borgherd.dev/database",
        }
    }

    /// Without the prefix, as in the chart's defaults: `schedule`.
    pub fn name(self) -> &'static str {
        self.annotation().strip_prefix(PREFIX).unwrap_or_default()
    }
}
