//! 1.2 GB in 12,000 files: Borg through the agent over bare Borg, on the same node, of the same snapshot, to the same server.

use crate::figure::figure;
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::VolumeStatus;
use borgherd_e2e::{App, Claim, Running, World, test};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::PostParams;
use serde_json::json;
use std::time::Instant;

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

/// Pairs of measurements, one after the other; each figure is their median, so that a moment of the machine's decides nothing.
const ROUNDS: usize = 3;

/// First and second archive of a volume, by Borgherd and by hand, each time into a new repository.
pub(crate) fn measure() -> Result<()> {
    test("bench_throughput", async |w: &World| {
        w.claim(Claim::new("data").size("3Gi")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.exec(&["python3", "-c", MAKE]).await?.ok("make 1.2 GB")?;
        w.close_other_nodes(&app.node).await?;
        let bare = Bare::prepare(w, &app.node).await?;
        let mut rounds = Vec::new();
        for number in 0..ROUNDS {
            rounds.push(round(w, &bare, number).await?);
        }
        w.open_all_nodes().await?;
        report(&rounds);
        Ok(())
    })
}

/// Seconds of one round, and the bytes that the second archive added.
struct Round {
    ours_first: f64,
    ours_second: f64,
    bare_init: f64,
    bare_first: f64,
    bare_second: f64,
    new: u64,
}

async fn round(w: &World, bare: &Bare<'_>, number: usize) -> Result<Round> {
    let (folder, location) = w.fresh_place(&format!("ours-{number}")).await?;
    let repository = w.repository(&format!("ours-{number}"), &location, "borgherd-server").await?;
    w.annotate::<PersistentVolumeClaim>("data", &[("repository", Some(&repository))]).await?;
    let (first, ours_first) = through_borgherd(w, bare.node).await?;
    let (bare_folder, bare_init, bare_first) = bare.first(&first, number).await?;
    let (second, ours_second) = through_borgherd(w, bare.node).await?;
    let bare_second = bare.second(&second, number).await?;
    drop(w.on_server(&format!("rm -rf {folder} {bare_folder}")).await?); // room for the next round
    let new = second.progress.and_then(|p| p.deduplicated_bytes).unwrap_or_default();
    Ok(Round { ours_first, ours_second, bare_init, bare_first, bare_second, new })
}

fn report(rounds: &[Round]) {
    let of = |part: fn(&Round) -> f64| median(rounds.iter().map(part));
    let (ours, init, create) = (of(|r| r.ours_first), of(|r| r.bare_init), of(|r| r.bare_first));
    let first = "throughput: first archive, 1.2 GB in 12,000 files";
    figure(&format!("{first}, by the agent"), ours, "s", "borg's time, all its calls, with init");
    figure(&format!("{first}, bare borg init"), init, "s", "same server");
    figure(&format!("{first}, bare borg create"), create, "s", "same snapshot, node, server");
    figure(
        &format!("{first}, ratio to init and create"),
        of(|r| r.ours_first / (r.bare_init + r.bare_first)),
        "times",
        "both make the repository",
    );
    figure(&format!("{first}, ratio to create alone"), of(|r| r.ours_first / r.bare_first), "times", "kube-borg-backup: 2.4; aim 1.05");
    let second = "throughput: second archive, nothing changed";
    figure(&format!("{second}, by the agent"), of(|r| r.ours_second), "s", "borg's time, all its calls");
    figure(&format!("{second}, bare borg create"), of(|r| r.bare_second), "s", "same snapshot, node, server");
    figure(&format!("{second}, ratio"), of(|r| r.ours_second / r.bare_second), "times", "kube-borg-backup: 14; aim 1.2");
    let new = rounds.iter().map(|r| r.new).max().unwrap_or_default();
    figure("throughput: second archive, bytes new to the repository", mib(new), "MiB", "metadata only, of 1200 MB");
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "bytes for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Each run begins with nothing written that is not on the disk and nothing read that is in memory: the first of two would pay for both.
async fn cold(w: &World, node: &str) -> Result<()> {
    let cluster = w.cluster().context("needs the project's own cluster: caches of its nodes are dropped")?;
    cluster.node(node).sh("sync; echo 3 >/proc/sys/vm/drop_caches").await.map(drop)
}

async fn through_borgherd(w: &World, node: &str) -> Result<(VolumeStatus, f64)> {
    cold(w, node).await?;
    let backup = w.backup(&["data"]).await?;
    let volume = w.backup_succeeded(&backup).await?.pop().context("one volume")?;
    ensure!(volume.node.as_deref() == Some(node), "should be archived on {node}, as by hand; it was on {:?}", volume.node);
    let borg = volume.durations.and_then(|d| d.borg).context("borg's time")?;
    Ok((volume, borg))
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
        pod.stop().await?;
        Ok(Bare { world, node })
    }

    /// Makes a repository and its first archive; tells its folder on the server, and the seconds of both.
    async fn first(&self, volume: &VolumeStatus, round: usize) -> Result<(String, f64, f64)> {
        let (folder, location) = self.world.fresh_place(&format!("bare-{round}")).await?;
        let pod = self.pod(volume, &format!("first-{round}")).await?;
        let profile = format!(
            "export BORG_REPO='{location}' BORG_BASE_DIR=/b BORG_PASSCOMMAND='cat /b/passphrase' \
             BORG_RSH='ssh -i /b/ssh-privatekey -o UserKnownHostsFile=/b/known_hosts -o StrictHostKeyChecking=yes'"
        );
        write(&pod, "profile", &profile).await?;
        cold(self.world, self.node).await?;
        let init = timed(&pod, "borg init --encryption repokey-blake2 --make-parent-dirs").await?;
        let create = timed(&pod, &create("first")).await?;
        pod.stop().await?;
        Ok((folder, init, create))
    }

    /// Makes the second archive; tells its seconds.
    async fn second(&self, volume: &VolumeStatus, round: usize) -> Result<f64> {
        let pod = self.pod(volume, &format!("second-{round}")).await?;
        cold(self.world, self.node).await?;
        let create = timed(&pod, &create("second")).await?;
        pod.stop().await?;
        Ok(create)
    }

    /// A pod that mounts a clone of the volume's snapshot.
    async fn pod(&self, volume: &VolumeStatus, name: &str) -> Result<Running> {
        clone(self.world, name, volume.snapshot.as_deref().context("a snapshot")?).await?;
        self.world.app(App::new(name).mount(name, "/clone").mount("cache", "/b").on(self.node)).await
    }
}

/// The option that changes what Borg does is that of the agent: files known by ctime and size.
fn create(archive: &str) -> String {
    format!("borg create --files-cache ctime,size ::{archive} .")
}

async fn timed(pod: &Running, borg: &str) -> Result<f64> {
    let began = Instant::now();
    pod.sh(&format!(". /b/profile; cd /clone; {borg}")).await?;
    Ok(began.elapsed().as_secs_f64())
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
