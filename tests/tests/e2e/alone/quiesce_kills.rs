//! SIGKILL of the controller while applications are held still: whoever leads next lets them go, and no false success is told.

use anyhow::{Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{Backup, QuiescePhase, Release};
use borgherd_e2e::{App, Claim, Cluster, DEADLINE, Running, World, exclusive, until_polled};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::ListParams;
use std::time::Duration;

const PROGRAM: &str = "/usr/local/bin/borgherd-controller";
/// A pre hook that takes a while, and a post hook.
const SLOW: &str = "- pre: {in: pod/app, command: [sh, -c, 'echo freeze >>/tmp/log; sleep 5; echo frozen >>/tmp/log']}\n  \
                    post: {command: [sh, -c, 'echo thaw >>/tmp/log']}\n";

pub(super) async fn kill(w: &World, cluster: &Cluster) -> Result<()> {
    for pod in w.controllers().await? {
        let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.clone()) else { continue };
        let uid = pod.uid().unwrap_or_default();
        if !cluster.node(&node).pids(&uid, PROGRAM).await?.is_empty() {
            cluster.node(&node).kill(&uid, PROGRAM, "KILL").await?;
        }
    }
    Ok(())
}

/// Waits until the kubelet has started the controller again.
pub(super) async fn back(w: &World, cluster: &Cluster) -> Result<()> {
    until_polled("the controller is back", DEADLINE, async || {
        for pod in w.controllers().await? {
            let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.clone()) else { continue };
            if !cluster.node(&node).pids(&pod.uid().unwrap_or_default(), PROGRAM).await?.is_empty() {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
    .await
}

async fn words(app: &Running) -> Result<Vec<String>> {
    Ok(app.sh("cat /tmp/log 2>/dev/null || true").await?.lines().map(str::to_owned).collect())
}

/// A thaw follows the last freeze.
fn is_thawed(words: &[String]) -> bool {
    let last = |word: &str| words.iter().rposition(|w| w.starts_with(word));
    last("thaw") > last("fr")
}

#[test]
fn quiesce_a_controller_killed_at_any_time_leaves_nothing_frozen() -> Result<()> {
    exclusive("quiesce_a_controller_killed_at_any_time_leaves_nothing_frozen", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        w.claim(Claim::new("data").annotation("hooks", SLOW)).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        during_pre_hooks(w, &cluster, &app).await?;
        while_frozen(w, &cluster, &app).await?;
        during_post_hooks(w, &cluster, &app).await?;
        without_api_server(w, &cluster, &app).await
    })
}

/// The post hook goes on by itself, and the next controller's repetition of it does nothing.
async fn during_post_hooks(w: &World, cluster: &Cluster, app: &Running) -> Result<()> {
    let hooks = SLOW.replace("sleep 5; ", "").replace("echo thaw", "echo thawing >>/tmp/log; sleep 5; echo thaw");
    w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(&hooks))]).await?;
    app.sh("rm /tmp/log").await?;
    let name = w.backup_as(&["data"], false).await?;
    until_polled("the post hook runs", DEADLINE, async || Ok(words(app).await?.contains(&"thawing".to_owned()).then_some(()))).await?;
    kill(w, cluster).await?;
    let volumes = w.backup_succeeded(&name).await?;
    ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "not quiesced: {volumes:#?}");
    let log = words(app).await?;
    ensure!(log == ["freeze", "frozen", "thawing", "thaw"], "{log:?}");
    Ok(())
}

/// Nothing can be told or asked for 20 seconds, longer than a leader may stay without its lease.
async fn without_api_server(w: &World, cluster: &Cluster, app: &Running) -> Result<()> {
    w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(SLOW))]).await?;
    app.sh("rm /tmp/log").await?;
    let name = w.backup_as(&["data"], false).await?;
    until_polled("the pre hook runs", DEADLINE, async || Ok(words(app).await?.contains(&"freeze".to_owned()).then_some(()))).await?;
    cluster.signal("apiserver", "STOP").await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    cluster.signal("apiserver", "CONT").await?;
    let status = w.backup_ended(&name).await?.status.unwrap_or_default();
    let log = words(app).await?;
    ensure!(is_thawed(&log), "it is still frozen: {log:?}");
    let quiesced = status.volumes.iter().all(|v| v.quiesced == Some(true));
    ensure!(quiesced || status.reason == Some(Reason::Interrupted), "neither quiesced nor failed: {status:#?}");
    ensure!(status.quiesce.is_some_and(|q| q.debts() == 0), "something is owed");
    Ok(())
}

/// Nobody knows how the pre hook ended: no snapshot.
async fn during_pre_hooks(w: &World, cluster: &Cluster, app: &Running) -> Result<()> {
    let name = w.backup_as(&["data"], false).await?;
    until_polled("the pre hook runs", DEADLINE, async || Ok(words(app).await?.contains(&"freeze".to_owned()).then_some(()))).await?;
    kill(w, cluster).await?;
    w.backup_failed(&name, Reason::Interrupted).await?;
    let log = words(app).await?;
    ensure!(is_thawed(&log), "it is still frozen: {log:?}");
    let snapshots = w.api::<VolumeSnapshot>().list(&ListParams::default()).await?.items.len();
    ensure!(snapshots == 0, "there are {snapshots} snapshots of a freeze that was interrupted");
    Ok(())
}

/// The storage refuses until the controller has been killed: the next one still holds the freeze, or ends it at the limit.
async fn while_frozen(w: &World, cluster: &Cluster, app: &Running) -> Result<()> {
    let handle = w.volume_handle("data").await?;
    cluster.fail_for("CreateSnapshot", &handle, "not yet").await?;
    let name = w.backup_as(&["data"], false).await?;
    let api = w.api::<Backup>();
    let frozen = |b: &Backup| b.status.as_ref().and_then(|s| s.quiesce.as_ref()).is_some_and(|q| q.phase == QuiescePhase::Frozen);
    until_polled("it is frozen", DEADLINE, async || Ok(frozen(&api.get(&name).await?).then_some(()))).await?;
    kill(w, cluster).await?;
    cluster.mend_for("CreateSnapshot", &handle).await?;
    let status = w.backup_ended(&name).await?.status.unwrap_or_default();
    let log = words(app).await?;
    ensure!(is_thawed(&log), "it is still frozen: {log:?}");
    let quiesce = status.quiesce.clone().unwrap_or_default();
    let snapshots = w.api::<VolumeSnapshot>().list(&ListParams::default()).await?.items.len();
    let expected = match quiesce.release {
        Some(Release::Cut) => status.volumes.iter().all(|v| v.quiesced == Some(true)) && status.phase.is_final() && snapshots == 1,
        Some(Release::FreezeLimit) => status.reason == Some(Reason::FreezeLimit) && snapshots == 0,
        Some(Release::HookFailed | Release::Interrupted | Release::Deleted) | None => false,
    };
    ensure!(expected && quiesce.debts() == 0, "{snapshots} snapshots, and {status:#?}");
    Ok(())
}
