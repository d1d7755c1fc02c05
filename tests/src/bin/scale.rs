//! Figures of the controller with many objects: memory, and the time from its start until all is decided.
//!
//! Creates PVCs (bound, annotated, of no driver) and snapshots through the API server, starts the controller given as a process of its
//! own, reads its log and `/proc`. For an empty cluster whose kube-controller-manager and snapshot-controller are stopped (`hack/bench` does that):
//! else they would look for the volumes behind these PVCs. Prints one JSON object.

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
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
    let (decided, resident, peak) = measure(&args).await?;
    println!(
        "{}",
        json!({"pvcs": args.pvcs, "snapshots": args.pvcs * args.snapshots, "decided_seconds": decided, "resident_mib": resident, "peak_mib": peak})
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
        "metadata": {"name": name, "annotations": {"borgherd.dev/schedule": "H H * * *", "borgherd.dev/time-zone": "Europe/Berlin"}, "labels": {"app": name}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none", "volumeName": format!("pv-{i}")},
    });
    put(&claims, &serde_json::from_value(claim)?).await?;
    let bound = json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
    claims.patch_status(&name, &PatchParams::default(), &Patch::Merge(bound)).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshot"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
    for n in 0..snapshots {
        let mut object =
            DynamicObject::new(&format!("{name}-{n}"), &kind).data(json!({"spec": {"source": {"persistentVolumeClaimName": name}}}));
        object.metadata.labels = Some(
            [("borgherd.dev/pvc", name.as_str()), ("borgherd.dev/type", "scheduled")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        );
        let scheduled = format!("2026-11-{:02}T03:00:00Z", n + 1);
        object.metadata.annotations = Some(
            [("borgherd.dev/pvc-name", name.clone()), ("borgherd.dev/scheduled-time", scheduled.clone()), ("borgherd.dev/cut", scheduled)]
                .map(|(k, v)| (k.to_owned(), v))
                .into(),
        );
        put(&api, &object).await?;
    }
    Ok(())
}

/// Seconds until all was decided; MiB resident after that, and at the peak.
async fn measure(args: &Args) -> Result<(f64, f64, f64)> {
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
    let decided = async {
        while let Some(line) = lines.next_line().await? {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event.to_string().contains("all decided") {
                return Ok(began.elapsed().as_secs_f64());
            }
        }
        bail!("the controller ended before it had decided")
    };
    let seconds = tokio::time::timeout(Duration::from_secs(args.patience), decided).await.context("not all was decided in time")??;
    let status = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await?;
    let mib = |key: &str| -> Result<f64> {
        let line = status.lines().find(|l| l.starts_with(key)).context("no such line in /proc")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok((kib / 102.4).round() / 10.0)
    };
    let figures = (seconds, mib("VmRSS:")?, mib("VmHWM:")?);
    child.kill().await?;
    Ok(figures)
}
