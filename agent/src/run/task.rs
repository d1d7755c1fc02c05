//! One run from its claim to its final status.
//!
//! Order: repository's lock, slot, claim as Running, Secret, volume, for a live one its repository and the controller's word, borg, report. Invariants:
//! - borg starts only after the API server has taken our claim as Running, which a conflict refuses; so no two processes run it.
//! - the repository's lock is held until the report is written: who gets the lock after us knows that no report of ours is under way.
//! - the slot goes as soon as borg has ended.

use super::account::{Account, WriteError};
use super::conclude::conclude;
use super::context::{Context, Counted, place};
use super::go;
use super::secret::{self, SecretError};
use super::work::{Found, Order};
use super::{PATIENCE, next_pause};
use crate::host::HostError;
use crate::metrics::Part;
use crate::sandbox::Secrets;
use crate::slot::{RepositoryLock, Slot, SlotError};
use crate::{host, volume};
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, BorgRunStatus, HostFolder, Progress, RunPhase, RunVolume};
use borgherd_runtime::refusal::words;
use kube::ResourceExt;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A wait shorter than this is not worth a write to the API server.
const AT_ONCE: Duration = Duration::from_millis(50);
/// How often a volume that is not there yet is looked for.
const MOUNT_LOOK: Duration = Duration::from_millis(200);
/// Progress is written at most this often, and less often the longer the run takes.
const PROGRESS: Duration = Duration::from_secs(1);
const PROGRESS_SLOWEST: Duration = Duration::from_secs(10);

/// Why a run does not go on. Whatever is final about it is written by [`conclude`].
enum End {
    /// It ends as this says.
    With { phase: RunPhase, reason: Reason, message: String },
    /// Someone else has it or has ended it, or it is gone.
    NotOurs(WriteError),
}

impl End {
    fn failed(reason: Reason, message: &impl ToString) -> Self {
        Self::With { phase: RunPhase::Failed, reason, message: message.to_string() }
    }
}

/// Take `run` through its life. `cancel` fires when it is deleted or the agent stops; a live one is let go by `given`.
pub(super) async fn perform(ctx: &Context, run: BorgRun, cancel: CancellationToken, given: Given) {
    let mut task = Task { ctx, queued_at: (ctx.now)(), account: Account::new(ctx.runs.clone(), run), cancel, given };
    let (lock, end) = match task.hold().await {
        Ok((lock, slot)) => {
            let end = task.with_slot(&lock, slot).await;
            (Some(lock), end)
        }
        Err(end) => (None, Err(end)),
    };
    let status = match end {
        Ok(status) => status,
        Err(End::With { phase, reason, message }) => {
            BorgRunStatus { phase, reason: Some(reason), message: Some(message), ..task.claimed(phase) }
        }
        Err(End::NotOurs(why)) => {
            tracing::info!(%why, "left to others");
            return;
        }
    };
    let Task { account, cancel, .. } = task;
    conclude(ctx, account, status, &cancel).await;
    drop(lock);
}

/// When the controller lets a live run go.
type Given = watch::Receiver<Option<chrono::DateTime<chrono::Utc>>>;

struct Task<'a> {
    ctx: &'a Context,
    account: Account,
    cancel: CancellationToken,
    queued_at: chrono::DateTime<chrono::Utc>,
    given: Given,
}

