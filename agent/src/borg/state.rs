//! The repository's state on this node, and the guard in it: that borg writes into the expected repository only.
//!
//! Borg has no option for the id a repository must have, and asking for the id first would cost a connection each time. But before borg
//! reads or writes anything it makes a folder named by the repository's id in its security folder, unless that is there. So when an id is
//! expected, that one folder is made here and the security folder gets mode 0500: borg, which owns it but lacks `CAP_DAC_OVERRIDE`,
//! stops at any other id. Tried with borg 1.4.5. The id that borg reports in the end is compared as well.

use super::job::Places;
use super::reading;
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Name of the file, in the folder of the state, into which ssh writes why there is no connection.
pub(super) const SSH_LOG: &str = "ssh.log";
/// Most of it that is read.
const SSH_LOG_MAX: u64 = 64 << 10;

/// Begins a new log of ssh.
pub(super) fn forget_ssh_log(state_here: &Path) -> io::Result<()> {
    match fs::remove_file(state_here.join(SSH_LOG)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// What ssh wrote since then; nothing if it did not.
pub(super) fn ssh_log(state_here: &Path) -> String {
    let mut text = Vec::new();
    let read = fs::File::open(state_here.join(SSH_LOG)).and_then(|file| file.take(SSH_LOG_MAX).read_to_end(&mut text));
    match read {
        Ok(_) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => String::new(),
    }
}

/// Which repository borg may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard(Option<String>);

impl Guard {
    /// Only the repository with this id, or any. An id is 64 hex digits; anything else is no id.
    pub(super) fn new(expected: Option<&str>) -> Result<Self, String> {
        let Some(id) = expected else { return Ok(Self(None)) };
        let hex = id.len() == 64 && id.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        if hex { Ok(Self(Some(id.to_owned()))) } else { Err(format!("expectedId {id:?} is no repository id")) }
    }

    /// The id that is expected.
    pub(super) fn expected(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether the repository may have this id.
    pub(super) fn admits(&self, id: &str) -> bool {
        self.expected().is_none_or(|expected| expected == id)
    }
}

/// Makes the folders, and sets the guard.
pub(super) fn prepare(places: &Places<'_>, guard: &Guard) -> io::Result<()> {
    for name in ["cache", "config"] {
        make(&places.state_here.join(name))?;
    }
    reading::forget(places.state_here)?;
    let security = places.state_here.join("security");
    make(&security)?;
    let mode = match guard.expected() {
        Some(id) => {
            make(&security.join(id))?;
            0o500
        }
        None => 0o700,
    };
    fs::set_permissions(&security, Permissions::from_mode(mode))
}

/// Makes a folder that only its owner sees.
fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_guard_closes_the_security_folder_around_one_id_and_opens_it_again() {
        let here = tempfile::tempdir().unwrap();
        let nowhere = Path::new("/");
        let places = Places { state: nowhere, state_here: here.path(), files: nowhere, ssh_privatekey: nowhere, known_hosts: nowhere };
        let id = "0123456789abcdef".repeat(4);
        let guard = Guard::new(Some(&id)).unwrap();
        for _ in 0..2 {
            prepare(&places, &guard).unwrap();
            assert_eq!(mode(&here.path().join("security")), 0o500);
            assert_eq!(mode(&here.path().join("security").join(&id)), 0o700);
        }
        prepare(&places, &Guard::new(None).unwrap()).unwrap();
        assert_eq!(mode(&here.path().join("security")), 0o700);
        assert!(guard.admits(&id) && !guard.admits("other"));
    }

    #[test]
    fn an_id_is_64_hex_digits() {
        for bad in ["", "../../etc", &"A".repeat(64), &"a".repeat(63)] {
            assert!(Guard::new(Some(bad)).is_err(), "{bad}");
        }
    }
}
