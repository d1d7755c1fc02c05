//! From effective values to a [`Policy`]: every value checked, all problems found.

use super::borg;
use super::keep::Keep;
use super::key::Key;
use super::merge::{Effective, Origin};
use super::mode::Mode;
use super::problem::Problem;
use super::zone;
use crate::database::{self, Presets};
use crate::hooks::{self, Hook};
use crate::schedule::Schedule;
use chrono_tz::Tz;

/// When a backup's snapshot goes into an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveWhen {
    /// No `archive-schedule`: always.
    EveryBackup,
    /// An empty one: snapshots only.
    Never,
    /// The first backup at or after each of these times.
    At(Schedule),
}

/// What is in force for one PVC. All names are valid names; all borg values are such that borg accepts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When a backup is due; `None`: this PVC is not backed up.
    pub schedule: Option<Schedule>,
    /// Which backups are archived; in mode `live` every one, whatever `archive-schedule` says.
    pub archive: ArchiveWhen,
    /// How the volume is read.
    pub mode: Mode,
    /// For the schedules, and for the spans of time of which a snapshot stays.
    pub time_zone: Tz,
    /// Name of a `Repository`; `None`: the default one.
    pub repository: Option<String>,
    /// How many snapshots stay; `None`: nothing is said, so nothing is marked by it.
    pub keep: Option<Keep>,
    /// How many archives stay; `None`: nothing is said, so none is deleted.
    pub archive_keep: Option<Keep>,
    /// Name of a `VolumeSnapshotClass`; `None`: the driver's default.
    pub snapshot_class: Option<String>,
    /// Name of the clone's `StorageClass`; `None`: the PVC's own.
    pub clone_class: Option<String>,
    /// Patterns for `--exclude`.
    pub exclude: Vec<String>,
    /// For `--compression`.
    pub compression: Option<String>,
    /// For `--files-cache`.
    pub files_cache: Option<String>,
    /// Nothing new starts.
    pub suspend: bool,
    /// Cut together with the PVCs of the namespace that have the same.
    pub group: Option<String>,
    /// What quiesces and resumes the application.
    pub hooks: Vec<Hook>,
    /// Which databases are dumped before the snapshot.
    pub databases: Presets,
}

/// What `effective` means for the PVC `pvc`. `H` in a schedule goes by the group's name where there is one, so that all members
/// agree. Any problem switches this PVC's backups off: a half-understood policy is not followed.
pub fn resolve(namespace: &str, pvc: &str, effective: &Effective) -> Result<Policy, Vec<Problem>> {
    let mut reader = Reader { effective, problems: Vec::new() };
    let group = reader.read(Key::Group, name);
    let hashed = group.as_deref().unwrap_or(pvc);
    let schedule = |text: &str| Schedule::parse(text, namespace, hashed).map_err(|error| error.to_string());
    let archive = reader.read(Key::ArchiveSchedule, |text| match text {
        "" => Ok(ArchiveWhen::Never),
        text => schedule(text).map(ArchiveWhen::At),
    });
    let mode = reader.read(Key::Mode, Mode::parse).unwrap_or_default();
    let policy = Policy {
        schedule: reader.read(Key::Schedule, schedule),
        archive: archive.filter(|_| mode == Mode::Snapshot).unwrap_or(ArchiveWhen::EveryBackup),
        mode,
        time_zone: reader.read(Key::TimeZone, zone::parse).unwrap_or(Tz::UTC),
        repository: reader.read(Key::Repository, name),
        keep: reader.read(Key::Keep, Keep::parse),
        archive_keep: reader.read(Key::ArchiveKeep, Keep::parse),
        snapshot_class: reader.read(Key::SnapshotClass, name),
        clone_class: reader.read(Key::CloneClass, name),
        exclude: reader.read(Key::Exclude, borg::exclude).unwrap_or_default(),
        compression: reader.read(Key::Compression, borg::compression),
        files_cache: reader.read(Key::FilesCache, borg::files_cache),
        suspend: reader.read(Key::Suspend, suspend).unwrap_or_default(),
        group,
        hooks: reader.read(Key::Hooks, hooks::parse).unwrap_or_default(),
        databases: Presets {
            list: reader.read(Key::Database, database::parse).unwrap_or_default(),
            inherited: effective.origin(Key::Database).is_some_and(|origin| origin != Origin::Pvc),
        },
    };
    if reader.problems.is_empty() { Ok(policy) } else { Err(reader.problems) }
}

/// Reads values and remembers what was wrong with them.
struct Reader<'a> {
    effective: &'a Effective,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn read<T>(&mut self, key: Key, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (value, origin) = self.effective.values.get(&key)?;
        match read(value) {
            Ok(read) => Some(read),
            Err(message) => {
                // a password that does not belong there is not to be shown, too
                let value = if key == Key::Database { hooks::redact(value) } else { value.clone() };
                self.problems.push(Problem { annotation: key.annotation().to_owned(), origin: *origin, value, message });
                None
            }
        }
    }
}

fn suspend(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be 'true' or 'false'".to_owned()),
    }
}

/// A Kubernetes object's name. Rule: DNS subdomain, RFC 1123.
fn name(text: &str) -> Result<String, String> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|byte| is_inner(*byte) || *byte == b'-')
            && bytes.first().copied().is_some_and(is_inner)
            && bytes.last().copied().is_some_and(is_inner)
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err("is no name: up to 253 lowercase letters, digits, '-' and '.', beginning and ending with a letter or digit, like 'nas-1'"
        .to_owned())
}
