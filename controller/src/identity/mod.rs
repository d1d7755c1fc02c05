//! Carries the identity of each snapshot to its content, within seconds, so that it outlives the namespace: from snapshot to content only,
//! Borgherd's keys only. A content whose snapshot is gone stays as it is, and is counted.
//!
//! Snapshots are watched and forgotten again as they come; what is remembered are digests (`known`). All contents are read at start and on
//! a timer, so that nothing has to be written for what is in step already.

mod known;

use crate::context::Context;
use crate::error::{Doing, Error};
use crate::pages::{self, PAGE};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::identity::Identity;
use borgherd_api::names::{CONTROLLER, TEMPORARY};
use borgherd_api::retention::Prefix;
use futures::{FutureExt, Stream, StreamExt, stream};
use known::Known;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

/// Changes that come together are carried together: a backup writes several times on its snapshot.
const GATHER: Duration = Duration::from_secs(1);
/// What could not be carried is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// Writes at once.
const CONCURRENCY: usize = 8;
/// Snapshots that are carried together at most.
const BATCH: usize = 1000;

/// One snapshot whose identity has to be carried.
#[derive(Clone, Debug)]
struct Wanted {
    namespace: String,
    name: String,
    content: String,
    identity: Identity,
}

/// By UID of the snapshot.
type Pending = HashMap<String, Wanted>;
/// Those to be read again: namespaces and names by UID.
type Again = HashMap<String, (String, String)>;

/// Carries for as long as the process leads.
pub async fn keep(ctx: &Context) {
    let snapshots = watcher::Config::default().labels(&format!("!{TEMPORARY}")).page_size(PAGE);
    let mut events = Box::pin(watch(Api::<VolumeSnapshot>::all(ctx.client.clone()), snapshots).default_backoff());
    let mut keeper = Keeper { ctx, known: Known::default(), again: Again::new(), listed: false };
    let mut look = Instant::now();
    let mut retry = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(look) => look = Instant::now() + keeper.look_at_contents().await,
            () = sleep_until(retry), if !keeper.again.is_empty() => {
                keeper.read_again().await;
                retry = Instant::now() + AGAIN;
            }
            event = events.next(), if keeper.listed => {
                let Some(event) = event else { return };
                keeper.take(event, &mut events).await;
            }
        }
        ctx.metrics.frozen(keeper.known.frozen());
    }
}

struct Keeper<'a> {
    ctx: &'a Context,
    known: Known,
    again: Again,
    /// Whether all contents were read once.
    listed: bool,
}

