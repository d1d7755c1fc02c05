//! What borg answers on standard output: the JSON of `create`, `info` and `list`.

use super::line::{Sizes, from_json};
use borgherd_api::crd::{FoundArchive, VolumeFacts};
use borgherd_api::names;
use serde::Deserialize;

/// An archive in an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Archive {
    pub(super) name: String,
    pub(super) id: String,
    #[serde(default)]
    pub(super) comment: String,
    #[serde(default)]
    pub(super) stats: Option<Sizes>,
}

/// The repository in every answer.
#[derive(Debug, Deserialize)]
pub(super) struct Repository {
    pub(super) id: String,
}

/// Answer of `create --json`.
#[derive(Debug, Deserialize)]
pub(super) struct Created {
    pub(super) archive: Archive,
    pub(super) repository: Repository,
}

/// Answer of `info --json` and `list --json`.
#[derive(Debug, Deserialize)]
pub(super) struct Archives {
    #[serde(default)]
    pub(super) archives: Vec<Archive>,
    pub(super) repository: Repository,
}

/// Answer of `info --json` about the repository.
#[derive(Debug, Deserialize)]
pub(super) struct Usage {
    pub(super) cache: CacheUsage,
    pub(super) repository: Repository,
}

/// What the cache knows of the repository.
#[derive(Debug, Deserialize)]
pub(super) struct CacheUsage {
    pub(super) stats: UsageStats,
}

/// Sizes of all archives together.
#[derive(Debug, Deserialize)]
pub(super) struct UsageStats {
    /// Bytes, compressed and deduplicated.
    pub(super) unique_csize: u64,
}

/// Reads an answer.
pub(super) fn parse<T: serde::de::DeserializeOwned>(stdout: &[u8]) -> serde_json::Result<T> {
    from_json(&String::from_utf8_lossy(stdout))
}

/// What Borgherd wrote into an archive's comment, if it was Borgherd.
pub(super) fn facts(comment: &str) -> Option<VolumeFacts> {
    let facts: VolumeFacts = serde_json::from_str(comment).ok()?;
    (!facts.backup_uid.is_empty()).then_some(facts)
}

/// The archives of one PVC, oldest first: those whose names tell a cut. A checkpoint's does not.
pub(super) fn found(archives: Vec<Archive>, namespace: &str, pvc: &str) -> Vec<FoundArchive> {
    let mut found: Vec<FoundArchive> = archives
        .into_iter()
        .filter_map(|archive| {
            let Archive { name, id, comment, stats } = archive;
            Some(FoundArchive {
                cut: names::cut_of_archive(namespace, pvc, &name)?,
                bytes: stats.map(|stats| stats.original_size),
                files: stats.map(|stats| stats.nfiles),
                facts: facts(&comment),
                name,
                id,
            })
        })
        .collect();
    found.sort_by_key(|archive| archive.cut);
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn archives_of_one_pvc_oldest_first_without_checkpoints() {
        let stdout = br#"{"archives": [
            {"name": "ns_db_2026-11-21T10-00-00Z", "id": "b", "comment": "{\"backupUid\":\"u\",\"size\":\"1Gi\"}"},
            {"name": "ns_db_2026-11-20T10-00-00Z", "id": "a", "comment": "by hand"},
            {"name": "ns_db_2026-11-22T10-00-00Z.checkpoint", "id": "c"},
            {"name": "ns_db_2026-11-22T10-00-00Z.incomplete-0a1b2c3d", "id": "e"},
            {"name": "ns_db2_2026-11-22T10-00-00Z", "id": "d"}],
            "repository": {"id": "r", "location": "x"}}"#;
        let answer: Archives = parse(stdout).unwrap();
        let found = found(answer.archives, "ns", "db");
        let ids: Vec<&str> = found.iter().map(|archive| archive.id.as_str()).collect();
        assert_eq!((answer.repository.id.as_str(), ids), ("r", vec!["a", "b"]));
        let facts: Vec<Option<&str>> = found.iter().map(|archive| archive.facts.as_ref().map(|facts| facts.size.as_str())).collect();
        assert_eq!(facts, [None, Some("1Gi")]);
    }
}
