//! When each check of a place was last tried, however that went; it stands in the record of the place.
//!
//! By that they take turns: one that does not come to its end, or fails again and again, keeps none of the others from its own.

use borgherd_api::names;

/// What the keys of volumes begin with.
pub(super) const PREFIX: &str = "tried.";

/// What takes turns at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<'a> {
    /// The check of segments.
    Repository,
    /// That of the metadata of archives.
    Archives,
    /// The reading of an archive of a PVC (namespace, name).
    Data((&'a str, &'a str)),
}

impl Turn<'_> {
    /// Where it stands.
    pub fn key(self) -> String {
        match self {
            Self::Repository => "triedRepository".to_owned(),
            Self::Archives => "triedArchives".to_owned(),
            Self::Data((namespace, pvc)) => format!("{PREFIX}{}", names::hash(&[namespace, pvc], 10)),
        }
    }
}
