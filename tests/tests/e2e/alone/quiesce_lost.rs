//! SIGKILL of the controller while it holds what only it can hold: a session, a command beside the snapshot, a workload that is scaled.

use super::quiesce_kills::kill;
use crate::quiesce::{quiesce, settled, snapshots};
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Backup, QuiescePhase, Release};
use borgherd_e2e::{App, Claim, Cluster, DEADLINE, Running, World, exclusive, until_polled};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::PostParams;
use serde_json::json;

const SESSION: &str = "- pre: {in: pod/app, command: [sh, -c, 'echo freeze >>/tmp/log; echo ready; while read -r line; do echo \"$line\"; done; \
                       echo thaw >>/tmp/log']}\n  session: true\n";
const BESIDE: &str = "- pre: {in: pod/app, command: [sh, -c, 'echo freeze >>/tmp/log; sleep 15; echo ended >>/tmp/log']}\n  \
                      post: {command: [sh, -c, 'echo thaw >>/tmp/log']}\n  wait: false\n";
const SCALE: &str = "- {pre: {in: statefulset/shop, timeout: 1m}, scale: 0}";

async fn words(app: &Running) -> Result<Vec<String>> {
    Ok(app.sh("cat /tmp/log 2>/dev/null || true").await?.lines().map(str::to_owned).collect())
}

async fn reaches(w: &World, name: &str, phase: QuiescePhase) -> Result<()> {
    let api = w.api::<Backup>();
    let is_there = |b: &Backup| quiesce(b).is_ok_and(|q| q.phase == phase);
    until_polled(&format!("it is {phase:?}"), DEADLINE, async || Ok(is_there(&api.get(name).await?).then_some(()))).await
}

/// A Backup that is held, and whose controller is killed then.
async fn killed_while_frozen(w: &World, cluster: &Cluster, hooks: &str) -> Result<String> {
    w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(hooks))]).await?;
    let handle = w.volume_handle("data").await?;
    cluster.fail_for("CreateSnapshot", &handle, "not yet").await?;
    let name = w.backup_as(&["data"], false).await?;
    let held = reaches(w, &name, QuiescePhase::Frozen).await;
    let killed = kill(w, cluster).await;
    cluster.mend_for("CreateSnapshot", &handle).await?;
    held?;
    killed?;
    Ok(name)
}

#[test]
fn quiesce_what_only_the_killed_controller_held_is_let_go_and_never_a_success() -> Result<()> {
    exclusive("quiesce_what_only_the_killed_controller_held_is_let_go_and_never_a_success", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        w.claim(Claim::new("data")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        session(w, &cluster, &app).await.context("a session")?;
        beside(w, &cluster, &app).await.context("a command beside the snapshot")?;
        scaled(w, &cluster).await.context("a StatefulSet")
    })
}

/// It ends with its connection, at once, and the next controller makes sure of it.
async fn session(w: &World, cluster: &Cluster, app: &Running) -> Result<()> {
    let name = killed_while_frozen(w, cluster, SESSION).await?;
    until_polled("the session has ended", DEADLINE, async || Ok((words(app).await? == ["freeze", "thaw"]).then_some(()))).await?;
    let message = w.backup_failed(&name, Reason::HookFailed).await?;
    ensure!(message.contains("the session was lost with the controller"), "{message}");
    settled(w, &name).await?;
    until_polled("the snapshot is gone", DEADLINE, async || Ok((snapshots(w).await? == 0).then_some(()))).await
}

/// Its snapshot was cut, but how the command ended is not known.
async fn beside(w: &World, cluster: &Cluster, app: &Running) -> Result<()> {
    app.sh("rm -f /tmp/log").await?;
    w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(BESIDE))]).await?;
    let name = w.backup_as(&["data"], false).await?;
    reaches(w, &name, QuiescePhase::Thawing).await?;
    kill(w, cluster).await?;
    let message = w.backup_failed(&name, Reason::HookFailed).await?;
    ensure!(message.contains("the controller that ran it has ended"), "{message}");
    settled(w, &name).await?;
    let log = words(app).await?;
    ensure!(log.first().is_some_and(|w| w == "freeze") && log.last().is_some_and(|w| w == "thaw"), "{log:?}");
    until_polled("the snapshot is gone", DEADLINE, async || Ok((snapshots(w).await? == 0).then_some(()))).await
}

/// It goes back to what it was; the freeze may have reached its limit meanwhile.
async fn scaled(w: &World, cluster: &Cluster) -> Result<()> {
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "shop" },
        "spec": {
            "replicas": 2, "serviceName": "shop", "podManagementPolicy": "Parallel", "selector": { "matchLabels": { "app": "shop" } },
            "template": {
                "metadata": { "labels": { "app": "shop" } },
                "spec": {
                    "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                    "containers": [{ "name": "app", "image": w.image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "infinity"] }],
                },
            },
        },
    });
    w.api::<StatefulSet>().create(&PostParams::default(), &serde_json::from_value(set)?).await?;
    let has = async |count: i32| {
        let at = async || {
            let set = w.api::<StatefulSet>().get("shop").await?;
            let ready = set.status.and_then(|s| s.ready_replicas).unwrap_or_default();
            Ok((set.spec.and_then(|s| s.replicas) == Some(count) && ready == count).then_some(()))
        };
        until_polled(&format!("it has {count} replicas that are ready"), DEADLINE, at).await
    };
    has(2).await?;
    let name = killed_while_frozen(w, cluster, SCALE).await?;
    has(2).await?;
    let status = w.backup_ended(&name).await?.status.unwrap_or_default();
    let account = settled(w, &name).await?;
    let made = snapshots(w).await?;
    let expected = match account.release {
        Some(Release::Cut) => status.volumes.iter().all(|v| v.quiesced == Some(true)) && made == 1,
        Some(Release::FreezeLimit) => status.reason == Some(Reason::FreezeLimit),
        Some(Release::HookFailed | Release::Interrupted | Release::Deleted) | None => false,
    };
    ensure!(expected, "{made} snapshots, and {status:#?}");
    Ok(())
}
