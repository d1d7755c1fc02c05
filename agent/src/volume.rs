//! Finds the mounted volume of a holder pod among the kubelet's folders.
//!
//! Invariant: what is returned is exactly one folder and a mount point of its own at that moment, because an empty folder
//! that only looks like the volume must never be archived as a success.

use std::path::{Component, Path, PathBuf};
use thiserror::Error;

/// Why the volume of a holder cannot be used. All of them are `Reason::VolumeNotMounted`.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// A UID or a name that would lead out of the kubelet's folder.
    #[error("{what} {name:?} cannot be the name of a folder")]
    Name {
        /// Which of the two names.
        what: &'static str,
        /// The name as given.
        name: String,
    },
    /// Nothing there: the holder is not of this node, or its volume is not mounted.
    #[error("no folder {pv:?} below {folder}: the holder's volume is not mounted on this node")]
    NotFound {
        /// The `volumes` folder of the pod.
        folder: PathBuf,
        /// Name of the PersistentVolume.
        pv: String,
    },
    /// Two plugins have a folder of that name.
    #[error("more than one folder could be volume {pv:?}: {found:?}")]
    Ambiguous {
        /// Name of the PersistentVolume.
        pv: String,
        /// All of them.
        found: Vec<PathBuf>,
    },
    /// The folder is there, but nothing is mounted on it.
    #[error("{0} is no mount point: the volume is not mounted there")]
    NotMounted(PathBuf),
    /// The kubelet's folders or the table of mounts could not be read.
    #[error("{what} {path}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        #[source]
        error: std::io::Error,
    },
}

/// The folder on which volume `pv` of the pod `holder_uid` is mounted, below the kubelet's folder `pods`.
pub fn resolve(pods: &Path, holder_uid: &str, pv: &str) -> Result<PathBuf, VolumeError> {
    let folder = pods.join(component("holder UID", holder_uid)?).join("volumes");
    let pv = component("volume", pv)?;
    Err(VolumeError::NotFound { folder, pv: pv.to_owned() })
}

/// `name` if it is one plain component of a path.
fn component<'a>(what: &'static str, name: &'a str) -> Result<&'a str, VolumeError> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(name),
        _ => Err(VolumeError::Name {
            what,
            name: name.to_owned(),
        }),
    }
}
