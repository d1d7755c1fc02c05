//! What does not come: every wait has an end, with a reason of its own. Alone, with deadlines of seconds; and two defaults, which
//! concern everybody.

use crate::failures::expect::{Case, all_fail, all_fail_while, all_succeed};
use crate::failures::server;
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotClass};
use borgherd_api::crd::{Repository, VolumePhase};
use borgherd_e2e::{App, Claim, Cluster, World, exclusive};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

/// Long enough for what is healthy, also on a machine that is busy. The run that does not end has its slot until its deadline.
const VALUES: [&str; 8] = [
    "agent.slots=2",
    "timeouts.cut=20s",
    "timeouts.ready=15s",
    "timeouts.clone=20s",
    "timeouts.holder=10s",
    "timeouts.run=40s",
    "limits.attempts=2",
    "limits.retryDelay=1s",
];

/// In the storage and at the nodes.
const STORAGE: [Case; 4] = [
    Case::of(
        "uncut",
        Reason::SnapshotFailed,
        &["no snapshot was cut within 20s", "the pool is full", "look at the storage and at VolumeSnapshotClass btrfs"],
    ),
    Case::of("never-ready", Reason::SnapshotNotReady, &["not ready within 15s", "raise timeouts.ready in the chart"]),
    Case {
        tries: 2,
        ..Case::of("unbound", Reason::CloneNotBound, &["not bound within 20s", "no room for a clone", "raise timeouts.clone"])
    },
    Case::of("nowhere", Reason::HolderUnschedulable, &["no node can mount the volume", "2 node(s)", "holder.tolerations in the chart"]),
];

/// After the cut; `bound-nowhere` is of a class that binds at once.
const LATER: [Case; 4] = [
    Case::of(
        "bound-nowhere",
        Reason::HolderUnschedulable,
        &["no node can mount the volume", "2 node(s)", "holder.tolerations in the chart"],
    ),
    Case { tries: 2, ..Case::of("server-down", Reason::ConnectionFailed, &["no connection to ssh://", "check that the server runs"]) },
    Case::of("endless", Reason::DeadlineExceeded, &["deadline passed before borg had finished", "raise timeouts.run in the chart"]),
    Case::of("deleted", Reason::SnapshotGone, &["VolumeSnapshot deleted-", "was deleted before it was archived", "back up again"]),
];

const UNDECIDED: Case = Case::of("undecided", Reason::RepositoryAmbiguous, &["in-cluster", "-second", "leave spec.default on one"]);

/// A label of nodes that no node has.
const PLACE: &str = "e2e.borgherd.dev/place";

#[test]
fn what_does_not_come_within_its_deadline_fails_and_holds_up_nobody() -> Result<()> {
    exclusive("what_does_not_come_within_its_deadline_fails_and_holds_up_nobody", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster: its storage is told to fail");
        };
        let mut app = App::new("app").mount("healthy", "/healthy").mount("undecided", "/undecided");
        for pvc in ["healthy", "undecided"] {
            w.claim(Claim::new(pvc)).await?;
        }
        for case in STORAGE.iter().chain(&LATER) {
            let class = if case.pvc == "bound-nowhere" { "btrfs-immediate" } else { "btrfs" };
            w.claim(Claim::new(case.pvc).class(class)).await?;
            app = app.mount(case.pvc, &format!("/{}", case.pvc));
        }
        let app = w.app(app).await?;
        app.sh("echo data >/healthy/file; head -c 40000000 /dev/urandom >/endless/file").await?;
        let outcome = w.release().with(&VALUES, async || deadlines(w, &cluster).await).await;
        let tidied = tidy(w).await;
        outcome?;
        tidied?;
        two_defaults(w).await
    })
}

