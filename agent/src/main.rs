//! `borgherd-agent`: the processes that the agent's image runs.

use anyhow::Context as _;
use borgherd_agent::run::{Config, READ_TIMEOUT, Surroundings, agent};
use borgherd_agent::{hold, sandbox, secrets};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
#[command(name = "borgherd-agent", version, about = "Borgherd on a node: runs borg for the volumes that are mounted there.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The agent of a node: executes its BorgRuns.
    Run(Box<Config>),
    /// A holder pod: keeps a volume mounted until SIGTERM.
    Hold,
    /// Internal: becomes borg in a sandbox, as a plan on standard input says.
    #[command(hide = true)]
    Sandbox,
    /// Makes the credentials of the chart's own Borg server, once.
    GenerateSecrets(secrets::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run(config) => run(*config),
        Command::Hold => Ok(hold::hold().map(|_| ExitCode::SUCCESS)?),
        Command::Sandbox => Ok(sandboxed()),
        Command::GenerateSecrets(args) => secrets::main(&args),
    }
}

/// Does not return if all goes well. What went wrong goes to the agent, by standard error.
fn sandboxed() -> ExitCode {
    match sandbox::enter(std::io::stdin().lock()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{}", sandbox::failure_line(error));
            ExitCode::from(sandbox::EXIT_CODE)
        }
    }
}

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "the one clock and the one random source of this process")]
async fn run(config: Config) -> anyhow::Result<ExitCode> {
    borgherd_runtime::logging::init(!config.log_text);
    let surroundings = Surroundings {
        client: client().await?,
        now: chrono::Utc::now,
        random: rand::make_rng(),
        exe: std::env::current_exe().context("finding this program")?,
        cpus: std::thread::available_parallelism().context("counting CPUs")?.get(),
        stop: borgherd_runtime::shutdown::token(),
    };
    agent(config, surroundings).await?;
    Ok(ExitCode::SUCCESS)
}

/// A connection that has died without a word must not keep the agent waiting for events that never come.
async fn client() -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::infer().await.context("finding the API server")?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    kube::Client::try_from(config).context("connecting to the API server")
}
