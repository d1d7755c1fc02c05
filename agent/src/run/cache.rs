//! Borg's caches on this node: one folder for each repository, with a note beside it of whose it is; those without a run for long are removed.
//!
//! Invariant: a cache is removed only while this process holds the lock of its repository, and only if its note names the location that the
//! folder's name is the hash of. The note lies beside the folder, not in it: borg can write into the folder only.

use super::Folders;
use super::context::Context;
use crate::slot;
use borgherd_api::names;
use chrono::{DateTime, Utc};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

const NOTE: &str = "location";
/// Someone who works with the repository keeps its cache in use anyway.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// The cache's folder for `location`, made if need be, and marked as used at `now`.
pub(super) fn prepare(folders: &Folders, location: &str, now: DateTime<Utc>) -> io::Result<PathBuf> {
    let folder = folders.state(location);
    fs::create_dir_all(folders.states())?;
    let note = folder.with_extension(NOTE);
    // the note first: a folder without one is never removed
    fs::write(&note, location)?;
    fs::File::options().write(true).open(&note)?.set_modified(SystemTime::from(now))?;
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(folder),
    }
}

/// A cache as found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    /// Name of its folder.
    name: String,
    /// What its note says; `None`: there is no note that can be read.
    location: Option<String>,
    /// When a run last used it.
    used: DateTime<Utc>,
}

/// What is to become of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It stays; why.
    Keep(String),
    /// Nobody has used the cache of the repository at this location for longer than the limit.
    Remove {
        /// Of the repository.
        location: String,
    },
}

/// Whether a cache is too old.
fn judge(found: &Found, now: DateTime<Utc>, age: Duration) -> Verdict {
    let Found { name, location, used } = found;
    let Some(location) = location else {
        return Verdict::Keep("no note says whose it is".to_owned());
    };
    if names::hash(&[location], 10) != *name {
        return Verdict::Keep(format!("its note names {location}, which has another hash"));
    }
    let idle = (now - used).to_std().unwrap_or_default();
    if idle < age {
        return Verdict::Keep(format!("was used {} h ago", idle.as_secs() / 3600));
    }
    Verdict::Remove { location: location.clone() }
}

/// All caches below `states`.
fn list(states: &Path) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(states) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let note = entry.path().with_extension(NOTE);
        let used = fs::metadata(&note).and_then(|note| note.modified());
        all.push(Found {
            name: entry.file_name().to_string_lossy().into_owned(),
            location: fs::read_to_string(&note).ok(),
            used: used.map(DateTime::from).unwrap_or_default(),
        });
    }
    Ok(all)
}

/// Remove the caches that had no run for `age`.
pub(super) async fn sweep(ctx: &Context, age: Duration) {
    let states = ctx.folders.states();
    let found = match list(&states) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, folder = %states.display(), "caches cannot be listed");
            return;
        }
    };
    for found in found {
        match judge(&found, (ctx.now)(), age) {
            Verdict::Keep(why) => tracing::debug!(cache = found.name, why, "kept"),
            Verdict::Remove { location } => remove(ctx, &location, age).await,
        }
    }
}

async fn remove(ctx: &Context, location: &str, age: Duration) {
    let locks = ctx.folders.locks();
    let lock = slot::repository_lock(&locks, location, "cache removal", ctx.identity.clone());
    let Ok(Ok(lock)) = tokio::time::timeout(LOCK_PATIENCE, lock).await else {
        tracing::info!(location, "an old cache stays: its repository is in use");
        return;
    };
    let (folders, owned, now) = (ctx.folders.clone(), location.to_owned(), (ctx.now)());
    let removed = tokio::task::spawn_blocking(move || remove_locked(&folders, &owned, now, age)).await;
    drop(lock);
    match removed {
        Ok(Ok(true)) => {
            ctx.metrics.caches_removed.inc();
            tracing::info!(location, "removed a cache that had no run for long");
        }
        Ok(Ok(false)) => tracing::debug!(location, "used meanwhile"),
        Ok(Err(error)) => tracing::warn!(%error, location, "an old cache could not be removed"),
        Err(error) => tracing::warn!(%error, location, "removing an old cache failed"),
    }
}

/// False: somebody used it since it was listed.
fn remove_locked(folders: &Folders, location: &str, now: DateTime<Utc>, age: Duration) -> io::Result<bool> {
    let folder = folders.state(location);
    let note = folder.with_extension(NOTE);
    let used: DateTime<Utc> = fs::metadata(&note)?.modified()?.into();
    if (now - used).to_std().unwrap_or_default() < age {
        return Ok(false);
    }
    // borg's guard takes the right to write from folders directly below
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700))?;
        }
    }
    fs::remove_dir_all(&folder)?;
    fs::remove_file(&note)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use crate::run::example::at;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn only_a_known_cache_without_use_is_removed() {
        let location = "/repositories/a";
        let name = names::hash(&[location], 10);
        let found = |name: &str, location: Option<&str>, used: &str| Found {
            name: name.to_owned(),
            location: location.map(str::to_owned),
            used: at(used),
        };
        let now = at("2026-11-21T10:00:00Z");
        let verdict = |found| judge(&found, now, 30 * DAY);
        let remove = Verdict::Remove { location: location.to_owned() };
        assert_eq!(verdict(found(&name, Some(location), "2026-10-01T10:00:00Z")), remove);
        for kept in [
            found(&name, Some(location), "2026-11-01T10:00:00Z"),
            found(&name, Some(location), "2027-11-01T10:00:00Z"),
            found(&name, None, "1970-01-01T00:00:00Z"),
            found("other", Some(location), "1970-01-01T00:00:00Z"),
        ] {
            assert!(matches!(verdict(kept.clone()), Verdict::Keep(_)), "{kept:?}");
        }
    }

    #[test]
    fn a_prepared_cache_is_found_again_and_goes_with_its_note() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders { pods: dir.path().join("pods"), own: dir.path().join("own") };
        let location = "ssh://borg@nas/./r";
        let used = at("2026-11-01T10:00:00Z");
        let folder = prepare(&folders, location, used).unwrap();
        fs::write(folder.join("chunks"), "x").unwrap();
        fs::create_dir_all(folder.join("security").join("id")).unwrap();
        fs::set_permissions(folder.join("security"), fs::Permissions::from_mode(0o500)).unwrap();
        assert_eq!(prepare(&folders, location, used).unwrap(), folder, "twice");
        let found = list(&folders.states()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].location.as_deref(), found[0].used), (Some(location), used));
        assert!(!remove_locked(&folders, location, used + DAY, 30 * DAY).unwrap());
        assert!(folder.join("chunks").exists());
        assert!(remove_locked(&folders, location, used + 31 * DAY, 30 * DAY).unwrap());
        assert_eq!(fs::read_dir(folders.states()).unwrap().count(), 0);
    }

    #[test]
    fn no_folder_is_no_cache() {
        assert_eq!(list(Path::new("/nonexistent/borgherd")).unwrap(), []);
    }
}
