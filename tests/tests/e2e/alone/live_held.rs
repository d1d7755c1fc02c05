//! What dies or goes while a holder has a live volume: nothing of it is left, and its storage is untouched.

use super::live_kills::is_let_go;
use crate::live::{local, one, own_borg, restored, slow_of, some_node};
use crate::live_held::{Source, no_twin, shared, source};
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Backup, VolumePhase, VolumeStatus};
use borgherd_e2e::{App, Cluster, DEADLINE, Node, Turnstile, World, exclusive, same, until_polled};
use k8s_openapi::api::core::v1::{Node as KubeNode, PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use std::time::{Duration, Instant};

const PROGRAM: &str = "/usr/local/bin/borgherd-controller";

/// What the volume holds, and what is said of it.
struct Kept {
    source: Source,
    sum: String,
    handle: String,
}

const SUM: &str = "md5sum </data/noise";

/// Fills PVC `data` and stops the pod that did.
async fn filled(w: &World, bytes: u32) -> Result<Kept> {
    let app = w.app(App::new("app").mount("data", "/data")).await?;
    app.sh(&format!("head -c {bytes} /dev/urandom >/data/noise; sync")).await?;
    let sum = app.sh(SUM).await?;
    app.stop().await?;
    Ok(Kept { source: source(w).await?, sum, handle: w.volume_handle("data").await? })
}

impl Kept {
    /// The storage and the PersistentVolume are as they were.
    async fn is_untouched(&self, w: &World, cluster: &Cluster) -> Result<()> {
        let now = source(w).await?;
        ensure!(self.source == now, "the PersistentVolume was {:#?}, and is {now:#?}", self.source);
        ensure!(cluster.stored_volumes().await?.contains(&self.handle), "the storage is gone");
        let app = w.app(App::new("after").mount("data", "/data")).await?;
        let sum = app.sh(SUM).await?;
        ensure!(sum == self.sum, "the data were changed");
        app.stop().await
    }
}

/// The Backup's borg, stopped while it reads by the mount of the holder on a node.
async fn stopped(w: &World, cluster: &Cluster, backup: &str) -> Result<(Node, String)> {
    let reads = |v: &VolumeStatus| v.phase == VolumePhase::Archiving && v.node.is_some();
    let volume = w.volume_until(backup, "data", "is read", reads).await?;
    let name = volume.node.context("no node")?;
    let (node, agent) = (cluster.node(&name), w.agent_on(&name).await?.uid().unwrap_or_default());
    node.process(&agent, &own_borg(w)).await?;
    node.kill(&agent, &own_borg(w), "STOP").await?;
    Ok((node, agent))
}

#[test]
fn live_without_a_pod_a_deleted_backup_lets_go_and_leaves_nothing() -> Result<()> {
    exclusive("live_without_a_pod_a_deleted_backup_lets_go_and_leaves_nothing", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        slow_of(w, shared("data")).await?;
        let kept = filled(w, 2_000_000).await?;
        let name = w.backup(&["data"]).await?;
        let (node, _) = stopped(w, &cluster, &name).await?;
        drop(w.api::<Backup>().delete(&name, &DeleteParams::default()).await?);
        no_twin(w).await?;
        is_let_go(&node, &w.volume_of("data").await?, &kept.handle).await?;
        kept.is_untouched(w, &cluster).await
    })
}

#[test]
fn live_without_a_pod_a_pvc_that_is_deleted_ends_the_try_and_its_own_policy_decides() -> Result<()> {
    exclusive("live_without_a_pod_a_pvc_that_is_deleted_ends_the_try_and_its_own_policy_decides", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        slow_of(w, shared("data")).await?;
        let kept = filled(w, 2_000_000).await?;
        let name = w.backup(&["data"]).await?;
        let (node, _) = stopped(w, &cluster, &name).await?;
        let pv = w.volume_of("data").await?;
        drop(w.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await?);
        let message = w.backup_failed(&name, Reason::PvcNotFound).await?;
        ensure!(message.contains("was deleted while it was read"), "{message}");
        no_twin(w).await?;
        is_let_go(&node, &pv, &kept.handle).await?;
        let gone = async || Ok((!cluster.stored_volumes().await?.contains(&kept.handle)).then_some(()));
        until_polled("its storage goes, as its class says", DEADLINE, gone).await
    })
}

