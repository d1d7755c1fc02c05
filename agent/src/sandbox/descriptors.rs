//! The descriptors that borg gets: standard ones, the inherited locks, and the passphrase; nothing else that was open.

use super::SandboxError;
use super::spawn::FIRST_INHERITED;
use nix::unistd::{close, dup2_stdin, pipe, write};
use std::fs::{self, File};
use std::io;
use std::os::fd::{IntoRawFd, RawFd};
use std::path::Path;

/// A pipe takes at least this much without a reader. Rule: `PIPE_BUF`.
const PIPE: usize = 4096;

/// Closes all descriptors but 0 to 2 and the `inherited` ones after them, which must be open, and empties standard input.
/// Nothing in this process may own any of the others.
pub(super) fn keep_only(inherited: usize) -> Result<(), SandboxError> {
    let open = open_descriptors().map_err(|error| SandboxError::new("list open descriptors", error))?;
    let end = FIRST_INHERITED + RawFd::try_from(inherited).map_err(|error| SandboxError::new("count inherited locks", error))?;
    if let Some(missing) = (FIRST_INHERITED..end).find(|fd| !open.contains(fd)) {
        return Err(SandboxError::new(format!("inherit descriptor {missing}"), "it is not open"));
    }
    for fd in open.into_iter().filter(|fd| *fd >= end) {
        close(fd).map_err(|error| SandboxError::new(format!("close descriptor {fd}"), error))?;
    }
    let null = File::open("/dev/null").map_err(|error| SandboxError::new("open /dev/null", error))?;
    dup2_stdin(null).map_err(|error| SandboxError::new("empty standard input", error))
}

/// A descriptor from which the passphrase can be read once, and which borg inherits.
pub(super) fn passphrase(passphrase: &str) -> Result<RawFd, SandboxError> {
    if passphrase.len() > PIPE {
        return Err(SandboxError::new("pass the passphrase on", format!("it is longer than {PIPE} bytes")));
    }
    let failed = |error| SandboxError::new("pass the passphrase on", error);
    let (reader, writer) = pipe().map_err(failed)?;
    write(&writer, passphrase.as_bytes()).map_err(failed)?;
    drop(writer);
    Ok(reader.into_raw_fd())
}

fn open_descriptors() -> io::Result<Vec<RawFd>> {
    const LIST: &str = "/proc/self/fd";
    let listed: Vec<RawFd> = fs::read_dir(LIST)?
        .map(|entry| entry?.file_name().to_string_lossy().parse().map_err(io::Error::other))
        .collect::<io::Result<_>>()?;
    // The listing's own is in it and closed by now.
    let open = listed.into_iter().filter(|fd| Path::new(LIST).join(fd.to_string()).is_symlink());
    Ok(open.collect())
}
