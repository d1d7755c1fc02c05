//! A Repository that is checked every few seconds: segments, metadata, what archives hold; and what becomes of damage.

use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Backup, MaintenancePhase, Repository};
use borgherd_api::names::COMPONENT;
use borgherd_e2e::{App, Claim, DEADLINE, World, test, until, until_all};
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The whole spec of the Repository.
fn spec(location: &str, more: Value) -> Value {
    let mut check = json!({ "repository": "15s", "archives": "20s", "data": "20s" });
    check["verifyData"] = more;
    json!({ "location": location, "secretRef": "borgherd-server", "check": check })
}

/// Waits until the record of a place is as it should be.
pub(super) async fn recorded(w: &World, location: &str, what: &str, is: impl Fn(&BTreeMap<String, String>) -> bool) -> Result<()> {
    let of = |map: &ConfigMap| map.data.as_ref().is_some_and(|data| data.get("location").is_some_and(|at| at == location) && is(data));
    let records = format!("{COMPONENT}=repository-record");
    until_all(&w.api_own::<ConfigMap>(), &records, what, DEADLINE, |all| all.iter().any(of)).await.map(drop)
}

/// Turns a bit in the middle of the largest segment.
fn flip(folder: &str) -> String {
    format!(
        "cd '{folder}' && file=$(ls -S data/0/* | head -1) && at=$(($(stat -c %s \"$file\") / 2)) &&
        byte=$(od -An -tu1 -j $at -N1 \"$file\" | tr -d ' ') &&
        printf \"$(printf '\\\\%03o' $((byte ^ 1)))\" | dd of=\"$file\" bs=1 seek=$at conv=notrunc status=none"
    )
}

#[test]
fn maintenance_finds_a_flipped_bit_and_deletes_nothing_until_it_is_repaired() -> Result<()> {
    test("maintenance_finds_a_flipped_bit_and_deletes_nothing_until_it_is_repaired", async |w: &World| {
        let (folder, location) = w.fresh_place("checked").await?;
        let repository = w.repository_with("checked", spec(&location, Value::Null)).await?;
        w.claim(Claim::new("data").size("50Mi").annotation("repository", &repository).annotation("archive-keep", "last=1")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("head -c 3000000 /dev/urandom >/data/file").await?;
        damaged(w, &folder, &location, &repository).await
    })
}

async fn damaged(w: &World, folder: &str, location: &str, repository: &str) -> Result<()> {
    let first = w.backup(&["data"]).await?;
    w.backup_succeeded(&first).await?;
    phase(w, &first, MaintenancePhase::Done).await?;
    let kinds = |data: &BTreeMap<String, String>| {
        ["checkedAt", "archivesCheckedAt", "read."].iter().all(|key| data.keys().any(|k| k.starts_with(key)))
            && !data.contains_key("verified")
    };
    recorded(w, location, "segments, metadata and content were checked", kinds).await?;
    for metric in ["borgherd_repository_checked_timestamp_seconds", "borgherd_repository_read_timestamp_seconds"] {
        w.controller_metric(metric, &[("repository", repository)], |v| v.is_some_and(|v| v > 0.0)).await?;
    }
    w.repository_with("checked", spec(location, "once".into())).await?;
    recorded(w, location, "all content was read", |data| data.get("verified").is_some_and(|word| word == "once")).await?;
    w.on_server(&flip(folder)).await?;
    let is_told = |r: Option<&Repository>| {
        r.and_then(|r| r.status.as_ref()).is_some_and(|s| !s.ready && s.reason == Some(Reason::RepositoryCorrupted))
    };
    until(&w.api_all::<Repository>(), repository, "the damage stands in its status", DEADLINE, is_told).await?;
    w.controller_metric("borgherd_repository_damaged", &[("repository", repository)], |v| v == Some(1.0)).await?;
    let about = |e: &Event| e.involved_object.name.as_deref() == Some("data") && e.reason.as_deref() == Some("RepositoryCorrupted");
    until_all(&w.api::<Event>(), "", "an Event at the PVC", DEADLINE, |all| all.iter().any(about)).await?;

    // the archive that was damaged is there still after another one was made
    let second = w.backup(&["data"]).await?;
    w.backup_succeeded(&second).await?;
    let message = phase(w, &second, MaintenancePhase::Stopped).await?;
    let (_, token) = message.rsplit_once(' ').context("no token in the message")?;
    ensure!(message.contains("is damaged") && token.starts_with("repaired:"), "{message}");
    ensure!(w.archives_in(folder).await?.len() == 2, "nothing is deleted");
    w.on_server(&flip(folder)).await?;
    w.cli(&["accept", "data", token]).await?.ok("borgherd accept")?;
    phase(w, &second, MaintenancePhase::Done).await?;
    ensure!(w.archives_in(folder).await?.len() == 1, "it goes on");
    w.controller_metric("borgherd_repository_damaged", &[("repository", repository)], |v| v == Some(0.0)).await?;
    let ready = |r: Option<&Repository>| r.and_then(|r| r.status.as_ref()).is_some_and(|s| s.ready);
    until(&w.api_all::<Repository>(), repository, "it is ready again", DEADLINE, ready).await?;
    Ok(())
}

/// Waits until what follows an archive stands so; the message, or nothing.
async fn phase(w: &World, backup: &str, phase: MaintenancePhase) -> Result<String> {
    let of = |b: &Backup| b.status.iter().flat_map(|s| &s.volumes).find_map(|v| v.maintenance.clone()).filter(|m| m.phase == phase);
    let seen = until(&w.api::<Backup>(), backup, &format!("{phase:?}"), DEADLINE, |b| b.and_then(of).is_some()).await?;
    Ok(seen.as_ref().and_then(of).and_then(|m| m.message).unwrap_or_default())
}

/// Turns a bit in the manifest, the last entry of the last segment with data: every borg reads it.
fn flip_manifest(folder: &str) -> String {
    format!(
        "cd '{folder}/data/0' && file=$(ls -l | awk '$5 > 100 {{ print $9 }}' | sort -n | tail -1) && at=$(($(stat -c %s \"$file\") - 20)) &&
        byte=$(od -An -tu1 -j $at -N1 \"$file\" | tr -d ' ') &&
        printf \"$(printf '\\\\%03o' $((byte ^ 1)))\" | dd of=\"$file\" bs=1 seek=$at conv=notrunc status=none"
    )
}

#[test]
fn maintenance_deletes_nothing_after_damage_that_a_backup_met() -> Result<()> {
    test("maintenance_deletes_nothing_after_damage_that_a_backup_met", async |w: &World| {
        let (folder, location) = w.fresh_place("met").await?;
        let never = json!({ "repository": "0s", "archives": "0s", "data": "0s" });
        let spec = json!({ "location": location, "secretRef": "borgherd-server", "check": never });
        let repository = w.repository_with("met", spec).await?;
        w.claim(Claim::new("data").size("50Mi").annotation("repository", &repository).annotation("archive-keep", "last=1")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("head -c 1000000 /dev/urandom >/data/file").await?;
        let first = w.backup(&["data"]).await?;
        w.backup_succeeded(&first).await?;
        phase(w, &first, MaintenancePhase::Done).await?;
        w.on_server(&flip_manifest(&folder)).await?;
        let second = w.backup(&["data"]).await?;
        w.backup_failed(&second, Reason::RepositoryCorrupted).await?;
        let told = |all: &[Event], about: &str| {
            let is = |e: &&Event| e.involved_object.name.as_deref() == Some(about) && e.reason.as_deref() == Some("RepositoryCorrupted");
            all.iter().filter(is).any(|e| e.message.as_deref().is_some_and(|m| m.contains("nothing is pruned or compacted there")))
        };
        until_all(&w.api::<Event>(), "", "an Event at the PVC", DEADLINE, |all| told(all, "data")).await?;
        until_all(&w.api_all::<Event>(), "", "an Event at the Repository", DEADLINE, |all| told(all, &repository)).await?;
        w.controller_metric("borgherd_repository_damaged", &[("repository", &repository)], |v| v == Some(1.0)).await?;

        // it can be read again, and yet nothing goes before a person has looked
        w.on_server(&flip_manifest(&folder)).await?;
        let third = w.backup(&["data"]).await?;
        w.backup_succeeded(&third).await?;
        let message = phase(w, &third, MaintenancePhase::Stopped).await?;
        let (_, token) = message.rsplit_once(' ').context("no token in the message")?;
        ensure!(w.archives_in(&folder).await?.len() == 2, "something is deleted");
        let preview = w.cli(&["retention", "preview", "data", "--archives"]).await?.ok("borgherd retention preview")?.text();
        ensure!(preview.contains(" held ") && preview.contains(token), "{preview}");
        w.cli(&["accept", "data", token]).await?.ok("borgherd accept")?;
        phase(w, &third, MaintenancePhase::Done).await?;
        ensure!(w.archives_in(&folder).await?.len() == 1, "it does not go on");
        Ok(())
    })
}

#[test]
fn maintenance_only_reads_where_archives_may_only_be_added() -> Result<()> {
    test("maintenance_only_reads_where_archives_may_only_be_added", async |w: &World| {
        let (folder, location) = w.fresh_place("grows").await?;
        let mut spec = spec(&location, "once".into());
        spec["appendOnly"] = true.into();
        let repository = w.repository_with("grows", spec).await?;
        w.claim(Claim::new("data").size("50Mi").annotation("repository", &repository).annotation("archive-keep", "last=1")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("echo first >/data/file").await?;
        for _ in 0..2 {
            let backup = w.backup(&["data"]).await?;
            w.backup_succeeded(&backup).await?;
        }
        let read = |data: &BTreeMap<String, String>| data.keys().any(|key| key.starts_with("read."));
        recorded(w, &location, "the newest archive was read", read).await?;
        let untouched =
            |data: &BTreeMap<String, String>| ["checkedAt", "archivesCheckedAt", "verified"].iter().all(|key| !data.contains_key(*key));
        recorded(w, &location, "and nothing else", untouched).await?;
        ensure!(w.archives_in(&folder).await?.len() == 2, "nothing is deleted");
        let all = w.backups().await?;
        let kept = all.iter().flat_map(|b| &b.status).flat_map(|s| &s.volumes).all(|v| v.maintenance.is_none());
        ensure!(kept, "pruning was tried: {all:#?}");
        Ok(())
    })
}
