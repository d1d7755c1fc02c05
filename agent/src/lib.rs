//! The agent of one node, as a library so that tests can drive its parts; `main.rs` is its command line.

pub mod borg;
pub mod hold;
pub mod host;
pub mod lease;
pub mod metrics;
mod mount_table;
pub mod push;
pub mod run;
pub mod sandbox;
pub mod secrets;
pub mod slot;
pub mod volume;
