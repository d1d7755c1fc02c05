//! The loops beside the runs: the Lease, old caches; and what all loops tell the probes.
//!
//! A loop beats whether the API server answers or not: killing the agent would kill its borgs and bring no API server back. That is what
//! readiness is for: the runs of this node were listed, and the Lease was renewed within its duration.

use super::context::Context;
use super::{BEAT, cache, watch};
use crate::lease;
use borgherd_runtime::Health;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

const DAY: Duration = Duration::from_hours(24);
/// A loop that has not been heard for so many of its periods hangs.
const MISSED: u32 = 6;

/// What the loops tell the probes.
#[derive(Debug)]
pub(super) struct Signs {
    health: Health,
    is_synced: AtomicBool,
    is_leased: AtomicBool,
    is_stopping: AtomicBool,
}

impl Signs {
    pub(super) fn new(health: Health) -> Self {
        let no = || AtomicBool::new(false);
        Self { health, is_synced: no(), is_leased: no(), is_stopping: no() }
    }

    fn say(&self, what: &AtomicBool, value: bool) {
        what.store(value, Ordering::SeqCst);
        let [synced, leased, stopping] = [&self.is_synced, &self.is_leased, &self.is_stopping].map(|sign| sign.load(Ordering::SeqCst));
        self.health.ready(synced && leased && !stopping);
    }
}

impl watch::Signs for Signs {
    fn beat(&self) {
        self.health.beat("watch", BEAT * MISSED);
    }

    fn synced(&self) {
        self.say(&self.is_synced, true);
    }

    fn stopping(&self) {
        self.health.retire("watch");
        self.say(&self.is_stopping, true);
    }
}

/// Renews the Lease until the agent stops; the Lease then expires by itself.
pub(super) async fn keep_lease(ctx: Arc<Context>, signs: Arc<Signs>, api: Api<Lease>) {
    let claim = lease::Claim { node: ctx.node.clone(), agent: ctx.me.clone(), slots: ctx.queue.slots().count(), since: (ctx.now)() };
    let mut tick = tokio::time::interval(lease::EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewed: Option<Instant> = None;
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        signs.health.beat("lease", lease::EVERY * MISSED);
        match lease::renew(&api, &claim, (ctx.now)()).await {
            Ok(()) => renewed = Some(Instant::now()),
            Err(error) => {
                ctx.metrics.lease_failures.inc();
                tracing::warn!(%error, "the controller does not see this agent");
            }
        }
        signs.say(&signs.is_leased, renewed.is_some_and(|at| at.elapsed() < lease::DURATION));
    }
    signs.health.retire("lease");
}

/// Removes the caches that `limits` leave no room for, at once and then daily.
pub(super) async fn sweep_daily(ctx: Arc<Context>, limits: cache::Limits) {
    let mut day = tokio::time::interval(DAY);
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            _ = day.tick() => cache::sweep(&ctx, limits).await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::super::fake::Fake;
    use super::super::tests::{Script, context};
    use super::super::watch::Signs as _;
    use super::*;
    use borgherd_api::names;

    const TEN_SECONDS: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn ready_is_who_has_listed_and_holds_a_lease_and_alive_who_tries() {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::new(Vec::new());
        let ctx = context(dir.path(), &fake, &Script::default());
        let health = Health::new();
        let signs = Arc::new(Signs::new(health.clone()));
        let api = Api::namespaced(fake.client(), "borgherd");
        let keeping = tokio::spawn(keep_lease(Arc::clone(&ctx), Arc::clone(&signs), api));
        fake.until(|fake| fake.state().lease.is_some()).await;
        let lease: Lease = serde_json::from_value(fake.state().lease.clone().unwrap()).unwrap();
        assert_eq!(lease.metadata.annotations.unwrap()[names::SLOTS], "1");
        assert!(!health.is_ready(), "not listed yet");
        tokio::time::sleep(TEN_SECONDS).await;
        signs.synced();
        assert!(health.is_ready());

        fake.state().is_lease_refused = true;
        tokio::time::sleep(TEN_SECONDS * 2).await;
        assert!(health.is_ready(), "the Lease still counts");
        tokio::time::sleep(TEN_SECONDS * 3).await;
        assert!(!health.is_ready());
        assert!(ctx.metrics.lease_failures.get() >= 4);
        assert!(health.silent(std::time::Instant::now()).is_empty(), "alive all the same");

        fake.state().is_lease_refused = false;
        tokio::time::sleep(TEN_SECONDS * 2).await;
        assert!(health.is_ready());
        signs.stopping();
        assert!(!health.is_ready());
        ctx.stop.cancel();
        keeping.await.unwrap();
    }
}
