//! What the tasks of all runs share.

use super::queue::{Place, Queue};
use super::work::Work;
use crate::host::HostPath;
use crate::metrics::Metrics;
use crate::push::Gateway;
use crate::slot::{self, RepositoryLock, SlotError};
use borgherd_api::crd::{AgentRef, BorgRun};
use borgherd_api::{names, time};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use prometheus::IntGauge;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Folders of the host as this process sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// The kubelet's `pods`.
    pub pods: PathBuf,
    /// The agent's own: locks and caches.
    pub own: PathBuf,
}

impl Folders {
    /// Of the slots' lock files.
    pub fn slots(&self) -> PathBuf {
        self.own.join("slots")
    }

    /// Of the repositories' lock files.
    pub fn locks(&self) -> PathBuf {
        self.own.join("repositories")
    }

    /// Of the caches of all repositories.
    pub fn states(&self) -> PathBuf {
        self.own.join("state")
    }

    /// Of the caches of the repository at `location`.
    pub fn state(&self, location: &str) -> PathBuf {
        self.states().join(names::hash(&[location], 10))
    }
}

/// What the tasks of all runs share.
pub struct Context {
    /// This process.
    pub me: AgentRef,
    /// Its node.
    pub node: String,
    /// The runs of Borgherd's namespace.
    pub runs: Api<BorgRun>,
    /// The Secrets there.
    pub secrets: Api<Secret>,
    /// The node's slots.
    pub queue: Queue,
    /// Folders of the host.
    pub folders: Folders,
    /// How long a volume may take to appear in this container after its holder runs.
    pub mount_patience: Duration,
    /// Paths of the node below which hostPath volumes may be read.
    pub live: Vec<HostPath>,
    /// What stands in lock files.
    pub identity: slot::Identity,
    /// What executes a run once all is ready.
    pub work: Box<dyn Work>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where results are pushed to.
    pub gateway: Option<Gateway>,
    /// Tells the time.
    pub now: fn() -> DateTime<Utc>,
    /// The agent is to end.
    pub stop: CancellationToken,
}

impl Context {
    /// The runs and Secrets of `namespace`.
    pub fn apis(client: &Client, namespace: &str) -> (Api<BorgRun>, Api<Secret>) {
        (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace))
    }

    /// The lock of the repository of `run`, for `purpose`.
    pub async fn repository_lock(&self, run: &BorgRun) -> Result<RepositoryLock, SlotError> {
        let location = &run.spec.repository.location;
        slot::repository_lock(&self.folders.locks(), location, &run.name_any(), self.identity.clone()).await
    }

    /// How long it is until `at`; nothing if that is past.
    pub fn until(&self, at: DateTime<Utc>) -> Duration {
        (at - (self.now)()).to_std().unwrap_or_default()
    }
}

/// Where `run` stands in the queue.
pub(super) fn place(run: &BorgRun) -> Place {
    Place { created: time::created(run).unwrap_or_default(), name: run.name_any(), uid: run.uid().unwrap_or_default() }
}

/// One more in a gauge for as long as this lives.
#[derive(Debug)]
pub(super) struct Counted(IntGauge);

impl Counted {
    /// In `gauge`.
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
