//! Folders of the node that are no mounts of the kubelet's: hostPath volumes, read only below the paths that the chart names.
//!
//! Invariant: what is opened lies beneath a path that was given, and no link was followed on the way there, by the kernel's own word
//! (`openat2`). It is opened again, in the same way, by the sandbox that reads it.

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A path of the node, and where it is mounted in this container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPath {
    /// On the node.
    pub host: PathBuf,
    /// Here; a mount point.
    pub here: PathBuf,
}

/// Why a folder of the node cannot be read.
#[derive(Debug, Error)]
pub enum HostError {
    /// It is below none of them.
    #[error("hostPath {0} is below no path of agent.liveHostPaths in the chart")]
    NotAllowed(PathBuf),
    /// It is not there, or a link leads to it.
    #[error("hostPath {path} cannot be opened without following links: {error}")]
    Open {
        /// On the node.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        error: io::Error,
    },
    /// What should be there is perhaps not mounted.
    #[error(
        "hostPath {0} is empty: if that is right, say so with `borgherd accept -n NAMESPACE PVC empty`; else see what should be mounted there"
    )]
    Empty(PathBuf),
}

/// Where in this container `path` of the node is: the mount, and what is beneath it.
pub fn find(allowed: &[HostPath], path: &Path, may_be_empty: bool) -> Result<(PathBuf, PathBuf), HostError> {
    let longest = allowed.iter().filter(|allowed| path.starts_with(&allowed.host)).max_by_key(|allowed| allowed.host.components().count());
    let beneath = longest.and_then(|allowed| Some((allowed, path.strip_prefix(&allowed.host).ok()?)));
    let (allowed, beneath) = beneath.ok_or_else(|| HostError::NotAllowed(path.to_owned()))?;
    let failed = |error: io::Error| HostError::Open { path: path.to_owned(), error };
    let root = open(&allowed.here, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(|e| failed(e.into()))?;
    let folder = open_beneath(&root, beneath).map_err(failed)?;
    let is_empty = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd())).map_err(failed)?.next().is_none();
    if is_empty && !may_be_empty {
        return Err(HostError::Empty(path.to_owned()));
    }
    Ok((allowed.here.clone(), beneath.to_owned()))
}

/// The folder at `path` beneath `root`, which may be `root` itself. Errors: `ELOOP` for a link, `EXDEV` for a way out.
pub fn open_beneath(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(openat2(root, path, how)?)
}

/// The paths of the node, those that are absolute, which are mounted in `folder` by their numbers: `/host/live/0`, `/host/live/1` …
pub fn mounted(paths: &[String], folder: &Path) -> Vec<HostPath> {
    let given = paths.iter().enumerate().filter(|(_, host)| host.starts_with('/'));
    given.map(|(number, host)| HostPath { host: host.into(), here: folder.join(number.to_string()) }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_is_beneath_and_not_behind_a_link_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let allowed = mounted(&["/srv/data", "relative", "/srv/data/more"].map(str::to_owned), dir.path());
        assert_eq!(allowed.len(), 2, "a path that is not absolute is none");
        for made in ["0/full/inside", "0/empty", "2/x/inside"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        symlink("full", dir.path().join("0/link")).unwrap();
        symlink(dir.path().join("2"), dir.path().join("0/out")).unwrap();
        let found = |path: &str, may_be_empty| find(&allowed, Path::new(path), may_be_empty);
        let here = |number: &str, beneath: &str| (dir.path().join(number), PathBuf::from(beneath));
        assert_eq!(found("/srv/data/full", false).unwrap(), here("0", "full"));
        assert_eq!(found("/srv/data", false).unwrap(), here("0", ""));
        assert_eq!(found("/srv/data/more/x", false).unwrap(), here("2", "x"));
        assert_eq!(found("/srv/data/empty", true).unwrap(), here("0", "empty"));
        assert!(matches!(found("/srv/data/empty", false), Err(HostError::Empty(_))));
        for path in ["/srv/database", "/srv", "/etc", "relative"] {
            assert!(matches!(found(path, true), Err(HostError::NotAllowed(_))), "{path}");
        }
        for path in ["/srv/data/link", "/srv/data/out/x", "/srv/data/full/../../2", "/srv/data/none"] {
            assert!(matches!(found(path, true), Err(HostError::Open { .. })), "{path}");
        }
    }
}
