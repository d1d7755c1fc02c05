//! Retention against a real snapshot controller and driver. Time cannot be waited for, so marks are dated back as a clock would have
//! them; `hack/test` installs the chart with a look every few seconds (`retention.interval`).

use crate::schedules::clock;
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, BackupSpec, Trigger};
use borgherd_api::names::{ACKNOWLEDGE, DELETE_AFTER, MARKED_AT, PVC, RETAIN, SWEPT, TIERS_AT_BIRTH, UNMARKED_AT};

use borgherd_e2e::{App, Claim, DEADLINE, Running, World, test, until, until_all, until_polled};
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

/// A snapshot without archive, as the schedule or a person makes it; its name. Cuts are told to the second: the next one is of a later.
pub(crate) async fn snapshot(w: &World, app: &Running, trigger: Trigger, keep_days: Option<u32>) -> Result<String> {
    let spec = BackupSpec { volumes: vec!["data".into()], archive: false, trigger, keep_days, scheduled_time: None, hooks: None };
    let metadata = ObjectMeta { generate_name: Some("retention-".into()), ..ObjectMeta::default() };
    let made = w.api::<Backup>().create(&PostParams::default(), &Backup { metadata, spec, status: None }).await?;
    let volumes = w.backup_succeeded(&made.name_any()).await?;
    let volume = volumes.into_iter().next().context("no volume")?;
    let cut = volume.cut.context("no cut")?.timestamp();
    until_polled("the second of the cut is over", DEADLINE, async || Ok((clock(app).await? > cut).then_some(()))).await?;
    volume.snapshot.context("no snapshot")
}

pub(crate) async fn volume(w: &World, keep: &str) -> Result<Running> {
    w.claim(Claim::new("data").size("20Mi").annotation("keep", keep)).await?;
    w.app(App::new("app").mount("data", "/data")).await
}

async fn change(w: &World, name: &str, metadata: Value) -> Result<()> {
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    drop(w.api::<VolumeSnapshot>().patch(name, &PatchParams::default(), &patch).await?);
    Ok(())
}

/// Marked long ago.
async fn date_back(w: &World, name: &str) -> Result<()> {
    let (labels, annotations) = (json!({DELETE_AFTER: "2020-01-01"}), json!({MARKED_AT: "2020-01-01T12:00:00Z", UNMARKED_AT: null}));
    change(w, name, json!({"labels": labels, "annotations": annotations})).await
}

/// Waits until a snapshot is as it should be.
pub(crate) async fn becomes(w: &World, name: &str, what: &str, is: impl Fn(&VolumeSnapshot) -> bool) -> Result<VolumeSnapshot> {
    let found = until(&w.api::<VolumeSnapshot>(), name, what, DEADLINE, |s| s.is_some_and(&is)).await?;
    found.context("seen and yet absent")
}

fn is_marked(snapshot: &VolumeSnapshot) -> bool {
    snapshot.labels().contains_key(DELETE_AFTER) && snapshot.annotations().contains_key(MARKED_AT)
}

pub(crate) async fn gone(w: &World, name: &str, content: &str) -> Result<()> {
    until(&w.api::<VolumeSnapshot>(), name, "it is swept", DEADLINE, |s| s.is_none()).await?;
    until(&w.api_all::<VolumeSnapshotContent>(), content, "its content goes with it", DEADLINE, |c| c.is_none()).await?;
    Ok(())
}

pub(crate) fn content_of(snapshot: &VolumeSnapshot) -> Result<String> {
    let status = snapshot.status.clone().unwrap_or_default();
    status.bound_volume_snapshot_content_name.with_context(|| format!("{} is bound to nothing", snapshot.name_any()))
}

/// What a person is told in an Event about an object of the test's namespace.
async fn told(w: &World, about: &str, reason: &str) -> Result<String> {
    let is = |e: &Event| e.involved_object.name.as_deref() == Some(about) && e.reason.as_deref() == Some(reason);
    let all = until_all(&w.api::<Event>(), "", &format!("an Event {reason} about {about}"), DEADLINE, |all| all.iter().any(is)).await?;
    all.into_iter().find(is).and_then(|e| e.message).context("seen and yet absent")
}

