//! Database presets: what `borgherd.dev/database` says, and the script that checks, dumps and restores inside the container.
//!
//! Invariant: user, password, database and host are expanded in the container only. What leaves here are the words a person wrote.

mod parse;
mod preset;
pub mod script;

#[cfg(test)]
mod tests;

pub use parse::parse;
pub use preset::{Kind, Preset};

/// The presets of one PVC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presets {
    /// In the order they were written; no two have the same file in the same place.
    pub list: Vec<Preset>,
    /// They stand on the namespace or among the chart's defaults: each concerns only the PVC that its file is on.
    pub inherited: bool,
}
