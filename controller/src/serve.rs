//! Wiring: everything that runs while this process leads, and the end of it.

use crate::admission::Admission;
use crate::config::Config;
use crate::context::Context;
use crate::cuts::Cuts;
use crate::echo::Echo;
use crate::events::Events;
use crate::leader::Leader;
use crate::metrics::{Metrics, Series};
use crate::plan;
use crate::repository::breaker::Breakers;
use crate::stores::{Stores, Touch};
use crate::world::World;
use crate::{backup, expose, identity, maintenance, repository, restore, retention};
use anyhow::Context as _;
use borgherd_api::crd::{Backup, Restore};
use borgherd_runtime::{Health, shutdown};
use chrono::Utc;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::runtime::Controller;
use kube::runtime::controller::Config as ControllerConfig;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::WriterDropped;
use kube::{Client, ResourceExt};
use prometheus::Registry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;
use tracing::{debug, info, warn};

/// Reconciles at once, each of Backups and Restores: more than there can be hooks that run, so that no application waits for another.
const CONCURRENCY: u16 = 256;
/// The planner says at least this often that it lives.
const PLANNER_SILENCE: Duration = Duration::from_mins(5);

/// Between the steps of cleaning up what was left over.
const STEP: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or until the leadership is lost.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let stop = shutdown::token();
    let client = Client::try_default().await.context("finding the API server")?;
    let (registry, health) = (Registry::new(), Health::new());
    let metrics = Metrics::new(&registry)?;
    let world = Arc::new(RwLock::new(World::new(config.defaults.clone())));
    let admission = Arc::new(Admission::default());
    registry.register(Box::new(Series::new(Arc::clone(&world), Arc::clone(&admission))?))?;
    let served = tokio::spawn(borgherd_runtime::serve::serve(config.metrics_address, registry, health.clone(), stop.clone()));
    let leader = Leader::new(client.clone(), &config);
    health.ready(true); // a standby is ready too: it answers, and takes over when the lease runs out
    tokio::select! {
        () = leader.acquire() => {}
        () = stop.cancelled() => return Ok(()),
    }
    metrics.leads();
    tokio::select! {
        result = lead(client, config, world, admission, metrics, &health) => result?,
        () = leader.keep() => anyhow::bail!("the leadership is lost; ending, so that nothing is done twice"),
        () = stop.cancelled() => info!("asked to stop"),
        served = served => served?.context("serving metrics")?,
    }
    leader.release().await;
    Ok(())
}

