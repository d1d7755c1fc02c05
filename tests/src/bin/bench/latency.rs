//! How long a small volume takes from its Backup to its archive: by phase, four at once, four in one new repository, nodes in turn.

use crate::figure::figure;
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{Backup, Durations, VolumeStatus};
use borgherd_e2e::{App, Claim, World, states, test};
use std::time::{Duration, Instant};

/// A small backup on a busy machine.
const DEADLINE: Duration = Duration::from_mins(5);
/// How many volumes at once.
const VOLUMES: [&str; 4] = ["a", "b", "c", "d"];
/// Seconds from a Backup's creation to its archive in the reference that the aims are set against.
const KUBE_BORG_BACKUP: &str = "kube-borg-backup on this cluster: 24.5 s; aim 6 s";

/// Makes volumes with 1 MB each, bound by applications that go away again.
async fn volumes(w: &World, names: &[&str], repository: Option<&str>) -> Result<()> {
    for name in names {
        let claim = Claim::new(name);
        w.claim(match repository {
            Some(repository) => claim.annotation("repository", repository),
            None => claim,
        })
        .await?;
        let app = w.app(App::new(name).mount(name, "/data")).await?;
        app.sh("head -c 1000000 /dev/urandom >/data/file").await?;
        app.stop().await?;
    }
    Ok(())
}

/// Creates a Backup, and tells the seconds until its archive was known and until nothing temporary was left.
async fn one(w: &World, pvc: &str) -> Result<(f64, f64, VolumeStatus)> {
    let began = Instant::now();
    let name = w.backup(&[pvc]).await?;
    let mut archived = None;
    let last = |b: &Backup| {
        let status = b.status.as_ref();
        if archived.is_none() && status.is_some_and(|s| s.volumes.iter().any(|v| v.archive.is_some())) {
            archived = Some(began.elapsed());
        }
        status.is_some_and(|s| s.phase.is_final())
    };
    states(&w.api::<Backup>(), &name, DEADLINE, last).await?;
    let ended = began.elapsed();
    let volume = w.backup_succeeded(&name).await?.pop().context("one volume")?;
    Ok((archived.context("an archive")?.as_secs_f64(), ended.as_secs_f64(), volume))
}

fn phases(prefix: &str, durations: Durations) {
    let Durations { cut_visible, cut_to_ready, admission, clone, slot_wait, borg, clean } = durations;
    let all = [
        ("cut visible", cut_visible),
        ("cut to ready", cut_to_ready),
        ("admission", admission),
        ("clone and holder", clone),
        ("slot wait", slot_wait),
        ("borg", borg),
        ("clean", clean),
    ];
    for (phase, seconds) in all {
        if let Some(seconds) = seconds {
            figure(&format!("{prefix}: {phase}"), seconds, "s", "part of the above");
        }
    }
}

/// One volume, first and second backup; then four at once in four repositories, before and after those are made.
pub(crate) fn measure() -> Result<()> {
    test("bench_latency", async |w: &World| {
        volumes(w, &VOLUMES, None).await?;
        for (round, text) in [("first", "with borg init, "), ("second", "")] {
            let (archived, ended, volume) = one(w, "a").await?;
            let name = format!("latency, 1 MB, {round} backup");
            figure(&name, archived, "s", &format!("{text}from Backup created to archive; {KUBE_BORG_BACKUP}"));
            figure(&format!("{name}: until cleaned up"), ended, "s", "from Backup created");
            phases(&name, volume.durations.unwrap_or_default());
        }
        let compared = "kube-borg-backup: 35 s; aim 8 s";
        at_once(w, "four at once, three of them make their repositories", compared).await?;
        at_once(w, "four at once in four repositories", compared).await
    })
}

async fn at_once(w: &World, name: &str, compared: &str) -> Result<()> {
    let all = futures::future::try_join_all(VOLUMES.iter().map(|pvc| one(w, pvc))).await?;
    let last = all.iter().map(|(archived, ..)| *archived).fold(0.0, f64::max);
    let name = format!("latency, 1 MB, {name}");
    figure(&name, last, "s", &format!("until the last archive; {compared}"));
    if let Some((.., slowest)) = all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
        phases(&format!("{name}, the last one"), slowest.durations.unwrap_or_default());
    }
    Ok(())
}

/// Four volumes whose first backups make one shared repository together.
pub(crate) fn shared() -> Result<()> {
    test("bench_shared", async |w: &World| {
        let repository = shared_repository(w).await?;
        volumes(w, &VOLUMES, Some(&repository)).await?;
        at_once(w, "four at once in one new shared repository", "kube-borg-backup: loses one of four").await
    })
}

async fn shared_repository(w: &World) -> Result<String> {
    let (_, location) = w.fresh_place("shared").await?;
    w.repository("shared", &location, "borgherd-server").await
}

/// Two volumes in one repository, kept on two nodes: what a node pays to learn what the other has written.
pub(crate) fn turns() -> Result<()> {
    test("bench_turns", async |w: &World| {
        let repository = shared_repository(w).await?;
        volumes(w, &["a", "b"], Some(&repository)).await?;
        // the first archive of each is made on a node of its own, and a later one where the one before it was
        for (pvc, node) in [("a", "node-1"), ("b", "node-2")] {
            w.close_other_nodes(node).await?;
            let first = one(w, pvc).await;
            w.open_all_nodes().await?;
            let node_was = first?.2.node;
            ensure!(node_was.as_deref() == Some(node), "the first archive of {pvc} should be made on {node}, it was on {node_was:?}");
        }
        let mut runs: Vec<(String, f64)> = Vec::new();
        for pvc in ["a", "b", "a", "b", "a", "b", "b", "b", "b"] {
            let (.., volume) = one(w, pvc).await?;
            runs.push((volume.node.unwrap_or_default(), volume.durations.unwrap_or_default().borg.unwrap_or_default()));
        }
        let warm = runs.windows(2).map(|pair| (pair[0].0 != pair[1].0, pair[1].1));
        let (moved, stayed): (Vec<_>, Vec<_>) = warm.partition(|(moved, _)| *moved);
        ensure!(!stayed.is_empty() && !moved.is_empty(), "the runs should change the node, and stay: {runs:?}");
        let stayed = mean(&stayed);
        figure("turns: borg's time, same node as the run before", stayed, "s", "shared repository, 1 MB volumes");
        let moved = mean(&moved);
        figure("turns: borg's time, other node than the run before", moved, "s", "shared repository, 1 MB volumes");
        figure("turns: cost of the cache sync", moved - stayed, "s", "difference of the two above");
        Ok(())
    })
}

fn mean(runs: &[(bool, f64)]) -> f64 {
    let count = u32::try_from(runs.len()).unwrap_or(u32::MAX);
    runs.iter().map(|(_, seconds)| seconds).sum::<f64>() / f64::from(count)
}