/// What the controller is about to do when it is killed: before each thing that is made, and before each that is taken away.
const POINTS: [&str; 13] = [
    "backups Cloning",
    "CREATE persistentvolumes",
    "CREATE persistentvolumeclaims VOLUMES",
    "CREATE pods VOLUMES",
    "CREATE borgruns OWN",
    "backups Queued",
    "backups Archiving",
    "backups Cleaning",
    "DELETE borgruns OWN",
    "DELETE pods VOLUMES",
    "DELETE persistentvolumeclaims VOLUMES",
    "DELETE persistentvolumes",
    "backups Finished",
];

#[test]
fn live_without_a_pod_a_controller_killed_at_each_step_leaves_one_archive_and_nothing_else() -> Result<()> {
    exclusive("live_without_a_pod_a_controller_killed_at_each_step_leaves_one_archive_and_nothing_else", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow_of(w, shared("data")).await?;
        let kept = filled(w, 500_000).await?;
        let name = w.turnstile(async |turnstile: &Turnstile| walk(w, &cluster, turnstile).await).await?;
        let volume = one(w, &name).await?;
        ensure!(volume.attempt == 1 && volume.live.is_some_and(|live| live.held), "read in attempt {}", volume.attempt);
        let archives = w.archives_in(&folder).await?;
        ensure!(archives == [volume.archive.context("no archive")?], "found {archives:?}");
        no_twin(w).await?;
        kept.is_untouched(w, &cluster).await?;
        let sum = restored(w).await?.sh(SUM).await?;
        ensure!(sum == kept.sum, "restored was something else");
        Ok(())
    })
}

async fn walk(w: &World, cluster: &Cluster, turnstile: &Turnstile<'_>) -> Result<String> {
    let pod = w.controllers().await?.into_iter().next().context("no controller")?;
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let node = cluster.node(pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).context("no node")?);
    let place = |what: &str| what.replace("VOLUMES", w.volumes_namespace()).replace("OWN", w.own_namespace());
    turnstile.close(POINTS[0], &[place(POINTS[0])]).await?;
    let backup = w.backup(&["data"]).await?;
    for (index, point) in POINTS.iter().enumerate() {
        let refused = async || Ok(turnstile.has_refused(&name, point).await?.then_some(()));
        until_polled("the controller is there", DEADLINE, refused).await.with_context(|| format!("before {point:?}"))?;
        let killed = node.kill(&uid, PROGRAM, "KILL").await?;
        match POINTS.get(index + 1) {
            Some(next) => turnstile.close(next, &[place(next)]).await?,
            None => turnstile.open().await?,
        }
        let again = async || Ok(node.pids(&uid, PROGRAM).await?.iter().any(|pid| !killed.contains(pid)).then_some(()));
        until_polled("the kubelet has started the controller again", DEADLINE, again).await?;
    }
    Ok(backup)
}

