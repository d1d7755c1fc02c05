//! `db shell`: the database's client in the container, at a terminal or with what is piped in.

use super::exec;
use super::target::Target;
use crate::errors::{Exit, Failure};
use crate::session::Session;
use borgherd_api::database::script::Mode;
use futures::channel::mpsc::Sender;
use futures::future::join;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use std::fs::File;
use std::io::{IsTerminal as _, stdin, stdout};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// How often it is looked whether the terminal's size has changed.
const LOOK: Duration = Duration::from_millis(500);

/// Runs `db shell`.
pub(crate) async fn run(session: &Session, target: &Target) -> Result<(), Failure> {
    let is_terminal = stdin().is_terminal() && stdout().is_terminal();
    let params = AttachParams { stdin: true, stdout: true, stderr: !is_terminal, tty: is_terminal, ..AttachParams::default() };
    let mut process = exec::open(session, target, &exec::script(Mode::Shell, target, &[]), &params.container(&target.container)).await?;
    let raw = is_terminal.then(terminal::Raw::enter).transpose().map_err(|error| broken(&error))?;
    let ended = Box::pin(joined(session, &mut process)).await;
    drop(raw);
    match ended? {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::new(Exit::Failed, format!("the client in pod {} ended with exit code {code}", target.pod))),
        None => Err(Failure::new(Exit::Unreachable, format!("the connection to pod {} broke", target.pod))),
    }
}

/// Both ways until the client ends.
async fn joined(session: &Session, process: &mut AttachedProcess) -> Result<Option<i32>, Failure> {
    let status = process.take_status();
    let (remote_in, remote_out, remote_err) = (process.stdin(), process.stdout(), process.stderr());
    let sizes = process.terminal_size();
    let (local_in, local_out, local_err) = (file(stdin())?, file(stdout())?, file(std::io::stderr())?);
    let typed = async {
        if let Some(remote) = remote_in {
            copy(local_in, remote, true).await;
        }
        std::future::pending::<()>().await;
    };
    let shown = join(pass(remote_out, local_out), pass(remote_err, local_err));
    let ended = async {
        let (_, status) = join(shown, async { if let Some(status) = status { status.await } else { None } }).await;
        status.map(|status| exec::code(&status))
    };
    tokio::select! {
        code = ended => Ok(code),
        () = typed => Ok(None),
        () = resized(sizes) => Ok(None),
        () = session.stopped() => Err(Failure::interrupted()),
    }
}

async fn pass(from: Option<impl AsyncRead + Unpin>, to: impl AsyncWrite + Unpin) {
    if let Some(from) = from {
        copy(from, to, false).await;
    }
}

/// Copies until one side ends; each piece at once.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, closes: bool) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let written = to.write_all(buffer.get(..count).unwrap_or_default()).await;
        if written.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    if closes {
        to.shutdown().await.ok();
    }
}

/// Tells the container how large the terminal is; never ends.
async fn resized(sizes: Option<Sender<TerminalSize>>) {
    let mut told = None;
    if let Some(mut sizes) = sizes {
        loop {
            let now = terminal::size();
            if let (Some((width, height)), true) = (now, now != told) {
                sizes.try_send(TerminalSize { width, height }).ok();
                told = now;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    std::future::pending::<()>().await;
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot use this terminal: {error}"))
}

/// A stream of this process, to be read or written without blocking the others.
#[cfg(unix)]
fn file(stream: impl std::os::fd::AsFd) -> Result<tokio::fs::File, Failure> {
    let owned = stream.as_fd().try_clone_to_owned().map_err(|error| broken(&error))?;
    Ok(tokio::fs::File::from_std(File::from(owned)))
}

#[cfg(windows)]
fn file(stream: impl std::os::windows::io::AsHandle) -> Result<tokio::fs::File, Failure> {
    let owned = stream.as_handle().try_clone_to_owned().map_err(|error| broken(&error))?;
    Ok(tokio::fs::File::from_std(File::from(owned)))
}

#[cfg(unix)]
mod terminal {
    //! The terminal that this program was started at.

    use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
    use std::io::{self, stdin, stdout};

    /// Every key goes to the container; what was before comes back when it is dropped.
    pub(super) struct Raw(Termios);

    impl Raw {
        pub(super) fn enter() -> io::Result<Self> {
            let before = tcgetattr(stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw)?;
            Ok(Self(before))
        }
    }

    impl Drop for Raw {
        fn drop(&mut self) {
            tcsetattr(stdin(), OptionalActions::Drain, &self.0).ok();
        }
    }

    /// Columns and rows.
    pub(super) fn size() -> Option<(u16, u16)> {
        tcgetwinsize(stdout()).ok().map(|size| (size.ws_col, size.ws_row))
    }
}

#[cfg(not(unix))]
mod terminal {
    //! No terminal is changed here: keys are sent line by line.

    pub(super) struct Raw;

    impl Raw {
        #[allow(clippy::unnecessary_wraps, reason = "as where it can fail")]
        pub(super) const fn enter() -> std::io::Result<Self> {
            Ok(Self)
        }
    }

    pub(super) const fn size() -> Option<(u16, u16)> {
        None
    }
}
