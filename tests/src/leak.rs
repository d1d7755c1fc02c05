//! What Borgherd must not leave behind, and what a test must not.
//!
//! Invariant: a name is looked for that follows from the UIDs of the test's own Backups and Restores, so tests that run at
//! the same time do not see each other's; storage is compared with what the API server knows.

use crate::node::Cluster;
use crate::wait::{DEADLINE, until, until_polled};
use crate::world::World;
use anyhow::{Context, Result};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, BorgRun, Restore};
use borgherd_api::names;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// Cleaning up after a backup takes seconds; a leak stays.
const GONE: Duration = Duration::from_mins(1);

/// Something that should not be there any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// Kind of the object, or where in the storage.
    pub kind: String,
    /// Its name.
    pub name: String,
}

fn found<K: Resource<DynamicType = ()>>(object: &K) -> Leak {
    Leak { kind: K::kind(&()).into_owned(), name: object.name_any() }
}

/// UIDs of what could own something temporary, and the names that follow from them.
struct Owners {
    names: BTreeSet<String>,
    uids: BTreeSet<String>,
}

impl Owners {
    async fn of(world: &World) -> Result<Self> {
        let all = ListParams::default();
        let mut owners = Self { names: BTreeSet::new(), uids: BTreeSet::new() };
        for backup in world.api::<Backup>().list(&all).await? {
            let uid = backup.uid().unwrap_or_default();
            owners.names.extend(backup.spec.volumes.iter().map(|pvc| names::temporary(&uid, pvc)));
            owners.uids.insert(uid);
        }
        for restore in world.api::<Restore>().list(&all).await? {
            let uid = restore.uid().unwrap_or_default();
            let target = restore.spec.target.as_ref().map(|t| &t.pvc);
            owners.names.extend([Some(&restore.spec.source.pvc), target].into_iter().flatten().map(|pvc| names::temporary(&uid, pvc)));
            owners.uids.insert(uid);
        }
        Ok(owners)
    }

    fn has<K: Resource<DynamicType = ()>>(&self, object: &K) -> bool {
        let uid = object.labels().get(names::OWNER_UID);
        self.names.contains(&object.name_any()) || uid.is_some_and(|uid| self.uids.contains(uid))
    }
}

impl World {
    /// What is left now of this test's Backups and Restores that are over: nothing, if all is well.
    pub async fn leaks(&self) -> Result<Vec<Leak>> {
        let owners = Owners::of(self).await?;
        let all = ListParams::default();
        let mut leaks = Vec::new();
        for pod in self.api_volumes::<Pod>().list(&all).await?.iter().filter(|o| owners.has(*o)) {
            leaks.push(found(pod));
        }
        for claim in self.api_volumes::<PersistentVolumeClaim>().list(&all).await?.iter().filter(|o| owners.has(*o)) {
            leaks.push(found(claim));
        }
        for snapshot in self.api_volumes::<VolumeSnapshot>().list(&all).await?.iter().filter(|o| owners.has(*o)) {
            leaks.push(found(snapshot));
        }
        for content in self.api_all::<VolumeSnapshotContent>().list(&all).await?.iter().filter(|o| owners.has(*o)) {
            leaks.push(found(content));
        }
        for volume in self.api_all::<PersistentVolume>().list(&all).await?.iter().filter(|v| self.is_clone(&owners, v)) {
            leaks.push(found(volume));
        }
        let own_runs = self.api_own::<BorgRun>().list(&all).await?;
        for run in own_runs.iter().filter(|r| owners.uids.contains(&r.spec.owner.uid)) {
            leaks.push(found(run));
        }
        leaks.extend(self.foreign_to_applications().await?);
        Ok(leaks)
    }

    fn is_clone(&self, owners: &Owners, volume: &PersistentVolume) -> bool {
        let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        claim.is_some_and(|c| {
            c.namespace.as_deref() == Some(self.volumes_namespace()) && c.name.as_ref().is_some_and(|n| owners.names.contains(n))
        })
    }

    /// Nothing temporary may ever be in the application's namespace.
    async fn foreign_to_applications(&self) -> Result<Vec<Leak>> {
        let temporary = ListParams::default().labels(names::TEMPORARY);
        let mut leaks = Vec::new();
        leaks.extend(self.api::<Pod>().list(&temporary).await?.iter().map(found));
        leaks.extend(self.api::<PersistentVolumeClaim>().list(&temporary).await?.iter().map(found));
        leaks.extend(self.api::<VolumeSnapshot>().list(&temporary).await?.iter().map(found));
        Ok(leaks)
    }
}

/// Waits until nothing of the test's Backups and Restores is left; what is left after a minute is a leak.
pub(crate) async fn none(world: &World) -> Result<()> {
    let mut last = Vec::new();
    let gone = until_polled("nothing temporary is left", GONE, async || {
        last = world.leaks().await?;
        Ok(last.is_empty().then_some(()))
    });
    let waited = gone.await;
    waited.with_context(|| format!("leaked: {last:?}"))?;
    match world.cluster() {
        Some(cluster) => storage_is_known(world, &cluster).await,
        None => Ok(()),
    }
}

