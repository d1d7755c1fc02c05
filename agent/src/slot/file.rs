//! One lock file: opened, locked by flock(2), and inscribed with who has it. The only place that calls fs2.
//!
//! Invariant: a lock counts only while the path still leads to the locked file; a file that somebody removed and made
//! again would otherwise be two locks under one name.

use chrono::{DateTime, Utc};
use fs2::FileExt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a slot or a repository's lock could not be had.
#[derive(Debug, Error)]
pub enum SlotError {
    /// A node without slots could never run anything.
    #[error("the number of slots must be at least 1")]
    NoSlots,
    /// The folder, the file or the lock on it.
    #[error("cannot {what} {path}: {error}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        #[source]
        error: io::Error,
    },
    /// No thread that could wait for the lock.
    #[error("cannot start a thread that waits for a lock: {0}")]
    Thread(#[source] io::Error),
    /// The threads that wait ended without an answer.
    #[error("waiting for a lock ended without one")]
    Abandoned,
}

/// Which process holds a lock, for people who read its file.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Of the agent, in its PID namespace.
    pub pid: u32,
    /// When the agent started.
    pub started: DateTime<Utc>,
    /// Of the running kernel, `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Tells the time.
    pub clock: fn() -> DateTime<Utc>,
}

/// The folder of lock files.
pub(super) fn make_folder(dir: &Path) -> Result<(), SlotError> {
    fs::create_dir_all(dir).map_err(|error| failed("create folder", dir, error))
}

/// The lock if nobody has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<File>, SlotError> {
    let file = open(path)?;
    match FileExt::try_lock_exclusive(&file) {
        Ok(()) if is_at(&file, path)? => Ok(Some(file)),
        Ok(()) => Ok(None),
        Err(error) if error.kind() == fs2::lock_contended_error().kind() => Ok(None),
        Err(error) => Err(failed("lock", path, error)),
    }
}

/// The lock, as soon as the kernel gives it. Blocks the thread.
pub(super) fn lock(path: &Path) -> Result<File, SlotError> {
    loop {
        let file = open(path)?;
        match FileExt::lock_exclusive(&file) {
            Ok(()) if is_at(&file, path)? => return Ok(file),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("lock", path, error)),
        }
    }
}

/// Replaces what stands in the file by who holds it now. The lock counts, not this text.
pub(super) fn inscribe(mut file: &File, holder: &str, identity: &Identity) -> io::Result<()> {
    let Identity { pid, started, boot_id, clock } = identity;
    let text = format!(
        "holder: {holder}\nsince: {}\npid: {pid}\npid started: {}\nboot id: {boot_id}\n(all this counts only while the file is locked: flock --nonblock FILE true)\n",
        clock().to_rfc3339(),
        started.to_rfc3339(),
    );
    file.set_len(0)?;
    io::Seek::rewind(&mut file)?;
    file.write_all(text.as_bytes())
}

fn open(path: &Path) -> Result<File, SlotError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)
        .map_err(|error| failed("open", path, error))
}

/// Whether `path` still leads to `file`.
fn is_at(file: &File, path: &Path) -> Result<bool, SlotError> {
    let ours = file.metadata().map_err(|error| failed("look at", path, error))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", path, error)),
    }
}

fn failed(what: &'static str, path: &Path, error: io::Error) -> SlotError {
    SlotError::File { what, path: path.to_owned(), error }
}
