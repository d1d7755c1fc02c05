//! The kernel's table of the mounts that this thread sees, `/proc/thread-self/mountinfo`. Rule: `proc_pid_mountinfo(5)`.
//!
//! Invariant: a path counts as a mount point only if the table says so; comparing device numbers would miss a bind mount within one
//! file system.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where the kernel shows it. A thread may have a mount namespace of its own.
pub(crate) const FILE: &str = "/proc/thread-self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// Its own options, as `ro`, `nosuid`; not those of its file system.
    pub(crate) options: Vec<String>,
}

/// All mounts, in the order of mounting.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    let table = fs::read(FILE)?;
    table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
}

/// Whether something is mounted exactly at `path`, which must be without symbolic links.
pub(crate) fn is_mount_point(mounts: &[Mount], path: &Path) -> bool {
    mounts.iter().any(|mount| mount.point == path)
}

fn parse(line: &[u8]) -> io::Result<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').skip(4);
    let (Some(point), Some(options)) = (fields.next(), fields.next()) else {
        let line = String::from_utf8_lossy(line);
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}: no mount point in {line:?}")));
    };
    Ok(Mount {
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        options: String::from_utf8_lossy(options).split(',').map(str::to_owned).collect(),
    })
}

/// Blank, tab, newline and backslash stand there as `\` and three octal digits.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        let (byte, rest) = match (first, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..]) => {
                (((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), rest)
            }
            (byte, rest) => (*byte, rest),
        };
        plain.push(byte);
        text = rest;
    }
    plain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by it")]

    use super::*;

    #[test]
    fn a_line_tells_the_point_and_its_own_options() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402\134n\303\244 ro,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!(mount.point, PathBuf::from("/mnt 2\\n\u{e4}"));
        assert_eq!(mount.options, ["ro", "noatime"]);
    }

    #[test]
    fn a_line_without_a_point_is_an_error() {
        assert!(parse(b"36 35 98:0 /").is_err());
    }

    #[test]
    fn the_real_table_has_the_root_and_proc() {
        let mounts = read().unwrap();
        assert!(is_mount_point(&mounts, Path::new("/")));
        assert!(is_mount_point(&mounts, Path::new("/proc")));
        assert!(!is_mount_point(&mounts, Path::new("/proc/self")));
    }
}
