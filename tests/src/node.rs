//! The project's own cluster from below: commands on its nodes, signals to processes and components, its storage.

use crate::settings::Settings;
use crate::wait::{DEADLINE, until_polled};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;

/// The project's own cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    script: PathBuf,
    state: PathBuf,
    images: PathBuf,
}

/// A node of it.
#[derive(Clone, Debug)]
pub struct Node {
    cluster: Cluster,
    name: String,
}

impl Cluster {
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        Some(Self { script: settings.cluster.clone()?, state: settings.cluster_state.clone(), images: settings.root.join("target/images") })
    }

    /// One of its nodes, by name.
    pub fn node(&self, name: &str) -> Node {
        Node { cluster: self.clone(), name: name.to_owned() }
    }

    /// Loads an image of `hack/images/build` onto every node, if it is not there yet.
    pub async fn load(&self, image: &str) -> Result<()> {
        let images = self.images.join(image);
        let name = std::fs::read_to_string(images.with_extension("id")).with_context(|| format!("image {image} is not built"))?;
        self.run(&["load", "--as", name.trim(), &images.with_extension("tar").to_string_lossy()]).await.map(drop)
    }

    /// Sends a signal to a component: `apiserver`, `controllers`, `csi-snapshotter`, `node-1-kubelet` …
    pub async fn signal(&self, component: &str, signal: &str) -> Result<()> {
        self.run(&["signal", component, signal]).await.map(drop)
    }

    /// Makes every call of a CSI procedure (`CreateSnapshot`, `CreateVolume`, `NodePublishVolume` …) fail with `text`.
    pub async fn fail(&self, rpc: &str, text: &str) -> Result<()> {
        let file = self.state.join("volumes/faults").join(rpc);
        self.storage_sh("printf %s \"$1\" >\"$2\"", &[text, &file.to_string_lossy()]).await.map(drop)
    }

    /// The same where the call is about one volume only (its handle), or about a snapshot of it: other tests do not notice.
    pub async fn fail_for(&self, rpc: &str, volume: &str, text: &str) -> Result<()> {
        self.fail(&format!("{rpc}@{volume}"), text).await
    }

    /// Ends what [`Cluster::fail_for`] began.
    pub async fn mend_for(&self, rpc: &str, volume: &str) -> Result<()> {
        self.mend(&format!("{rpc}@{volume}")).await
    }

    /// Ends what [`Cluster::fail`] began.
    pub async fn mend(&self, rpc: &str) -> Result<()> {
        let file = self.state.join("volumes/faults").join(rpc);
        self.storage_sh("rm -f \"$1\"", &[&file.to_string_lossy()]).await.map(drop)
    }

    /// Damages the first bytes of a file of a volume on the disk below the file system, which notices by its checksum: in volumes that
    /// are cloned from now on, reading it ends with an I/O error. It must be of random bytes, and not small.
    pub async fn damage(&self, volume: &str, path: &str) -> Result<()> {
        let file = self.state.join("volumes/volumes").join(volume).join(path);
        let image = self.state.join("volumes.img");
        let command = ["on", "node-1", "python3", "-c", DAMAGE, &*image.to_string_lossy(), &*file.to_string_lossy()];
        self.run(&command).await.map(drop)
    }

    /// Names of the volumes in the storage.
    pub async fn stored_volumes(&self) -> Result<BTreeSet<String>> {
        self.stored("volumes").await
    }

    /// Names of the snapshots in the storage.
    pub async fn stored_snapshots(&self) -> Result<BTreeSet<String>> {
        self.stored("snapshots").await
    }

    /// The driver keeps a folder a volume, and a file beside it that records it.
    async fn stored(&self, kind: &str) -> Result<BTreeSet<String>> {
        let folder = self.state.join("volumes").join(kind);
        let found = self.storage_sh("cd \"$1\" && ls -d -- */ 2>/dev/null || true", &[&folder.to_string_lossy()]).await?;
        Ok(found.lines().map(|l| l.trim_end_matches('/').to_owned()).collect())
    }

    /// A shell script where the storage is mounted: every node sees it.
    async fn storage_sh(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let mut command = vec!["on", "node-1", "sh", "-c", script, "sh"];
        command.extend(arguments);
        self.run(&command).await
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let run = Command::new(&self.script).args(arguments).env("CLUSTER_STATE", &self.state).stdin(Stdio::null()).output();
        let shown = arguments.join(" ");
        let output = tokio::time::timeout(DEADLINE, run).await.with_context(|| format!("cluster {shown} does not end"))??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        bail!("{}: cluster {shown}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr))
    }
}

