//! The storage's side: what contents there are, and their deletion policy.
//!
//! Invariant: a content that Borgherd keeps is at `Delete` only while a verdict says that its snapshot goes; the verdict stands on it as
//! the label `swept`. Found otherwise, as after a kill, it goes back to `Retain`. No annotation: the snapshot controller, when it marks a
//! content as being deleted, writes all annotations as its cache knows them, and so takes one away that was written a moment ago.

use super::due::Due;
use super::tell::Tally;
use crate::context::Context;
use crate::digest;
use crate::error::{Doing, Error};
use crate::pages;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::names::{CONTROLLER, OWN_DELETION_POLICY, SWEPT, TEMPORARY};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tracing::info;

/// What matters of a content.
#[allow(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) version: String,
    /// Driver and handle of the storage's snapshot.
    pub(super) handle: Option<(String, String)>,
    pub(super) deletes: bool,
    /// Borgherd had set it to `Retain`.
    pub(super) is_kept: bool,
    /// Made for one Backup or Restore only.
    pub(super) is_temporary: bool,
    /// UID of the snapshot that a verdict says is to go.
    pub(super) swept: Option<String>,
    pub(super) leaving: bool,
    /// Namespace, name and UID of its snapshot.
    pub(super) of: (String, String, String),
}

impl Content {
    pub(super) fn read(object: &VolumeSnapshotContent) -> Self {
        let handle = object.status.as_ref().and_then(|status| status.snapshot_handle.clone());
        let handle = handle.or_else(|| object.spec.source.snapshot_handle.clone());
        let of = object.spec.volume_snapshot_ref.clone();
        Self {
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version().unwrap_or_default(),
            handle: handle.map(|handle| (object.spec.driver.clone(), handle)),
            deletes: object.spec.deletion_policy == "Delete",
            is_kept: object.annotations().contains_key(OWN_DELETION_POLICY),
            is_temporary: object.labels().contains_key(TEMPORARY),
            swept: object.labels().get(SWEPT).cloned(),
            leaving: object.metadata.deletion_timestamp.is_some(),
            of: (of.namespace.unwrap_or_default(), of.name.unwrap_or_default(), of.uid.unwrap_or_default()),
        }
    }
}

/// What has to be known of all contents of the cluster, in little memory: who names which snapshot of the storage, as hashes of driver
/// and handle with all names in one text; whole are only those that may have to be set back.
#[derive(Default)]
pub(super) struct Contents {
    named: Vec<Named>,
    names: String,
    /// At `Delete`, and kept by Borgherd before, or set to it by a verdict.
    at_delete: Vec<Content>,
}

/// One content that has a handle. Its name is `names[from..to]`.
struct Named {
    handle: u64,
    from: usize,
    to: usize,
    is_temporary: bool,
}

/// Another content of the same handle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Other<'a> {
    pub(super) name: &'a str,
    /// Made for one Backup or Restore only.
    pub(super) is_temporary: bool,
}

impl Contents {
    fn add(&mut self, content: Content) {
        if let Some(handle) = &content.handle {
            let from = self.names.len();
            self.names.push_str(&content.name);
            self.named.push(Named { handle: digest::of(handle), from, to: self.names.len(), is_temporary: content.is_temporary });
        }
        if (content.is_kept || content.swept.is_some()) && content.deletes && !content.leaving {
            self.at_delete.push(content);
        }
    }

    fn complete(mut self) -> Self {
        self.named.sort_unstable_by_key(|named| named.handle);
        self
    }

    /// Those that are at `Delete` and may have to be set back.
    pub(super) fn at_delete(&self) -> impl Iterator<Item = &Content> {
        self.at_delete.iter()
    }

    /// Another content that names the same snapshot of the storage.
    pub(super) fn other(&self, content: &Content) -> Option<Other<'_>> {
        let handle = digest::of(content.handle.as_ref()?);
        let first = self.named.partition_point(|named| named.handle < handle);
        let same = self.named.iter().skip(first).take_while(|named| named.handle == handle);
        let mut same =
            same.filter_map(|named| Some(Other { name: self.names.get(named.from..named.to)?, is_temporary: named.is_temporary }));
        same.find(|other| other.name != content.name)
    }
}

fn api(client: &Client) -> Api<VolumeSnapshotContent> {
    Api::all(client.clone())
}

/// All there are.
pub(super) async fn all(client: &Client) -> Result<Contents, Error> {
    let mut all = Contents::default();
    pages::each(&api(client), ListParams::default(), |object| all.add(Content::read(&object))).await.doing("listing contents")?;
    Ok(all.complete())
}

