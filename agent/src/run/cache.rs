//! Borg's caches on this node: one folder for each repository, with a note beside it of whose it is. Those without a run for long are removed,
//! and where all together are too large, those that were used longest ago. A removed cache costs time: borg makes it anew.
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
    /// Bytes of its files.
    bytes: u64,
}

/// How long caches stay, and how much room they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Without a run for so long one goes; zero: never for that.
    pub(super) age: Duration,
    /// Bytes of all together; zero: any.
    pub(super) bytes: u64,
}

/// What is to become of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It stays; why.
    Keep(String),
    /// The cache of the repository at this location goes.
    Remove {
        /// Of the repository.
        location: String,
        /// Since why.
        why: &'static str,
    },
}

/// A verdict for each, those used longest ago first. The one that was used last is never too large: it would only be made again.
fn judge(mut found: Vec<Found>, now: DateTime<Utc>, limits: Limits) -> Vec<(Found, Verdict)> {
    found.sort_by_key(|found| found.used);
    let mut left: u64 = found.iter().map(|found| found.bytes).sum();
    let last = found.len().saturating_sub(1);
    let judged = found.into_iter().enumerate().map(|(index, found)| {
        let is_too_large = limits.bytes > 0 && left > limits.bytes && index != last;
        let verdict = one(&found, now, limits.age, is_too_large);
        if let Verdict::Remove { .. } = verdict {
            left -= found.bytes;
        }
        (found, verdict)
    });
    judged.collect()
}

fn one(found: &Found, now: DateTime<Utc>, age: Duration, is_too_large: bool) -> Verdict {
    let Found { name, location, used, bytes: _ } = found;
    let Some(location) = location.clone() else {
        return Verdict::Keep("no note says whose it is".to_owned());
    };
    if names::hash(&[&location], 10) != *name {
        return Verdict::Keep(format!("its note names {location}, which has another hash"));
    }
    let idle = (now - used).to_std().unwrap_or_default();
    match (!age.is_zero() && idle >= age, is_too_large) {
        (true, _) => Verdict::Remove { location, why: "it had no run for long" },
        (false, true) => Verdict::Remove { location, why: "all caches together are too large, and it was used longest ago" },
        (false, false) => Verdict::Keep(format!("was used {} h ago", idle.as_secs() / 3600)),
    }
}

/// Bytes of the files below `folder`; what cannot be read counts nothing.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
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
            bytes: bytes(&entry.path()),
        });
    }
    Ok(all)
}

/// Removes what `limits` leave no room for.
pub(super) async fn sweep(ctx: &Context, limits: Limits) {
    let states = ctx.folders.states();
    let folder = states.clone();
    let found = match tokio::task::spawn_blocking(move || list(&folder)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, folder = %states.display(), "caches cannot be listed");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "listing the caches failed");
            return;
        }
    };
    for (found, verdict) in judge(found, (ctx.now)(), limits) {
        match verdict {
            Verdict::Keep(why) => tracing::debug!(cache = found.name, bytes = found.bytes, why, "kept"),
            Verdict::Remove { location, why } => remove(ctx, &location, why, found.used).await,
        }
    }
}

/// Unless somebody uses it, or has used it since `used`.
async fn remove(ctx: &Context, location: &str, why: &str, used: DateTime<Utc>) {
    let locks = ctx.folders.locks();
    let lock = slot::repository_lock(&locks, location, "cache removal", ctx.identity.clone());
    let Ok(Ok(lock)) = tokio::time::timeout(LOCK_PATIENCE, lock).await else {
        tracing::info!(location, why, "a cache that should go stays: its repository is in use");
        return;
    };
    let (folders, owned) = (ctx.folders.clone(), location.to_owned());
    let removed = tokio::task::spawn_blocking(move || remove_locked(&folders, &owned, used)).await;
    drop(lock);
    match removed {
        Ok(Ok(true)) => {
            ctx.metrics.caches_removed.inc();
            tracing::info!(location, why, "removed a cache");
        }
        Ok(Ok(false)) => tracing::debug!(location, "used meanwhile"),
        Ok(Err(error)) => tracing::warn!(%error, location, "a cache could not be removed"),
        Err(error) => tracing::warn!(%error, location, "removing a cache failed"),
    }
}