async fn lead(
    client: Client,
    config: Config,
    world: Arc<RwLock<World>>,
    admission: Arc<Admission>,
    metrics: Metrics,
    health: &Health,
) -> anyhow::Result<()> {
    let (backups_tx, backups_rx) = unbounded_channel();
    let (restores_tx, restores_rx) = unbounded_channel();
    let (retention_tx, retention_rx) = unbounded_channel();
    let touch = Touch {
        backups: backups_tx,
        restores: restores_tx,
        retention: retention_tx,
        repositories: Arc::new(Notify::new()),
        maintenance: Arc::new(Notify::new()),
        runs: Arc::new(Notify::new()),
    };
    let stores = Stores::start(&client, &config, &touch);
    let feeds = plan::start(&client, &config, &world).await.context("reading PVCs, namespaces and snapshots")?;
    let deleted = Arc::new(Notify::new());
    let (backups, backup_stream) = plan::backups(&client, &world, &feeds.mark, &deleted);
    let (restores, restore_stream) = plan::restores(&client, &deleted);
    stores.synced().await.context("watching")?;
    let ctx = Arc::new(Context {
        cluster_uid: cluster_uid(&client).await?,
        events: Events::new(client.clone(), &config.identity),
        client,
        config,
        stores,
        world,
        cuts: Cuts::default(),
        admission,
        breakers: Breakers::default(),
        touch,
        metrics,
        deleted,
        echo: Echo::default(),
        failures: Mutex::new(HashMap::new()),
        debts: Mutex::new(HashMap::new()),
        identities: Mutex::default(),
        running: crate::quiesce::Running::default(),
        clock: now,
    });
    adopt(&ctx).await.context("taking over what is under way")?;
    let (owners, archived) = ((backups.clone(), restores.clone()), backups.clone());
    let limits = || ControllerConfig::default().concurrency(CONCURRENCY);
    let backups_led = Controller::for_stream(backup_stream, backups)
        .with_config(limits())
        .reconcile_on(tokio_stream(backups_rx))
        .run(backup::reconcile, backup::on_error, Arc::clone(&ctx))
        .for_each(|done| async move { debug!(?done, "reconciled a Backup") });
    let restores_led = Controller::for_stream(restore_stream, restores)
        .with_config(limits())
        .reconcile_on(tokio_stream(restores_rx))
        .run(restore::reconcile, restore::on_error, Arc::clone(&ctx))
        .for_each(|done| async move { debug!(?done, "reconciled a Restore") });
    let declared = repository::declared::keep(ctx.client.clone(), ctx.config.repositories.clone());
    let beat = || health.beat("planner", PLANNER_SILENCE);
    tokio::select! {
        () = backups_led => anyhow::bail!("the watch of Backups has ended"),
        () = restores_led => anyhow::bail!("the watch of Restores has ended"),
        () = plan::run(Arc::clone(&ctx), feeds.dirty, beat) => anyhow::bail!("the planner has ended"),
        () = retention::run(Arc::clone(&ctx), retention_rx) => anyhow::bail!("retention has ended"),
        ended = maintenance::run(&ctx, archived) => ended.context("watching Backups"),
        () = identity::keep(&ctx) => anyhow::bail!("the watch of VolumeSnapshots has ended"),
        never = declared => match never {},
        never = repository::status::keep(&ctx) => match never {},
        never = repository::breaker::keep(&ctx) => match never {},
        ended = sweep(Arc::clone(&ctx), owners) => ended.context("watching Backups and Restores"),
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place where the wall clock is read; everything else is handed it")]
fn now() -> chrono::DateTime<Utc> {
    Utc::now()
}

fn tokio_stream<T: Send + 'static>(receiver: tokio::sync::mpsc::UnboundedReceiver<T>) -> impl futures::Stream<Item = T> + Send + 'static {
    futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}

async fn cluster_uid(client: &Client) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get("kube-system").await.context("reading namespace kube-system for the cluster's UID")?;
    system.uid().context("namespace kube-system has no UID")
}

/// What an earlier process had admitted keeps its place: read live, before anything new is admitted.
async fn adopt(ctx: &Context) -> Result<(), kube::Error> {
    repository::breaker::adopt(ctx);
    let backups: Vec<Backup> = Api::all(ctx.client.clone()).list(&kube::api::ListParams::default()).await?.items;
    for backup in backups.iter().filter(|b| !b.status.as_ref().is_some_and(|s| s.phase.is_final())) {
        backup::work::Work::new(ctx, backup).adopt();
    }
    let restores: Vec<Restore> = Api::all(ctx.client.clone()).list(&kube::api::ListParams::default()).await?.items;
    for restore in &restores {
        restore::apply::Work::new(ctx, restore).adopt();
    }
    maintenance::adopt(ctx).await
}

/// Leftovers and old accounts: at start, and on a timer.
async fn sweep(ctx: Arc<Context>, (backups, restores): (Store<Backup>, Store<Restore>)) -> Result<(), WriterDropped> {
    backups.wait_until_ready().await?;
    restores.wait_until_ready().await?;
    loop {
        let uids = backups.state().into_iter().filter_map(|b| b.uid());
        let owners: HashSet<String> = uids.chain(restores.state().into_iter().filter_map(|r| r.uid())).collect();
        ctx.wake_to_cut(ctx.cuts.keep_only(&owners));
        ctx.wake(&ctx.admission.keep_only(&owners, ctx.capacity()));
        let mut wait = ctx.config.leak_interval;
        match expose::leak::sweep(&ctx).await {
            Ok(found) => {
                ctx.metrics.leaks(found);
                if found > 0 {
                    wait = STEP;
                }
            }
            Err(error) => warn!(%error, "could not look for leftovers; trying again"),
        }
        if let Err(error) = backup::history::sweep(&ctx).await {
            warn!(%error, "could not delete old Backups; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = ctx.deleted.notified() => {}
        }
    }
}
