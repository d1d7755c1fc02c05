//! Snapshots that a script before Borgherd has made and labelled go on being retained under its prefix. Alone: another prefix is for all.

use crate::retention::{becomes, content_of, fates, gone, snapshot, volume};
use crate::schedules::clock;
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{RestoreSource, SourceKind, Trigger};
use borgherd_api::names::{MARKED_AT, RETAIN, TIERS_AT_BIRTH};
use borgherd_e2e::{App, DEADLINE, Running, World, exclusive, until, until_polled};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

/// One as backup-ns.sh makes it: labels under its prefix, nothing of Borgherd. The next one's cut is of a later second.
async fn theirs(w: &World, app: &Running, name: &str, labels: &[(&str, &str)]) -> Result<()> {
    let all = [("pvc", "data"), ("type", "cronjob"), ("retain", "daily_weekly_monthly")].into_iter().chain(labels.iter().copied());
    let labels: std::collections::BTreeMap<String, &str> = all.map(|(key, value)| (format!("backup-ns.sh/{key}"), value)).collect();
    let object = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": name, "labels": labels}, "spec": {"source": {"persistentVolumeClaimName": "data"}},
    });
    let made: VolumeSnapshot = serde_json::from_value(object)?;
    drop(w.api().create(&PostParams::default(), &made).await?);
    let ready = |s: &VolumeSnapshot| s.status.as_ref().is_some_and(|status| status.ready_to_use == Some(true));
    let cut = becomes(w, name, "it is ready", ready).await?.status.and_then(|status| status.creation_time).context("no cut")?.timestamp();
    until_polled("the second of the cut is over", DEADLINE, async || Ok((clock(app).await? > cut).then_some(()))).await
}

#[test]
fn retention_goes_on_with_the_snapshots_of_another_program() -> Result<()> {
    exclusive("retention_goes_on_with_the_snapshots_of_another_program", async |w: &World| {
        w.release().with(&["retention.labelPrefix=backup-ns.sh/"], async || Box::pin(go_on(w)).await).await
    })
}

async fn go_on(w: &World) -> Result<()> {
    let app = volume(w, "last=2,daily=7").await?;
    app.sh("echo of-before >/data/file && sync").await?;
    theirs(w, &app, "expired", &[("delete-after", "2022-05-30")]).await?;
    theirs(w, &app, "kept", &[("daily", "2022-05-21"), ("weekly", "w20"), ("monthly", "2022-05")]).await?;
    let ours = snapshot(w, &app, Trigger::Scheduled, None).await?;

    // the mark of before waits a day, as any other
    let marked = becomes(w, "expired", "its mark is taken over", |s| s.annotations().contains_key(MARKED_AT)).await?;
    let kept = becomes(w, "kept", "it is taken in", |s| s.annotations().contains_key(TIERS_AT_BIRTH)).await?;
    ensure!(!kept.labels().contains_key("backup-ns.sh/weekly"), "no tier keeps weeks: {:?}", kept.labels());
    let ours = becomes(w, &ours, "it has its tiers", |s| s.annotations().contains_key(TIERS_AT_BIRTH)).await?;
    for key in ["backup-ns.sh/pvc", "backup-ns.sh/retain", "backup-ns.sh/type", "borgherd.dev/pvc"] {
        ensure!(ours.labels().contains_key(key), "Borgherd's own has no label {key}: {:?}", ours.labels());
    }
    ensure!(!ours.labels().contains_key(RETAIN), "it stands under two prefixes: {:?}", ours.labels());
    let mut shown = fates(w, &["data"]).await?;
    shown.sort();
    let mut wanted = [("expired".to_owned(), "marked"), ("kept".to_owned(), "keep"), (ours.name_any(), "keep")];
    wanted.sort();
    ensure!(shown.iter().map(|(name, fate)| (name.clone(), fate.as_str())).eq(wanted.iter().cloned()), "{shown:?}");

    // what it has written is carried, too
    let contents = w.api_all::<VolumeSnapshotContent>();
    let carried =
        |c: Option<&VolumeSnapshotContent>| c.is_some_and(|c| c.labels().get("backup-ns.sh/daily").is_some_and(|day| day == "2022-05-21"));
    until(&contents, &content_of(&kept)?, "its content carries the label", DEADLINE, carried).await?;

    // and restored from as one of Borgherd's
    let source =
        RestoreSource { pvc: "data".into(), from: Some(SourceKind::Snapshot), name: Some("kept".into()), ..RestoreSource::default() };
    let target = borgherd_api::crd::RestoreTarget { pvc: "back".into(), storage_class: None, size: Some("20Mi".into()) };
    let restore = w.restore_as(source, Some(target)).await?;
    w.restore_succeeded(&restore).await?;
    let back = w.app(App::new("back").mount("back", "/data")).await?;
    ensure!(back.sh("cat /data/file").await?.trim() == "of-before", "something else came back");

    let long_ago = Patch::Merge(json!({"metadata": {"annotations": {MARKED_AT: "2022-05-30T12:00:00Z"}}}));
    drop(w.api::<VolumeSnapshot>().patch("expired", &PatchParams::default(), &long_ago).await?);
    gone(w, "expired", &content_of(&marked)?).await?;
    let left = w.api::<VolumeSnapshot>().get_opt("kept").await?.context("the kept one is gone")?;
    ensure!(left.metadata.deletion_timestamp.is_none(), "it is being deleted");
    Ok(())
}
