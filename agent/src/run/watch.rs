//! Watches this node's runs and keeps one task for each that is this process's business.
//!
//! Invariant: at most one task for a run's UID. A run that is deleted, or no longer listed, has its task cancelled; a task that panicked
//! ends the process, since only a new process recovers what it left.

use super::context::Context;
use super::decide::{Action, Seen, decide};
use super::{go, recover, task};
use borgherd_api::crd::BorgRun;
use borgherd_runtime::refusal::words_of_watch;
use futures::TryStreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Sender;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How often the loop shows that it lives when nothing happens.
pub const BEAT: Duration = Duration::from_secs(5);

/// One watch lasts so long; then it begins anew, which finds out whether its connection still lives.
const WATCH_SECONDS: u32 = 120;
/// A connection to the API server on which nothing was read for so long is dead.
pub const READ_TIMEOUT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);

/// Why watching ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A bug: a task panicked.
    #[error("the task of a run failed: {0}")]
    Task(#[from] JoinError),
    /// The stream of events ended, which it never does.
    #[error("the watch of BorgRuns ended")]
    Ended,
}

/// What the loop tells about itself.
pub trait Signs: Send {
    /// It lives.
    fn beat(&self);
    /// It knows all runs of this node.
    fn synced(&self);
    /// It ends on purpose.
    fn stopping(&self);
}

/// Watch and work until the agent is to stop and all tasks have ended.
pub async fn run(ctx: Arc<Context>, client: Client, namespace: &str, signs: &impl Signs) -> Result<(), WatchError> {
    let runs: Api<DeserializeGuard<BorgRun>> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("spec.node={}", ctx.node)).timeout(WATCH_SECONDS);
    let mut events = std::pin::pin!(watch(runs, config).default_backoff());
    let mut beat = tokio::time::interval(BEAT);
    let mut tasks = Tasks::new(ctx);
    let stop = tasks.ctx.stop.clone();
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            _ = beat.tick() => signs.beat(),
            Some(ended) = tasks.running.join_next_with_id() => tasks.ended(ended)?,
            event = events.try_next() => match event {
                Ok(Some(event)) => if tasks.see(event) { signs.synced() },
                Ok(None) => return Err(WatchError::Ended),
                Err(error) => tracing::warn!(error = words_of_watch(&error), "watching BorgRuns, trying again"),
            },
        }
    }
    signs.stopping();
    tracing::info!(tasks = tasks.running.len(), "stopping");
    while let Some(ended) = tasks.running.join_next_with_id().await {
        tasks.ended(ended)?;
    }
    Ok(())
}

/// A run that this process has a task for.
struct Under {
    task: Id,
    cancel: CancellationToken,
    go: Sender<Option<chrono::DateTime<chrono::Utc>>>,
}

/// The tasks, and what a listing under way has shown so far.
struct Tasks {
    ctx: Arc<Context>,
    running: JoinSet<()>,
    by_uid: HashMap<String, Under>,
    listing: Vec<DeserializeGuard<BorgRun>>,
    seen: Seen,
}

impl Tasks {
    fn new(ctx: Arc<Context>) -> Self {
        Self { ctx, running: JoinSet::new(), by_uid: HashMap::new(), listing: Vec::new(), seen: Seen::AtStart }
    }

    /// True when a listing is complete.
    fn see(&mut self, event: Event<DeserializeGuard<BorgRun>>) -> bool {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(run) => self.listing.push(run),
            Event::InitDone => {
                self.listed();
                self.seen = Seen::Later;
                return true;
            }
            Event::Apply(run) => self.apply(run),
            Event::Delete(run) => self.cancel(&run.uid().unwrap_or_default()),
        }
        false
    }

    /// A complete listing: oldest first; what is not in it is gone.
    fn listed(&mut self) {
        let listing = std::mem::take(&mut self.listing);
        let uids: HashSet<String> = listing.iter().filter_map(ResourceExt::uid).collect();
        let gone: Vec<String> = self.by_uid.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        for uid in gone {
            self.cancel(&uid);
        }
        let mut runs = listing;
        runs.sort_by_cached_key(|run| (run.creation_timestamp(), run.name_any()));
        for run in runs {
            self.apply(run);
        }
    }

    fn apply(&mut self, DeserializeGuard(run): DeserializeGuard<BorgRun>) {
        let run = match run {
            Ok(run) => run,
            Err(error) => {
                self.ctx.metrics.invalid_runs.inc();
                tracing::warn!(name = error.metadata.name, %error, "a BorgRun that cannot be read is left alone");
                return;
            }
        };
        let uid = run.uid().unwrap_or_default();
        if run.metadata.deletion_timestamp.is_some() {
            self.cancel(&uid);
        }
        if let Some(under) = self.by_uid.get(&uid) {
            under.go.send_if_modified(|given| {
                let now = go::given(&run);
                now.is_some() && std::mem::replace(given, now) != now
            });
            return;
        }
        match decide(&run, &self.ctx.me, self.seen) {
            Action::Leave => {}
            Action::Take => self.start(uid, run, Action::Take),
            Action::Recover => self.start(uid, run, Action::Recover),
        }
    }

    fn start(&mut self, uid: String, run: BorgRun, action: Action) {
        let span =
            tracing::info_span!("run", run = run.name_any(), uid, namespace = run.spec.subject.namespace, pvc = run.spec.subject.pvc);
        let cancel = self.ctx.stop.child_token();
        let (ctx, token) = (Arc::clone(&self.ctx), cancel.clone());
        let (go, given) = tokio::sync::watch::channel(go::given(&run));
        let work = async move {
            match action {
                Action::Leave => {}
                Action::Take => task::perform(&ctx, run, token, given).await,
                Action::Recover => recover::recover(&ctx, run, token).await,
            }
        };
        let handle = self.running.spawn(work.instrument(span));
        self.by_uid.insert(uid, Under { task: handle.id(), cancel, go });
    }

    fn cancel(&self, uid: &str) {
        if let Some(under) = self.by_uid.get(uid) {
            under.cancel.cancel();
        }
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) -> Result<(), WatchError> {
        let (ended, ()) = ended?;
        self.by_uid.retain(|_, under| under.task != ended);
        Ok(())
    }
}
