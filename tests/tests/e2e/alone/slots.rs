//! Slots: how many runs a node does at once, and that other programs count.

use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{Backup, BorgRun, BorgRunStatus, RunPhase};
use borgherd_api::names;
use borgherd_e2e::{App, BORG_CREATE, Claim, DEADLINE, Node, World, exclusive, states, until};
use kube::ResourceExt;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Everything happens on one node: the others take no pods meanwhile.
struct Alone<'a> {
    w: &'a World,
    node: Node,
}

/// A run under way.
struct Run {
    backup: String,
    name: String,
}

#[test]
fn slots_keep_runs_of_one_node_apart_wait_for_foreign_holders_and_are_taken_as_soon_as_one_is_free() -> Result<()> {
    let name = "slots_keep_runs_of_one_node_apart_wait_for_foreign_holders_and_are_taken_as_soon_as_one_is_free";
    exclusive(name, async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let (_, location) = w.fresh_place("slots").await?;
        // so slow that borg can be stopped while it works
        let spec = json!({ "location": format!("{location}/{{pvc}}"), "secretRef": "borgherd-server", "rateLimit": 2000 });
        let repository = w.repository_with("slow", spec).await?;
        for pvc in ["a", "b"] {
            w.claim(Claim::new(pvc).annotation("repository", &repository)).await?;
        }
        let app = w.app(App::new("app").mount("a", "/a").mount("b", "/b")).await?;
        app.sh("for f in /a/file /b/file; do head -c 4000000 /dev/urandom >$f; done; sync").await?;
        let alone = Alone { w, node: cluster.node(&app.node) };
        w.close_other_nodes(&app.node).await?;
        let done = async {
            w.release().with(&["agent.slots=1"], async || Box::pin(alone.one_slot()).await).await.context("with one slot")?;
            w.release().with(&["agent.slots=2"], async || Box::pin(alone.two_slots()).await).await.context("with two slots")
        };
        let done = Box::pin(done).await;
        w.open_all_nodes().await?;
        done
    })
}

#[test]
fn volumes_that_no_earlier_archive_binds_to_a_node_are_shared_out() -> Result<()> {
    exclusive("volumes_that_no_earlier_archive_binds_to_a_node_are_shared_out", async |w: &World| {
        let volumes = ["a", "b", "c", "d"];
        for pvc in volumes {
            w.claim(Claim::new(pvc)).await?;
        }
        let mut app = App::new("app");
        for pvc in volumes {
            app = app.mount(pvc, &format!("/{pvc}"));
        }
        w.app(app).await?;
        let nodes = async || -> Result<BTreeMap<String, String>> {
            let backup = w.backup(&volumes).await?;
            let archived = w.backup_succeeded(&backup).await?;
            Ok(archived.into_iter().filter_map(|v| Some((v.pvc, v.node?))).collect())
        };
        let first = nodes().await?;
        let used = first.values().collect::<BTreeSet<_>>().len();
        ensure!(used > 1, "all slots but those of one node stood idle: {first:?}");
        let second = nodes().await?;
        ensure!(second == first, "each volume should be read where Borg knows it: {first:?}, then {second:?}");
        Ok(())
    })
}

fn has_begun(phase: RunPhase) -> bool {
    !matches!(phase, RunPhase::Pending | RunPhase::Queued)
}

