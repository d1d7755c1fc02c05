//! The small, complete caches: what Borgherd itself made and is working on, and the classes and Repositories to choose from.
//!
//! Each is narrowed by label before it is kept. A cache lags: it may say what to do next, never that something is gone for good.

use crate::config::Config;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, BorgRun, Repository, Restore};
use borgherd_api::names::{COMPONENT, IN_FLIGHT, MAINTENANCE, OWNER, TEMPORARY};
use borgherd_runtime::refusal::words_of_watch;
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::runtime::reflector::{self, Lookup, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

/// Who must look again when something of theirs has changed.
#[derive(Clone)]
pub struct Touch {
    /// Backups.
    pub backups: UnboundedSender<ObjectRef<Backup>>,
    /// Restores.
    pub restores: UnboundedSender<ObjectRef<Restore>>,
    /// Namespaces in which a Backup has ended, for retention.
    pub retention: UnboundedSender<String>,
    /// Whoever keeps the status of the Repositories.
    pub repositories: Arc<Notify>,
    /// Whoever keeps archives in order.
    pub maintenance: Arc<Notify>,
    /// Whoever hears what runs say of their Repositories, and when these change.
    pub runs: Arc<Notify>,
}

impl Touch {
    /// Wakes the owner that the annotation names. The receivers live as long as the process; a closed one is shutdown.
    fn owner_of<K: Lookup<DynamicType = ()> + ResourceExt>(&self, object: &K) {
        // of the ConfigMaps only records are watched: they say where damage was found
        if matches!(&*<K as Lookup>::kind(&()), "Repository" | "ConfigMap") {
            self.repositories.notify_one();
        }
        // a changed spec may be what a parked Repository was missing
        if matches!(&*<K as Lookup>::kind(&()), "BorgRun" | "Repository") {
            self.runs.notify_one();
        }
        let Some(owner) = object.annotations().get(OWNER) else { return };
        let mut parts = owner.splitn(3, '/');
        let (Some(kind), Some(namespace), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return;
        };
        let sent = match kind {
            "Backup" => self.backups.send(ObjectRef::new(name).within(namespace)).is_ok(),
            "Restore" => self.restores.send(ObjectRef::new(name).within(namespace)).is_ok(),
            MAINTENANCE => {
                self.maintenance.notify_one();
                true
            }
            _ => true,
        };
        if !sent {
            tracing::debug!(owner, "shutting down; nobody to wake");
        }
    }
}

/// The caches.
#[derive(Clone)]
pub struct Stores {
    /// Snapshots in applications' namespaces that a Backup is working on.
    pub snapshots: Store<VolumeSnapshot>,
    /// Snapshots of clones, in the volumes' namespace.
    pub clone_snapshots: Store<VolumeSnapshot>,
    /// Their static contents.
    pub contents: Store<VolumeSnapshotContent>,
    /// Clones, and volumes being restored into.
    pub claims: Store<PersistentVolumeClaim>,
    /// Their PersistentVolumes.
    pub volumes: Store<PersistentVolume>,
    /// Holders.
    pub holders: Store<Pod>,
    /// Runs.
    pub runs: Store<BorgRun>,
    /// Leases of agents.
    pub agents: Store<Lease>,
    /// Repositories.
    pub repositories: Store<Repository>,
    /// Records of the places that have held an archive.
    pub records: Store<ConfigMap>,
    /// Classes.
    pub classes: Store<VolumeSnapshotClass>,
}

impl Stores {
    /// Starts the watches, each in a task of its own that ends with the process.
    pub fn start(client: &Client, config: &Config, touch: &Touch) -> Self {
        let temporary = watcher::Config::default().labels(&format!("{TEMPORARY}=true"));
        let in_flight = watcher::Config::default().labels(IN_FLIGHT);
        let agents = watcher::Config::default().labels(&format!("{COMPONENT}=agent"));
        let all = watcher::Config::default();
        let records = watcher::Config::default().labels(&format!("{COMPONENT}=repository-record"));
        let volumes = &config.volumes_namespace;
        Self {
            snapshots: watch(Api::all(client.clone()), in_flight, touch),
            clone_snapshots: watch(Api::namespaced(client.clone(), volumes), temporary.clone(), touch),
            contents: watch(Api::all(client.clone()), temporary.clone(), touch),
            claims: watch(Api::namespaced(client.clone(), volumes), temporary.clone(), touch),
            volumes: watch(Api::all(client.clone()), temporary.clone(), touch),
            holders: watch(Api::namespaced(client.clone(), volumes), temporary, touch),
            runs: watch(Api::namespaced(client.clone(), &config.namespace), all.clone(), touch),
            agents: watch(Api::namespaced(client.clone(), &config.namespace), agents, touch),
            repositories: watch(Api::all(client.clone()), all.clone(), touch),
            records: watch(Api::namespaced(client.clone(), &config.namespace), records, touch),
            classes: watch(Api::all(client.clone()), all, touch),
        }
    }

    /// Waits until each has seen everything once.
    pub async fn synced(&self) -> Result<(), reflector::store::WriterDropped> {
        let Self { snapshots, clone_snapshots, contents, claims, volumes, holders, runs, agents, repositories, records, classes } = self;
        snapshots.wait_until_ready().await?;
        clone_snapshots.wait_until_ready().await?;
        contents.wait_until_ready().await?;
        claims.wait_until_ready().await?;
        volumes.wait_until_ready().await?;
        holders.wait_until_ready().await?;
        runs.wait_until_ready().await?;
        agents.wait_until_ready().await?;
        repositories.wait_until_ready().await?;
        records.wait_until_ready().await?;
        classes.wait_until_ready().await
    }
}

fn watch<K>(api: Api<K>, config: watcher::Config, touch: &Touch) -> Store<K>
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    <K as Lookup>::DynamicType: Eq + Hash + Clone,
{
    let (reader, writer) = reflector::store();
    let stream =
        watcher(api, config).default_backoff().modify(|object| object.managed_fields_mut().clear()).reflect(writer).touched_objects();
    let touch = touch.clone();
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(next) = stream.next().await {
            match next {
                Ok(object) => touch.owner_of(&object),
                Err(error) => warn!(kind = %<K as Lookup>::kind(&()), error = words_of_watch(&error), "watch failed; trying again"),
            }
        }
    });
    reader
}

/// An object of a store by its place.
pub fn get<K>(store: &Store<K>, namespace: Option<&str>, name: &str) -> Option<Arc<K>>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    let key = ObjectRef::new(name);
    store.get(&match namespace {
        Some(namespace) => key.within(namespace),
        None => key,
    })
}
