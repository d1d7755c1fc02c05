//! Finds the mounted volume of a holder pod among the kubelet's folders.
//!
//! Invariant: what is returned is exactly one folder and a mount point of its own at that moment, because an empty folder
//! that only looks like the volume must never be archived as a success.

use crate::mount_table::{self, is_mount_point};
use std::fs;
use std::io;
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
    #[error("cannot {what} {path}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        #[source]
        error: io::Error,
    },
}

/// The folder on which volume `pv` of the pod `holder_uid` is mounted, below the kubelet's folder `pods`: `<pv>/mount` for CSI, else `<pv>`.
/// Rule: the kubelet's `pods/<uid>/volumes/<plugin>/<volume>`.
pub fn resolve(pods: &Path, holder_uid: &str, pv: &str) -> Result<PathBuf, VolumeError> {
    let holder_uid = component("holder UID", holder_uid)?;
    let pv = component("volume", pv)?;
    // The table of mounts knows no symbolic links.
    let pods = fs::canonicalize(pods).map_err(|error| unreadable("find folder", pods, error))?;
    let folder = pods.join(holder_uid).join("volumes");
    let places = places(&folder, pv)?;
    let mounts = mount_table::read().map_err(|error| unreadable("read", Path::new(mount_table::FILE), error))?;
    let mounted: Vec<&PathBuf> = places.iter().flatten().filter(|path| is_mount_point(&mounts, path)).collect();
    match (places.as_slice(), mounted.as_slice()) {
        ([], _) => Err(VolumeError::NotFound { folder, pv: pv.to_owned() }),
        ([_], [only]) => Ok((*only).clone()),
        ([[_, of_the_volume]], []) => Err(VolumeError::NotMounted(of_the_volume.clone())),
        _ => Err(VolumeError::Ambiguous {
            pv: pv.to_owned(),
            found: places.iter().map(|[_, of_the_volume]| of_the_volume.clone()).collect(),
        }),
    }
}

/// For each plugin that has a folder of the volume: where it is mounted by CSI, and where by others.
fn places(folder: &Path, pv: &str) -> Result<Vec<[PathBuf; 2]>, VolumeError> {
    let plugins = match fs::read_dir(folder) {
        Ok(plugins) => plugins,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable("list folder", folder, error)),
    };
    let mut places = Vec::new();
    for plugin in plugins {
        let volume = plugin.map_err(|error| unreadable("list folder", folder, error))?.path().join(pv);
        if volume.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            places.push([volume.join("mount"), volume]);
        }
    }
    Ok(places)
}

fn unreadable(what: &'static str, path: &Path, error: io::Error) -> VolumeError {
    VolumeError::Io { what, path: path.to_owned(), error }
}

/// `name` if it is one plain component of a path.
fn component<'a>(what: &'static str, name: &'a str) -> Result<&'a str, VolumeError> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(name),
        _ => Err(VolumeError::Name { what, name: name.to_owned() }),
    }
}
