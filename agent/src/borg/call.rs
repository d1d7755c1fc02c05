//! The one place where a borg runs: reads what it says, waits for its end, ends it when it must end.
//!
//! Invariant: when [`run`] returns, that borg is dead.

use super::job::{Clock, Limits};
use super::launch::{Call, Launch, Process, Running};
use super::outcome::{Exit, Stop, Work};
use super::transcript::Transcript;
use borgherd_api::crd::Progress;
use chrono::{DateTime, Utc};
use nix::sys::signal::Signal;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longest line that is read as one.
const LINE_MAX: u64 = 256 << 10;
/// How long pipes are read after borg's end, should something else hold them open.
const DRAIN: Duration = Duration::from_secs(5);

/// When a borg must end.
#[derive(Clone, Copy)]
pub(super) struct Stops<'a> {
    pub(super) cancel: &'a CancellationToken,
    pub(super) deadline: DateTime<Utc>,
    pub(super) now: Clock<'a>,
    pub(super) limits: Limits,
}

impl Stops<'_> {
    /// Why no borg may start any more.
    pub(super) fn due(&self) -> Option<Stop> {
        if self.cancel.is_cancelled() {
            return Some(Stop::Cancelled);
        }
        ((self.now)() >= self.deadline).then_some(Stop::Deadline)
    }

    /// Waits until borg must end.
    async fn wait(&self) -> Stop {
        let left = (self.deadline - (self.now)()).to_std().unwrap_or_default();
        tokio::select! {
            () = self.cancel.cancelled() => Stop::Cancelled,
            () = tokio::time::sleep(left) => Stop::Deadline,
        }
    }

    /// Waits for `pause`, or until borg must end.
    pub(super) async fn pause(&self, pause: Duration) {
        tokio::select! {
            _ = self.wait() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A borg that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// Why we ended it, if we did.
    pub(super) stop: Option<Stop>,
    pub(super) said: Transcript,
    pub(super) stdout: Vec<u8>,
    pub(super) seconds: f64,
}

/// Runs one borg to its end. An error: it could not be started, or not be waited for.
pub(super) async fn run(
    call: &Call,
    work: Work,
    launch: &dyn Launch,
    stops: &Stops<'_>,
    on_progress: &mut (dyn FnMut(Progress) + Send),
) -> io::Result<Ended> {
    let begun = (stops.now)();
    let dead = CancellationToken::new();
    let Running { stdout, stderr, mut process } = launch.launch(call).await?;
    let mut said = Transcript::default();
    let mut answer = Vec::new();
    let reading = async { tokio::join!(read_all(stdout, &mut answer, call.answer_max), read_lines(stderr, &mut said, on_progress)) };
    // What was read so far is what there is, should a pipe fail: borg's exit code says whether that matters.
    let (ended, ()) = tokio::join!(
        async {
            let ended = wait(process.as_mut(), (work, call.creates_repository), stops).await;
            dead.cancel();
            ended
        },
        drain(reading, &dead)
    );
    let (status, stop) = ended?;
    Ok(Ended { exit: exit(status), stop, said, stdout: answer, seconds: ((stops.now)() - begun).as_seconds_f64() })
}

/// Reads until the pipes are closed, but not long after borg's death: something else may hold them open.
async fn drain(reading: impl Future, dead: &CancellationToken) {
    tokio::select! {
        _ = reading => {}
        () = async {
            dead.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        } => {}
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}

/// Waits for borg's end, or ends it. `create` answers SIGINT with a checkpoint, which needs its ssh; everything else ignores the first
/// SIGINT and ends orderly by SIGTERM. One that makes a repository gets the time to end by itself: half of one is in everybody's way.
async fn wait(process: &mut dyn Process, (work, makes): (Work, bool), stops: &Stops<'_>) -> io::Result<(ExitStatus, Option<Stop>)> {
    let stop = tokio::select! {
        biased;
        status = process.wait() => return Ok((status?, None)),
        stop = stops.wait() => stop,
    };
    if makes && let Ok(status) = timeout(stops.limits.interrupt, process.wait()).await {
        return Ok((status?, None));
    }
    let terminate = (Signal::SIGTERM, stops.limits.terminate);
    let signals = match work {
        Work::Archive | Work::Live => vec![(Signal::SIGINT, stops.limits.interrupt), terminate],
        Work::Restore | Work::Repository | Work::Check => vec![terminate],
    };
    for (signal, patience) in signals {
        process.signal(signal)?;
        if let Ok(status) = timeout(patience, process.wait()).await {
            return Ok((status?, Some(stop)));
        }
    }
    process.kill()?;
    Ok((process.wait().await?, Some(stop)))
}

/// Reads all, keeps so much.
async fn read_all(from: impl AsyncRead + Unpin, into: &mut Vec<u8>, max: u64) -> io::Result<()> {
    let mut from = from.take(max);
    from.read_to_end(into).await?;
    let mut rest = from.into_inner();
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(|_| ())
}

async fn read_lines(from: impl AsyncRead + Unpin, said: &mut Transcript, on_progress: &mut (dyn FnMut(Progress) + Send)) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut from).take(LINE_MAX).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if said.take(String::from_utf8_lossy(&line).trim_end()) {
            on_progress(said.progress);
        }
    }
}
