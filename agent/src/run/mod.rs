//! Watching and executing this node's `BorgRun`s: `watch` sees them, `decide` says what each is to this process, `task` takes one through
//! its life, `recover` ends those of dead agents, `conclude` writes how a run ended.

mod account;
mod agent;
mod bounds;
mod cache;
mod conclude;
mod config;
mod context;
mod decide;
#[cfg(test)]
pub(crate) mod example;
#[cfg(test)]
mod fake;
mod go;
mod queue;
mod recover;
mod sandboxed;
mod secret;
mod task;
#[cfg(test)]
mod tests;
mod upkeep;
mod watch;
mod work;

pub use agent::{Surroundings, agent};
pub use config::Config;
pub use context::{Context, Folders};
pub use queue::Queue;
pub use sandboxed::Sandboxed;
pub use watch::{BEAT, READ_TIMEOUT, Signs, WatchError, run};
pub use work::{Found, Order, Work};

use std::time::Duration;

/// First pause before a request to the API server is tried again.
const PATIENCE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The pause after `pause`.
fn next_pause(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}
