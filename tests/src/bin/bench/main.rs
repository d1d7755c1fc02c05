//! Measures Borgherd on the cluster that it is installed on; `hack/bench` starts it.
//!
//! Each figure is one line of JSON: name, value, unit, and what it is compared with. Nothing here asserts a time: a benchmark fails
//! only when what it measures does not work.

mod figure;
mod freeze;
mod latency;
mod requests;
mod throughput;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Measures Borgherd on the cluster of $KUBECONFIG.
#[derive(Parser)]
struct Args {
    /// What to measure.
    #[arg(required = true)]
    names: Vec<Name>,
    /// The API server's audit log, for `requests`.
    #[arg(long)]
    audit_log: Option<PathBuf>,
}

/// The benchmarks that need a cluster.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// 1.2 GB in 12,000 files, over bare borg.
    Throughput,
    /// A small volume, by phase; four at once.
    Latency,
    /// Four volumes that make one repository together.
    Shared,
    /// Two nodes that take turns in one repository.
    Turns,
    /// Requests to the API server for one backup.
    Requests,
    /// How long an application is held still by hooks.
    Freeze,
}

fn main() -> Result<()> {
    let Args { names, audit_log } = Args::parse();
    for name in names {
        match name {
            Name::Throughput => throughput::measure()?,
            Name::Latency => latency::measure()?,
            Name::Shared => latency::shared()?,
            Name::Turns => latency::turns()?,
            Name::Freeze => freeze::measure()?,
            Name::Requests => requests::measure(audit_log.as_deref())?,
        }
    }
    Ok(())
}
