//! Process plumbing that controller and agent share: logging, durations of flags, the port for metrics and probes, shutdown.
//!
//! Nothing of the domain: no Kubernetes, no borg.

pub mod duration;
pub mod health;
pub mod logging;
pub mod serve;
pub mod shutdown;

pub use health::Health;
