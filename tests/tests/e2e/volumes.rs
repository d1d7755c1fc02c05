//! Many volumes of many kinds: which are backed up, where, and what is never left of it.

use anyhow::{Context, Result, ensure};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, RestoreSource, SourceKind, Trigger};
use borgherd_api::names;
use borgherd_e2e::{App, Claim, DEADLINE, Seen, World, test, until, until_all};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// A schedule of every minute, and what it starts.
const SCHEDULED: Duration = Duration::from_mins(4);

async fn two_nodes(w: &World) -> Result<Option<[String; 2]>> {
    let nodes = w.api_all::<Node>().list(&ListParams::default()).await?;
    let ready = nodes.iter().filter(|n| n.spec.as_ref().is_none_or(|s| s.unschedulable != Some(true)));
    let mut names: Vec<String> = ready.map(|n| n.labels().get("kubernetes.io/hostname").cloned().unwrap_or_else(|| n.name_any())).collect();
    names.truncate(2);
    Ok(names.try_into().ok())
}

/// Four volumes on two nodes and one that is left out, each with a file of its name.
async fn applications(w: &World, nodes: &[String; 2]) -> Result<()> {
    for pvc in ["left", "right"] {
        w.claim(Claim::new(pvc).size("20Mi")).await?;
    }
    for pvc in ["pair-1", "pair-2"] {
        w.claim(Claim::new(pvc).size("20Mi").annotation("group", "pair")).await?;
    }
    w.claim(Claim::new("out").size("20Mi").annotation("schedule", "")).await?;
    let left = App::new("app-left").on(&nodes[0]).mount("left", "/a").mount("pair-1", "/b").mount("out", "/c");
    let right = App::new("app-right").on(&nodes[1]).mount("right", "/a").mount("pair-2", "/b");
    for app in [left, right] {
        let app = w.app(app).await?;
        app.sh("for v in /a /b /c; do if [ -d $v ]; then echo $v >$v/file; fi; done").await?;
    }
    w.pin("left", &nodes[0]).await?;
    w.pin("right", &nodes[1]).await
}

/// The Backups of the first scheduled minute.
async fn first_scheduled(w: &World) -> Result<Vec<Backup>> {
    let backups = w.api::<Backup>();
    let made = until_all(&backups, "", "left, right and the pair have scheduled Backups", SCHEDULED, |all| {
        let volumes: BTreeSet<&String> = all.iter().flat_map(|b| &b.spec.volumes).collect();
        ["left", "right", "pair-1", "pair-2"].iter().all(|v| volumes.contains(&(*v).to_owned()))
    });
    let mut made = made.await?;
    w.annotate_namespace(&[("schedule", None)]).await?;
    made.sort_by_key(|b| b.spec.volumes.clone());
    Ok(made)
}

/// The Pod that holds each clone, as watched: its node and its namespace.
async fn backups_end_on(w: &World, backups: &[Backup], nodes: &[String; 2]) -> Result<()> {
    for backup in backups {
        ensure!(backup.spec.trigger == Trigger::Scheduled, "{} was not scheduled", backup.name_any());
        for volume in w.backup_succeeded(&backup.name_any()).await? {
            let wanted = match volume.pvc.as_str() {
                "left" => Some(&nodes[0]),
                "right" => Some(&nodes[1]),
                _ => None,
            };
            let node = volume.node.as_ref();
            ensure!(wanted.is_none() || node == wanted, "{} can be mounted on {wanted:?} only, and was archived on {node:?}", volume.pvc);
            let files = volume.progress.unwrap_or_default().files;
            ensure!(files == 1, "the archive of {} has {files} files instead of 1", volume.pvc);
        }
    }
    Ok(())
}

fn cut_together(backups: &[Backup]) -> Result<()> {
    let of_pair: Vec<&Backup> = backups.iter().filter(|b| b.spec.volumes.iter().any(|v| v.starts_with("pair"))).collect();
    ensure!(
        !of_pair.is_empty() && of_pair.iter().all(|b| b.spec.volumes == ["pair-1", "pair-2"]),
        "the group was not backed up as one: {:?}",
        of_pair.iter().map(|b| &b.spec.volumes).collect::<Vec<_>>()
    );
    Ok(())
}

