//! SIGKILL of the controller between any two steps of a backup: the next process goes on where the last one was.
//!
//! The turnstile stops the real controller in its pod exactly at each point: what comes next is refused by the API server, the
//! process has been told so, and is killed. The kubelet starts it again.

mod points;
mod seen;

use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{Trigger, VolumeStatus};
use borgherd_api::{names, time};
use borgherd_e2e::{App, BORG_CREATE, Claim, Cluster, DEADLINE, Foreign, Node, Turnstile, World, exclusive, until_polled};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use points::{POINTS, Point, Then};
use seen::Seen;
use serde_json::json;
use std::time::Duration;

const PROGRAM: &str = "/usr/local/bin/borgherd-controller";

/// One walk along all points.
struct Walk<'a> {
    w: &'a World,
    cluster: Cluster,
    turnstile: &'a Turnstile<'a>,
    pod: String,
    uid: String,
    node: Node,
    location: String,
    slots: Vec<Foreign>,
    borg: Option<(Node, u32)>,
}

#[test]
fn a_controller_killed_at_each_step_of_a_backup_leaves_one_archive_one_backup_and_nothing_else() -> Result<()> {
    let name = "a_controller_killed_at_each_step_of_a_backup_leaves_one_archive_one_backup_and_nothing_else";
    exclusive(name, async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let (folder, location) = w.fresh_place("walk").await?;
        // so slow that borg can be stopped while it works
        let spec = json!({ "location": location, "secretRef": "borgherd-server", "rateLimit": 2000 });
        let repository = w.repository_with("slow", spec).await?;
        let claim = w.claim(Claim::new("data").annotation("repository", &repository)).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("head -c 8000000 /dev/urandom >/data/file && sync").await?;
        let walked = w.turnstile(async |turnstile: &Turnstile| walk(w, &cluster, turnstile, &claim, &location).await);
        Box::pin(walked).await?;
        afterwards(w, &folder).await
    })
}

/// From the first point to the last.
async fn walk(w: &World, cluster: &Cluster, turnstile: &Turnstile<'_>, claim: &PersistentVolumeClaim, location: &str) -> Result<()> {
    let pod = w.controller().await?;
    let node = cluster.node(pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).context("no node")?);
    let mut walk = Walk {
        w,
        cluster: cluster.clone(),
        turnstile,
        pod: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        node,
        location: location.to_owned(),
        slots: Vec::new(),
        borg: None,
    };
    walk.close(POINTS.first().context("no points")?).await?;
    make_due(w, claim).await?;
    for (index, point) in POINTS.iter().enumerate() {
        let died = Box::pin(walk.die_at(point, POINTS.get(index + 1))).await;
        died.with_context(|| format!("at the point '{}'", point.name))?;
    }
    Ok(())
}

/// A schedule whose time since the PVC's creation is over: that of the next minute then, and so within a minute.
async fn make_due(w: &World, claim: &PersistentVolumeClaim) -> Result<()> {
    let created = time::created(claim).context("the PVC has no time of creation")?;
    let schedule = (created + Duration::from_mins(1)).format("%M %H * * *").to_string();
    w.annotate::<PersistentVolumeClaim>("data", &[("schedule", Some(&schedule)), ("time-zone", Some("UTC"))]).await
}

impl Walk<'_> {
    async fn close(&self, point: &Point) -> Result<()> {
        let place = |what: &&str| {
            let what = what.replace("APP", &self.w.namespace).replace("VOLUMES", self.w.volumes_namespace());
            what.replace("OWN", self.w.own_namespace())
        };
        let refused: Vec<String> = point.refused.iter().map(place).collect();
        self.turnstile.close(point.name, &refused).await
    }

    async fn look(&self) -> Result<Seen> {
        Seen::now(self.w, "data", &self.location).await
    }

    /// Waits until the controller stands at `point`, kills it there, and lets its successor go as far as `next`.
    async fn die_at(&mut self, point: &Point, next: Option<&Point>) -> Result<()> {
        let mut last = None;
        let reached = until_polled("the controller is there", DEADLINE, async || {
            let refused = point.refused.is_empty() || self.turnstile.has_refused(&self.pod, point.name).await?;
            let seen = self.look().await?;
            let there = refused && (point.at)(&seen);
            last = Some((seen.to_string(), refused));
            Ok(there.then_some(()))
        });
        reached.await.with_context(|| format!("seen last (and whether something was refused): {last:?}"))?;
        let killed = self.node.kill(&self.uid, PROGRAM, "KILL").await?;
        let seen = self.look().await?;
        ensure!((point.at)(&seen), "when the controller was killed it was further already: {seen}");
        match next {
            Some(next) => self.close(next).await?,
            None => self.turnstile.open().await?,
        }
        self.then(point.then).await?;
        let back = until_polled("the kubelet has started the controller again", DEADLINE, async || {
            let pids = self.node.pids(&self.uid, PROGRAM).await?;
            Ok(pids.iter().any(|pid| !killed.contains(pid)).then_some(()))
        });
        back.await
    }

    async fn then(&mut self, then: Then) -> Result<()> {
        match then {
            Then::Nothing => {}
            Then::TakeSlots => {
                for agent in self.w.agents().await? {
                    let node = self.cluster.node(agent.spec.as_ref().and_then(|s| s.node_name.as_deref()).context("no node")?);
                    self.slots.extend(self.w.take_slots(&node).await?);
                }
            }
            Then::StopBorg => {
                let node = self.look().await?.run.context("no run")?.spec.node;
                let agent = self.w.agent_on(&node).await?;
                let node = self.cluster.node(&node);
                self.slots.clear();
                let borg = node.process(&agent.uid().unwrap_or_default(), BORG_CREATE).await?;
                node.sh(&format!("kill -STOP {borg}")).await?;
                self.borg = Some((node, borg));
            }
            Then::ContinueBorg => {
                let (node, borg) = self.borg.take().context("no borg was stopped")?;
                node.sh(&format!("kill -CONT {borg}")).await?;
            }
        }
        Ok(())
    }
}

/// One archive, one Backup, nothing done twice; what is left over is looked for when the test ends.
async fn afterwards(w: &World, folder: &str) -> Result<()> {
    // a snapshot that the controller makes now: it has planned all and goes on
    let more = w.backup_as(&["data"], false).await?;
    w.backup_succeeded(&more).await?;
    let backups = w.backups().await?;
    let scheduled: Vec<_> = backups.iter().filter(|b| b.spec.trigger != Trigger::Manual).collect();
    let [backup] = scheduled.as_slice() else {
        anyhow::bail!("one Backup was due, there are {}: {scheduled:#?}", scheduled.len());
    };
    let volumes = w.backup_succeeded(&backup.name_any()).await?;
    let [VolumeStatus { cut: Some(cut), attempt, snapshot: Some(snapshot), .. }] = volumes.as_slice() else {
        anyhow::bail!("the Backup's status lacks something: {volumes:#?}");
    };
    ensure!(*attempt == 1, "the controller's death cost attempts of the archive: this was number {attempt}");
    let expected = names::archive(&w.namespace, "data", *cut);
    let archives = w.archives_in(folder).await?;
    ensure!(archives == [expected.clone()], "expected the archive {expected} alone, found {archives:?}");
    let content = w.content_of(snapshot).await?;
    let own = content.annotations().get(names::OWN_DELETION_POLICY).map(String::as_str);
    ensure!(own == Some("Delete"), "the content's own deletion policy was Delete, but is recorded as {own:?}");
    ensure!(content.spec.deletion_policy == "Retain", "the content is not kept: {}", content.spec.deletion_policy);
    Ok(())
}
