//! The agent's process put together: everything is made here once, from the configuration and the machine, and ended in order.

use super::config::Config;
use super::context::Context;
use super::sandboxed::Sandboxed;
use super::upkeep::{self, Signs};
use super::{Queue, cache, watch};
use crate::metrics::Metrics;
use crate::slot::{Identity, Slots};
use crate::{borg, host};
use anyhow::Context as _;
use borgherd_api::crd::AgentRef;
use borgherd_runtime::{Health, serve::Server};
use chrono::{DateTime, Utc};
use kube::{Api, Client};
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Where the chart mounts the paths of the node below which hostPath volumes may be read.
const LIVE: &str = "/host/live";

/// What the agent takes from its surroundings.
pub struct Surroundings {
    /// The API server.
    pub client: Client,
    /// Tells the time.
    pub now: fn() -> DateTime<Utc>,
    /// For this process's name and the order of slots.
    pub random: StdRng,
    /// This program.
    pub exe: PathBuf,
    /// CPUs of the machine.
    pub cpus: usize,
    /// Cancelled by SIGTERM.
    pub stop: CancellationToken,
}

/// Run the agent until `surroundings.stop`, and then until its runs have ended or the grace is over.
pub async fn agent(config: Config, surroundings: Surroundings) -> anyhow::Result<()> {
    let registry = Registry::new();
    let server = Server::bind(config.metrics_address).await?;
    let stop = surroundings.stop.clone();
    let (client, grace, namespace) = (surroundings.client.clone(), config.grace, config.namespace.clone());
    let caches = cache::Limits { age: config.cache_age, bytes: config.cache_gib << 30 };
    let context = Arc::new(context(config, surroundings, &registry)?);
    let health = Health::new();
    let signs = Arc::new(Signs::new(health.clone()));
    let finished = CancellationToken::new();
    let serving = tokio::spawn(server.run(registry, health, finished.clone()));
    tokio::spawn(upkeep::keep_lease(Arc::clone(&context), Arc::clone(&signs), Api::namespaced(client.clone(), &namespace)));
    tokio::spawn(upkeep::sweep_daily(Arc::clone(&context), caches));
    tracing::info!(node = context.node, slots = context.queue.slots().count(), instance = context.me.instance, "agent runs");
    let runs = watch::run(Arc::clone(&context), client, &namespace, signs.as_ref());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    let ended = tokio::select! {
        ended = runs => ended.context("watching runs"),
        () = late => Err(anyhow::anyhow!("runs had not ended within the grace of {} s", grace.as_secs())),
    };
    finished.cancel();
    serving.await.context("serving metrics")?;
    ended
}

fn context(config: Config, surroundings: Surroundings, registry: &Registry) -> anyhow::Result<Context> {
    let Surroundings { client, now, mut random, exe, cpus, stop } = surroundings;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?.trim().to_owned();
    let pid_namespace = fs::read_link("/proc/self/ns/pid").context("reading the PID namespace")?;
    let host_id = borg::host_id(&config.node, &boot_id, &pid_namespace.to_string_lossy());
    let identity = Identity { pid: std::process::id(), started: now(), boot_id, clock: now };
    let folders = config.folders();
    let slots = Slots::open(&folders.slots(), config.slot_count(cpus), identity.clone(), random.fork())?;
    let metrics = Metrics::register(registry)?;
    metrics.slots.set(i64::try_from(slots.count())?);
    let work = Sandboxed { exe, folders: folders.clone(), host_id, limits: config.limits(), now };
    let (runs, secrets) = Context::apis(&client, &config.namespace);
    Ok(Context {
        me: AgentRef { pod: config.pod, uid: config.pod_uid, instance: format!("{:016x}", random.next_u64()) },
        node: config.node,
        runs,
        secrets,
        queue: Queue::new(slots),
        folders,
        mount_patience: config.mount_patience,
        live: host::mounted(&config.live_host_paths, Path::new(LIVE)),
        identity,
        work: Box::new(work),
        metrics,
        gateway: config.pushgateway.0,
        now,
        stop,
    })
}