impl Task<'_> {
    fn run(&self) -> &BorgRun {
        self.account.run()
    }

    /// The status with us as its agent and `phase`.
    fn claimed(&self, phase: RunPhase) -> BorgRunStatus {
        BorgRunStatus { phase, agent: Some(self.ctx.me.clone()), queued_at: Some(self.queued_at), message: None, ..self.account.status() }
    }

    /// `work`, unless the run is cancelled or its deadline passes first.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, End> {
        let deadline = self.run().spec.deadline;
        let left = self.ctx.until(deadline);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(End::With {
                phase: RunPhase::Interrupted,
                reason: Reason::Interrupted,
                message: "The agent was stopped before borg began.".to_owned(),
            }),
            () = sleep(left) => Err(End::failed(Reason::DeadlineExceeded, &format!("The deadline {deadline} passed before borg began."))),
            done = work => Ok(done),
        }
    }

    /// The repository's lock, then a slot.
    async fn hold(&mut self) -> Result<(RepositoryLock, Slot), End> {
        let (ctx, run) = (self.ctx, self.run().clone());
        let began = Instant::now();
        let queued = Counted::new(&ctx.metrics.queued);
        let lock = self.wait(ctx.repository_lock(&run), "the repository's lock on this node").await?;
        let name = run.name_any();
        let slot = self.wait(ctx.queue.slot(place(&run), &name), "a slot").await?;
        drop(queued);
        ctx.metrics.took(Part::SlotWait, began.elapsed().as_secs_f64());
        Ok((lock, slot))
    }

    /// Waits for `what`; if that takes a while, claims the run as queued and says for what.
    async fn wait<T>(&mut self, wait: impl Future<Output = Result<T, SlotError>>, what: &str) -> Result<T, End> {
        let mut wait = pin!(wait);
        let refused = |error: SlotError| End::failed(Reason::SandboxFailed, &format!("Waiting for {what}: {error}"));
        if let Ok(got) = self.within(timeout(AT_ONCE, wait.as_mut())).await? {
            return got.map_err(refused);
        }
        let mut queued = self.claimed(RunPhase::Queued);
        queued.message = Some(format!("Waits for {what}."));
        self.write(queued).await?;
        tracing::info!(what, "waiting");
        self.within(wait).await?.map_err(refused)
    }

    /// Write `status` until it is written, for as long as the run may live.
    async fn write(&mut self, status: BorgRunStatus) -> Result<(), End> {
        let mut pause = PATIENCE;
        loop {
            let (deadline, cancel) = (self.ctx.until(self.run().spec.deadline), self.cancel.clone());
            let wrote = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                () = sleep(deadline) => None,
                wrote = self.account.write(status.clone()) => Some(wrote),
            };
            match wrote {
                Some(Ok(())) => return Ok(()),
                // which of the two it was
                None => self.within(std::future::pending::<()>()).await?,
                Some(Err(WriteError::Refused(error))) => return Err(End::failed(Reason::Invalid, &words(&error))),
                Some(Err(error)) if !error.may_pass() => return Err(End::NotOurs(error)),
                Some(Err(error)) => {
                    self.ctx.metrics.status_failures.inc();
                    tracing::warn!(%error, "status not written, trying again");
                    self.within(sleep(pause)).await?;
                    pause = next_pause(pause);
                }
            }
        }
    }

    /// Everything from the slot on.
    async fn with_slot(&mut self, lock: &RepositoryLock, slot: Slot) -> Result<BorgRunStatus, End> {
        let used = Counted::new(&self.ctx.metrics.slots_used);
        let mut running = self.claimed(RunPhase::Running);
        running.started_at = Some((self.ctx.now)());
        self.write(running).await?;
        tracing::info!(slot = slot.number(), "running");
        let secrets = self.secrets().await?;
        let volume = match (go::host_folder(self.run()), self.run().spec.volume.clone()) {
            (Some(folder), _) => Some(self.host_folder(folder)?),
            (None, Some(volume)) => Some(self.volume(&volume).await?),
            (None, None) => None,
        };
        let run = match go::patience(self.run()) {
            Some(patience) => {
                let order = Order { run: self.run(), volume: volume.clone(), secrets: secrets.clone(), lock, slot: &slot };
                let made = self.ctx.work.make_repository(order, self.cancel.clone()).await;
                if made.phase != RunPhase::Succeeded {
                    return Ok(self.merged(made));
                }
                self.let_go(patience).await?
            }
            None => self.run().clone(),
        };
        let order = Order { run: &run, volume, secrets, lock, slot: &slot };
        let done = self.borg(order).await;
        drop(slot);
        drop(used);
        Ok(self.merged(done))
    }

    /// Says that borg could begin, and waits until it may. Who may not for too long gives the slot back.
    async fn let_go(&mut self, patience: Duration) -> Result<BorgRun, End> {
        let ready = BorgRunStatus { ready_at: Some((self.ctx.now)()), ..self.account.status() };
        self.write(ready).await?;
        tracing::info!("ready, waiting to be let go");
        let mut given = self.given.clone();
        let waited = self.within(timeout(patience, given.wait_for(Option::is_some))).await?;
        let at = waited.ok().and_then(|given| given.ok().and_then(|at| *at));
        match at {
            Some(at) => Ok(go::begun(self.run().clone(), at)),
            None => Err(End::With {
                phase: RunPhase::Interrupted,
                reason: Reason::Interrupted,
                message: format!("It was ready, and the controller did not let it begin within {} s.", patience.as_secs()),
            }),
        }
    }

    async fn secrets(&self) -> Result<Secrets, End> {
        let mut pause = PATIENCE;
        loop {
            let fetched = self.within(secret::fetch(&self.ctx.secrets, &self.run().spec.repository)).await?;
            let error: SecretError = match fetched {
                Ok(secrets) => return Ok(secrets),
                Err(error) => error,
            };
            if let Some(reason) = error.reason() {
                return Err(End::failed(reason, &error));
            }
            tracing::warn!(%error, "trying again");
            self.within(sleep(pause)).await?;
            pause = next_pause(pause);
        }
    }

    fn host_folder(&self, folder: &HostFolder) -> Result<Found, End> {
        let found = host::find(&self.ctx.live, Path::new(&folder.path), folder.may_be_empty);
        match found {
            Ok((mount, beneath)) => Ok(Found { mount, beneath: Some(beneath) }),
            Err(error @ HostError::Empty(_)) => Err(End::failed(Reason::VolumeNotMounted, &error)),
            Err(error) => Err(End::failed(Reason::VolumeNotSupported, &error)),
        }
    }

    async fn volume(&self, volume: &RunVolume) -> Result<Found, End> {
        let began = Instant::now();
        loop {
            let RunVolume { holder_uid, pv } = volume;
            let error = match volume::resolve(&self.ctx.folders.pods, holder_uid, pv) {
                Ok(mount) => return Ok(Found { mount, beneath: None }),
                Err(error) => error,
            };
            if began.elapsed() > self.ctx.mount_patience {
                return Err(End::failed(Reason::VolumeNotMounted, &error));
            }
            self.within(sleep(MOUNT_LOOK)).await?;
        }
    }

    /// Borg itself, with its progress written beside it.
    async fn borg(&mut self, order: Order<'_>) -> BorgRunStatus {
        let (sender, receiver) = watch::channel(Progress::default());
        let cancel = self.cancel.clone();
        let work = self.ctx.work.work(order, sender, cancel.clone());
        let mut work = pin!(work);
        tokio::select! {
            done = work.as_mut() => return done,
            // nobody wants this run any more: let borg end
            why = self.progress(receiver) => {
                tracing::warn!(%why, "interrupting borg");
                cancel.cancel();
            }
        }
        work.await
    }

    /// Writes progress until the run is not ours any more. Not at once: a short run is done before.
    async fn progress(&mut self, mut progress: watch::Receiver<Progress>) -> WriteError {
        let began = Instant::now();
        loop {
            sleep((began.elapsed() / 60).clamp(PROGRESS, PROGRESS_SLOWEST)).await;
            let before = self.account.status().progress.unwrap_or_default();
            let changed = progress.wait_for(|now| *now != before).await.map(|now| *now);
            let Ok(now) = changed else {
                // borg's side has ended, and with it the run in a moment
                return std::future::pending().await;
            };
            let status = BorgRunStatus { progress: Some(now), ..self.account.status() };
            match self.account.write(status).await {
                Ok(()) | Err(WriteError::Refused(_)) => {}
                Err(error) if error.may_pass() => self.ctx.metrics.status_failures.inc(),
                Err(error) => return error,
            }
        }
    }

    /// What borg decided, on top of what the status has from before.
    fn merged(&self, done: BorgRunStatus) -> BorgRunStatus {
        let before = self.account.status();
        BorgRunStatus {
            agent: Some(self.ctx.me.clone()),
            queued_at: before.queued_at,
            started_at: before.started_at,
            ready_at: before.ready_at,
            finished_at: None,
            progress: done.progress.or(before.progress),
            ..done
        }
    }
}
