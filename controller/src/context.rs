//! What every reconcile is handed: the client, the caches, the ledger, the clock.

use crate::admission::{Admission, Capacity, Request, Turn};
use crate::config::Config;
use crate::cuts::{self, Cuts};
use crate::echo::Echo;
use crate::events::Events;
use crate::identity::known::Known;
use crate::metrics::Metrics;
use crate::quiesce::Running;
use crate::repository::breaker::Breakers;
use crate::stores::{self, Stores, Touch};
use crate::world::World;
use borgherd_api::names::{SLOTS, agent_lease, node_of_agent};
use chrono::{DateTime, Utc};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::Notify;

/// Shared by all reconciles of this process.
pub struct Context {
    /// To the API server.
    pub client: Client,
    /// What the chart decides.
    pub config: Config,
    /// UID of the cluster: that of its namespace kube-system.
    pub cluster_uid: String,
    /// Caches of what is under way.
    pub stores: Stores,
    /// Compact facts of all PVCs.
    pub world: Arc<RwLock<World>>,
    /// Whose turn it is to cut.
    pub cuts: Cuts,
    /// Whose turn it is to be archived or restored.
    pub admission: Arc<Admission>,
    /// Which Repositories cannot be reached.
    pub breakers: Breakers,
    /// To wake others.
    pub touch: Touch,
    /// Events that users see.
    pub events: Events,
    /// Counters and histograms.
    pub metrics: Metrics,
    /// A Backup or Restore was deleted: what it left is looked for at once.
    pub deleted: Arc<Notify>,
    /// What the caches have yet to learn.
    pub echo: Echo,
    /// How often in a row a reconcile has failed, by UID.
    pub failures: Mutex<HashMap<String, u32>>,
    /// Resumes that are owed to applications, by UID of the Backup.
    pub debts: Mutex<HashMap<String, usize>>,
    /// Which snapshots and contents say the same.
    pub identities: Mutex<Known>,
    /// What runs in containers beside the reconciles.
    pub running: Running,
    /// The wall clock.
    pub clock: fn() -> DateTime<Utc>,
}

impl Context {
    /// What may be under way: for each slot one that runs and one that is being made ready, so that no slot waits for a clone.
    pub fn capacity(&self) -> Capacity {
        let slots: usize = self.stores.agents.state().iter().filter_map(|l| l.annotations().get(SLOTS)?.parse::<usize>().ok()).sum();
        Capacity { total: slots * 2, per_class: self.config.limits.max_clones_per_class }
    }

    /// Nodes that have an agent.
    pub fn agents(&self) -> impl Iterator<Item = String> {
        self.stores.agents.state().into_iter().filter_map(|lease| node_of_agent(&lease.name_any()).map(str::to_owned))
    }

    /// Whether a node has one.
    pub fn has_agent(&self, node: &str) -> bool {
        stores::get(&self.stores.agents, Some(&self.config.namespace), &agent_lease(node)).is_some()
    }

    /// Makes those look again whom another's leaving let in.
    pub fn wake(&self, woken: &[Request]) {
        for Request { owner: (namespace, name), turn, .. } in woken {
            let sent = match turn {
                Turn::Restore => self.touch.restores.send(ObjectRef::new(name).within(namespace)).is_ok(),
                Turn::Backup => self.touch.backups.send(ObjectRef::new(name).within(namespace)).is_ok(),
                Turn::Maintenance => {
                    self.touch.maintenance.notify_one();
                    true
                }
            };
            tracing::trace!(namespace, name, sent, "admitted");
        }
    }

    /// The Backup `uid` has no cut in flight any more: makes those look again who wait to begin theirs.
    pub fn cuts_done(&self, uid: &str) {
        self.wake_to_cut(self.cuts.done(uid));
    }

    /// Makes Backups look again that may be let in to cut.
    pub fn wake_to_cut(&self, woken: Vec<cuts::Name>) {
        for (namespace, name) in woken {
            let sent = self.touch.backups.send(ObjectRef::new(&name).within(&namespace)).is_ok();
            tracing::trace!(namespace, name, sent, "may cut");
        }
    }

    /// A status was written from `before`, whose version is the past now (a write that changes nothing makes no new version).
    pub fn wrote<K: ResourceExt>(&self, before: &K, after: &K) {
        if before.resource_version() != after.resource_version() {
            self.echo.wrote(&before.uid().unwrap_or_default(), &before.resource_version().unwrap_or_default());
        }
    }

    /// Whether a status was written from `object` already: its cache is late, and its watch will tell.
    pub fn is_late(&self, object: &impl ResourceExt) -> bool {
        self.echo.is_late(&object.uid().unwrap_or_default(), &object.resource_version().unwrap_or_default())
    }

    /// Reads the world; a writer that panicked leaves it usable.
    pub fn world(&self) -> std::sync::RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of snapshots and their contents.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds to wait after the next failure of `uid`: 1, 2, 4 … 60.
    pub fn backoff(&self, uid: &str) -> std::time::Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(uid.to_owned()).or_insert(0);
        *count += 1;
        std::time::Duration::from_secs(1 << (*count - 1).min(6)).min(std::time::Duration::from_mins(1))
    }

    /// So many resumes are owed for the Backup with `uid`.
    pub fn owe(&self, uid: &str, count: usize) {
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        if count == 0 {
            debts.remove(uid);
        } else {
            debts.insert(uid.to_owned(), count);
        }
        self.metrics.debts(debts.values().sum());
    }

    /// A reconcile of `uid` went well.
    pub fn went_well(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
