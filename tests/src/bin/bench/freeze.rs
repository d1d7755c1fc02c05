//! How long an application is held still: by the clock in its pod, for 1 and 10 volumes, with the fast and the slow snapshot class.

use crate::figure::figure;
use anyhow::{Context, Result};
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_e2e::{App, Claim, Running, World, test};
use futures::StreamExt;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

/// Write down when it froze and when it thawed.
const HOOKS: &str = "- pre: {in: pod/app, command: [sh, -c, 'date +%s%N >/tmp/freeze']}\n  \
                     post: {command: [sh, -c, 'date +%s%N >/tmp/thaw']}\n";
/// Backups of each kind; the median is told.
const ROUNDS: usize = 5;

/// One and ten volumes, both classes.
pub(crate) fn measure() -> Result<()> {
    for count in [1, 10] {
        test("bench_freeze", async |w: &World| {
            let names: Vec<String> = (0..count).map(|i| format!("data-{i}")).collect();
            let mut app = App::new("app");
            for name in &names {
                w.claim(Claim::new(name).annotation("hooks", HOOKS)).await?;
                app = app.mount(name, &format!("/{name}"));
            }
            let app = w.app(app).await?;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for (class, compared) in [("btrfs", "kube-borg-backup: 2.1 s"), ("btrfs-slow", "kube-borg-backup: 16 s")] {
                for name in &names {
                    let annotations = [("snapshot-class", Some(class))];
                    w.annotate::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(name, &annotations).await?;
                }
                round(w, &app, &names, class, compared).await?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

async fn round(w: &World, app: &Running, names: &[&str], class: &str, compared: &str) -> Result<()> {
    let (mut windows, mut latencies) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let seen = tokio::spawn(all_cut(w.api(), names.len()));
        let name = w.backup_as(names, false).await?;
        w.backup_succeeded(&name).await?;
        let visible = seen.await??;
        let (frozen, thawed) = (at(app, "freeze").await?, at(app, "thaw").await?);
        windows.push(thawed - frozen);
        latencies.push(thawed - visible);
    }
    let what = format!("freeze, {} PVC in a group, class {class}", names.len());
    figure(&format!("{what}: from freeze to thaw, in the pod"), median(&mut windows), "s", compared);
    figure(&format!("{what}: from the last cut visible to the thaw"), median(&mut latencies), "s", "aim 0.1 s");
    Ok(())
}

/// When the last of `count` new snapshots was seen cut, in seconds since the epoch.
async fn all_cut(api: Api<VolumeSnapshot>, count: usize) -> Result<f64> {
    let old: HashSet<Option<String>> =
        api.list(&kube::api::ListParams::default()).await?.items.into_iter().map(|s| s.metadata.uid).collect();
    let mut stream = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
    let mut cut = HashSet::new();
    while let Some(snapshot) = stream.next().await {
        let snapshot = snapshot?;
        let is_cut = snapshot.status.is_some_and(|s| s.creation_time.is_some());
        if is_cut && !old.contains(&snapshot.metadata.uid) && cut.insert(snapshot.metadata.uid) && cut.len() == count {
            #[allow(clippy::disallowed_methods, reason = "compared with the clock of a pod on the same machine")]
            return Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64());
        }
    }
    anyhow::bail!("the watch of snapshots has ended")
}

async fn at(app: &Running, word: &str) -> Result<f64> {
    let text = app.sh(&format!("cat /tmp/{word}")).await?;
    let (seconds, nanoseconds) = text.split_at_checked(text.len().saturating_sub(9)).context("nanoseconds")?;
    Ok(seconds.parse::<f64>()? + nanoseconds.parse::<f64>()? / 1e9)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