impl Alone<'_> {
    async fn begin(&self, pvc: &str) -> Result<Run> {
        let backup = self.w.backup(&[pvc]).await?;
        let uid = self.w.api::<Backup>().get(&backup).await?.uid().unwrap_or_default();
        Ok(Run { backup, name: names::run(&names::temporary(&uid, pvc), 1) })
    }

    async fn until(&self, run: &Run, what: &str, holds: impl Fn(&BorgRunStatus) -> bool) -> Result<BorgRunStatus> {
        let runs = self.w.api_own::<BorgRun>();
        let seen = until(&runs, &run.name, what, DEADLINE, |r| r.and_then(|r| r.status.as_ref()).is_some_and(&holds)).await?;
        seen.and_then(|r| r.status).context("seen and yet absent")
    }

    /// Waits until a run waits for a slot, and checks that it says so.
    async fn waits(&self, run: &Run) -> Result<()> {
        let status = self.until(run, "waits for a slot", |s| s.phase != RunPhase::Pending).await?;
        let message = status.message.unwrap_or_default();
        ensure!(
            status.phase == RunPhase::Queued && message == "Waits for a slot.",
            "it should wait for a slot, but is {:?}: {message}",
            status.phase
        );
        Ok(())
    }

    async fn borgs(&self) -> Result<Vec<u32>> {
        let agent = self.w.agent_on(self.node.name()).await?;
        self.node.pids(&agent.uid().unwrap_or_default(), BORG_CREATE).await
    }

    /// Waits until a run's borg works, and stops it. No other borg may work.
    async fn stop_borg(&self, run: &Run) -> Result<u32> {
        self.until(run, "runs", |s| s.phase == RunPhase::Running).await?;
        let agent = self.w.agent_on(self.node.name()).await?;
        let borg = self.node.process(&agent.uid().unwrap_or_default(), BORG_CREATE).await?;
        self.node.sh(&format!("kill -STOP {borg}")).await?;
        Ok(borg)
    }

    async fn one_slot(&self) -> Result<()> {
        self.w.slots_become(self.node.name(), 1).await?;
        let foreign = self.node.take_slot(1).await?;
        let first = self.begin("a").await?;
        self.waits(&first).await.context("while another program holds the slot")?;
        let second = self.begin("b").await?;
        self.waits(&second).await.context("while another program holds the slot")?;
        ensure!(self.borgs().await?.is_empty(), "a borg works though another program holds the only slot");
        foreign.release().await?;
        let borg = self.stop_borg(&first).await?;
        let status = self.until(&second, "is there", |_| true).await?;
        ensure!(status.phase == RunPhase::Queued, "the first run is not over, but the second is {:?}", status.phase);
        let borgs = self.borgs().await?;
        ensure!(borgs == [borg], "with one slot there should be the one borg {borg}, but there are {borgs:?}");
        let (ended, began) = tokio::join!(self.until(&first, "is over", |s| s.phase.is_final()), async {
            self.node.sh(&format!("kill -CONT {borg}")).await?;
            self.until(&second, "runs", |s| has_begun(s.phase)).await
        },);
        let (ended, began) = (ended?, began?);
        let (from, took) = (ended.started_at.context("no start")?, ended.borg_seconds.context("borg took no time")?);
        let end = from + Duration::from_secs_f64(took);
        ensure!(began.started_at >= Some(end), "the second run began at {:?}, before the first's borg ended at {end}", began.started_at);
        self.w.backup_succeeded(&first.backup).await?;
        self.w.backup_succeeded(&second.backup).await.map(drop)
    }

    async fn two_slots(&self) -> Result<()> {
        self.w.slots_become(self.node.name(), 2).await?;
        let foreign = self.node.take_slot(1).await?;
        let first = self.begin("a").await?;
        let runs = self.w.api_own::<BorgRun>();
        let running = |r: &BorgRun| r.status.as_ref().is_some_and(|s| has_begun(s.phase));
        let phases = states(&runs, &first.name, DEADLINE, running).await?;
        let phases: Vec<_> = phases.into_iter().map(|r| r.status.unwrap_or_default().phase).collect();
        ensure!(!phases.contains(&RunPhase::Queued), "a slot was free, but the run waited: {phases:?}");
        let borg = self.stop_borg(&first).await?;
        let second = self.begin("b").await?;
        self.waits(&second).await.context("while one slot is another program's and one the first run's")?;
        foreign.release().await?;
        self.w.backup_succeeded(&second.backup).await.context("in the slot that another program let go")?;
        let status = self.until(&first, "is there", |_| true).await?;
        ensure!(status.phase == RunPhase::Running, "its borg is stopped, but the first run is {:?}", status.phase);
        self.node.sh(&format!("kill -CONT {borg}")).await?;
        self.w.backup_succeeded(&first.backup).await.map(drop)
    }
}
