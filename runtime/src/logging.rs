//! Logs on standard error: lines for people, or JSON for collectors. `RUST_LOG` chooses what, `info` is the default.

use std::io::IsTerminal;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt;

/// What is logged without `RUST_LOG`.
const DEFAULT: LevelFilter = LevelFilter::INFO;

/// Sends all logs of this process to standard error from now on. To be called once, first in main; later calls change nothing.
pub fn init(json: bool) {
    let wanted = EnvFilter::builder().with_default_directive(DEFAULT.into());
    let (filter, wrong) = match wanted.from_env() {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::default().add_directive(DEFAULT.into()), Some(error)),
    };
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = if json { lines.json().flatten_event(true).try_init() } else { lines.with_ansi(std::io::stderr().is_terminal()).try_init() };
    if let Err(error) = set {
        tracing::warn!(%error, "logging was set up before");
    }
    if let Some(error) = wrong {
        tracing::warn!(%error, "RUST_LOG is not understood; the default is used");
    }
}