pub(crate) async fn fates(w: &World, arguments: &[&str]) -> Result<Vec<(String, String)>> {
    let all = [&["retention", "preview", "--output", "json"], arguments].concat();
    let output = w.cli(&all).await?.ok("borgherd retention preview")?;
    let value: Value = serde_json::from_slice(&output.stdout)?;
    let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    Ok(value["items"].as_array().context("no items")?.iter().map(|i| (text(i, "snapshot"), text(i, "fate"))).collect())
}

#[test]
fn retention_sweeps_what_was_marked_a_day_ago_and_nothing_else() -> Result<()> {
    test("retention_sweeps_what_was_marked_a_day_ago_and_nothing_else", async |w: &World| {
        w.cli_binary()?;
        let app = volume(w, "last=2").await?;
        let mut names = Vec::new();
        for _ in 0..5 {
            names.push(snapshot(w, &app, Trigger::Scheduled, None).await?);
        }
        let days = snapshot(w, &app, Trigger::Manual, Some(30)).await?;
        let forever = snapshot(w, &app, Trigger::Manual, None).await?;
        for name in names.iter().take(3) {
            becomes(w, name, "no tier holds it, so it is marked", is_marked).await?;
        }
        becomes(w, &days, "it is marked for later", is_marked).await?;
        let shown = fates(w, &["data"]).await?;
        let wanted = names.iter().zip(["marked", "marked", "marked", "keep", "keep"]).map(|(name, fate)| (name.as_str(), fate));
        let wanted: Vec<_> = wanted.chain([(days.as_str(), "marked"), (forever.as_str(), "keep")]).collect();
        let mut shown: Vec<_> = shown.iter().map(|(name, fate)| (name.as_str(), fate.as_str())).collect();
        shown.sort_by_key(|(name, _)| wanted.iter().position(|(other, _)| other == name));
        ensure!(shown == wanted, "the preview says {shown:?}, and should say {wanted:?}");

        // one goes; of one a person has taken the mark off, of one the label
        let [first, unmarked, protected, ..] = names.as_slice() else { anyhow::bail!("five were made") };
        let content = content_of(&w.api::<VolumeSnapshot>().get(first).await?)?;
        change(w, unmarked, json!({"labels": {DELETE_AFTER: null}})).await?;
        becomes(w, unmarked, "it is seen that the mark is off", |s| s.annotations().contains_key(UNMARKED_AT)).await?;
        change(w, protected, json!({"labels": {RETAIN: null}})).await?;
        date_back(w, protected).await?;
        date_back(w, first).await?;
        gone(w, first, &content).await?;

        // a content at Delete without a verdict goes back
        let last = w.api::<VolumeSnapshot>().get(&names[4]).await?;
        let contents: Api<VolumeSnapshotContent> = w.api_all();
        let delete = Patch::Merge(json!({"metadata": {"labels": {SWEPT: last.uid()}}, "spec": {"deletionPolicy": "Delete"}}));
        drop(contents.patch(&content_of(&last)?, &PatchParams::default(), &delete).await?);
        let kept =
            |c: Option<&VolumeSnapshotContent>| c.is_some_and(|c| c.spec.deletion_policy == "Retain" && !c.labels().contains_key(SWEPT));
        until(&contents, &content_of(&last)?, "it is set back to Retain", DEADLINE, kept).await?;
        for name in names.iter().skip(1).chain([&days, &forever]) {
            let left = w.api::<VolumeSnapshot>().get_opt(name).await?.with_context(|| format!("{name} is gone"))?;
            ensure!(name != unmarked || !left.labels().contains_key(DELETE_AFTER), "{name} is marked again");
        }
        Ok(())
    })
}