/// In the command line of a borg that makes an archive, once it is borg: the sandbox that becomes it has no path before the name.
pub const BORG_CREATE: &str = "/borg --log-json --lock-wait=3 create --progress";

/// Overwrites, in an image of a file system, the place where a file's first bytes are.
const DAMAGE: &str = r#"
import os, sys
image, path = sys.argv[1:]
file = open(path, "rb")
os.fsync(file.fileno())
os.sync()
needle = file.read(4096)
disk = os.open(image, os.O_RDWR)
found, at, step = 0, 0, 1 << 24
while True:
    try:
        at = os.lseek(disk, at, os.SEEK_DATA)
    except OSError:
        break
    end = os.lseek(disk, at, os.SEEK_HOLE)
    while at < end:
        block = os.pread(disk, min(step, end - at) + 4096, at)
        where = block.find(needle)
        if where >= 0:
            os.pwrite(disk, b"damaged by a test", at + where)
            found += 1
        at = min(at + step, end)
if not found:
    sys.exit("%s is not in %s" % (path, image))
"#;

/// Prints the pids whose cgroup names the pod and whose command line contains `$2`.
const FIND: &str = r#"for f in $(grep -ls -- "pod$1" /proc/[0-9]*/cgroup); do
  p=${f%/cgroup}
  if tr '\0' ' ' <"$p/cmdline" 2>/dev/null | grep -qF -- "$2"; then echo "${p#/proc/}"; fi
done"#;

impl Node {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a shell script on it, in its network and mounts, as root.
    pub async fn sh(&self, script: &str) -> Result<String> {
        self.cluster.run(&["on", &self.name, "sh", "-c", script]).await
    }

    /// Starts a program on it that runs until the returned child is killed (dropping it kills it).
    pub fn start(&self, command: &[&str]) -> Result<tokio::process::Child> {
        let mut child = Command::new(&self.cluster.script);
        child.args(["on", &self.name]).args(command).env("CLUSTER_STATE", &self.cluster.state);
        Ok(child.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
    }

    /// Starts a program on it that can be written to; it ends when its standard input does.
    pub(crate) fn spawn(&self, command: &[&str]) -> Result<tokio::process::Child> {
        let mut child = Command::new(&self.cluster.script);
        child.args(["on", &self.name]).args(command).env("CLUSTER_STATE", &self.cluster.state);
        Ok(child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
    }

    /// Pids of a pod's processes whose command line contains `command`. They are the cluster's, not this machine's.
    pub async fn pids(&self, pod_uid: &str, command: &str) -> Result<Vec<u32>> {
        let found = self.cluster.run(&["on", &self.name, "sh", "-c", FIND, "sh", pod_uid, command]).await?;
        found.lines().map(|l| l.parse().context("a pid")).collect()
    }

    /// Sends a signal to a pod's processes whose command line contains `command`; at least one must be there.
    pub async fn kill(&self, pod_uid: &str, command: &str, signal: &str) -> Result<Vec<u32>> {
        let pids = self.pids(pod_uid, command).await?;
        if pids.is_empty() {
            bail!("pod {pod_uid} has no process '{command}' on {}", self.name);
        }
        let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        self.sh(&format!("kill -s {signal} {list}")).await?;
        Ok(pids)
    }

    /// Waits until a pod has a process whose command line contains `command`.
    pub async fn process(&self, pod_uid: &str, command: &str) -> Result<u32> {
        let what = format!("process '{command}' of pod {pod_uid} on {}", self.name);
        until_polled(&what, DEADLINE, async || Ok(self.pids(pod_uid, command).await?.first().copied())).await
    }
}
