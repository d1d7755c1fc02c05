//! What dies or goes while a live volume is read: its pod, the agent, the controller, the Backup. It ends thawed, and is read as a whole in the end.

use super::agent_kills::AGENT;
use super::quiesce_kills::kill;
use crate::live::{HOOKS, WRITER, one, own_borg, restored, slow};
use crate::quiesce::settled;
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{Backup, BorgRun, VolumeStatus};
use borgherd_api::names;
use borgherd_e2e::{App, Cluster, DEADLINE, Node, Running, World, exclusive, until_polled};
use k8s_openapi::api::core::v1::{ConfigMap, Node as KubeNode, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use std::time::Duration;

/// A borg that is stopped in the middle of reading, while the application is held still.
struct Reading {
    backup: String,
    node: Node,
    agent: String,
    folder: String,
}

impl Reading {
    async fn begin(w: &World, cluster: &Cluster, app: &Running, folder: &str) -> Result<Self> {
        let backup = w.backup(&["data"]).await?;
        let (node, agent) = (cluster.node(&app.node), w.agent_on(&app.node).await?.uid().unwrap_or_default());
        node.process(&agent, &own_borg(w)).await?;
        node.kill(&agent, &own_borg(w), "STOP").await?;
        ensure!(log(app).await?.ends_with("freeze"), "it should be held still while it is read: {}", log(app).await?);
        Ok(Self { backup, node, agent, folder: folder.to_owned() })
    }

    async fn go_on(&self, w: &World) -> Result<()> {
        self.node.kill(&self.agent, &own_borg(w), "CONT").await.map(drop)
    }

    /// It succeeded with this attempt, held still for the whole of it; archives of other moments do not count.
    async fn succeeded(&self, w: &World, attempt: u32) -> Result<VolumeStatus> {
        let volume = one(w, &self.backup).await?;
        ensure!(volume.attempt == attempt && volume.quiesced == Some(true), "{volume:#?}");
        let quiesce = settled(w, &self.backup).await?;
        ensure!(quiesce.attempt == Some(attempt), "{quiesce:#?}");
        let archive = names::archive(&w.namespace, "data", volume.cut.context("no moment")?);
        ensure!(volume.archive.as_ref() == Some(&archive), "{volume:#?}");
        let whole: Vec<String> = w.archives_in(&self.folder).await?.into_iter().filter(|name| !name.contains(".checkpoint")).collect();
        ensure!(whole.contains(&archive), "{archive} is not among {whole:?}");
        Ok(volume)
    }
}

async fn log(app: &Running) -> Result<String> {
    app.sh("cat /tmp/log 2>/dev/null || true").await
}

async fn application(w: &World, node: Option<&str>) -> Result<Running> {
    let app = App::new("app").mount("data", "/data").script(WRITER);
    let app = w.app(if let Some(node) = node { app.on(node) } else { app }).await?;
    app.sh("[ -e /data/noise ] || head -c 2000000 /dev/urandom >/data/noise").await?;
    Ok(app)
}

/// Both counters are the same in what was read: nobody wrote meanwhile.
async fn is_of_one_moment(w: &World) -> Result<()> {
    let read = restored(w).await?.sh("cat /data/one /data/two").await?;
    let (first, second) = read.split_once('\n').context("two lines")?;
    ensure!(first == second && !first.is_empty(), "read was {read}");
    Ok(())
}

/// The record of the repository says that archives of the failed tries are in doubt, should there be any, and the good one is not.
async fn does_not_count(w: &World, folder: &str, volume: &VolumeStatus) -> Result<()> {
    let void = volume.live.clone().context("not told as live")?.void;
    let records = ListParams::default().labels(&format!("{}=repository-record", names::COMPONENT));
    let tail = folder.trim_start_matches("/repositories/");
    let all = w.api_own::<ConfigMap>().list(&records).await?;
    let data = all.into_iter().filter_map(|map| map.data).find(|data| data.get("location").is_some_and(|l| l.ends_with(tail)));
    let data = data.context("the repository has no record")?;
    let doubtful = data.iter().find(|(key, _)| key.starts_with("doubtful.")).map(|(_, cuts)| cuts.clone()).unwrap_or_default();
    let wanted: Vec<String> = void.into_iter().map(names::archive_time).collect();
    ensure!(!wanted.is_empty() && wanted.iter().all(|at| doubtful.contains(at)), "{wanted:?} should be in {doubtful:?}");
    let good = names::archive_time(volume.cut.context("it has no cut")?);
    ensure!(!doubtful.contains(&good), "the good one of {good} is still in doubt: {doubtful}");
    Ok(())
}

/// No process on the node has the volume mounted any more.
pub(super) async fn is_let_go(node: &Node, pv: &str, handle: &str) -> Result<()> {
    let look = format!("grep -ls -e {pv} -e {handle} /proc/[0-9]*/mountinfo || true");
    let free = async || Ok(node.sh(&look).await?.trim().is_empty().then_some(()));
    until_polled("nobody has the volume mounted where the pod was", DEADLINE, free).await
}

#[test]
fn live_a_pod_that_moves_while_it_is_read_is_read_again_where_it_is_then() -> Result<()> {
    exclusive("live_a_pod_that_moves_while_it_is_read_is_read_again_where_it_is_then", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow(w, Some(HOOKS)).await?;
        let nodes: Vec<String> = w.api_all::<KubeNode>().list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
        let [first, second, ..] = nodes.as_slice() else {
            return w.skip("needs two nodes");
        };
        let app = application(w, Some(first)).await?;
        let pv = w.bound("data").await?.spec.and_then(|s| s.volume_name).context("no volume")?;
        let handle = w.volume_handle("data").await?;
        let reading = Reading::begin(w, &cluster, &app, &folder).await?;
        // borg stays stopped: it must not take borg's help to let go
        app.stop().await?;
        let again = |v: &VolumeStatus| v.live.as_ref().is_some_and(|l| l.void.len() == 1);
        w.volume_until(&reading.backup, "data", "the first try came to nothing", again).await?;
        let began = std::time::Instant::now();
        is_let_go(&reading.node, &pv, &handle).await?;
        eprintln!("the volume was let go {:.1} s after the try had failed", began.elapsed().as_secs_f64());
        let app = application(w, Some(second)).await?;
        let volume = reading.succeeded(w, 2).await?;
        ensure!(volume.node.as_ref() == Some(second), "read on {:?}", volume.node);
        does_not_count(w, &folder, &volume).await?;
        ensure!(log(&app).await? == "freeze\nthaw", "{}", log(&app).await?);
        is_of_one_moment(w).await
    })
}

