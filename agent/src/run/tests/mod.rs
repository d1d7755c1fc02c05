//! Runs against a fake API server, with real locks: who takes a run, who ends it, and what is said in the end.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod life;
mod reports;

use super::context::{Context, Folders};
use super::example::{identity, run, slots};
use super::fake::Fake;
use super::work::{Order, Work};
use super::{Queue, WatchError, watch};
use crate::metrics::Metrics;
use crate::slot::repository_lock;
use borgherd_api::Reason;
use borgherd_api::crd::{AgentRef, BorgRun, BorgRunStatus, Operation, Progress, RunPhase};
use chrono::Utc;
use futures::future::BoxFuture;
use kube::ResourceExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch as channel;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const NO_SIGNS: NoSigns = NoSigns;
struct NoSigns;

impl watch::Signs for NoSigns {
    fn beat(&self) {}
    fn synced(&self) {}
    fn stopping(&self) {}
}

/// Stands for borg. Whether it ends by itself or only when cancelled.
#[derive(Clone, Default)]
pub(super) struct Script {
    until_cancelled: bool,
    /// The repository cannot be made.
    is_refused: bool,
    started: Arc<AtomicUsize>,
    order: Arc<Mutex<Vec<String>>>,
}

impl Work for Script {
    fn work<'a>(
        &'a self,
        order: Order<'a>,
        progress: channel::Sender<Progress>,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, BorgRunStatus> {
        Box::pin(async move {
            self.started.fetch_add(1, Ordering::SeqCst);
            self.order.lock().unwrap().push(order.run.name_any());
            assert_eq!(order.secrets.passphrase, "secret");
            let files = Progress { files: 7, ..Progress::default() };
            progress.send_replace(files);
            let (phase, reason) = if self.until_cancelled {
                cancel.cancelled().await;
                (RunPhase::Interrupted, Some(Reason::Interrupted))
            } else {
                (RunPhase::Succeeded, None)
            };
            BorgRunStatus {
                phase,
                reason,
                progress: Some(files),
                borg_seconds: Some(0.5),
                log: vec!["a line".to_owned()],
                ..BorgRunStatus::default()
            }
        })
    }

    fn make_repository<'a>(&'a self, order: Order<'a>, _: CancellationToken) -> BoxFuture<'a, BorgRunStatus> {
        Box::pin(async move {
            self.order.lock().unwrap().push(format!("repository of {}", order.run.name_any()));
            let (phase, reason) =
                if self.is_refused { (RunPhase::Failed, Some(Reason::PassphraseWrong)) } else { (RunPhase::Succeeded, None) };
            BorgRunStatus { phase, reason, ..BorgRunStatus::default() }
        })
    }
}

/// An agent on a fake API server.
struct Agent {
    fake: Fake,
    script: Script,
    ctx: Arc<Context>,
    watching: JoinHandle<Result<(), WatchError>>,
    dir: Arc<tempfile::TempDir>,
}

fn me() -> AgentRef {
    agent("pod-1", "now")
}

fn agent(uid: &str, instance: &str) -> AgentRef {
    AgentRef { pod: "agent-n1".to_owned(), uid: uid.to_owned(), instance: instance.to_owned() }
}

/// A run without a volume.
fn bare(name: &str) -> BorgRun {
    let mut run = run(name, &format!("uid-{name}"));
    run.spec.volume = None;
    run.spec.operation = Operation::List(borgherd_api::crd::ListOptions::default());
    run.spec.deadline = Utc::now() + chrono::TimeDelta::hours(1);
    run
}

fn by(mut run: BorgRun, phase: RunPhase, agent: AgentRef) -> BorgRun {
    run.status = Some(BorgRunStatus { phase, agent: Some(agent), ..BorgRunStatus::default() });
    run
}

fn start(fake: &Fake, script: Script) -> Agent {
    start_in(Arc::new(tempfile::tempdir().unwrap()), fake, script)
}

pub(super) fn context(dir: &Path, fake: &Fake, script: &Script) -> Arc<Context> {
    let (runs, secrets) = Context::apis(&fake.client(), "borgherd");
    let folders = Folders { pods: dir.join("pods"), own: dir.join("own") };
    std::fs::create_dir_all(&folders.pods).unwrap();
    Arc::new(Context {
        me: me(),
        node: "n1".to_owned(),
        runs,
        secrets,
        queue: Queue::new(slots(&folders.slots(), 1)),
        folders,
        mount_patience: Duration::from_millis(300),
        live: Vec::new(),
        identity: identity(),
        work: Box::new(script.clone()),
        metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
        gateway: None,
        now: Utc::now,
        stop: CancellationToken::new(),
    })
}

fn start_in(dir: Arc<tempfile::TempDir>, fake: &Fake, script: Script) -> Agent {
    let (client, ctx) = (fake.client(), context(dir.path(), fake, &script));
    let shared = Arc::clone(&ctx);
    let watching = tokio::spawn(async move { watch::run(shared, client, "borgherd", &NO_SIGNS).await });
    Agent { fake: fake.clone(), script, ctx, watching, dir }
}

impl Agent {
    async fn final_status(&self, name: &str) -> BorgRunStatus {
        let ended = self.fake.until(|fake| fake.status(name).phase.is_final());
        tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        self.fake.status(name)
    }

    /// Ends the agent and hands back how often borg was started.
    async fn stop(self) -> usize {
        self.ctx.stop.cancel();
        self.watching.await.unwrap().unwrap();
        self.script.started.load(Ordering::SeqCst)
    }

    async fn lock(&self, run: &BorgRun) -> crate::slot::RepositoryLock {
        lock_in(&self.dir, run).await
    }
}

async fn lock_in(dir: &tempfile::TempDir, run: &BorgRun) -> crate::slot::RepositoryLock {
    let locks = dir.path().join("own").join("repositories");
    repository_lock(&locks, &run.spec.repository.location, "test", identity()).await.unwrap()
}

fn phases(fake: &Fake) -> Vec<RunPhase> {
    let mut phases: Vec<RunPhase> = fake.state().written.iter().map(|status| status.phase).collect();
    phases.dedup();
    phases
}
