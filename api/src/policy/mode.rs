//! How a volume gets into an archive: by a snapshot, or read in place.

use super::key::Key;
use super::merge::Effective;

/// How a volume is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A clone of a CSI snapshot is read.
    #[default]
    Snapshot,
    /// The mounted volume is read in place, while its application may write to it. There is no snapshot: every backup is an archive.
    Live,
}

impl Mode {
    /// What a value of the annotation `mode` means.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "snapshot" => Ok(Self::Snapshot),
            "live" => Ok(Self::Live),
            _ => Err("must be 'snapshot' or 'live'".to_owned()),
        }
    }

    /// What is in force; a value that cannot be counts as [`Mode::Snapshot`].
    pub fn of(effective: &Effective) -> Self {
        effective.values.get(&Key::Mode).and_then(|(text, _)| Self::parse(text).ok()).unwrap_or_default()
    }
}