async fn deadlines(w: &World, cluster: &Cluster) -> Result<()> {
    let (uncut, unbound, deleted) = (w.volume_handle("uncut").await?, w.volume_handle("unbound").await?, w.volume_handle("deleted").await?);
    let class = never_ready(w).await?;
    cluster.fail_for("CreateSnapshot", &uncut, "the pool is full").await?;
    w.annotate::<PersistentVolumeClaim>("never-ready", &[("snapshot-class", Some(&class))]).await?;
    cluster.fail_for("CreateVolume", &unbound, "no room for a clone").await?;
    for pvc in ["nowhere", "bound-nowhere"] {
        only_where_labelled(w, pvc).await?;
    }
    all_fail(w, &STORAGE, "healthy").await?;

    server::prepare(w).await?;
    let down = server::repository(w, "server-down").await?;
    w.annotate::<PersistentVolumeClaim>("server-down", &[("repository", Some(&down))]).await?;
    let slow = slow_repository(w, 500).await?;
    w.annotate::<PersistentVolumeClaim>("endless", &[("repository", Some(&slow))]).await?;
    cluster.fail_for("CreateVolume", &deleted, "not yet").await?;
    all_fail_while(w, &LATER, "healthy", async |backups| delete_snapshot(w, backups.last().context("its Backup")?).await).await?;

    cluster.mend_for("CreateSnapshot", &uncut).await?;
    cluster.mend_for("CreateVolume", &unbound).await?;
    cluster.mend_for("CreateVolume", &deleted).await?;
    w.annotate::<PersistentVolumeClaim>("never-ready", &[("snapshot-class", None)]).await?;
    server::start(w, "64Mi").await?;
    slow_repository(w, 1_000_000).await?;
    label_a_node(w, json!(w.namespace)).await?;
    all_succeed(w, &STORAGE.map(|c| c.pvc)).await?;
    all_succeed(w, &LATER.map(|c| c.pvc)).await
}

/// A class whose snapshots are cut at once and ready in an hour.
async fn never_ready(w: &World) -> Result<String> {
    let name = format!("{}-never-ready", w.namespace);
    let object = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "metadata": { "name": name },
        "driver": "btrfs.test", "deletionPolicy": "Delete", "parameters": { "readyDelay": "1h" },
    });
    let made = w.api_all::<VolumeSnapshotClass>().create(&PostParams::default(), &serde_json::from_value(object)?).await;
    drop(made.context("make a VolumeSnapshotClass")?);
    Ok(name)
}

/// Lets a volume be mounted only on nodes with the label, as a volume of a zone that has no node any more.
async fn only_where_labelled(w: &World, pvc: &str) -> Result<()> {
    let expression = json!({ "key": PLACE, "operator": "In", "values": [w.namespace] });
    let affinity = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } });
    let patch = Patch::Merge(json!({ "spec": { "nodeAffinity": affinity } }));
    let patched = w.api_all::<PersistentVolume>().patch(&w.volume_of(pvc).await?, &PatchParams::default(), &patch).await;
    patched.map(drop).with_context(|| format!("node affinity of {pvc}'s volume"))
}

async fn label_a_node(w: &World, value: serde_json::Value) -> Result<()> {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { PLACE: value } } }));
    w.api_all::<Node>().patch("node-1", &PatchParams::default(), &patch).await.map(drop).context("label node-1")
}

/// A Repository that takes so many KiB a second.
async fn slow_repository(w: &World, rate: u32) -> Result<String> {
    let (_, location) = w.fresh_place("endless").await?;
    let secret = w.credentials("endless", &w.server_credentials().await?).await?;
    w.repository_with("endless", json!({ "location": location, "secretRef": secret, "rateLimit": rate })).await
}

/// Deletes the snapshot while its clone is being made.
async fn delete_snapshot(w: &World, backup: &str) -> Result<()> {
    let volume = w.volume_until(backup, "deleted", "is being cloned", |v| v.phase == VolumePhase::Cloning).await?;
    let snapshot = volume.snapshot.context("its snapshot")?;
    w.api::<VolumeSnapshot>().delete(&snapshot, &DeleteParams::default()).await.map(drop).context("delete the snapshot")
}

/// What this test made for the whole cluster.
async fn tidy(w: &World) -> Result<()> {
    label_a_node(w, serde_json::Value::Null).await?;
    let class = format!("{}-never-ready", w.namespace);
    match w.api_all::<VolumeSnapshotClass>().delete(&class, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).context("delete the VolumeSnapshotClass"),
    }
}

/// With two defaults neither is used; who names a Repository goes on.
async fn two_defaults(w: &World) -> Result<()> {
    let (_, location) = w.fresh_place("second").await?;
    let secret = w.credentials("second", &w.server_credentials().await?).await?;
    let spec = json!({ "location": location, "secretRef": secret, "default": true });
    let second = w.repository_with("second", spec).await?;
    w.annotate::<PersistentVolumeClaim>("healthy", &[("repository", Some(&second))]).await?;
    let failed = all_fail(w, &[UNDECIDED], "healthy").await?;
    ensure!(failed.iter().all(|f| f.message().contains(&second)), "the second default is not named");
    let defaults = w.api_all::<Repository>();
    drop(defaults.delete(&second, &DeleteParams::default()).await.with_context(|| format!("delete Repository {second}"))?);
    all_succeed(w, &["undecided"]).await
}
