//! 1.2 GB in 12,000 files: Borg through the agent over bare Borg, on the same node, of the same snapshot, to the same server.

use crate::figure::figure;
use anyhow::{Context, Result};
use borgherd_api::crd::VolumeStatus;
use borgherd_e2e::{App, Claim, Running, World, test};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::PostParams;
use serde_json::json;
use std::time::{Duration, Instant};

/// 120 folders with 100 files of 100 kB each; nothing in them compresses.
const MAKE: &str = r#"
import os
for folder in range(120):
    os.makedirs("/data/%d" % folder)
    for file in range(100):
        with open("/data/%d/%d" % (folder, file), "wb") as f:
            f.write(os.urandom(100_000))
os.sync()
"#;

/// First and second archive of a volume, by Borgherd and by hand.
pub(crate) fn measure() -> Result<()> {
    test("bench_throughput", async |w: &World| {
        w.claim(Claim::new("data").size("3Gi")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.exec(&["python3", "-c", MAKE]).await?.ok("make 1.2 GB")?;
        let first = through_borgherd(w, &app.node).await?;
        let second = through_borgherd(w, &app.node).await?;
        let node = first.node.clone().context("a node")?;
        let bare = Bare::prepare(w, &node).await?;
        let bare_first = bare.create(&first, "first").await?;
        let bare_second = bare.create(&second, "second").await?;
        report("first archive, 1.2 GB in 12,000 files", &first, bare_first, "kube-borg-backup: 2.4; aim 1.05");
        report("second archive, nothing changed", &second, bare_second, "kube-borg-backup: 14; aim 1.2");
        let new = second.progress.and_then(|p| p.deduplicated_bytes).unwrap_or_default();
        figure("throughput: second archive, bytes new to the repository", mib(new), "MiB", "metadata only, of 1200 MB");
        Ok(())
    })
}

#[allow(clippy::cast_precision_loss, reason = "bytes for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn report(name: &str, ours: &VolumeStatus, bare: Duration, compared: &str) {
    let borg = ours.durations.unwrap_or_default().borg.unwrap_or_default();
    let bare = bare.as_secs_f64();
    figure(&format!("throughput: {name}, by the agent"), borg, "s", "borg's time, all its calls");
    figure(&format!("throughput: {name}, bare borg create"), bare, "s", "same snapshot, node, server");
    figure(&format!("throughput: {name}, ratio"), borg / bare, "times", compared);
}

/// Each run begins with nothing written that is not on the disk and nothing read that is in memory: the first of two would pay for both.
async fn cold(w: &World, node: &str) -> Result<()> {
    let cluster = w.cluster().context("needs the project's own cluster: caches of its nodes are dropped")?;
    cluster.node(node).sh("sync; echo 3 >/proc/sys/vm/drop_caches").await.map(drop)
}

async fn through_borgherd(w: &World, node: &str) -> Result<VolumeStatus> {
    cold(w, node).await?;
    let backup = w.backup(&["data"]).await?;
    w.backup_succeeded(&backup).await?.pop().context("one volume")
}

/// Borg as a person would run it: in a pod that mounts a clone, on the same node. Cache and credentials are on a volume of their own,
/// so that the second clone can be mounted where the first was: Borg knows files by their path.
struct Bare<'a> {
    world: &'a World,
    node: &'a str,
}

impl Bare<'_> {
    async fn prepare<'a>(world: &'a World, node: &'a str) -> Result<Bare<'a>> {
        world.claim(Claim::new("cache")).await?;
        let pod = world.app(App::new("prepare").mount("cache", "/b").on(node)).await?;
        let credentials = world.server_credentials().await?;
        for key in ["ssh-privatekey", "known_hosts", "passphrase"] {
            let value = credentials.get(key).with_context(|| format!("no {key} in the server's Secret"))?;
            write(&pod, key, value).await?;
        }
        let (_, location) = world.fresh_place("bare").await?;
        let profile = format!(
            "export BORG_REPO='{location}' BORG_BASE_DIR=/b BORG_PASSCOMMAND='cat /b/passphrase' \
             BORG_RSH='ssh -i /b/ssh-privatekey -o UserKnownHostsFile=/b/known_hosts -o StrictHostKeyChecking=yes'"
        );
        write(&pod, "profile", &profile).await?;
        pod.sh(". /b/profile; borg init --encryption repokey-blake2 --make-parent-dirs").await?;
        pod.stop().await?;
        Ok(Bare { world, node })
    }

    /// The option that changes what Borg does is that of the agent: files known by ctime and size.
    async fn create(&self, volume: &VolumeStatus, archive: &str) -> Result<Duration> {
        let snapshot = volume.snapshot.as_deref().context("a snapshot")?;
        clone(self.world, archive, snapshot).await?;
        let app = App::new(archive).mount(archive, "/clone").mount("cache", "/b").on(self.node);
        let pod = self.world.app(app).await?;
        cold(self.world, self.node).await?;
        let began = Instant::now();
        pod.sh(&format!(". /b/profile; cd /clone; borg create --files-cache ctime,size ::{archive} .")).await?;
        let took = began.elapsed();
        pod.stop().await?;
        Ok(took)
    }
}

async fn write(pod: &Running, file: &str, text: &str) -> Result<()> {
    let script = format!("umask 077; printf '%s\\n' \"$1\" >/b/{file}");
    pod.exec(&["sh", "-c", &script, "sh", text.trim_end()]).await?.ok("write a file").map(drop)
}

async fn clone(w: &World, name: &str, snapshot: &str) -> Result<()> {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "3Gi" } },
            "dataSource": { "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot },
        },
    }))?;
    drop(w.api::<PersistentVolumeClaim>().create(&PostParams::default(), &claim).await?);
    Ok(())
}