impl Keeper<'_> {
    /// Reads all contents; how long it is until the next time.
    async fn look_at_contents(&mut self) -> Duration {
        let api = contents(&self.ctx.client);
        let prefix = &self.ctx.config.retention.label_prefix;
        self.known.forget_contents();
        let (known, again) = (&mut self.known, &mut self.again);
        let read = pages::each(&api, ListParams::default(), |content: VolumeSnapshotContent| {
            let of = &content.spec.volume_snapshot_ref;
            let (Some(uid), true) = (&of.uid, stays(&content)) else { return };
            if known.saw_content(uid, &Identity::under(prefix, &content)) {
                again.insert(uid.clone(), (of.namespace.clone().unwrap_or_default(), of.name.clone().unwrap_or_default()));
            }
        });
        match read.await {
            Ok(()) => {
                self.known.drop_empty();
                self.listed = true;
                self.ctx.config.retention.interval
            }
            Err(error) => {
                warn!(%error, "could not read all VolumeSnapshotContents; trying again");
                AGAIN
            }
        }
    }

    /// Takes an event and all that come with it, and carries what has changed.
    async fn take<S>(&mut self, first: watcher::Result<Event<VolumeSnapshot>>, events: &mut S)
    where
        S: Stream<Item = watcher::Result<Event<VolumeSnapshot>>> + Unpin,
    {
        let mut pending = Pending::new();
        let mut complete = self.put(first, &mut pending).await;
        if !pending.is_empty() {
            sleep(GATHER).await;
        }
        while pending.len() < BATCH
            && let Some(Some(event)) = events.next().now_or_never()
        {
            complete |= self.put(event, &mut pending).await;
        }
        self.carry_all(pending).await;
        if complete {
            info!(frozen = self.known.frozen(), "all contents have the identity of their snapshots");
        }
    }

    /// `true`: all snapshots were told.
    async fn put(&mut self, event: watcher::Result<Event<VolumeSnapshot>>, pending: &mut Pending) -> bool {
        match event {
            Ok(Event::Init) => self.known.begin_listing(),
            Ok(Event::InitApply(snapshot) | Event::Apply(snapshot)) => self.see(&snapshot, pending),
            Ok(Event::InitDone) => {
                self.known.end_listing();
                return true;
            }
            Ok(Event::Delete(snapshot)) => {
                let uid = snapshot.uid().unwrap_or_default();
                pending.remove(&uid);
                self.again.remove(&uid);
                if self.known.snapshot_is_gone(&uid) {
                    self.look_whether_it_stays(&snapshot, &uid).await;
                }
            }
            Err(error) => warn!(%error, "watching VolumeSnapshots failed; trying again"),
        }
        false
    }

    /// One that is being deleted says nothing any more.
    fn see(&mut self, snapshot: &VolumeSnapshot, pending: &mut Pending) {
        let (uid, identity) = (snapshot.uid().unwrap_or_default(), Identity::under(&self.ctx.config.retention.label_prefix, snapshot));
        let content = snapshot.status.as_ref().and_then(|status| status.bound_volume_snapshot_content_name.clone());
        let wanted = self.known.saw_snapshot(&uid, &identity);
        match content {
            Some(content) if wanted && snapshot.metadata.deletion_timestamp.is_none() => {
                let (namespace, name) = (snapshot.namespace().unwrap_or_default(), snapshot.name_any());
                pending.insert(uid, Wanted { namespace, name, content, identity });
            }
            Some(_) | None => drop(pending.remove(&uid)),
        }
    }

    /// Whether the content of a snapshot that is gone is kept or goes with it.
    async fn look_whether_it_stays(&mut self, snapshot: &VolumeSnapshot, uid: &str) {
        let content = snapshot.status.as_ref().and_then(|status| status.bound_volume_snapshot_content_name.clone()).unwrap_or_default();
        match contents(&self.ctx.client).get_opt(&content).await {
            Ok(found) if found.as_ref().is_some_and(|found| stays(found) && found.spec.deletion_policy == "Retain") => {
                info!(
                    content,
                    namespace = snapshot.namespace(),
                    snapshot = snapshot.name_any(),
                    "its VolumeSnapshot is gone; it is kept as it is"
                );
            }
            Ok(_) => self.known.forget(uid),
            Err(error) => warn!(content, %error, "could not see whether a content outlives its VolumeSnapshot; the next look will"),
        }
    }

    async fn carry_all(&mut self, pending: Pending) {
        let (client, prefix) = (&self.ctx.client, &self.ctx.config.retention.label_prefix);
        let one = |(uid, wanted): (String, Wanted)| async move {
            let done = carry(client, prefix, &uid, &wanted).await;
            (uid, wanted, done)
        };
        let mut carried = stream::iter(pending).map(one).buffer_unordered(CONCURRENCY);
        while let Some((uid, wanted, done)) = carried.next().await {
            match done {
                Ok(is_there) => {
                    if is_there {
                        self.known.saw_content(&uid, &wanted.identity);
                    }
                }
                Err(error) => {
                    if !error.is_passing() {
                        warn!(namespace = wanted.namespace, name = wanted.name, %error, "could not carry a snapshot's identity; trying again");
                    }
                    self.again.insert(uid, (wanted.namespace, wanted.name));
                }
            }
        }
    }

    /// Those that could not be carried, as they are now.
    async fn read_again(&mut self) {
        let mut pending = Pending::new();
        for (uid, (namespace, name)) in std::mem::take(&mut self.again) {
            let api: Api<VolumeSnapshot> = Api::namespaced(self.ctx.client.clone(), &namespace);
            match api.get_opt(&name).await {
                Ok(Some(snapshot)) if snapshot.uid().as_ref() == Some(&uid) => self.see(&snapshot, &mut pending),
                Ok(_) => {}
                Err(error) => {
                    debug!(namespace, name, %error, "could not read a snapshot again");
                    self.again.insert(uid, (namespace, name));
                }
            }
        }
        self.carry_all(pending).await;
    }
}

fn contents(client: &Client) -> Api<VolumeSnapshotContent> {
    Api::all(client.clone())
}

/// It is none of those that are made for one Backup or Restore, and is not going.
fn stays(content: &VolumeSnapshotContent) -> bool {
    !content.labels().contains_key(TEMPORARY) && content.metadata.deletion_timestamp.is_none()
}

/// Writes to the content what it has not; `false`: there is no content of this snapshot that stays.
async fn carry(client: &Client, prefix: &Prefix, uid: &str, wanted: &Wanted) -> Result<bool, Error> {
    let api = contents(client);
    let found = api.get_opt(&wanted.content).await.doing("reading the snapshot's content")?;
    let Some(found) = found.filter(|found| stays(found) && found.spec.volume_snapshot_ref.uid.as_deref() == Some(uid)) else {
        return Ok(false);
    };
    let Some(mut metadata) = wanted.identity.patch(&Identity::under(prefix, &found)) else { return Ok(true) };
    metadata.insert("uid".to_owned(), json!(found.uid()));
    metadata.insert("resourceVersion".to_owned(), json!(found.resource_version()));
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    match api.patch(&wanted.content, &params, &Patch::Merge(json!({ "metadata": metadata }))).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        other => other.map(|_| true).doing("carrying the identity to the content"),
    }
}
