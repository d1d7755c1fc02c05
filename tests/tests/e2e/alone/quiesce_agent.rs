//! SIGKILL of all agents while an application is held still, is let go, and is archived: no freeze ever depends on them.

use super::agent_kills::{AGENT, slow};
use crate::quiesce::{quiesce, settled};
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{Backup, BorgRun, QuiescePhase, Release, RunPhase};
use borgherd_api::names;
use borgherd_e2e::{Cluster, DEADLINE, World, exclusive, until_polled};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

const HOOKS: &str = "- pre: {in: pod/app, command: [sh, -c, 'echo freeze >>/tmp/log']}\n  \
                     post: {command: [sh, -c, 'echo thaw >>/tmp/log; sleep 3; echo thawed >>/tmp/log']}\n";

/// When they are killed.
#[derive(Clone, Copy, Debug)]
enum When {
    Frozen,
    Thawing,
    Archiving,
}

#[test]
fn quiesce_killed_agents_neither_prolong_a_freeze_nor_repeat_it() -> Result<()> {
    exclusive("quiesce_killed_agents_neither_prolong_a_freeze_nor_repeat_it", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        slow(w).await?;
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(HOOKS))]).await?;
        for when in [When::Frozen, When::Thawing, When::Archiving] {
            Box::pin(killed(w, &cluster, when)).await.with_context(|| format!("{when:?}"))?;
        }
        Ok(())
    })
}

async fn kill_agents(w: &World, cluster: &Cluster) -> Result<()> {
    for agent in w.agents().await? {
        let node = agent.spec.as_ref().and_then(|s| s.node_name.clone()).context("an agent on no node")?;
        cluster.node(&node).kill(&agent.uid().unwrap_or_default(), AGENT, "KILL").await?;
    }
    Ok(())
}

async fn killed(w: &World, cluster: &Cluster, when: When) -> Result<()> {
    let log = async || Ok::<_, anyhow::Error>(w.exec(&w.namespace, "app", "app", &["cat", "/tmp/log"]).await?.text());
    drop(w.exec(&w.namespace, "app", "app", &["rm", "-f", "/tmp/log"]).await?);
    let handle = w.volume_handle("data").await?;
    if matches!(when, When::Frozen) {
        cluster.fail_for("CreateSnapshot", &handle, "not yet").await?;
    }
    let name = w.backup(&["data"]).await?;
    let api = w.api::<Backup>();
    let runs = w.api_own::<BorgRun>();
    let run = names::run(&names::temporary(&api.get(&name).await?.uid().unwrap_or_default(), "data"), 1);
    let is_there = async || {
        let phase = quiesce(&api.get(&name).await?).ok().map(|q| q.phase);
        let archives = runs.get_opt(&run).await?.and_then(|r| r.status).is_some_and(|s| s.phase == RunPhase::Running);
        let is_time = match when {
            When::Frozen => phase == Some(QuiescePhase::Frozen),
            When::Thawing => log().await?.trim().ends_with("thaw"),
            When::Archiving => archives,
        };
        Ok(is_time.then_some(()))
    };
    let there = until_polled("it is time to kill the agents", DEADLINE, is_there).await;
    let killed = kill_agents(w, cluster).await;
    cluster.mend_for("CreateSnapshot", &handle).await?;
    there?;
    killed?;
    let volumes = w.backup_succeeded(&name).await?;
    ensure!(volumes.iter().all(|v| v.quiesced == Some(true) && v.archive.is_some()), "{volumes:#?}");
    let account = settled(w, &name).await?;
    ensure!(account.release == Some(Release::Cut), "released for {:?}", account.release);
    let written = log().await?;
    ensure!(written.trim() == "freeze\nthaw\nthawed", "{written}");
    Ok(())
}
