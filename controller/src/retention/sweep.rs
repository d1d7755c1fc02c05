//! Deleting what a verdict says: content to `Delete` → snapshot deleted, with UID and version of the one that was judged → both go.
//!
//! Whatever was not deleted after all keeps its content.

use super::content::{self, Contents};
use super::due::Due;
use super::tell::Tally;
use super::{judge, observe};
use crate::context::Context;
use crate::error::{Doing, Error};
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::retention::{Fate, Snapshot};
use kube::Client;
use kube::api::{Api, DeleteParams, Preconditions};
use tracing::{debug, info, warn};

#[cfg(test)]
mod tests;

/// Why one was not deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Poison {
    /// It is bound to none, or to one that is gone or bound to another.
    #[error("its VolumeSnapshotContent {0:?} is not there, is being deleted, or is of another snapshot")]
    NoContent(String),
    /// Deleting would take the storage's snapshot away under another content.
    #[error("VolumeSnapshotContent {0} names the same snapshot of the storage; delete it first, if it is not needed")]
    SharedHandle(String),
    /// Something holds it.
    #[error("it is being deleted since {0}, but something holds it: see its finalizers and the snapshot controller's log")]
    Stuck(String),
    /// The API server refused.
    #[error(transparent)]
    Api(#[from] Error),
}

impl Poison {
    /// For the metric.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::NoContent(_) => "NoContent",
            Self::SharedHandle(_) => "SharedHandle",
            Self::Stuck(_) => "Stuck",
            Self::Api(_) => "Api",
        }
    }
}

/// Sweeps what is `due`, one after the other; how many went.
pub(super) async fn all(ctx: &Context, due: &Due, contents: &Contents, told: &mut Tally<'_>) -> usize {
    let mut swept = 0;
    for namespace in due.namespaces() {
        match of_namespace(ctx, namespace, due, contents, told).await {
            Ok(gone) => swept += gone,
            Err(error) => {
                ctx.metrics.retention_failed("Api");
                warn!(namespace, %error, "could not sweep a namespace; the next look tries again");
            }
        }
    }
    swept
}

/// Of one namespace, judged anew.
async fn of_namespace(ctx: &Context, namespace: &str, due: &Due, contents: &Contents, told: &mut Tally<'_>) -> Result<usize, Error> {
    let snapshots = observe::snapshots(ctx, namespace).await?;
    let sources = observe::sources(ctx, namespace).await?;
    let verdicts = judge(ctx, &snapshots);
    let going = verdicts.iter().flatten().filter(|verdict| verdict.fate == Fate::Sweep).map(|verdict| verdict.snapshot);
    let mut swept = 0;
    for snapshot in going.filter(|snapshot| due.has(namespace, &snapshot.uid)) {
        if sources.contains(&snapshot.name) {
            debug!(namespace, name = snapshot.name, "a PVC is being made from it; it goes later");
            continue;
        }
        match one(&ctx.client, snapshot, contents).await {
            Ok(false) => {}
            Ok(true) => {
                swept += 1;
                info!(namespace, pvc = snapshot.pvc, name = snapshot.name, "swept");
                ctx.metrics.retention_did("swept");
            }
            Err(poison) => told.poison(ctx, snapshot, &poison).await,
        }
    }
    Ok(swept)
}

/// Whether it was deleted; `false`: it is not what was judged any more, or is being cloned, and the next look judges it again.
async fn one(client: &Client, snapshot: &Snapshot, contents: &Contents) -> Result<bool, Poison> {
    let name = snapshot.content.clone().unwrap_or_default();
    let bound = if name.is_empty() { None } else { content::find(client, &name).await? };
    let Some(bound) = bound.filter(|bound| bound.of.2 == snapshot.uid && bound.handle.is_some() && !bound.leaving) else {
        return Err(Poison::NoContent(name));
    };
    match contents.other(&bound) {
        Some(other) if other.is_temporary => return Ok(false),
        Some(other) => return Err(Poison::SharedHandle(other.name.to_owned())),
        None => {}
    }
    let gone = match content::let_go(client, &bound).await {
        Err(error) if error.is_passing() => return Ok(false),
        written => written?,
    };
    let deleted = delete(client, snapshot).await;
    if !matches!(deleted, Ok(true)) && (bound.is_kept || !bound.deletes) {
        content::keep(client, &gone).await?;
    }
    Ok(deleted?)
}

async fn delete(client: &Client, snapshot: &Snapshot) -> Result<bool, Error> {
    let api: Api<VolumeSnapshot> = Api::namespaced(client.clone(), &snapshot.namespace);
    let judged = Preconditions { uid: Some(snapshot.uid.clone()), resource_version: Some(snapshot.version.clone()) };
    match api.delete(&snapshot.name, &DeleteParams::default().preconditions(judged)).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        other => other.map(|_| true).doing("deleting the VolumeSnapshot"),
    }
}
