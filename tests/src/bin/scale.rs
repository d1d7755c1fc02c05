//! Figures of the controller with many objects: memory, the time from its start until all is decided, and until retention has looked at all.
//!
//! Creates PVCs (bound, annotated, of no driver) and retained snapshots, each with a content that has a handle and their identity, through the API server, starts the controller given as a process of its
//! own, reads its log and `/proc`. For an empty cluster whose kube-controller-manager and snapshot-controller are stopped (`hack/bench` does that):
//! else they would look for the volumes behind these PVCs. Prints one JSON object.

use anyhow::{Context, Result, bail};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Requests under way at once.
const CONCURRENT: usize = 48;

/// What to create and what to start.
#[derive(Parser)]
struct Args {
    /// PVCs, spread over a hundred namespaces.
    #[arg(long, default_value_t = 10_000)]
    pvcs: usize,
    /// Snapshots of each PVC.
    #[arg(long, default_value_t = 5)]
    snapshots: usize,
    /// The controller's binary.
    #[arg(long)]
    controller: std::path::PathBuf,
    /// How long it may take to decide, in seconds.
    #[arg(long, default_value_t = 300)]
    patience: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let client = Client::try_default().await?;
    create(&client, &args).await?;
    let Figures { decided, looked, resident, peak } = measure(&args).await?;
    let snapshots = args.pvcs * args.snapshots;
    println!(
        "{}",
        json!({
            "pvcs": args.pvcs, "snapshots": snapshots, "decided_seconds": decided, "looked_seconds": looked,
            "resident_mib": resident, "peak_mib": peak,
        })
    );
    Ok(())
}

fn namespace(pvc: usize) -> String {
    format!("scale-{:02}", pvc % 100)
}

async fn create(client: &Client, args: &Args) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for i in 0..100 {
        put(&namespaces, &serde_json::from_value(json!({"metadata": {"name": namespace(i)}}))?).await?;
    }
    stream::iter(0..args.pvcs).map(|i| pvc(client, i, args.snapshots)).buffer_unordered(CONCURRENT).try_collect::<Vec<()>>().await?;
    Ok(())
}

