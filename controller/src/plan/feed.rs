//! Watches of PVCs and namespaces that keep the world's facts and say which namespace must be planned again.
//!
//! Objects are reduced as they arrive, page by page: the whole lists are never in memory.

use crate::config::Config;
use crate::pages::{self, PAGE};
use crate::world::{World, pvc_of};
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{Backup, Restore};
use borgherd_api::names::{SCHEDULED_TIME, TYPE};
use borgherd_runtime::refusal::words_of_watch;
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector, watcher as watch};
use kube::{Client, ResourceExt};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tracing::warn;

/// What the feeds give to the rest of the process.
pub struct Feeds {
    /// Namespaces that must be planned again.
    pub dirty: UnboundedReceiver<String>,
    /// Where others say so.
    pub mark: UnboundedSender<String>,
}

type Shared = Arc<RwLock<World>>;

/// Starts the feeds and returns once the world is complete: PVCs, namespaces, and the scheduled times that snapshots tell.
pub async fn start(client: &Client, config: &Config, world: &Shared) -> Result<Feeds, kube::Error> {
    let (mark, dirty) = unbounded_channel();
    let (claims_done, claims) = oneshot::channel();
    let (namespaces_done, namespaces) = oneshot::channel();
    let page = watcher::Config::default().page_size(PAGE);
    let pvcs = watch(Api::<PersistentVolumeClaim>::all(client.clone()), page.clone()).default_backoff();
    let spaces = watch(Api::<Namespace>::all(client.clone()), page).default_backoff();
    tokio::spawn(feed_claims(pvcs, Arc::clone(world), mark.clone(), claims_done, config.volumes_namespace.clone()));
    tokio::spawn(feed_namespaces(spaces, Arc::clone(world), mark.clone(), namespaces_done));
    scheduled_times(client, world).await?;
    for done in [claims, namespaces] {
        if done.await.is_err() {
            warn!("a watch ended before it had begun");
        }
    }
    Ok(Feeds { dirty, mark })
}

fn write(world: &Shared) -> std::sync::RwLockWriteGuard<'_, World> {
    world.write().unwrap_or_else(PoisonError::into_inner)
}

fn tell(mark: &UnboundedSender<String>, namespace: String) {
    if mark.send(namespace).is_err() {
        tracing::debug!("shutting down; nobody plans");
    }
}

async fn feed_claims<S>(stream: S, world: Shared, mark: UnboundedSender<String>, done: oneshot::Sender<()>, own: String)
where
    S: Stream<Item = watcher::Result<Event<PersistentVolumeClaim>>> + Send,
{
    let mut stream = std::pin::pin!(stream);
    let mut done = Some(done);
    let mut seen: HashSet<(String, String)> = HashSet::new();
    while let Some(next) = stream.next().await {
        match next {
            Ok(Event::Init) => seen.clear(),
            Ok(Event::InitApply(pvc)) => {
                seen.insert((pvc.namespace().unwrap_or_default(), pvc.name_any()));
                put(&world, &mark, &own, &pvc);
            }
            Ok(Event::Apply(pvc)) => put(&world, &mark, &own, &pvc),
            Ok(Event::Delete(pvc)) => {
                let namespace = pvc.namespace().unwrap_or_default();
                write(&world).drop_claim(&namespace, &pvc.name_any());
                tell(&mark, namespace);
            }
            Ok(Event::InitDone) => {
                forget_unseen(&world, &std::mem::take(&mut seen));
                if let Some(done) = done.take()
                    && done.send(()).is_err()
                {
                    return;
                }
            }
            Err(error) => warn!(error = words_of_watch(&error), "watching PVCs failed; trying again"),
        }
    }
}

/// Borgherd's own clones are no business of the planner.
fn put(world: &Shared, mark: &UnboundedSender<String>, own: &str, pvc: &PersistentVolumeClaim) {
    let namespace = pvc.namespace().unwrap_or_default();
    if namespace != own && write(world).put_claim(pvc) {
        tell(mark, namespace);
    }
}

