//! SIGKILL of the agent and of the controller in the middle of pruning, compacting and checking: it goes on or is done again, archives stay
//! whole, nothing is told that was not done, and no lock is left.

use super::agent_kills::AGENT;
use super::quiesce_kills;
use crate::checks::recorded;
use crate::maintenance::{fill, maintained};
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{Backup, MaintenancePhase};
use borgherd_e2e::{App, Claim, Cluster, DEADLINE, Node, Running, World, exclusive, until_polled};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Controller,
}

/// A PVC of which one archive stays, and its Borg repository, which is checked only when that is asked for.
struct Scene<'a> {
    w: &'a World,
    cluster: Cluster,
    folder: String,
    location: String,
    app: Running,
}

/// A borg that has locked the repository, and whose other half on the server is stopped there.
struct Held {
    node: Node,
    agent: String,
    borg: u32,
    /// Its pid on the server.
    serving: String,
}

/// Begins, on the server, to wait for whoever serves the repository next, and stops it as soon as it has the lock. Its pid stands in a file then.
const STOP_SERVING: &str = "rm -f 'FOLDER.served'; (
  while [ ! -e 'FOLDER.served' ]; do
    for p in /proc/[0-9]*; do
      tr '\\0' ' ' <$p/cmdline | grep -q '[p]ython3 [^ ]*borg serve' || continue
      p=${p#/proc/}
      while kill -0 $p; do
        if [ -e 'FOLDER/lock.exclusive' ]; then kill -STOP $p && echo $p >'FOLDER.served'; break; fi
      done
    done
    sleep 0.01
  done
) </dev/null >/dev/null 2>&1 &";

fn spec(location: &str, segments: &str) -> Value {
    let check = json!({ "repository": segments, "archives": "0s", "data": "0s" });
    json!({ "location": location, "secretRef": "borgherd-server", "check": check })
}

