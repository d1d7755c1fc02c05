//! A tree with every awkward thing, and a fingerprint that tells two trees apart by anything a restore must bring back.

use crate::app::Running;
use anyhow::{Result, ensure};

/// The script that makes and prints trees; it runs in an application's pod, by the Python of the image.
const SCRIPT: &str = include_str!("tree.py");

/// Fewer entries than this, and the tree was not made.
const ENTRIES: usize = 80;

impl Running {
    /// Makes the awkward tree at `path`, which must not exist.
    pub async fn make_awkward_tree(&self, path: &str) -> Result<()> {
        self.exec(&["python3", "-c", SCRIPT, "make", path]).await?.ok("make the awkward tree")?;
        let lines = self.fingerprint(path).await?.lines().count();
        ensure!(lines >= ENTRIES, "the awkward tree has {lines} entries only");
        Ok(())
    }

    /// Everything about a tree, a line an entry: two trees are the same if these are.
    pub async fn fingerprint(&self, path: &str) -> Result<String> {
        Ok(self.exec(&["python3", "-c", SCRIPT, "print", path]).await?.ok("print a tree")?.text())
    }
}

/// Compares fingerprints; the error shows the lines that differ.
pub fn same(expected: &str, found: &str) -> Result<()> {
    let lost: Vec<&str> = expected.lines().filter(|l| !found.lines().any(|f| f == *l)).collect();
    let new: Vec<&str> = found.lines().filter(|l| !expected.lines().any(|e| e == *l)).collect();
    ensure!(expected == found, "the trees differ\nexpected, not found:\n{}\nfound, not expected:\n{}", lost.join("\n"), new.join("\n"));
    Ok(())
}