/// One as it is now.
pub(super) async fn find(client: &Client, name: &str) -> Result<Option<Content>, Error> {
    Ok(api(client).get_opt(name).await.doing("reading the content")?.as_ref().map(Content::read))
}

/// Lets it go with its snapshot; the content as it is then.
pub(super) async fn let_go(client: &Client, content: &Content) -> Result<Content, Error> {
    if content.deletes && content.swept.as_ref() == Some(&content.of.2) {
        return Ok(content.clone());
    }
    write(client, content, json!({"labels": {SWEPT: content.of.2}}), "Delete").await.doing("setting the content to Delete")
}

/// Keeps it again.
pub(super) async fn keep(client: &Client, content: &Content) -> Result<Content, Error> {
    write(client, content, json!({"labels": {SWEPT: null}}), "Retain").await.doing("setting the content back to Retain")
}

/// `metadata`: what of it is to be changed.
async fn write(client: &Client, content: &Content, mut metadata: Value, policy: &str) -> Result<Content, kube::Error> {
    metadata["uid"] = json!(content.uid);
    metadata["resourceVersion"] = json!(content.version);
    let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"deletionPolicy": policy}}));
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    Ok(Content::read(&api(client).patch(&content.name, &params, &patch).await?))
}

/// Sees to what is at `Delete` and of no verdict of `due`: it goes back to `Retain`, or, where its snapshot was deleted by a verdict, it goes, too.
pub(super) async fn take_back(ctx: &Context, contents: &Contents, due: &Due, told: &mut Tally<'_>) {
    for content in contents.at_delete().filter(|content| !due.has(&content.of.0, &content.of.2)) {
        let Content { name, of: (namespace, snapshot, _), .. } = content;
        match take_one_back(&ctx.client, content, contents).await {
            Ok(Taken::Nothing) => {}
            Ok(Taken::Back) => info!(content = name, namespace, snapshot, "at Delete without a verdict; back to Retain"),
            Ok(Taken::Away) => info!(content = name, namespace, snapshot, "left behind by a sweep; deleted"),
            Err(error) if error.is_passing() => {}
            Err(error) => told.content(ctx, content, &error).await,
        }
    }
}

/// What was done with a content at `Delete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Its snapshot is on its way, or another content names the same snapshot of the storage.
    Nothing,
    /// It is kept again.
    Back,
    /// A verdict was carried out and it was left: it is deleted.
    Away,
}

pub(super) async fn take_one_back(client: &Client, content: &Content, contents: &Contents) -> Result<Taken, Error> {
    let (namespace, name, uid) = &content.of;
    let snapshots: Api<VolumeSnapshot> = Api::namespaced(client.clone(), namespace);
    let found =
        snapshots.get_opt(name).await.doing("looking for the content's snapshot")?.filter(|found| found.uid().as_ref() == Some(uid));
    let is_leaving = found.as_ref().is_some_and(|found| found.metadata.deletion_timestamp.is_some());
    if content.swept.as_ref() != Some(uid) || found.is_some() && !is_leaving {
        return keep(client, content).await.map(|_| Taken::Back);
    }
    if is_leaving || contents.other(content).is_some() {
        return Ok(Taken::Nothing); // the snapshot controller takes the content along
    }
    // it was listed before its snapshot was looked for, and may have gone with it in between
    match find(client, &content.name).await?.filter(|now| now.uid == content.uid && !now.leaving) {
        Some(now) => finish(client, &now).await.map(|()| Taken::Away),
        None => Ok(Taken::Nothing),
    }
}

/// Deletes a content whose snapshot is gone. The snapshot controller does so before, but by its cache: where that still shows `Retain` it
/// lets the snapshot go and the content stay, for ever. The annotation is what the driver's sidecar waits for.
async fn finish(client: &Client, content: &Content) -> Result<(), Error> {
    let mark = json!({"annotations": {"snapshot.storage.kubernetes.io/volumesnapshot-being-deleted": "yes"}});
    let marked = write(client, content, mark, "Delete").await.doing("deleting the content of a snapshot that was swept")?;
    let same = Preconditions { uid: Some(marked.uid), resource_version: Some(marked.version) };
    let deleted = api(client).delete(&content.name, &DeleteParams::default().preconditions(same)).await;
    deleted.map(|_| ()).doing("deleting the content of a snapshot that was swept")
}
