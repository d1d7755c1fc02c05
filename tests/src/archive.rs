//! What is in a Borg repository of the chart's server, by a borg of the test's own: nobody's status is believed.

use crate::world::World;
use anyhow::{Context, Result};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};

impl World {
    /// Names of all archives in the repository at `folder` on the chart's server, checkpoints and all, oldest first.
    pub async fn archives_in(&self, folder: &str) -> Result<Vec<String>> {
        let passphrase = self.server_credentials().await?.remove("passphrase").context("the server's Secret has no passphrase")?;
        let script = format!(
            "export BORG_PASSPHRASE='{passphrase}' BORG_BASE_DIR=$(mktemp -d) BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
            borg list --short --consider-checkpoints '{folder}'; code=$?; rm -rf \"$BORG_BASE_DIR\"; exit $code"
        );
        let listed = self.on_server(&script).await.with_context(|| format!("list the archives of {folder}"))?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Whether somebody holds the lock of the repository at `folder` on the chart's server, or has left it there.
    pub async fn is_locked(&self, folder: &str) -> Result<bool> {
        let script = format!("[ -e '{folder}/lock.exclusive' ] && echo locked || echo free");
        Ok(self.on_server(&script).await? == "locked")
    }

    /// The content of a snapshot of the test's namespace.
    pub async fn content_of(&self, snapshot: &str) -> Result<VolumeSnapshotContent> {
        let found: VolumeSnapshot = self.api().get(snapshot).await?;
        let bound = found.status.and_then(|s| s.bound_volume_snapshot_content_name);
        Ok(self.api_all().get(&bound.with_context(|| format!("VolumeSnapshot {snapshot} is not bound"))?).await?)
    }
}
