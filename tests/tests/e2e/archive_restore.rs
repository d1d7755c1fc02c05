//! The main job: what was there at the cut is archived, and comes back whole.

use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{RestoreSource, SourceKind};
use borgherd_e2e::{App, Claim, Running, World, same, test};

/// Writes numbered files, one after the other, for ever.
const WRITER: &str = r"mkdir -p /data/log; i=0
while :; do i=$((i+1)); echo $i >/data/log/new; mv /data/log/new /data/log/$i; done";

/// The number of the last file that the writer has written.
async fn written(app: &Running) -> Result<u64> {
    let last = app.sh("ls /data/log | grep -v new | sort -n | tail -1").await?;
    last.parse().with_context(|| format!("number of the last file: {last:?}"))
}

async fn archive(w: &World, app: &Running) -> Result<(u64, u64)> {
    let before = written(app).await?;
    let backup = w.backup(&["data"]).await?;
    w.volume_until(&backup, "data", "is cut", |v| v.cut.is_some()).await?;
    let after = written(app).await?;
    let volumes = w.backup_succeeded(&backup).await?;
    let archived = volumes.first().and_then(|v| v.archive.clone());
    ensure!(archived.is_some_and(|a| a.starts_with(&format!("{}_data_", w.namespace))), "no archive is named in {volumes:#?}");
    Ok((before, after))
}

#[test]
fn an_awkward_tree_comes_back_from_the_archive_as_it_was_at_the_cut() -> Result<()> {
    test("an_awkward_tree_comes_back_from_the_archive_as_it_was_at_the_cut", async |w: &World| {
        w.claim(Claim::new("data").size("3Gi")).await?;
        let app = w.app(App::new("app").mount("data", "/data").script(WRITER)).await?;
        app.sh("chown 1234:5678 /data && chmod 2770 /data").await?;
        app.make_awkward_tree("/data/tree").await?;
        let expected = app.fingerprint("/data/tree").await?;
        let (before, after) = archive(w, &app).await?;
        app.sh("rm -rf /data/tree").await?;

        let source = RestoreSource { pvc: "data".into(), from: Some(SourceKind::Archive), ..RestoreSource::default() };
        let restore = w.restore(source, "restored").await?;
        w.restore_succeeded(&restore).await?;
        w.bound("restored").await?;
        let reader = w.app(App::new("reader").mount("restored", "/data")).await?;
        same(&expected, &reader.fingerprint("/data/tree").await?)?;
        let root = reader.sh("stat -c '%u %g %a' /data").await?;
        ensure!(root == "1234 5678 2770", "the volume's own folder came back as {root}");
        at_the_cut(&reader, before, after).await
    })
}

/// The log must be complete up to its last file, and that one written between the two observations.
async fn at_the_cut(reader: &Running, before: u64, after: u64) -> Result<()> {
    let last = written(reader).await?;
    ensure!((before..=after).contains(&last), "the last file is {last}; at the cut it was one of {before} to {after}");
    let wrong = reader.sh(&format!("cd /data/log; for i in $(seq {last}); do [ \"$(cat $i)\" = $i ] || echo $i; done")).await?;
    ensure!(wrong.is_empty(), "files that were complete at the cut are not: {wrong}");
    Ok(())
}