async fn cut_within_a_second(w: &World, backups: &[Backup]) -> Result<()> {
    for backup in backups.iter().filter(|b| b.spec.volumes.len() == 2) {
        let status = w.backup_ended(&backup.name_any()).await?.status.unwrap_or_default();
        let cuts: Vec<_> = status.volumes.iter().filter_map(|v| v.cut).collect();
        let &[first, second] = cuts.as_slice() else {
            anyhow::bail!("of two volumes {} were cut", cuts.len());
        };
        let apart = (first - second).abs().num_milliseconds();
        // the storage tells cuts in whole seconds
        ensure!(apart <= 1000, "the volumes of one group were cut {apart} ms apart");
    }
    Ok(())
}

/// No file of a repository's lock is on the server below this namespace.
async fn no_lock_is_left(w: &World) -> Result<()> {
    let found = w.on_server(&format!("find /repositories/{} -name 'lock.*'", w.namespace)).await?;
    ensure!(found.is_empty(), "locks are left in repositories:\n{found}");
    let repositories = w.on_server(&format!("ls /repositories/{}", w.namespace)).await?;
    let names: Vec<&str> = repositories.split_whitespace().collect();
    ensure!(names == ["left", "pair-1", "pair-2", "right"], "there are repositories of {names:?}");
    Ok(())
}

#[test]
fn an_annotated_namespace_is_archived_on_both_nodes_and_nothing_of_borgherds_comes_into_it() -> Result<()> {
    test("an_annotated_namespace_is_archived_on_both_nodes_and_nothing_of_borgherds_comes_into_it", async |w: &World| {
        let Some(nodes) = two_nodes(w).await? else {
            return w.skip("needs two nodes");
        };
        applications(w, &nodes).await?;
        let seen = Seen::of(w).await?;
        let before = seen.now();
        w.annotate_namespace(&[("schedule", Some("* * * * *"))]).await?;
        let backups = first_scheduled(w).await?;
        backups_end_on(w, &backups, &nodes).await?;
        cut_together(&backups)?;
        cut_within_a_second(w, &backups).await?;
        let out = backups.iter().find(|b| b.spec.volumes.iter().any(|v| v == "out"));
        ensure!(out.is_none(), "the PVC with an empty schedule was backed up: {out:?}");
        let foreign = seen.foreign(&before, &["Backup", "VolumeSnapshot"]);
        ensure!(foreign.is_empty(), "in the application's namespace there were {foreign:?}");
        ensure!(seen.now().iter().any(|o| o.starts_with("VolumeSnapshot/")), "the watches have not seen the snapshots either");
        no_lock_is_left(w).await
    })
}

/// A StorageClass of this test's own, like the default one but that it retains.
async fn retaining_class(w: &World) -> Result<String> {
    let classes = w.api_all::<StorageClass>();
    let default = |c: &&StorageClass| c.annotations().get("storageclass.kubernetes.io/is-default-class").is_some_and(|v| v == "true");
    let all = classes.list(&ListParams::default()).await?;
    let like = all.iter().find(default).context("the cluster has no default StorageClass")?;
    let name = format!("{}-retain", w.namespace);
    let class = StorageClass {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        provisioner: like.provisioner.clone(),
        parameters: like.parameters.clone(),
        reclaim_policy: Some("Retain".into()),
        volume_binding_mode: like.volume_binding_mode.clone(),
        ..StorageClass::default()
    };
    drop(classes.delete(&name, &DeleteParams::default()).await);
    drop(classes.create(&PostParams::default(), &class).await.context("make a StorageClass that retains")?);
    Ok(name)
}

