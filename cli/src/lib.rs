//! `borgherd`, also `kubectl borgherd`: see what is backed up and why not, back up now, list, restore.
//!
//! It may do what the user's kubeconfig may and never reads a Secret. One file a command; `session` holds what all of them use.

mod accept;
mod args;
mod backup;
mod completion;
mod connect;
mod db;
mod duration;
mod errors;
mod follow;
mod instant;
mod list;
mod output;
mod policy;
mod progress;
mod rebind;
mod restore;
mod retention;
mod session;
mod status;
#[cfg(test)]
mod testing;

use args::{Action, Cli, Global};
use chrono::{DateTime, FixedOffset, Local, Offset as _, TimeZone as _, Utc};
use clap::FromArgMatches as _;
use errors::{Exit, Failure};
use output::Screen;
use session::Session;
use std::ffi::OsString;
use std::io::{IsTerminal as _, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::sync::watch;

/// The whole program, under whichever of its names it was started.
pub fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let argv0 = PathBuf::from(argv.first().cloned().unwrap_or_default());
    let cli = args::command(&argv0).try_get_matches_from(argv).and_then(|m| Cli::from_arg_matches(&m));
    let cli = match cli {
        Ok(cli) => cli,
        Err(usage) => return show_usage(&usage),
    };
    let screen = screen(&cli.global);
    match run(cli, screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen.fail(&failure);
            ExitCode::from(failure.exit.code())
        }
    }
}

/// Help goes to stdout with 0, wrong usage to stderr with 2. Nobody reads: no error.
fn show_usage(usage: &clap::Error) -> ExitCode {
    usage.print().ok();
    if usage.use_stderr() {
        return ExitCode::from(Exit::Invalid.code());
    }
    ExitCode::SUCCESS
}

fn run(cli: Cli, screen: Screen) -> Result<(), Failure> {
    if let Action::Completion(args) = &cli.command {
        return completion::run(args, screen);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot start: {e}")))?;
    let ended = runtime.block_on(run_in_cluster(cli, screen));
    // who reads the terminal is not waited for
    runtime.shutdown_background();
    ended
}

async fn run_in_cluster(cli: Cli, screen: Screen) -> Result<(), Failure> {
    let (client, namespace) = connect::connect(&cli.global).await?;
    let session = Session {
        client,
        namespace,
        borgherd_namespace: cli.global.borgherd_namespace,
        clock: now,
        offset: local_offset,
        screen,
        stop: on_ctrl_c(),
    };
    match cli.command {
        Action::Status(args) => status::run(&session, &args).await,
        Action::Backup(args) => backup::run(&session, &args).await,
        Action::List(args) => list::run(&session, &args).await,
        Action::Restore(args) => restore::run(&session, &args).await,
        Action::Retention(args::Retention { command: args::Retain::Preview(args) }) => retention::run(&session, &args).await,
        Action::Accept(args) => accept::run(&session, &args).await,
        Action::Db(args) => db::run(&session, &args).await,
        Action::Rebind(args) => rebind::run(&session, &args, cli.global.namespace.as_deref()).await,
        Action::Completion(args) => completion::run(&args, screen),
    }
}

/// The first Ctrl-C ends what is waited for, with what there is to clean up; the second ends the process.
fn on_ctrl_c() -> watch::Receiver<bool> {
    let (press, stop) = watch::channel(false);
    tokio::spawn(async move {
        asked_to_stop().await;
        press.send_replace(true);
        asked_to_stop().await;
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
    stop
}

/// Ctrl-C, `kill`, or the terminal's end.
async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (terminate, hang_up) = (signal(SignalKind::terminate()), signal(SignalKind::hangup()));
        if let (Ok(mut terminate), Ok(mut hang_up)) = (terminate, hang_up) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return,
                _ = terminate.recv() => return,
                _ = hang_up.recv() => return,
            }
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[allow(clippy::disallowed_methods, reason = "NO_COLOR and TERM are conventions about the terminal, not configuration")]
fn screen(global: &Global) -> Screen {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let wanted = set("NO_COLOR").is_none() && set("TERM").is_none_or(|t| t != "dumb");
    Screen {
        format: global.output,
        colours: wanted && stdout().is_terminal(),
        bars: stderr().is_terminal(),
        error_colours: wanted && stderr().is_terminal(),
        out: output::stdout,
        err: output::stderr,
    }
}

#[allow(clippy::disallowed_methods, reason = "the one clock of this process")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Where the user's clock stands at a moment.
fn local_offset(at: DateTime<Utc>) -> FixedOffset {
    Local.offset_from_utc_datetime(&at.naive_utc()).fix()
}
