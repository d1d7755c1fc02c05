//! Runs against a fake API server, with real locks: who takes a run, who ends it, and what is said in the end.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use super::context::{Context, Folders};
use super::example::{at, identity, run, slots};
use super::fake::{Fake, Fault};
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

#[tokio::test]
async fn a_run_is_claimed_executed_and_reported_in_few_requests() {
    let fake = Fake::new(vec![bare("a")]);
    let agent = start(&fake, Script::default());
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.agent), (RunPhase::Succeeded, Some(me())));
    assert!(status.queued_at <= status.started_at && status.started_at <= status.finished_at);
    assert_eq!((status.borg_seconds, status.log), (Some(0.5), vec!["a line".to_owned()]));
    assert_eq!(agent.stop().await, 1);
    assert_eq!(phases(&fake), [RunPhase::Running, RunPhase::Succeeded]);
    let requests = fake.state().requests.clone();
    assert!(requests.len() <= 6, "list, watch, two or three writes, one Secret: {requests:?}");
}

#[tokio::test]
async fn a_claim_that_another_agent_wins_is_left_to_it() {
    let fake = Fake::new(vec![bare("a")]);
    let other = agent("pod-2", "x");
    fake.fail([Fault::Before(Box::new(|state| {
        state.change("a", |run| *run = by(run.clone(), RunPhase::Running, agent("pod-2", "x")));
    }))]);
    let ours = start(&fake, Script::default());
    fake.until(|fake| fake.state().requests.iter().any(|request| request.starts_with("GET") && request.ends_with("/a"))).await;
    assert_eq!(ours.stop().await, 0, "borg was not started");
    assert_eq!(fake.status("a").agent, Some(other));
    assert!(fake.state().written.is_empty());
}

#[tokio::test]
async fn a_conflict_about_something_else_does_not_stop_a_claim() {
    let fake = Fake::new(vec![bare("a")]);
    fake.fail([Fault::Before(Box::new(|state| {
        state.change("a", |run| {
            run.labels_mut().insert("a".to_owned(), "b".to_owned());
        });
    }))]);
    let agent = start(&fake, Script::default());
    assert_eq!(agent.final_status("a").await.phase, RunPhase::Succeeded);
    assert_eq!(agent.stop().await, 1);
}

#[tokio::test]
async fn answers_lost_at_every_write_change_nothing() {
    let fake = Fake::new(vec![bare("a")]);
    fake.fail([Fault::AnswerLost, Fault::AnswerLost, Fault::AnswerLost, Fault::Unavailable]);
    let agent = start(&fake, Script::default());
    assert_eq!(agent.final_status("a").await.phase, RunPhase::Succeeded);
    assert_eq!(agent.stop().await, 1, "once");
    assert_eq!(phases(&fake), [RunPhase::Running, RunPhase::Succeeded]);
}

#[tokio::test]
async fn a_success_is_reported_when_the_api_server_is_back() {
    let fake = Fake::new(vec![bare("a")]);
    let running = Fault::Before(Box::new(|_| {}));
    fake.fail([running, Fault::Unavailable, Fault::Unavailable, Fault::Unavailable]);
    let agent = start(&fake, Script::default());
    assert_eq!(agent.final_status("a").await.phase, RunPhase::Succeeded);
    assert_eq!(agent.stop().await, 1);
}

#[tokio::test]
async fn a_report_that_is_refused_arrives_without_its_details() {
    let fake = Fake::new(vec![bare("a")]);
    let agent = start(&fake, Script { until_cancelled: true, ..Script::default() });
    fake.until(|fake| fake.status("a").progress.is_some()).await;
    fake.fail([Fault::Invalid]);
    agent.ctx.stop.cancel();
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.log.len()), (RunPhase::Interrupted, 0));
    assert!(status.message.unwrap().contains("refused"));
    agent.stop().await;
}

#[tokio::test]
async fn what_a_dead_agent_ran_is_interrupted_only_when_its_lock_is_free() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let lost = by(bare("a"), RunPhase::Running, agent("pod-1", "before"));
    let borg = lock_in(&dir, &lost).await;
    let fake = Fake::new(vec![lost.clone()]);
    let agent = start_in(dir, &fake, Script::default());
    // the agent works on others meanwhile, so it has seen this one
    let mut other = bare("b");
    other.spec.repository.location = "/repositories/other".to_owned();
    fake.state().put(other);
    assert_eq!(agent.final_status("b").await.phase, RunPhase::Succeeded);
    assert_eq!(fake.status("a"), lost.status.clone().unwrap(), "untouched while its borg may live");
    drop(borg);
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.reason), (RunPhase::Interrupted, Some(Reason::Interrupted)));
    assert_eq!(agent.ctx.metrics.lost_runs.get(), 1);
    assert_eq!(agent.stop().await, 1, "only b");
}

#[tokio::test]
async fn a_success_that_an_ending_agent_still_reports_stays_a_success() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let before = by(bare("a"), RunPhase::Running, agent("pod-0", "before"));
    let ending = lock_in(&dir, &before).await;
    let fake = Fake::new(vec![before.clone()]);
    let agent = start_in(dir, &fake, Script::default());
    fake.until(|fake| fake.state().requests.len() >= 2).await;
    fake.state().change("a", |run| *run = by(run.clone(), RunPhase::Succeeded, self::agent("pod-0", "before")));
    drop(ending);
    fake.until(|fake| fake.state().requests.iter().any(|request| request.ends_with("/a"))).await;
    let again = agent.lock(&before).await;
    assert_eq!(fake.status("a").phase, RunPhase::Succeeded);
    assert_eq!(agent.ctx.metrics.lost_runs.get(), 0);
    drop(again);
    assert_eq!(agent.stop().await, 0);
}

