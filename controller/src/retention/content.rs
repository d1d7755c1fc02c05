//! The storage's side: what contents there are, and their deletion policy.
//!
//! Invariant: a content that Borgherd keeps is at `Delete` only while a verdict says that its snapshot goes; the verdict stands on it as
//! the annotation `swept`. Found otherwise, as after a kill, it goes back to `Retain`.

use super::observe::pages;
use super::tell::Tally;
use crate::context::Context;
use crate::error::{Doing, Error};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::names::{CONTROLLER, OWN_DELETION_POLICY, SWEPT, TEMPORARY};
use borgherd_api::retention::Snapshot;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::HashMap;
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
            swept: object.annotations().get(SWEPT).cloned(),
            leaving: object.metadata.deletion_timestamp.is_some(),
            of: (of.namespace.unwrap_or_default(), of.name.unwrap_or_default(), of.uid.unwrap_or_default()),
        }
    }
}

/// All contents of the cluster, by what they hold in the storage.
pub(super) struct Contents {
    all: Vec<Content>,
    by_handle: HashMap<(String, String), Vec<usize>>,
}

impl Contents {
    fn new(all: Vec<Content>) -> Self {
        let mut by_handle: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, content) in all.iter().enumerate() {
            if let Some(handle) = &content.handle {
                by_handle.entry(handle.clone()).or_default().push(place);
            }
        }
        Self { all, by_handle }
    }

    /// Another content that names the same snapshot of the storage.
    pub(super) fn other(&self, content: &Content) -> Option<&Content> {
        let same = self.by_handle.get(content.handle.as_ref()?)?;
        same.iter().filter_map(|place| self.all.get(*place)).find(|other| other.name != content.name)
    }
}

fn api(client: &Client) -> Api<VolumeSnapshotContent> {
    Api::all(client.clone())
}

/// All there are.
pub(super) async fn all(client: &Client) -> Result<Contents, Error> {
    let all = pages(&api(client), ListParams::default(), |object| Some(Content::read(object))).await;
    Ok(Contents::new(all.doing("listing contents")?))
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
    write(client, content, json!({SWEPT: content.of.2}), "Delete").await.doing("setting the content to Delete")
}

/// Keeps it again.
pub(super) async fn keep(client: &Client, content: &Content) -> Result<Content, Error> {
    write(client, content, json!({SWEPT: null}), "Retain").await.doing("setting the content back to Retain")
}

async fn write(client: &Client, content: &Content, annotations: Value, policy: &str) -> Result<Content, kube::Error> {
    let metadata = json!({"uid": content.uid, "resourceVersion": content.version, "annotations": annotations});
    let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"deletionPolicy": policy}}));
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    Ok(Content::read(&api(client).patch(&content.name, &params, &patch).await?))
}

/// Sets to `Retain` what is at `Delete` and should not be: no verdict of `going` is about its snapshot, and none was carried out.
pub(super) async fn take_back(ctx: &Context, contents: &Contents, going: &[&Snapshot], told: &mut Tally<'_>) {
    let is_going = |content: &Content| going.iter().any(|snapshot| snapshot.uid == content.of.2);
    let wrong = contents.all.iter().filter(|content| content.is_kept && content.deletes && !content.leaving && !is_going(content));
    for content in wrong {
        match take_one_back(&ctx.client, content).await {
            Ok(false) => {}
            Ok(true) => info!(
                content = content.name,
                namespace = content.of.0,
                snapshot = content.of.1,
                "at Delete without a verdict; back to Retain"
            ),
            Err(error) => told.content(ctx, content, &error).await,
        }
    }
}

pub(super) async fn take_one_back(client: &Client, content: &Content) -> Result<bool, Error> {
    let (namespace, name, uid) = &content.of;
    let snapshots: Api<VolumeSnapshot> = Api::namespaced(client.clone(), namespace);
    let found = snapshots.get_opt(name).await.doing("looking for the content's snapshot")?;
    let stays = found.is_some_and(|found| found.uid().as_ref() == Some(uid) && found.metadata.deletion_timestamp.is_none());
    if !stays && content.swept.as_ref() == Some(uid) {
        return Ok(false); // deleted by a verdict; the snapshot controller takes the content along
    }
    keep(client, content).await.map(|_| true)
}
