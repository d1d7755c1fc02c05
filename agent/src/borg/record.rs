//! What this node knows of the last archive of a PVC: whether it is complete.
//!
//! Borg's exit code is the only one to say that, and a report with it may be lost. An archive that is there and is not recorded as complete
//! is therefore never taken for a success.

use borgherd_api::crd::Subject;
use borgherd_api::names;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The last archive of a PVC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) archive: String,
    pub(super) id: String,
    /// Borg read every file.
    pub(super) complete: bool,
}

fn path(state_here: &Path, subject: &Subject) -> PathBuf {
    let name = names::hash(&[&subject.namespace, &subject.pvc], 8);
    state_here.join("archived").join(name)
}

/// Replaces the record, whole or not at all.
pub(super) fn write(state_here: &Path, subject: &Subject, record: &Record) -> io::Result<()> {
    let path = path(state_here, subject);
    fs::create_dir_all(state_here.join("archived"))?;
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(record)?)?;
    fs::rename(new, path)
}

/// The record, if there is one that can be read.
pub(super) fn read(state_here: &Path, subject: &Subject) -> Option<Record> {
    serde_json::from_slice(&fs::read(path(state_here, subject)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn the_last_one_is_kept_for_each_pvc() {
        let here = tempfile::tempdir().unwrap();
        let subject = |pvc: &str| Subject { namespace: "shop".to_owned(), pvc: pvc.to_owned() };
        let record = |id: &str, complete| Record { archive: "a".to_owned(), id: id.to_owned(), complete };
        assert_eq!(read(here.path(), &subject("db")), None);
        write(here.path(), &subject("db"), &record("1", false)).unwrap();
        write(here.path(), &subject("db"), &record("2", true)).unwrap();
        write(here.path(), &subject("web"), &record("3", false)).unwrap();
        assert_eq!(read(here.path(), &subject("db")), Some(record("2", true)));
        assert_eq!(read(here.path(), &subject("web")), Some(record("3", false)));
    }
}
