//! Process plumbing that controller and agent share: logging, durations of flags, the port for metrics and probes, shutdown, the words
//! for a request that failed.
//!
//! Nothing of the domain: no backups, no borg.

pub mod duration;
pub mod health;
pub mod logging;
pub mod refusal;
pub mod serve;
pub mod shutdown;

pub use health::Health;
