//! SIGKILL of the controller before and after each write of a freeze that scales a workload: it always is what it was again.

use super::quiesce_kills::kill;
use super::quiesce_walk::stand;
use crate::quiesce::snapshots;
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Backup, BackupPhase};
use borgherd_api::names::DEBT_FINALIZER;
use borgherd_e2e::{Claim, Cluster, DEADLINE, Turnstile, World, exclusive, until_polled};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

const HOOKS: &str = "- {pre: {in: statefulset/shop, timeout: 1m}, scale: 0}";

/// Where it is killed.
struct Point {
    name: &'static str,
    /// What the turnstile refuses, one after the other; APP stands for the namespace. Killed at the last.
    refused: &'static [&'static [&'static str]],
    /// How many replicas it has then.
    replicas: i32,
    /// Whether the next controller takes it to a success; else it is `Interrupted`, and there is no snapshot.
    goes_on: bool,
}

const POINTS: [Point; 5] = [
    Point {
        name: "claimed, not scaled",
        refused: &[&["freeze claimed"], &["UPDATE statefulsets APP", "freeze ended", "freeze Thawing"]],
        replicas: 1,
        goes_on: false,
    },
    Point { name: "scaled, not written", refused: &[&["freeze ended", "freeze Thawing"]], replicas: 0, goes_on: false },
    Point { name: "end claimed", refused: &[&["freeze Thawing"], &["UPDATE statefulsets APP", "freeze paid"]], replicas: 0, goes_on: true },
    Point { name: "scaled back, not written", refused: &[&["freeze paid"]], replicas: 1, goes_on: true },
    Point { name: "not said to be over", refused: &[&["freeze Thawed"]], replicas: 1, goes_on: true },
];

#[test]
fn quiesce_a_controller_killed_at_each_step_of_scaling_leaves_it_as_it_was() -> Result<()> {
    exclusive("quiesce_a_controller_killed_at_each_step_of_scaling_leaves_it_as_it_was", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        w.claim(Claim::new("data").annotation("hooks", HOOKS)).await?;
        deploy(w).await?;
        w.turnstile(async |turnstile: &Turnstile| {
            for point in &POINTS {
                let died = Box::pin(die_at(w, &cluster, turnstile, point)).await;
                died.with_context(|| format!("at the point '{}'", point.name))?;
            }
            Ok(())
        })
        .await
    })
}

/// A StatefulSet of one pod that uses the volume.
async fn deploy(w: &World) -> Result<()> {
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "shop" },
        "spec": {
            "replicas": 1, "serviceName": "shop", "selector": { "matchLabels": { "app": "shop" } },
            "template": {
                "metadata": { "labels": { "app": "shop" } },
                "spec": {
                    "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "app", "image": w.image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "exec sleep infinity"],
                        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
                    }],
                    "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
                },
            },
        },
    });
    drop(w.api::<StatefulSet>().create(&PostParams::default(), &serde_json::from_value(set)?).await?);
    is_back(w).await
}

async fn replicas(w: &World) -> Result<i32> {
    w.api::<StatefulSet>().get("shop").await?.spec.and_then(|s| s.replicas).context("no number of replicas")
}

async fn is_back(w: &World) -> Result<()> {
    let ready = async || {
        let set = w.api::<StatefulSet>().get("shop").await?;
        Ok((replicas(w).await? == 1 && set.status.and_then(|s| s.ready_replicas) == Some(1)).then_some(()))
    };
    until_polled("it has one replica that is ready", DEADLINE, ready).await
}

/// A Backup of its own, whose controller is killed at `point`.
async fn die_at(w: &World, cluster: &Cluster, turnstile: &Turnstile<'_>, point: &Point) -> Result<()> {
    let before = snapshots(w).await?;
    let pod = w.controller().await?;
    let name = stand(w, turnstile, &pod, point.name, point.refused).await?;
    kill(w, cluster).await?;
    let had = replicas(w).await?;
    turnstile.open().await?;
    ensure!(had == point.replicas, "when the controller was killed it had {had} replicas");

    w.backup_ended(&name).await?;
    let let_go = async || Ok(Some(w.api::<Backup>().get(&name).await?).filter(|b| !b.finalizers().iter().any(|f| f == DEBT_FINALIZER)));
    let status = until_polled("the Backup is let go", DEADLINE, let_go).await?.status.unwrap_or_default();
    is_back(w).await?;
    let made = snapshots(w).await? - before;
    let expected = if point.goes_on {
        status.phase == BackupPhase::Succeeded && status.volumes.iter().all(|v| v.quiesced == Some(true)) && made == 1
    } else {
        status.phase == BackupPhase::Failed && status.reason == Some(Reason::Interrupted) && made == 0
    };
    ensure!(expected && status.quiesce.as_ref().is_some_and(|q| q.debts() == 0), "{made} were made, and {status:#?}");
    drop(w.api::<Backup>().delete(&name, &DeleteParams::default()).await?);
    Ok(())
}