#[test]
fn live_without_a_pod_an_application_that_starts_has_the_volume_and_is_read_through() -> Result<()> {
    exclusive("live_without_a_pod_an_application_that_starts_has_the_volume_and_is_read_through", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let nodes: Vec<String> = w.api_all::<KubeNode>().list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
        slow_of(w, shared("data")).await?;
        let kept = filled(w, 2_000_000).await?;
        for same in [true, false] {
            let name = w.backup(&["data"]).await?;
            // borg stays stopped: it must not take borg's help to let go
            let (held_on, _) = stopped(w, &cluster, &name).await?;
            let node = nodes.iter().find(|node| (node.as_str() == held_on.name()) == same).context("needs two nodes")?;
            let began = Instant::now();
            let app = w.app(App::new("app").mount("data", "/data").on(node)).await?;
            let runs = began.elapsed();
            let again = |v: &VolumeStatus| v.live.as_ref().is_some_and(|l| l.void.len() == 1) && v.reason == Some(Reason::PodStarted);
            let told = w.volume_until(&name, "data", "the holder's part has ended", again).await?;
            ensure!(told.message.as_ref().is_some_and(|m| m.contains("pod app uses the volume now")), "{told:#?}");
            no_twin(w).await?;
            let gone = began.elapsed();
            eprintln!(
                "same node {same}: the application ran after {:.1} s, the twin was gone after {:.1} s",
                runs.as_secs_f64(),
                gone.as_secs_f64()
            );
            ensure!(runs < Duration::from_secs(30), "the application was kept waiting for {runs:?}");
            let volume = one(w, &name).await?;
            let live = volume.live.clone().context("not told as live")?;
            ensure!(volume.attempt == 2 && !live.held && live.pod_uid.as_ref() == Some(&app.uid), "{volume:#?}");
            ensure!(volume.node.as_ref() == Some(node), "read on {:?}", volume.node);
            app.stop().await?;
        }
        kept.is_untouched(w, &cluster).await?;
        let sum = restored(w).await?.sh(SUM).await?;
        ensure!(sum == kept.sum, "restored was something else");
        Ok(())
    })
}

/// On the node; what is directly in it may be held.
const FOLDER: &str = "/var/lib/kubelet/e2e-disks";

#[test]
fn live_without_a_pod_a_local_volume_is_held_where_the_chart_says_so() -> Result<()> {
    exclusive("live_without_a_pod_a_local_volume_is_held_where_the_chart_says_so", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let name = some_node(w).await?;
        let node = cluster.node(&name);
        node.sh(&format!("rm -rf {FOLDER} && mkdir -p {FOLDER}/disk")).await?;
        let pv = local(w, &name, json!({ "local": { "path": format!("{FOLDER}/disk") } })).await?;
        let outcome = held_local(w, &name).await;
        drop(w.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await?);
        drop(w.api_all::<PersistentVolume>().delete(&pv, &DeleteParams::default()).await?);
        node.sh(&format!("rm -rf {FOLDER}")).await?;
        outcome
    })
}

async fn held_local(w: &World, node: &str) -> Result<()> {
    let app = w.app(App::new("app").mount("data", "/data")).await?;
    app.make_awkward_tree("/data/tree").await?;
    let expected = app.fingerprint("/data").await?;
    app.stop().await?;
    let backup = w.backup(&["data"]).await?;
    let waits = |v: &VolumeStatus| v.reason == Some(Reason::PodNotFound) && v.phase == VolumePhase::Waiting;
    let told = w.volume_until(&backup, "data", "waits for a pod", waits).await?;
    ensure!(told.message.as_ref().is_some_and(|m| m.contains("holder.live.localPaths")), "{told:#?}");
    drop(w.api::<Backup>().delete(&backup, &DeleteParams::default()).await?);
    let before = source(w).await?;
    let values = format!("holder.live.localPaths={{/mnt/none,{FOLDER}}}");
    w.release()
        .with(&[&values], async || {
            let backup = w.backup(&["data"]).await?;
            let volume = one(w, &backup).await?;
            ensure!(volume.live.as_ref().is_some_and(|live| live.held) && volume.node.as_deref() == Some(node), "{volume:#?}");
            no_twin(w).await
        })
        .await?;
    ensure!(before == source(w).await?, "the PersistentVolume was changed");
    let app = w.app(App::new("app").mount("data", "/data")).await?;
    same(&expected, &app.fingerprint("/data").await?).context("the volume was changed by reading it")?;
    app.stop().await?;
    same(&expected, &restored(w).await?.fingerprint("/data").await?)
}
