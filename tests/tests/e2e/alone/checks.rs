//! Repositories that are checked every few seconds, which no other test bears.

use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Backup, MaintenancePhase, Repository};
use borgherd_e2e::{App, Claim, DEADLINE, World, exclusive, until, until_all};
use k8s_openapi::api::core::v1::Event;

const VALUES: [&str; 2] = ["maintenance.check.repository=15s", "maintenance.check.archives=40s"];

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
    exclusive("maintenance_finds_a_flipped_bit_and_deletes_nothing_until_it_is_repaired", async |w: &World| {
        w.cli_binary()?;
        let (folder, location) = w.fresh_place("checked").await?;
        let repository = w.repository("checked", &location, "borgherd-server").await?;
        w.claim(Claim::new("data").size("50Mi").annotation("repository", &repository).annotation("archive-keep", "last=1")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("head -c 3000000 /dev/urandom >/data/file").await?;
        w.release().with(&VALUES, async || damaged(w, &folder, &repository).await).await
    })
}

async fn damaged(w: &World, folder: &str, repository: &str) -> Result<()> {
    let first = w.backup(&["data"]).await?;
    w.backup_succeeded(&first).await?;
    phase(w, &first, MaintenancePhase::Done).await?;
    let labels = [("operation", "check"), ("result", "Succeeded")];
    w.controller_metric("borgherd_maintenance_total", &labels, |v| v.is_some_and(|v| v >= 1.0)).await?;
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