/// False: somebody has used it since `used`.
fn remove_locked(folders: &Folders, location: &str, used: DateTime<Utc>) -> io::Result<bool> {
    let folder = folders.state(location);
    let note = folder.with_extension(NOTE);
    if DateTime::<Utc>::from(fs::metadata(&note)?.modified()?) != used {
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

    fn found(name: &str, location: Option<&str>, used: &str, bytes: u64) -> Found {
        Found { name: name.to_owned(), location: location.map(str::to_owned), used: at(used), bytes }
    }

    #[test]
    fn only_a_known_cache_without_use_is_removed() {
        let location = "/repositories/a";
        let name = names::hash(&[location], 10);
        let now = at("2026-11-21T10:00:00Z");
        let verdict = |found| judge(vec![found], now, Limits { age: 30 * DAY, bytes: 1 }).remove(0).1;
        let old = found(&name, Some(location), "2026-10-01T10:00:00Z", 0);
        assert!(matches!(verdict(old.clone()), Verdict::Remove { location: of, .. } if of == location));
        for kept in [
            found(&name, Some(location), "2026-11-01T10:00:00Z", 9),
            found(&name, Some(location), "2027-11-01T10:00:00Z", 9),
            found(&name, None, "1970-01-01T00:00:00Z", 9),
            found("other", Some(location), "1970-01-01T00:00:00Z", 9),
        ] {
            assert!(matches!(verdict(kept.clone()), Verdict::Keep(_)), "{kept:?}");
        }
        let without = judge(vec![old], now, Limits { age: Duration::ZERO, bytes: 0 });
        assert!(matches!(without[0].1, Verdict::Keep(_)), "no limits");
    }

    #[test]
    fn where_all_are_too_large_those_used_longest_ago_go_until_the_rest_fits() {
        let now = at("2026-11-21T10:00:00Z");
        let of = |location: &str, day: u32, bytes| {
            found(&names::hash(&[location], 10), Some(location), &format!("2026-11-{day:02}T10:00:00Z"), bytes)
        };
        let unknown = found("unknown", None, "2026-11-01T10:00:00Z", 30);
        let all = vec![of("new", 20, 100), of("old", 10, 10), of("older", 5, 60), unknown, of("middle", 15, 20)];
        let gone = |bytes| -> Vec<String> {
            let judged = judge(all.clone(), now, Limits { age: 30 * DAY, bytes });
            judged.into_iter().filter_map(|(f, v)| matches!(v, Verdict::Remove { .. }).then(|| f.location.unwrap())).collect()
        };
        assert_eq!(gone(220), [""; 0], "all of it is 220");
        assert_eq!(gone(219), ["older"]);
        assert_eq!(gone(160), ["older"]);
        assert_eq!(gone(150), ["older", "old"]);
        assert_eq!(gone(1), ["older", "old", "middle"], "the last one stays however large it is");
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
        fs::write(folder.join("security").join("id").join("location"), "ab").unwrap();
        fs::set_permissions(folder.join("security"), fs::Permissions::from_mode(0o500)).unwrap();
        assert_eq!(prepare(&folders, location, used).unwrap(), folder, "twice");
        let found = list(&folders.states()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].location.as_deref(), found[0].used, found[0].bytes), (Some(location), used, 3));
        assert!(!remove_locked(&folders, location, used - DAY).unwrap(), "used since");
        assert!(folder.join("chunks").exists());
        assert!(remove_locked(&folders, location, used).unwrap());
        assert_eq!(fs::read_dir(folders.states()).unwrap().count(), 0);
    }

    #[test]
    fn no_folder_is_no_cache() {
        assert_eq!(list(Path::new("/nonexistent/borgherd")).unwrap(), []);
    }
}