async fn volumes_of(w: &World, class: &str) -> Result<Vec<PersistentVolume>> {
    let of_class = |v: &PersistentVolume| v.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()) == Some(class);
    Ok(w.api_all::<PersistentVolume>().list(&ListParams::default()).await?.into_iter().filter(of_class).collect())
}

fn handle(volume: &PersistentVolume) -> Option<String> {
    Some(volume.spec.as_ref()?.csi.as_ref()?.volume_handle.clone())
}

fn policy(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.persistent_volume_reclaim_policy.as_deref()
}

/// Waits until the class has just the volumes of these claims of the test's namespace.
async fn only_volumes_of(w: &World, class: &str, claims: &[&str]) -> Result<()> {
    let of_class = |v: &&PersistentVolume| v.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()) == Some(class);
    let claim = |v: &PersistentVolume| {
        v.spec.as_ref()?.claim_ref.as_ref().map(|c| format!("{}/{}", c.namespace.as_deref().unwrap_or(""), c.name.as_deref().unwrap_or("")))
    };
    let wanted: BTreeSet<String> = claims.iter().map(|c| format!("{}/{c}", w.namespace)).collect();
    let what = format!("of class {class} there are the volumes of {wanted:?} only");
    let volumes = w.api_all::<PersistentVolume>();
    until_all(&volumes, "", &what, DEADLINE, |all| {
        let found: BTreeSet<String> = all.iter().filter(of_class).filter_map(claim).collect();
        found == wanted && all.iter().filter(of_class).count() == wanted.len()
    })
    .await
    .map(drop)
}

#[test]
fn a_storage_class_that_retains_keeps_nothing_of_clones() -> Result<()> {
    test("a_storage_class_that_retains_keeps_nothing_of_clones", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let class = retaining_class(w).await?;
        w.claim(Claim::new("data").size("20Mi").class(&class)).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("echo kept >/data/file").await?;

        let backup = w.backup(&["data"]).await?;
        w.volume_until(&backup, "data", "has its clone mounted", |v| v.node.is_some()).await?;
        let during = volumes_of(w, &class).await?;
        ensure!(during.len() == 2, "source and clone are of {class}, but there are {} volumes", during.len());
        w.backup_succeeded(&backup).await?;
        only_volumes_of(w, &class, &["data"]).await?;
        let stored = cluster.stored_volumes().await?;
        let left: Vec<String> = during.iter().filter_map(handle).filter(|h| stored.contains(h)).collect();
        ensure!(left.len() == 1, "of source and clone the storage still has {left:?}");

        // what a restore has extracted into becomes the application's, and then keeps to its class
        let source = RestoreSource { pvc: "data".into(), from: Some(SourceKind::Archive), ..RestoreSource::default() };
        let restore = w.restore(source, "restored").await?;
        w.restore_succeeded(&restore).await?;
        only_volumes_of(w, &class, &["data", "restored"]).await?;
        let after = volumes_of(w, &class).await?;
        let policies: Vec<_> = after.iter().map(policy).collect();
        ensure!(policies == [Some("Retain"); 2], "the class retains, but the volumes' policies are {policies:?}");
        let reader = w.app(App::new("reader").mount("restored", "/data")).await?;
        let text = reader.sh("cat /data/file").await?;
        ensure!(text == "kept", "restored was {text:?}");
        drop(w.api_all::<StorageClass>().delete(&class, &DeleteParams::default()).await?);
        Ok(())
    })
}

async fn create_namespace(w: &World) -> Result<()> {
    let object = Namespace { metadata: ObjectMeta { name: Some(w.namespace.clone()), ..ObjectMeta::default() }, ..Namespace::default() };
    drop(w.api_all::<Namespace>().create(&PostParams::default(), &object).await?);
    Ok(())
}

async fn delete_namespace(w: &World) -> Result<()> {
    let namespaces = w.api_all::<Namespace>();
    drop(namespaces.delete(&w.namespace, &DeleteParams::default()).await?);
    until(&namespaces, &w.namespace, "is gone", DEADLINE, |n| n.is_none()).await.map(drop)
}

