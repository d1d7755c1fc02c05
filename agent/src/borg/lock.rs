//! Locks that a killed borg of this node left behind.
//!
//! Invariant: the caller holds this node's lock of the repository, so no borg of this node works with it. The cache is this node's alone:
//! any lock in it is a dead one's. A path repository may be shared with other nodes (NFS): there a lock goes only if all who are in it
//! are of this node.

use super::env::node_of;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

const EXCLUSIVE: &str = "lock.exclusive";
const ROSTER: &str = "lock.roster";

/// Who holds a lock, as borg writes it: `<host id>.<pid>-<thread>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    host_id: String,
    pid: String,
}

impl Holder {
    fn parse(name: &str) -> Option<Self> {
        let (host_id, pid) = name.rsplit_once('-')?.0.rsplit_once('.')?;
        Some(Self { host_id: host_id.to_owned(), pid: pid.to_owned() })
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        format!("process {} on {}", self.pid, node_of(&self.host_id))
    }
}

/// What a lock folder says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    holders: Vec<Holder>,
    /// There is something that borg 1.4 does not write.
    unclear: bool,
}

impl Seen {
    /// All who hold it are of `node`, and they can only be dead.
    fn is_left_by(&self, node: &str) -> bool {
        !self.unclear && !self.holders.is_empty() && self.holders.iter().all(|holder| node_of(&holder.host_id) == node)
    }

    /// Somebody who holds it and is not of `node`, if there is one; else anybody.
    pub(super) fn someone_not_of(&self, host_id: &str) -> Option<&Holder> {
        let node = node_of(host_id);
        self.holders.iter().find(|holder| node_of(&holder.host_id) != node).or_else(|| self.holders.first())
    }
}

/// Removes what a killed borg left in the caches of this repository on this node. True if there was something.
pub(super) fn clear_cache(state_here: &Path) -> io::Result<bool> {
    let mut cleared = false;
    let caches = match fs::read_dir(state_here.join("cache")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        caches => caches?,
    };
    for cache in caches {
        let cache = cache?;
        if cache.file_type()?.is_dir() {
            cleared |= remove(&cache.path())?;
        }
    }
    Ok(cleared)
}

/// Removes the lock of the path repository at `repository` if only dead borgs of this node hold it. What is there, else.
pub(super) fn clear_repository(repository: &Path, host_id: &str) -> io::Result<Seen> {
    let seen = look(repository)?;
    if seen.is_left_by(node_of(host_id)) {
        remove(repository)?;
        return Ok(Seen::default());
    }
    Ok(seen)
}

/// Who holds the lock of the folder.
fn look(folder: &Path) -> io::Result<Seen> {
    let mut seen = Seen::default();
    for name in names(&folder.join(EXCLUSIVE))? {
        match Holder::parse(&name) {
            Some(holder) => seen.holders.push(holder),
            None => seen.unclear = true,
        }
    }
    let roster = match fs::read_to_string(folder.join(ROSTER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(seen),
        roster => roster?,
    };
    // Borg itself takes a roster that is no JSON for an empty one.
    let roster: BTreeMap<String, Vec<(String, i64, i64)>> = serde_json::from_str(&roster).unwrap_or_default();
    seen.holders.extend(roster.into_values().flatten().map(|(host_id, pid, _)| Holder { host_id, pid: pid.to_string() }));
    Ok(seen)
}

/// Removes both locks of the folder. True if there was something.
fn remove(folder: &Path) -> io::Result<bool> {
    let exclusive = folder.join(EXCLUSIVE);
    let mut removed = gone(fs::remove_file(folder.join(ROSTER)))?;
    for name in names(&exclusive)? {
        removed |= gone(fs::remove_file(exclusive.join(name)))?;
    }
    Ok(removed | gone(fs::remove_dir(exclusive))?)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// True: it was there and is removed; false: it was not there.
fn gone(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    const ME: &str = "node-1@boot2@pid7";

    fn lock(folder: &Path, exclusive: &[&str], roster: Option<&str>) {
        fs::create_dir_all(folder).unwrap();
        if !exclusive.is_empty() {
            fs::create_dir(folder.join(EXCLUSIVE)).unwrap();
        }
        for name in exclusive {
            fs::write(folder.join(EXCLUSIVE).join(name), "").unwrap();
        }
        if let Some(roster) = roster {
            fs::write(folder.join(ROSTER), roster).unwrap();
        }
    }

    #[test]
    fn only_locks_of_this_node_alone_go() {
        let table: [(&[&str], Option<&str>, bool); 8] = [
            (&["node-1@boot1@pid1.77-0"], None, true),
            (&["node-1@boot2@pid7.77-0"], Some(r#"{"exclusive": [["node-1@boot2@pid7", 77, 0]]}"#), true),
            (&[], Some(r#"{"shared": [["node-1@boot1@pid1", 5, 0]]}"#), true),
            (&["node-2@boot1@pid1.77-0"], None, false),
            (&["node-1@boot1@pid1.77-0"], Some(r#"{"shared": [["node-2@b@p", 5, 0]]}"#), false),
            (&["laptop.example.org@2485377892354.901-0"], None, false),
            (&["strange"], None, false),
            (&[], Some(r#"{"shared": []}"#), false),
        ];
        for (exclusive, roster, goes) in table {
            let folder = tempfile::tempdir().unwrap();
            lock(folder.path(), exclusive, roster);
            let seen = clear_repository(folder.path(), ME).unwrap();
            let left = folder.path().join(EXCLUSIVE).exists() || folder.path().join(ROSTER).exists();
            assert_eq!(left, !goes, "{exclusive:?} {roster:?}");
            assert!(!goes || seen == Seen::default());
        }
    }

    #[test]
    fn the_holder_that_is_named_is_somebody_elses() {
        let folder = tempfile::tempdir().unwrap();
        lock(folder.path(), &["node-2@b@p.77-0"], Some(r#"{"shared": [["node-1@b@p", 5, 0]]}"#));
        let seen = clear_repository(folder.path(), ME).unwrap();
        assert_eq!(seen.someone_not_of(ME).map(Holder::describe).as_deref(), Some("process 77 on node-2"));
    }

    #[test]
    fn every_lock_of_a_cache_goes() {
        let state = tempfile::tempdir().unwrap();
        assert!(!clear_cache(state.path()).unwrap());
        let cache = state.path().join("cache").join("ab");
        lock(&cache, &["strange"], Some("{}"));
        fs::write(cache.join("chunks"), "kept").unwrap();
        assert!(clear_cache(state.path()).unwrap());
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
        assert!(!clear_cache(state.path()).unwrap());
    }
}
