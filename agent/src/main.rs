//! `borgherd-agent`: the command line of everything that runs on a node or beside the Borg server.

use borgherd_agent::{hold, sandbox, secrets};
use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;

/// Borgherd on a node.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep a volume mounted: sleep until SIGTERM.
    Hold,
    /// Become borg in a sandbox; started by the agent itself, which writes the plan to standard input.
    #[command(hide = true)]
    Sandbox,
    /// Make the Secret of the chart's own Borg server unless it exists.
    GenerateSecrets(secrets::Args),
}

// No async main: the sandbox must be a process of a single thread.
fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Hold => hold::hold().map(|_| ExitCode::SUCCESS).map_err(Into::into),
        Command::Sandbox => Ok(sandbox::main(io::stdin().lock())),
        Command::GenerateSecrets(args) => secrets::main(args),
    }
}
