//! What dies while borg works, and what becomes of the archive: the agent, the chart's Borg server, the report of a success.

use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, BorgRunStatus, RunPhase, VolumeStatus};
use borgherd_api::names;
use borgherd_e2e::{App, BORG_CREATE, Claim, Cluster, DEADLINE, Node, Turnstile, World, exclusive, until, until_polled};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use std::time::Duration;

pub(super) const AGENT: &str = "/usr/local/bin/borgherd-agent run";

/// A PVC with 8 MB that borg takes some 8 s to send. Returns the repository's folder on the server.
pub(super) async fn slow(w: &World) -> Result<String> {
    let (folder, location) = w.fresh_place("slow").await?;
    let spec = json!({ "location": location, "secretRef": "borgherd-server", "rateLimit": 1000 });
    let repository = w.repository_with("slow", spec).await?;
    w.claim(Claim::new("data").annotation("repository", &repository)).await?;
    let app = w.app(App::new("app").mount("data", "/data")).await?;
    app.sh("head -c 8000000 /dev/urandom >/data/file && sync").await?;
    Ok(folder)
}

/// A borg that has opened the repository and is sending its archive.
struct Begun {
    backup: String,
    uid: String,
    node: Node,
    agent: Pod,
    agent_uid: String,
    borg: u32,
}

impl Begun {
    async fn new(w: &World, cluster: &Cluster, folder: &str) -> Result<Self> {
        let backup = w.backup(&["data"]).await?;
        let uid = w.api::<borgherd_api::crd::Backup>().get(&backup).await?.uid().unwrap_or_default();
        let run = until_run(w, &uid, 1, "borg runs", |s| s.phase == RunPhase::Running).await?;
        let agent = w.agent_on(&run.spec.node).await?;
        let (agent_uid, node) = (agent.uid().unwrap_or_default(), cluster.node(&run.spec.node));
        let borg = node.process(&agent_uid, BORG_CREATE).await?;
        // not by its progress: borg tells it when it has read, which for so little is long before it has sent
        until_polled("borg has locked the repository", DEADLINE, async || Ok(w.is_locked(folder).await?.then_some(()))).await?;
        Ok(Self { backup, uid, node, agent, agent_uid, borg })
    }

    async fn kill_agent(&self) -> Result<()> {
        self.node.kill(&self.agent_uid, AGENT, "KILL").await.map(drop)
    }

    /// Waits until borg has ended; asks the node only.
    async fn borg_gone(&self) -> Result<()> {
        let gone = async || Ok(self.node.pids(&self.agent_uid, BORG_CREATE).await?.is_empty().then_some(()));
        until_polled("borg has ended", DEADLINE, gone).await
    }

    /// The backup's volume after its success; `attempts` it took, and one archive is in `folder`, which nobody has locked.
    async fn succeeded(&self, w: &World, folder: &str, attempts: u32) -> Result<VolumeStatus> {
        let mut volumes = w.backup_succeeded(&self.backup).await?;
        let volume = volumes.pop().context("the Backup has no volume")?;
        ensure!(volume.attempt == attempts, "expected success with attempt {attempts}, it was {}", volume.attempt);
        let expected = names::archive(&w.namespace, "data", volume.cut.context("no cut")?);
        let archives = w.archives_in(folder).await?;
        ensure!(archives == [expected.clone()], "expected the archive {expected} alone, found {archives:?}");
        ensure!(!w.is_locked(folder).await?, "the repository is still locked");
        let free = async || Ok(self.node.slots_held().await?.is_empty().then_some(()));
        until_polled("no slot of the node is held", DEADLINE, free).await?;
        Ok(volume)
    }
}

/// Waits for the run of an attempt, which lives shortly.
async fn until_run(w: &World, backup_uid: &str, attempt: u32, what: &str, holds: impl Fn(&BorgRunStatus) -> bool) -> Result<BorgRun> {
    let name = names::run(&names::temporary(backup_uid, "data"), attempt);
    let runs = w.api_own::<BorgRun>();
    let status = |r: &BorgRun| r.status.as_ref().is_some_and(&holds);
    until(&runs, &name, what, DEADLINE, |r| r.is_some_and(status)).await?.context("seen and yet absent")
}

/// Stops a process in a way that even SIGKILL does not end: as one that waits for a disk.
async fn freeze(node: &Node, pid: u32) -> Result<bool> {
    let script = format!(
        "cd /sys/fs/cgroup/freezer 2>/dev/null || exit 0
        mkdir -p e2e-{pid} && echo {pid} >e2e-{pid}/tasks && echo FROZEN >e2e-{pid}/freezer.state && echo frozen"
    );
    Ok(node.sh(&script).await?.trim() == "frozen")
}

async fn thaw(node: &Node, pid: u32) -> Result<()> {
    node.sh(&format!("echo THAWED >/sys/fs/cgroup/freezer/e2e-{pid}/freezer.state")).await.map(drop)
}

async fn remove_freezer(node: &Node, pid: u32) -> Result<()> {
    let gone = async || Ok(node.sh(&format!("rmdir /sys/fs/cgroup/freezer/e2e-{pid}")).await.ok());
    until_polled("the freezer is empty", Duration::from_secs(20), gone).await.map(drop)
}