impl<'a> Scene<'a> {
    async fn new(w: &'a World, cluster: Cluster) -> Result<Self> {
        let (folder, location) = w.fresh_place("kept").await?;
        let repository = w.repository_with("kept", spec(&location, "0s")).await?;
        w.claim(Claim::new("data").size("50Mi").annotation("repository", &repository).annotation("archive-keep", "last=1")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        Ok(Self { w, cluster, folder, location, app })
    }

    /// What stands in the Backup's status about its archives.
    async fn phase(&self, backup: &str) -> Result<Option<MaintenancePhase>> {
        let status = self.w.api::<Backup>().get(backup).await?.status.unwrap_or_default();
        Ok(status.volumes.first().and_then(|volume| volume.maintenance.as_ref()).map(|maintenance| maintenance.phase))
    }

    /// Waits for the borg that does `what`, and stops it where it has locked the repository and the server works for it.
    async fn hold(&self, what: &str) -> Result<Held> {
        let agents = self.w.agents().await?;
        let node = |agent: &Pod| agent.spec.as_ref().and_then(|s| s.node_name.as_deref()).map(|name| self.cluster.node(name));
        let any = agents.first().and_then(node).context("no agent")?;
        // it lives for less than a second: looked for on the spot, and nodes see each other's processes
        let stop = format!(
            "n=0; while [ $n -lt 1200 ]; do
              p=$(pgrep -o -f '/[b]org --log-json --lock-wait=3 {what} ') && kill -STOP $p && echo $p && exit
              n=$((n + 1)); sleep 0.05
            done; exit 1"
        );
        let borg: u32 = any.sh(&stop).await.with_context(|| format!("no borg {what} runs"))?.trim().parse()?;
        let mut found = None;
        for agent in &agents {
            let (uid, node) = (agent.uid().unwrap_or_default(), node(agent).context("no node")?);
            if node.pids(&uid, &format!(" {what} ")).await?.contains(&borg) {
                found = Some((node, uid));
            }
        }
        let (node, agent) = found.context("it is no agent's")?;
        self.w.on_server(&STOP_SERVING.replace("FOLDER", &self.folder)).await?;
        node.sh(&format!("kill -CONT {borg}")).await?;
        let served = async || {
            let pid = self.w.on_server(&format!("cat '{}.served' 2>/dev/null || true", self.folder)).await?;
            Ok(Some(pid.trim().to_owned()).filter(|pid| !pid.is_empty()))
        };
        let serving = until_polled(&format!("borg {what} has locked the repository"), DEADLINE, served).await?;
        Ok(Held { node, agent, borg, serving })
    }

    /// Kills; then the server goes on, for whoever is still there.
    async fn kill(&self, victim: Victim, held: Held) -> Result<()> {
        let Held { node, agent, borg, serving } = held;
        let killed = async {
            if victim == Victim::Agent {
                node.kill(&agent, AGENT, "KILL").await?;
                let gone = async || Ok(node.sh(&format!("[ -e /proc/{borg} ] || echo gone")).await?.contains("gone").then_some(()));
                return until_polled("its borg is dead", DEADLINE, gone).await;
            }
            quiesce_kills::kill(self.w, &self.cluster).await?;
            quiesce_kills::back(self.w, &self.cluster).await
        };
        let killed = killed.await;
        self.w.on_server(&format!("kill -CONT {serving}")).await?;
        killed
    }

    /// Both stages after the second archive, each with a death in the middle.
    async fn prune_and_compact(&self, victim: Victim) -> Result<()> {
        let w = self.w;
        let first = self.backup().await?;
        w.backup_succeeded(&first).await?;
        maintained(w, &first, "data", "there is nothing to do", |m| m.phase == MaintenancePhase::Done).await?;
        let second = self.backup().await?;
        let held = self.hold("delete").await?;
        ensure!(self.phase(&second).await?.is_none(), "it is told as pruned while borg deletes");
        self.kill(victim, held).await?;
        let held = self.hold("compact").await?;
        let pruned = maintained(w, &second, "data", "it is pruned", |m| m.phase == MaintenancePhase::Compacting).await?.pruned;
        ensure!(pruned.is_some_and(|p| (p.deleted, p.kept) == (1, 1)), "{pruned:?}");
        self.kill(victim, held).await?;
        maintained(w, &second, "data", "it is compacted", |m| m.phase == MaintenancePhase::Done).await?;
        let megabytes = self.megabytes().await?;
        ensure!(megabytes < 6, "the repository takes {megabytes} MiB, and what is in it 3");
        Ok(())
    }

    async fn backup(&self) -> Result<String> {
        fill(&self.app, "/data").await?;
        self.w.backup(&["data"]).await
    }

    async fn megabytes(&self) -> Result<u64> {
        Ok(self.w.on_server(&format!("du -sm '{}/data' | cut -f1", self.folder)).await?.parse()?)
    }

    /// Segments, with a death in the middle.
    async fn check(&self, victim: Victim) -> Result<()> {
        let w = self.w;
        w.repository_with("kept", spec(&self.location, "5s")).await?;
        let held = self.hold("check").await?;
        recorded(w, &self.location, "no check is told", |data| !data.contains_key("checkedAt")).await?;
        self.kill(victim, held).await?;
        recorded(w, &self.location, "it was checked", |data| data.contains_key("checkedAt") && !data.contains_key("damaged")).await?;
        w.repository_with("kept", spec(&self.location, "0s")).await.map(drop)
    }

    /// One archive, by a borg of the test's own, which finds nothing wrong with it; nobody holds anything.
    async fn is_whole(&self) -> Result<()> {
        let w = self.w;
        let free = async || Ok((!w.is_locked(&self.folder).await?).then_some(()));
        until_polled("the repository's lock is let go", DEADLINE, free).await?;
        let archives = w.archives_in(&self.folder).await?;
        ensure!(archives.len() == 1, "{archives:?}");
        let passphrase = w.server_credentials().await?.remove("passphrase").context("no passphrase")?;
        let (folder, archive) = (&self.folder, &archives[0]);
        let borg = format!(
            "export BORG_PASSPHRASE='{passphrase}' BORG_BASE_DIR=$(mktemp -d) BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
            borg check --verify-data '{folder}' && borg extract --dry-run '{folder}::{archive}'"
        );
        w.on_server(&borg).await.context("a borg of the test's own")?;
        for agent in w.agents().await? {
            let node = self.cluster.node(agent.spec.as_ref().and_then(|s| s.node_name.as_deref()).context("no node")?);
            let free = async || Ok(node.slots_held().await?.is_empty().then_some(()));
            until_polled("no slot is held", DEADLINE, free).await?;
        }
        Ok(())
    }
}

async fn killed(w: &World, victim: Victim) -> Result<()> {
    let Some(cluster) = w.cluster() else {
        return w.skip("needs the project's own cluster");
    };
    let scene = Scene::new(w, cluster).await?;
    Box::pin(scene.prune_and_compact(victim)).await?;
    Box::pin(scene.check(victim)).await?;
    scene.is_whole().await
}

#[test]
fn maintenance_that_loses_its_agent_is_done_again_and_archives_stay_whole() -> Result<()> {
    let name = "maintenance_that_loses_its_agent_is_done_again_and_archives_stay_whole";
    exclusive(name, async |w: &World| Box::pin(killed(w, Victim::Agent)).await)
}

#[test]
fn maintenance_goes_on_under_the_next_controller() -> Result<()> {
    exclusive("maintenance_goes_on_under_the_next_controller", async |w: &World| Box::pin(killed(w, Victim::Controller)).await)
}
