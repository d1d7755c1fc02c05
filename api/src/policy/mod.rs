//! Policy: what is in force for one PVC after merging its annotations, its namespace's and the chart's defaults.
//!
//! [`merge`] decides where each value comes from, [`resolve`] what it means, [`unknown`] finds what is written but means nothing,
//! [`exclusion`] what cannot be backed up at all. All pure, so that controller and CLI say the same of a PVC.
//!
//! Invariant: no text that a user wrote leaves here unchecked; a [`Policy`] holds only values that the next step can use.

mod borg;
mod exclusion;
mod keep;
mod key;
mod merge;
mod mode;
pub(crate) mod near;
mod problem;
mod regex;
mod resolve;
mod unknown;
mod zone;

#[cfg(test)]
mod tests;

pub use exclusion::{Exclusion, exclusion, exclusion_by_pv};
pub use keep::{Keep, Tier};
pub use key::Key;
pub use merge::{Annotations, Effective, Origin, merge};
pub use mode::Mode;
pub use problem::Problem;
pub use resolve::{ArchiveWhen, Policy, resolve};
pub use unknown::unknown;