/// After a new listing: what is not in it is gone.
fn forget_unseen(world: &Shared, seen: &HashSet<(String, String)>) {
    let mut world = write(world);
    for (namespace, space) in &mut world.spaces {
        space.claims.retain(|pvc, _| seen.contains(&(namespace.clone(), pvc.clone())));
    }
}

async fn feed_namespaces<S>(stream: S, world: Shared, mark: UnboundedSender<String>, done: oneshot::Sender<()>)
where
    S: Stream<Item = watcher::Result<Event<Namespace>>> + Send,
{
    let mut stream = std::pin::pin!(stream);
    let mut done = Some(done);
    while let Some(next) = stream.next().await {
        match next {
            Ok(Event::InitApply(namespace) | Event::Apply(namespace)) => {
                if write(&world).put_namespace(&namespace) {
                    tell(&mark, namespace.name_any());
                }
            }
            Ok(Event::Delete(namespace)) => {
                write(&world).spaces.remove(&namespace.name_any());
            }
            Ok(Event::InitDone) => {
                if let Some(done) = done.take()
                    && done.send(()).is_err()
                {
                    return;
                }
            }
            Ok(Event::Init) => {}
            Err(error) => warn!(error = words_of_watch(&error), "watching namespaces failed; trying again"),
        }
    }
}

/// Reads once what scheduled times the snapshots were made for; from then on this process makes them all.
async fn scheduled_times(client: &Client, world: &Shared) -> Result<(), kube::Error> {
    let api: Api<VolumeSnapshot> = Api::all(client.clone());
    let made = ListParams::default().labels(&format!("{TYPE}=scheduled"));
    pages::each(&api, made, |snapshot| {
        let scheduled = snapshot.annotations().get(SCHEDULED_TIME).and_then(|t| t.parse().ok());
        if let (Some(scheduled), Some(pvc)) = (scheduled, pvc_of(&snapshot)) {
            write(world).put_scheduled(&snapshot.namespace().unwrap_or_default(), &pvc, scheduled);
        }
    })
    .await
}

/// The stream of Restores for their controller.
pub fn restores(
    client: &Client,
    deleted: &Arc<Notify>,
) -> (reflector::Store<Restore>, impl Stream<Item = watcher::Result<Restore>> + Send + 'static) {
    let (reader, writer) = reflector::store();
    let stream = watch(Api::<Restore>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(|restore| restore.managed_fields_mut().clear())
        .inspect_ok(tell_deletion(deleted))
        .reflect(writer)
        .applied_objects();
    (reader, stream)
}

/// Whoever looks for leftovers is woken when an owner is deleted.
fn tell_deletion<K>(deleted: &Arc<Notify>) -> impl FnMut(&Event<K>) + Send + 'static {
    let deleted = Arc::clone(deleted);
    move |event| {
        if matches!(event, Event::Delete(_)) {
            deleted.notify_one();
        }
    }
}

/// The stream of Backups for their controller, reduced, with each one's facts taken into the world on its way.
pub fn backups(
    client: &Client,
    world: &Shared,
    mark: &UnboundedSender<String>,
    deleted: &Arc<Notify>,
) -> (reflector::Store<Backup>, impl Stream<Item = watcher::Result<Backup>> + Send + 'static) {
    let (reader, writer) = reflector::store();
    let (world, mark) = (Arc::clone(world), mark.clone());
    let stream = watch(Api::<Backup>::all(client.clone()), watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .modify(move |backup| {
            backup.managed_fields_mut().clear();
            write(&world).put_backup(backup);
            if backup.status.as_ref().is_some_and(|s| s.phase.is_final()) {
                tell(&mark, backup.namespace().unwrap_or_default());
                shorten(backup);
            }
        })
        .inspect_ok(tell_deletion(deleted))
        .reflect(writer)
        .applied_objects();
    (reader, stream)
}

/// Of an ended Backup only the phase matters any more.
fn shorten(backup: &mut Backup) {
    backup.metadata.annotations = None;
    backup.metadata.labels = None;
    if let Some(status) = backup.status.as_mut() {
        status.volumes = vec![];
        status.message = None;
    }
}
