//! Schedules on a running cluster: when Backups come, when not, and who is told.

use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{Backup, Trigger};
use borgherd_e2e::{App, Claim, DEADLINE, Running, World, test, until_all};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// A schedule of every minute, and what it starts, and a standby that has to wait for a Lease.
pub(crate) const MINUTES: Duration = Duration::from_mins(4);
pub(crate) const EVERY_MINUTE: (&str, Option<&str>) = ("schedule", Some("* * * * *"));

async fn raw_claim(w: &World, name: &str, mode: &str) -> Result<()> {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name },
        "spec": { "accessModes": ["ReadWriteOnce"], "volumeMode": mode, "resources": { "requests": { "storage": "20Mi" } } },
    });
    drop(w.api::<PersistentVolumeClaim>().create(&PostParams::default(), &serde_json::from_value(claim)?).await?);
    Ok(())
}

/// Bound: good, bad, held, out. Not to be backed up: raw, loose.
async fn volumes(w: &World) -> Result<Running> {
    w.claim(Claim::new("good").size("20Mi")).await?;
    w.claim(Claim::new("bad").size("20Mi").annotation("schedule", "every day")).await?;
    w.claim(Claim::new("held").size("20Mi").annotation("suspend", "true")).await?;
    w.claim(Claim::new("out").size("20Mi").annotation("schedule", "")).await?;
    raw_claim(w, "raw", "Block").await?;
    raw_claim(w, "loose", "Filesystem").await?;
    let app = ["good", "bad", "held", "out"].into_iter().fold(App::new("app"), |app, pvc| app.mount(pvc, &format!("/{pvc}")));
    w.app(app).await
}

/// Waits for the first Backup of a PVC.
pub(crate) async fn first_of(w: &World, pvc: &str) -> Result<Backup> {
    let has = |b: &Backup| b.spec.volumes.iter().any(|v| v == pvc);
    let all = until_all(&w.api::<Backup>(), "", &format!("{pvc} has a Backup"), MINUTES, |all| all.iter().any(has)).await?;
    all.into_iter().filter(has).min_by_key(ResourceExt::name_any).context("seen and yet absent")
}

/// Something about the PVCs in `borgherd status -o json`.
async fn told(w: &World) -> Result<BTreeMap<String, Value>> {
    let output = w.cli(&["status", "--output", "json"]).await?.ok("borgherd status")?;
    let value: Value = serde_json::from_slice(&output.stdout).context("status prints JSON")?;
    let items = value["items"].as_array().cloned().context("status has items")?;
    Ok(items.into_iter().map(|i| (i["pvc"].as_str().unwrap_or_default().to_owned(), i)).collect())
}

async fn states_are_told(w: &World) -> Result<()> {
    let told = told(w).await?;
    let wanted = [
        ("bad", "invalid", "problems", "every day"),
        ("held", "suspended", "state", "suspended"),
        ("out", "off", "state", "off"),
        ("raw", "excluded", "excluded", "Block"),
        ("loose", "excluded", "excluded", "not bound"),
    ];
    for (pvc, state, field, part) in wanted {
        let item = told.get(pvc).with_context(|| format!("status does not list {pvc}"))?;
        ensure!(item["state"] == state, "{pvc} is {} in status, and should be {state}", item["state"]);
        ensure!(item[field].to_string().contains(part), "status of {pvc}: {field} does not say {part:?}: {}", item[field]);
    }
    Ok(())
}

async fn invalid_is_told(w: &World) -> Result<()> {
    let about_bad = |e: &Event| e.involved_object.name.as_deref() == Some("bad") && e.reason.as_deref() == Some("Invalid");
    let events = until_all(&w.api::<Event>(), "", "an Event Invalid about the PVC bad", DEADLINE, |all| all.iter().any(about_bad)).await?;
    let note = events.into_iter().find(about_bad).and_then(|e| e.message).unwrap_or_default();
    ensure!(note.contains("borgherd.dev/schedule") && note.contains("every day"), "the Event does not say what is wrong: {note}");
    let of = |pvc| [("namespace", w.namespace.as_str()), ("pvc", pvc)];
    w.controller_metric("borgherd_policy_invalid", &of("bad"), |v| v == Some(1.0)).await?;
    w.controller_metric("borgherd_policy_invalid", &of("good"), |v| v == Some(0.0)).await
}

/// Seconds since the epoch, by the cluster's clock.
pub(crate) async fn clock(app: &Running) -> Result<i64> {
    app.sh("date +%s").await?.parse().context("date prints a number")
}

/// A PVC whose annotation changes must not wait for its next minute: the time that has passed is made up for at once.
async fn takes_effect_at_once(w: &World, app: &Running, pvc: &str, annotation: (&str, Option<&str>)) -> Result<()> {
    w.annotate::<PersistentVolumeClaim>(pvc, &[annotation]).await?;
    let after = clock(app).await?;
    let backup = first_of(w, pvc).await?;
    let scheduled = backup.spec.scheduled_time.context("no scheduled time")?.timestamp();
    ensure!(scheduled <= after, "{pvc} waited {} s for its next time", scheduled - after);
    Ok(())
}

#[test]
fn what_stands_against_a_backup_is_told_and_stops_that_volume_only() -> Result<()> {
    test("what_stands_against_a_backup_is_told_and_stops_that_volume_only", async |w: &World| {
        w.cli_binary()?;
        let app = volumes(w).await?;
        w.annotate_namespace(&[EVERY_MINUTE]).await?;
        states_are_told(w).await?;
        invalid_is_told(w).await?;
        let good = first_of(w, "good").await?;
        ensure!(good.spec.trigger == Trigger::Scheduled && good.spec.volumes == ["good"], "{:?}", good.spec);
        let others: Vec<_> = w.backups().await?.into_iter().flat_map(|b| b.spec.volumes).filter(|v| v != "good").collect();
        ensure!(others.is_empty(), "also backed up were {others:?}");
        w.annotate::<PersistentVolumeClaim>("good", &[("suspend", Some("true"))]).await?;

        takes_effect_at_once(w, &app, "bad", ("schedule", None)).await?;
        let of_bad = [("namespace", w.namespace.as_str()), ("pvc", "bad")];
        w.controller_metric("borgherd_policy_invalid", &of_bad, |v| v == Some(0.0)).await?;
        takes_effect_at_once(w, &app, "held", ("suspend", None)).await?;
        w.annotate_namespace(&[("schedule", None)]).await?;
        for backup in w.backups().await? {
            w.backup_succeeded(&backup.name_any()).await?;
        }
        ensure!(told(w).await?["good"]["lastSuccess"]["archive"].is_string(), "status names no archive of good");
        Ok(())
    })
}