#[test]
fn retention_holds_a_sweep_of_most_until_it_is_allowed() -> Result<()> {
    test("retention_holds_a_sweep_of_most_until_it_is_allowed", async |w: &World| {
        w.cli_binary()?;
        let app = volume(w, "last=1").await?;
        let mut going = Vec::new();
        for _ in 0..3 {
            let name = snapshot(w, &app, Trigger::Scheduled, None).await?;
            let seen = becomes(w, &name, "it was born", |s| s.annotations().contains_key(TIERS_AT_BIRTH)).await?;
            going.push((name, content_of(&seen)?));
        }
        let newest = snapshot(w, &app, Trigger::Scheduled, None).await?;
        for (name, _) in &going {
            becomes(w, name, "it is marked", is_marked).await?;
            change(w, name, json!({"annotations": {TIERS_AT_BIRTH: "daily"}})).await?;
        }
        // all at once: a sweep of one would be no alarm
        let mut dated = Vec::new();
        for (name, _) in &going {
            dated.push(date_back(w, name));
        }
        futures::future::try_join_all(dated).await?;
        let note = told(w, "data", "SweepHeld").await?;
        let token = note.rsplit_once('=').map(|(_, token)| token.to_owned()).context("no token in the Event")?;
        ensure!(note.contains(ACKNOWLEDGE) && note.contains(&w.namespace), "the Event does not say how to allow it: {note}");
        let held: Vec<_> = fates(w, &["data"]).await?.into_iter().filter(|(_, fate)| fate == "held").map(|(name, _)| name).collect();
        ensure!(!held.is_empty(), "the preview does not say that it is held");
        for name in &held {
            ensure!(w.api::<VolumeSnapshot>().get_opt(name).await?.is_some(), "{name} is gone, and nobody has allowed it");
        }
        let namespaces: Api<Namespace> = w.api_all();
        let allow = Patch::Merge(json!({"metadata": {"annotations": {ACKNOWLEDGE: token}}}));
        drop(namespaces.patch(&w.namespace, &PatchParams::default(), &allow).await?);
        for (name, content) in &going {
            gone(w, name, content).await?;
        }
        ensure!(w.api::<VolumeSnapshot>().get_opt(&newest).await?.is_some(), "the newest is gone");
        Ok(())
    })
}

#[test]
fn retention_a_poison_object_stops_nothing_else() -> Result<()> {
    test("retention_a_poison_object_stops_nothing_else", async |w: &World| {
        let app = volume(w, "last=1").await?;
        let poisoned = snapshot(w, &app, Trigger::Scheduled, None).await?;
        let good = snapshot(w, &app, Trigger::Scheduled, None).await?;
        snapshot(w, &app, Trigger::Scheduled, None).await?;
        let api = w.api::<VolumeSnapshot>();
        let (bad, content) = (content_of(&api.get(&poisoned).await?)?, content_of(&api.get(&good).await?)?);
        // somebody else's content of the same snapshot in the storage
        let contents: Api<VolumeSnapshotContent> = w.api_all();
        let original = contents.get(&bad).await?;
        let handle = original.status.and_then(|s| s.snapshot_handle).context("no handle")?;
        let other = json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": {"generateName": "e2e-retention-"},
            "spec": {
                "deletionPolicy": "Retain", "driver": original.spec.driver, "source": {"snapshotHandle": handle},
                "sourceVolumeMode": original.spec.source_volume_mode,
                "volumeSnapshotRef": {"namespace": w.namespace, "name": "other"},
            },
        });
        let other: VolumeSnapshotContent = serde_json::from_value(other)?;
        let other = contents.create(&PostParams::default(), &other).await?;
        for name in [&poisoned, &good] {
            becomes(w, name, "it is marked", is_marked).await?;
            date_back(w, name).await?;
        }
        let note = told(w, &poisoned, "SweepFailed").await?;
        ensure!(note.contains(&other.name_any()), "the Event does not say what stands against it: {note}");
        gone(w, &good, &content).await?;
        ensure!(contents.get(&bad).await?.spec.deletion_policy == "Retain", "its content is at Delete");
        w.controller_metric("borgherd_retention_failures_total", &[("reason", "SharedHandle")], |v| v.is_some_and(|v| v > 0.0)).await?;
        // and when it is gone, so is the poison
        drop(contents.delete(&other.name_any(), &kube::api::DeleteParams::default()).await?);
        gone(w, &poisoned, &bad).await?;
        ensure!(api.list(&kube::api::ListParams::default().labels(PVC)).await?.items.len() == 1, "the last one stays");
        Ok(())
    })
}
