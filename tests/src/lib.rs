//! Support for the end-to-end tests: what a test needs from a real cluster on which the chart is installed.
//!
//! A test is a function that calls [`test`] (or [`exclusive`]) with its name and an async closure over a [`World`]:
//!
//! ```no_run
//! use borgherd_e2e::{App, Claim, World, test};
//!
//! fn archives_what_was_there_at_the_cut() -> anyhow::Result<()> {
//!     test("archives_what_was_there_at_the_cut", async |w: &World| {
//!         w.claim(Claim::new("data")).await?;
//!         let app = w.app(App::new("app").mount("data", "/data")).await?;
//!         app.sh("echo hello >/data/greeting").await?;
//!         let backup = w.backup(&["data"]).await?;
//!         w.backup_succeeded(&backup).await?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Invariants: a test has a namespace of its own, which is deleted at its end; what a failed test leaves behind is
//! written to `target/log/e2e/<test>/` before; a test that leaks a clone, a holder, a run or storage fails. Nothing
//! here sleeps: everything waits for a condition, with a deadline, and says in its error what it saw last.

mod app;
mod archive;
mod backup;
mod claim;
mod cli;
mod dump;
mod exec;
mod harness;
mod leak;
mod metrics;
mod node;
mod release;
mod repository;
mod seen;
mod settings;
mod slot;
mod tree;
mod turnstile;
mod wait;
mod world;

pub use app::{App, Running};
pub use claim::Claim;
pub use exec::Output;
pub use harness::{exclusive, test};
pub use leak::Leak;
pub use metrics::{Metrics, Sample};
pub use node::{BORG_CREATE, Cluster, Node};
pub use release::Release;
pub use repository::Credentials;
pub use seen::Seen;
pub use slot::Foreign;
pub use tree::same;
pub use turnstile::Turnstile;
pub use wait::{DEADLINE, Object, states, until, until_all, until_polled};
pub use world::World;