async fn put<K>(api: &Api<K>, object: &K) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn pvc(client: &Client, i: usize, snapshots: usize) -> Result<()> {
    let (namespace, name) = (namespace(i), format!("data-{i:05}"));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let claim = json!({
        "metadata": {
            "name": name, "labels": {"app": name},
            "annotations": {"borgherd.dev/schedule": "H H * * *", "borgherd.dev/time-zone": "Europe/Berlin", "borgherd.dev/keep": "daily=7"},
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none", "volumeName": format!("pv-{i}")},
    });
    put(&claims, &serde_json::from_value(claim)?).await?;
    let bound = json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
    claims.patch_status(&name, &PatchParams::default(), &Patch::Merge(bound)).await?;
    for n in 0..snapshots {
        snapshot(client, i, n).await?;
    }
    Ok(())
}

/// The `n`th daily snapshot of a PVC as it is when it has its labels and is kept: a look at it changes nothing.
async fn snapshot(client: &Client, i: usize, n: usize) -> Result<()> {
    let (namespace, pvc) = (namespace(i), format!("data-{i:05}"));
    let (name, day) = (format!("{pvc}-4fd87769-202611{:02}030000", n + 1), format!("2026-11-{:02}", n + 1));
    let at = format!("{day}T03:00:00Z");
    let facts = json!({
        "clusterUid": "3a9c1a52-6a0b-4f5e-9d3f-2f7c8a1b0c4d", "backupUid": "b1946ac9-2e5f-4f43-9d3a-1c2b3d4e5f60",
        "pvcUid": "0cc175b9-c0f1-4b6a-831c-399e26977266", "size": "1Gi", "storageClass": "none", "accessModes": ["ReadWriteOnce"],
        "labels": {"app": pvc}, "snapshot": name,
    });
    let labels = json!({
        "borgherd.dev/pvc": pvc, "borgherd.dev/type": "scheduled", "borgherd.dev/retain": "tiers", "borgherd.dev/daily": day,
    });
    let mut annotations = json!({
        "borgherd.dev/pvc-name": pvc, "borgherd.dev/pvc-uid": "0cc175b9-c0f1-4b6a-831c-399e26977266", "borgherd.dev/scheduled-time": at,
        "borgherd.dev/cut": at, "borgherd.dev/tiers-at-birth": "daily", "borgherd.dev/keep": "daily=7",
        "borgherd.dev/time-zone": "Europe/Berlin", "borgherd.dev/volume": facts.to_string(),
        "borgherd.dev/owner": format!("Backup/{namespace}/{pvc}-4fd87769-202611{:02}030000", n + 1),
    });
    let api: Api<VolumeSnapshot> = Api::namespaced(client.clone(), &namespace);
    let object = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"source": {"persistentVolumeClaimName": pvc}, "volumeSnapshotClassName": "none"},
    });
    put(&api, &serde_json::from_value(object)?).await?;
    let uid = api.get_metadata(&name).await?.metadata.uid.context("no UID")?;
    let content = format!("snapcontent-{uid}");
    let status = json!({"status": {
        "readyToUse": true, "boundVolumeSnapshotContentName": content, "creationTime": at, "restoreSize": "1Gi",
    }});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    annotations["borgherd.dev/own-deletion-policy"] = json!("Delete");
    let object = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
        "metadata": {"name": content, "labels": labels, "annotations": annotations},
        "spec": {
            "deletionPolicy": "Retain", "driver": "none.example.org", "source": {"snapshotHandle": format!("snapshot-{uid}")},
            "volumeSnapshotClassName": "none",
            "volumeSnapshotRef": {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "namespace": namespace, "name": name, "uid": uid},
        },
    });
    put(&Api::<VolumeSnapshotContent>::all(client.clone()), &serde_json::from_value(object)?).await
}

/// What one start of the controller showed. Seconds are from its start, MiB are resident.
struct Figures {
    decided: f64,
    looked: f64,
    resident: f64,
    peak: f64,
}

async fn measure(args: &Args) -> Result<Figures> {
    let began = Instant::now();
    let mut child = Command::new(&args.controller)
        .args(["--holder-image", "none", "--identity", "scale", "--metrics-address", "127.0.0.1:9199", "--log-format", "json"])
        .env("RUST_LOG", "info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", args.controller.display()))?;
    let pid = child.id().context("the controller ended at once")?;
    let mut lines = BufReader::new(child.stderr.take().context("its output")?).lines();
    let all_done = async {
        let (mut decided, mut looked) = (None, None);
        while let Some(line) = lines.next_line().await? {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            let seconds = began.elapsed().as_secs_f64();
            match event["message"].as_str() {
                Some("all decided") => decided = Some(seconds),
                Some("looked at all snapshots") => {
                    let seen = event["snapshots"].as_u64();
                    let there = u64::try_from(args.pvcs * args.snapshots)?;
                    anyhow::ensure!(seen == Some(there), "retention saw {seen:?} of {there} snapshots");
                    looked = Some(seconds);
                }
                Some(_) | None => {}
            }
            if let (Some(decided), Some(looked)) = (decided, looked) {
                return Ok((decided, looked));
            }
        }
        bail!("the controller ended before it had decided and looked")
    };
    let done = tokio::time::timeout(Duration::from_secs(args.patience), all_done).await;
    let (decided, looked) = done.context("not all was done in time")??;
    let status = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await?;
    let mib = |key: &str| -> Result<f64> {
        let line = status.lines().find(|l| l.starts_with(key)).context("no such line in /proc")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok((kib / 102.4).round() / 10.0)
    };
    let figures = Figures { decided, looked, resident: mib("VmRSS:")?, peak: mib("VmHWM:")? };
    child.kill().await?;
    Ok(figures)
}