/// The content of a snapshot, whose class has `deletionPolicy: Delete`.
async fn content_of(w: &World, snapshot: &str) -> Result<VolumeSnapshotContent> {
    let snapshot = w.api::<VolumeSnapshot>().get(snapshot).await?;
    let status = snapshot.status.unwrap_or_default();
    let name = status.bound_volume_snapshot_content_name.context("the snapshot has no content")?;
    Ok(w.api_all::<VolumeSnapshotContent>().get(&name).await?)
}

/// Makes a snapshot that stands for what is in the storage, as an administrator does after a disaster, and a PVC of it.
async fn readopt(w: &World, content: &VolumeSnapshotContent) -> Result<()> {
    let handle = content.status.as_ref().and_then(|s| s.snapshot_handle.clone()).context("no handle")?;
    let name = format!("{}-readopted", w.namespace);
    let statically = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": { "name": name },
        "spec": {
            "deletionPolicy": "Retain", "driver": content.spec.driver, "source": { "snapshotHandle": handle },
            "volumeSnapshotRef": { "name": "readopted", "namespace": w.namespace },
        },
    });
    let snapshot = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": { "name": "readopted" },
        "spec": { "source": { "volumeSnapshotContentName": name } },
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "again" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "20Mi" } },
            "dataSource": { "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "readopted" },
        },
    });
    let params = PostParams::default();
    drop(w.api_all::<VolumeSnapshotContent>().create(&params, &serde_json::from_value(statically)?).await?);
    drop(w.api::<VolumeSnapshot>().create(&params, &serde_json::from_value(snapshot)?).await?);
    drop(w.api::<k8s_openapi::api::core::v1::PersistentVolumeClaim>().create(&params, &serde_json::from_value(claim)?).await?);
    Ok(())
}

/// Reads `/data/file` of a PVC.
async fn content(w: &World, pvc: &str) -> Result<String> {
    let reader = w.app(App::new(&format!("reader-of-{pvc}")).mount(pvc, "/data")).await?;
    reader.sh("cat /data/file").await
}

#[test]
fn deleting_a_namespace_loses_neither_snapshots_nor_archives() -> Result<()> {
    test("deleting_a_namespace_loses_neither_snapshots_nor_archives", async |w: &World| {
        w.claim(Claim::new("data").size("20Mi")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("echo precious >/data/file").await?;
        let backup = w.backup(&["data"]).await?;
        let volumes = w.backup_succeeded(&backup).await?;
        let snapshot = volumes.first().and_then(|v| v.snapshot.clone()).context("no snapshot is named")?;
        let before = content_of(w, &snapshot).await?;
        let own = before.annotations().get(names::OWN_DELETION_POLICY).cloned();
        ensure!(own.as_deref() == Some("Delete"), "the class deletes, but the content remembers {own:?}");

        delete_namespace(w).await?;
        let contents = w.api_all::<VolumeSnapshotContent>();
        let after = contents.get_opt(&before.name_any()).await?.context("the content went with the namespace")?;
        ensure!(
            after.spec.deletion_policy == "Retain" && after.metadata.deletion_timestamp.is_none(),
            "the content is on its way out: {after:#?}"
        );
        if let (Some(cluster), Some(handle)) = (w.cluster(), after.status.as_ref().and_then(|s| s.snapshot_handle.clone())) {
            ensure!(cluster.stored_snapshots().await?.contains(&handle), "snapshot {handle} is gone from the storage");
        }

        create_namespace(w).await?;
        readopt(w, &after).await?;
        let text = content(w, "again").await?;
        ensure!(text == "precious", "the snapshot holds {text:?}");
        let source = RestoreSource { pvc: "data".into(), ..RestoreSource::default() };
        let restore = w.restore(source, "data").await?;
        w.restore_succeeded(&restore).await?;
        let text = content(w, "data").await?;
        ensure!(text == "precious", "the archive held {text:?}");
        Ok(())
    })
}
