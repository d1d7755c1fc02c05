//! Hooks: what quiesces an application before its snapshots are cut (pre) and resumes it afterwards (post).
//!
//! [`parse`] reads the annotation, [`check`] what a Backup says, [`resolve`] writes down what is owed, [`plan`] says what comes next, and
//! [`wrapper`] is what runs in the container.
//!
//! Invariant: what must be resumed is in the Backup's status before the first pre hook runs, and is only struck out when a post hook has
//! succeeded or its pod is gone.

mod check;
mod parse;
mod place;
pub mod plan;
pub mod pod;
mod redact;
pub mod resolve;
mod span;
mod spec;
pub mod wrapper;

#[cfg(test)]
mod tests;

pub use check::{Action, Hook, Mode, check};
pub(crate) use parse::known;
pub use parse::parse;
pub use place::Place;
pub(crate) use place::{POSSIBLE, is_name};
pub use redact::redact;
pub(crate) use span::seconds;
pub use spec::{ActionSpec, HookSpec, OnError, Pods};