#[test]
fn a_killed_agents_slot_is_held_until_borg_is_gone_and_the_interrupted_run_is_tried_again() -> Result<()> {
    let name = "a_killed_agents_slot_is_held_until_borg_is_gone_and_the_interrupted_run_is_tried_again";
    exclusive(name, async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow(w).await?;
        let begun = Box::pin(Begun::new(w, &cluster, &folder)).await?;
        let held = begun.node.slots_held().await?;
        let [slot] = held.as_slice() else {
            anyhow::bail!("one run works on {}, but the slots {held:?} are held", begun.node.name());
        };
        let look = format!("readlink /proc/{}/exe || echo gone", begun.borg);
        let (interrupted, at_release, killed) = tokio::join!(
            until_run(w, &begun.uid, 1, "has ended", |s| s.phase.is_final()),
            begun.node.once_slot_free(*slot, &look),
            Box::pin(kill_agent_with_stuck_borg(w, &begun, *slot)),
        );
        killed?;
        let at_release = at_release?;
        ensure!(at_release.trim() == "gone", "the slot was let go while borg was there: {at_release}");
        let status = interrupted?.status.unwrap_or_default();
        ensure!(
            (status.phase, status.reason) == (RunPhase::Interrupted, Some(Reason::Interrupted)),
            "the run should have ended as interrupted: {status:#?}"
        );
        begun.succeeded(w, &folder, 2).await.map(drop)
    })
}

/// Kills the agent while its borg cannot die; the slot must stay held and the run must not be over, until borg can.
async fn kill_agent_with_stuck_borg(w: &World, begun: &Begun, slot: usize) -> Result<()> {
    let node = &begun.node;
    let agent = node.process(&begun.agent_uid, AGENT).await?;
    let frozen = freeze(node, begun.borg).await?;
    begun.kill_agent().await?;
    if !frozen {
        eprintln!("this kernel has no freezer of cgroup v1: borg dies together with its agent");
        return Ok(());
    }
    let checked = async {
        let look = format!("[ \"$(ls /proc/{agent}/fd 2>/dev/null | wc -l)\" = 0 ] && echo closed || true");
        let closed = async || Ok((node.sh(&look).await?.trim() == "closed").then_some(()));
        until_polled("the agent's own descriptors are closed", DEADLINE, closed).await?;
        let held = node.slots_held().await?;
        ensure!(held == [slot], "borg still lives, but of the slots {held:?} are held and not {slot}");
        let runs = w.api_own::<BorgRun>().list(&ListParams::default()).await?;
        let phases: Vec<_> = runs.iter().map(|r| r.status.clone().unwrap_or_default().phase).collect();
        ensure!(phases == [RunPhase::Running], "borg still lives, but the runs are {phases:?}");
        Ok(())
    };
    let checked = checked.await;
    thaw(node, begun.borg).await?;
    remove_freezer(node, begun.borg).await?;
    checked
}

#[test]
fn a_borg_server_killed_mid_archive_leaves_no_lock_and_the_next_try_succeeds() -> Result<()> {
    exclusive("a_borg_server_killed_mid_archive_leaves_no_lock_and_the_next_try_succeeds", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow(w).await?;
        let begun = Box::pin(Begun::new(w, &cluster, &folder)).await?;
        let pods = w.api_own::<Pod>().list(&ListParams::default()).await?.items;
        let server = pods.into_iter().find(|p| p.name_any().starts_with("borgherd-server-")).context("no server")?;
        let node = cluster.node(server.spec.as_ref().and_then(|s| s.node_name.as_deref()).context("no node")?);
        node.kill(&server.uid().unwrap_or_default(), "sshd -D", "KILL").await?;
        let failed = w.volume_until(&begun.backup, "data", "the attempt has failed", |v| v.reason.is_some() || v.outcome.is_some()).await?;
        ensure!(
            failed.reason == Some(Reason::ConnectionFailed) && failed.outcome.is_none(),
            "expected ConnectionFailed and another try, found {failed:#?}"
        );
        begun.succeeded(w, &folder, 2).await.map(drop)
    })
}

#[test]
fn a_success_that_could_not_be_reported_while_the_api_server_was_away_stays_one() -> Result<()> {
    exclusive("a_success_that_could_not_be_reported_while_the_api_server_was_away_stays_one", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow(w).await?;
        let begun = Box::pin(Begun::new(w, &cluster, &folder)).await?;
        cluster.signal("apiserver", "STOP").await?;
        let gone = begun.borg_gone().await;
        cluster.signal("apiserver", "CONT").await?;
        gone?;
        // with its first attempt: the run itself is soon gone, and a watch that begins now may miss its end
        begun.succeeded(w, &folder, 1).await.map(drop)
    })
}

#[test]
fn a_success_whose_agent_was_killed_before_its_report_is_found_by_the_next_try() -> Result<()> {
    exclusive("a_success_whose_agent_was_killed_before_its_report_is_found_by_the_next_try", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let folder = slow(w).await?;
        let lost = w.turnstile(async |turnstile: &Turnstile| {
            turnstile.close("report", &["borgruns Succeeded".to_owned()]).await?;
            let begun = Box::pin(Begun::new(w, &cluster, &folder)).await?;
            let refused = async || Ok(turnstile.has_refused(&begun.agent.name_any(), "report").await?.then_some(()));
            until_polled("the agent's report of the success is refused", DEADLINE, refused).await?;
            begun.kill_agent().await?;
            turnstile.open().await?;
            let run = until_run(w, &begun.uid, 1, "has ended", |s| s.phase.is_final()).await?;
            let phase = run.status.unwrap_or_default().phase;
            ensure!(phase == RunPhase::Interrupted, "a run without report should end as interrupted, it is {phase:?}");
            let run = until_run(w, &begun.uid, 2, "the next try has ended", |s| s.phase.is_final()).await?;
            let status = run.status.unwrap_or_default();
            let existed = status.archive.as_ref().is_some_and(|a| a.existed);
            ensure!(status.phase == RunPhase::Succeeded && existed, "the next try should have found the archive of the first: {status:#?}");
            begun.succeeded(w, &folder, 2).await
        });
        Box::pin(lost).await.map(drop)
    })
}