#[tokio::test]
async fn what_a_dead_agent_had_only_queued_is_taken_over() {
    let fake = Fake::new(vec![by(bare("a"), RunPhase::Queued, agent("pod-1", "before"))]);
    let agent = start(&fake, Script::default());
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.agent), (RunPhase::Succeeded, Some(me())));
    assert_eq!(agent.stop().await, 1);
}

#[tokio::test]
async fn a_run_that_waits_says_for_what_and_holds_no_slot() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let waits = bare("a");
    let foreign = lock_in(&dir, &waits).await;
    let fake = Fake::new(vec![waits]);
    let agent = start_in(dir, &fake, Script::default());
    fake.until(|fake| fake.status("a").phase == RunPhase::Queued).await;
    assert!(fake.status("a").message.unwrap().contains("repository's lock"));
    assert_eq!(agent.ctx.metrics.queued.get(), 1);
    let mut other = bare("b");
    other.spec.repository.location = "/repositories/other".to_owned();
    fake.state().put(other);
    assert_eq!(agent.final_status("b").await.phase, RunPhase::Succeeded);
    drop(foreign);
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.message), (RunPhase::Succeeded, None));
    assert_eq!(agent.ctx.metrics.queued.get(), 0);
    agent.stop().await;
}

#[tokio::test]
async fn one_slot_serves_by_creation() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let runs = [("c", "10:02"), ("a", "10:01"), ("b", "10:00")].map(|(name, time)| {
        let mut run = bare(name);
        run.spec.repository.location = format!("/repositories/{name}");
        let created = format!("\"2026-11-21T{time}:00Z\"");
        run.metadata.creation_timestamp = Some(serde_json::from_str(&created).unwrap());
        run
    });
    let foreign = slots(&dir.path().join("own").join("slots"), 1);
    let slot = foreign.acquire("another program").await.unwrap();
    let fake = Fake::new(runs.to_vec());
    let agent = start_in(dir, &fake, Script::default());
    let queued = |fake: &Fake| ["a", "b", "c"].iter().all(|name| fake.status(name).phase == RunPhase::Queued);
    fake.until(queued).await;
    drop(slot);
    for name in ["a", "b", "c"] {
        assert_eq!(agent.final_status(name).await.phase, RunPhase::Succeeded);
    }
    assert_eq!(*agent.script.order.lock().unwrap(), ["b", "a", "c"]);
    agent.stop().await;
}

#[tokio::test]
async fn deleting_a_run_interrupts_it_and_writes_nothing_more() {
    let fake = Fake::new(vec![bare("a")]);
    let agent = start(&fake, Script { until_cancelled: true, ..Script::default() });
    fake.until(|fake| fake.status("a").progress.is_some()).await;
    let run = fake.run("a");
    fake.state().delete("a");
    // its task lets the lock go in the end
    let lock = agent.lock(&run).await;
    drop(lock);
    assert_eq!(agent.stop().await, 1);
    assert_eq!(phases(&fake), [RunPhase::Running]);
}

#[tokio::test]
async fn an_agent_that_is_stopped_interrupts_and_says_so() {
    let fake = Fake::new(vec![bare("a"), bare("b")]);
    let agent = start(&fake, Script { until_cancelled: true, ..Script::default() });
    let one_runs_one_waits = |fake: &Fake| {
        let of = |phase| ["a", "b"].iter().filter(|name| fake.status(name).phase == phase).count();
        of(RunPhase::Running) == 1 && of(RunPhase::Queued) == 1
    };
    fake.until(one_runs_one_waits).await;
    assert_eq!(agent.stop().await, 1);
    for name in ["a", "b"] {
        let status = fake.status(name);
        assert_eq!((status.phase, status.reason), (RunPhase::Interrupted, Some(Reason::Interrupted)), "{name}");
        assert!(status.finished_at.is_some());
    }
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_said() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut run = bare("a");
    run.spec.deadline = Utc::now() + chrono::TimeDelta::milliseconds(400);
    let foreign = lock_in(&dir, &run).await;
    let fake = Fake::new(vec![run]);
    let agent = start_in(dir, &fake, Script::default());
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.reason), (RunPhase::Failed, Some(Reason::DeadlineExceeded)));
    assert_eq!(agent.ctx.metrics.queued.get(), 0);
    drop(foreign);
    assert_eq!(agent.stop().await, 0);
}

#[tokio::test]
async fn what_is_missing_is_named_and_the_slot_is_free_again() {
    let mut no_secret = bare("a");
    no_secret.spec.repository.secret_ref = "other".to_owned();
    let mut no_key = bare("b");
    no_key.spec.repository.location = "ssh://borg@nas/./r".to_owned();
    let mut no_volume = run("c", "uid-c");
    no_volume.spec.deadline = at("2100-01-01T00:00:00Z");
    let fake = Fake::new(vec![no_secret, no_key, no_volume]);
    let agent = start(&fake, Script::default());
    for (name, reason, named) in [
        ("a", Reason::SecretNotFound, "Secret other"),
        ("b", Reason::SecretInvalid, "ssh-privatekey, known_hosts"),
        ("c", Reason::VolumeNotMounted, "pv"),
    ] {
        let status = agent.final_status(name).await;
        assert_eq!((status.phase, status.reason), (RunPhase::Failed, Some(reason)), "{name}");
        assert!(status.message.clone().unwrap().contains(named), "{name}: {:?}", status.message);
    }
    assert_eq!(agent.stop().await, 0);
}