/// Every volume and snapshot in the storage has an object that owns it, soon.
async fn storage_is_known(world: &World, cluster: &Cluster) -> Result<()> {
    let mut suspects = unknown_storage(world, cluster).await?;
    if suspects.is_empty() {
        return Ok(());
    }
    let known = until_polled("everything in the storage belongs to an object", GONE, async || {
        let now = unknown_storage(world, cluster).await?;
        suspects = suspects.intersection(&now).cloned().collect();
        Ok(suspects.is_empty().then_some(()))
    });
    let waited = known.await;
    waited.with_context(|| format!("in the storage, and no object's: {suspects:?}"))
}

async fn unknown_storage(world: &World, cluster: &Cluster) -> Result<BTreeSet<Leak>> {
    let all = ListParams::default();
    // the storage first: an object is older than what it owns, or appears while its storage is looked at
    let (volumes, snapshots) = (cluster.stored_volumes().await?, cluster.stored_snapshots().await?);
    let handle = |v: &PersistentVolume| Some(v.spec.as_ref()?.csi.as_ref()?.volume_handle.clone());
    let known: BTreeSet<String> = world.api_all::<PersistentVolume>().list(&all).await?.iter().filter_map(handle).collect();
    let contents = world.api_all::<VolumeSnapshotContent>().list(&all).await?;
    let cut: BTreeSet<String> = contents.iter().filter_map(snapshot_handle).collect();
    let leak = |kind: &str| {
        let kind = kind.to_owned();
        move |name: &String| Leak { kind: kind.clone(), name: name.clone() }
    };
    let mut unknown: BTreeSet<Leak> = volumes.difference(&known).map(leak("volume in the storage")).collect();
    unknown.extend(snapshots.difference(&cut).map(leak("snapshot in the storage")));
    Ok(unknown)
}

fn snapshot_handle(content: &VolumeSnapshotContent) -> Option<String> {
    let reported = content.status.as_ref().and_then(|s| s.snapshot_handle.clone());
    reported.or_else(|| content.spec.source.snapshot_handle.clone())
}

/// Deletes the test's namespace, and the snapshots that Borgherd keeps when a namespace goes, with their storage.
pub(crate) async fn remove(world: &World) -> Result<()> {
    world.remove_repositories().await?;
    let contents = of_namespace(world).await?;
    let namespaces: Api<Namespace> = world.api_all();
    drop(namespaces.delete(&world.namespace, &DeleteParams::default()).await?);
    let gone = until(&namespaces, &world.namespace, "the test's namespace is gone", DEADLINE, |n| n.is_none());
    gone.await.context("a finalizer, or a pod that does not end")?;
    remove_contents(world, contents).await?;
    remove_volumes(world).await
}

async fn of_namespace(world: &World) -> Result<Vec<VolumeSnapshotContent>> {
    let of = |c: &VolumeSnapshotContent| c.spec.volume_snapshot_ref.namespace.as_deref() == Some(&world.namespace);
    let all = world.api_all::<VolumeSnapshotContent>().list(&ListParams::default()).await?;
    Ok(all.into_iter().filter(of).collect())
}

async fn remove_contents(world: &World, contents: Vec<VolumeSnapshotContent>) -> Result<()> {
    let api: Api<VolumeSnapshotContent> = world.api_all();
    let delete = Patch::Merge(json!({ "spec": { "deletionPolicy": "Delete" } }));
    for content in &contents {
        let name = content.name_any();
        match api.patch(&name, &PatchParams::default(), &delete).await {
            Ok(_) => drop(api.delete(&name, &DeleteParams::default()).await?),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error).context("remove a content"),
        }
    }
    for content in &contents {
        until(&api, &content.name_any(), "the content is gone", DEADLINE, |c| c.is_none()).await?;
    }
    Ok(())
}

/// Volumes of a class that retains them.
async fn remove_volumes(world: &World) -> Result<()> {
    let api: Api<PersistentVolume> = world.api_all();
    let claimed = |v: &PersistentVolume| {
        let claim = v.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        claim.and_then(|c| c.namespace.as_deref()) == Some(&world.namespace)
    };
    let left: Vec<PersistentVolume> = api.list(&ListParams::default()).await?.into_iter().filter(claimed).collect();
    let reclaim = Patch::Merge(json!({ "spec": { "persistentVolumeReclaimPolicy": "Delete" } }));
    for volume in &left {
        match api.patch(&volume.name_any(), &PatchParams::default(), &reclaim).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error).context("remove a volume"),
        }
    }
    for volume in &left {
        let gone = until(&api, &volume.name_any(), "is gone", DEADLINE, |v| v.is_none()).await;
        gone.context("a volume of the test's namespace does not go away")?;
    }
    Ok(())
}