#[test]
fn live_a_container_that_is_restarted_holds_nothing_still_and_it_is_read_again() -> Result<()> {
    exclusive("live_a_container_that_is_restarted_holds_nothing_still_and_it_is_read_again", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow(w, Some(HOOKS)).await?;
        let app = application(w, None).await?;
        let reading = Reading::begin(w, &cluster, &app, &folder).await?;
        let writer: Vec<String> = reading.node.pids(&app.uid, "while :").await?.iter().map(u32::to_string).collect();
        // what it has just forked may be gone before it is killed
        reading.node.sh(&format!("kill -s KILL {} || true", writer.join(" "))).await?;
        let volume = reading.succeeded(w, 2).await?;
        ensure!(volume.live.is_some_and(|live| live.void.len() == 1), "the first try should count for nothing");
        is_of_one_moment(w).await
    })
}

#[test]
fn live_a_killed_agent_leaves_it_thawed_and_the_next_try_reads_it() -> Result<()> {
    exclusive("live_a_killed_agent_leaves_it_thawed_and_the_next_try_reads_it", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow(w, Some(HOOKS)).await?;
        let app = application(w, None).await?;
        let reading = Reading::begin(w, &cluster, &app, &folder).await?;
        reading.node.kill(&reading.agent, AGENT, "KILL").await?;
        reading.succeeded(w, 2).await?;
        ensure!(log(&app).await? == "freeze\nthaw\nfreeze\nthaw", "{}", log(&app).await?);
        is_of_one_moment(w).await
    })
}

#[test]
fn live_a_killed_controller_holds_on_until_all_is_read() -> Result<()> {
    exclusive("live_a_killed_controller_holds_on_until_all_is_read", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow(w, Some(HOOKS)).await?;
        let app = application(w, None).await?;
        let reading = Reading::begin(w, &cluster, &app, &folder).await?;
        kill(w, &cluster).await?;
        reading.go_on(w).await?;
        reading.succeeded(w, 1).await?;
        ensure!(log(&app).await? == "freeze\nthaw", "{}", log(&app).await?);
        is_of_one_moment(w).await?;
        while_freezing(w, &cluster, &app).await
    })
}

/// Nobody knows how the pre hook ended: it is thawed, and tried again with a freeze of its own.
async fn while_freezing(w: &World, cluster: &Cluster, app: &Running) -> Result<()> {
    let slow = HOOKS.replace("echo freeze >>/tmp/log", "echo freeze >>/tmp/log; sleep 5");
    w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(&slow))]).await?;
    app.sh("rm /tmp/log").await?;
    let name = w.backup(&["data"]).await?;
    until_polled("it freezes", DEADLINE, async || Ok((log(app).await? == "freeze").then_some(()))).await?;
    kill(w, cluster).await?;
    let volume = one(w, &name).await?;
    ensure!(volume.attempt == 2 && volume.quiesced == Some(true), "{volume:#?}");
    let quiesce = settled(w, &name).await?;
    ensure!(quiesce.attempt == Some(2), "{quiesce:#?}");
    let log = log(app).await?;
    ensure!(log == "freeze\nthaw\nfreeze\nthaw", "{log}");
    Ok(())
}

#[test]
fn live_a_deleted_backup_thaws_and_reads_no_further() -> Result<()> {
    exclusive("live_a_deleted_backup_thaws_and_reads_no_further", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow(w, Some(HOOKS)).await?;
        let app = application(w, None).await?;
        let reading = Reading::begin(w, &cluster, &app, &folder).await?;
        drop(w.api::<Backup>().delete(&reading.backup, &DeleteParams::default()).await?);
        let gone = async || Ok(w.api::<Backup>().get_opt(&reading.backup).await?.is_none().then_some(()));
        until_polled("the Backup is gone", DEADLINE, gone).await?;
        ensure!(log(&app).await? == "freeze\nthaw", "{}", log(&app).await?);
        let runs = async || {
            let all = w.api_own::<BorgRun>().list(&ListParams::default()).await?;
            Ok((!all.iter().any(|run| run.spec.owner.name == reading.backup)).then_some(()))
        };
        until_polled("its run is gone", Duration::from_secs(20), runs).await?;
        let ended = async || Ok(reading.node.pids(&reading.agent, &own_borg(w)).await?.is_empty().then_some(()));
        until_polled("its borg has ended, though it was stopped", Duration::from_secs(30), ended).await
    })
}
