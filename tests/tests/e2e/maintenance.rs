//! Archives kept in order: pruned after each new one, by the policy of one PVC and of no other; what is not certain waits for a person.

use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Backup, Maintenance, MaintenancePhase, VolumeStatus};
use borgherd_e2e::{App, Claim, DEADLINE, Running, World, test, until, until_all};
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

const SECRET: &str = "borgherd-server";

/// A Borg repository of the test's own that all its PVCs share; its folder on the server, and the Repository's name.
async fn shared(w: &World) -> Result<(String, String)> {
    let (folder, location) = w.fresh_place("shared").await?;
    Ok((folder, w.repository("shared", &location, SECRET).await?))
}

async fn volume(w: &World, name: &str, repository: &str, keep: Option<&str>) -> Result<()> {
    let claim = Claim::new(name).size("50Mi").annotation("repository", repository);
    w.claim(keep.into_iter().fold(claim, |claim, keep| claim.annotation("archive-keep", keep))).await?;
    Ok(())
}

/// What the newest archive of a PVC holds that no other does.
pub(super) async fn fill(app: &Running, folder: &str) -> Result<()> {
    app.sh(&format!("dd if=/dev/urandom of={folder}/noise bs=1M count=3 status=none")).await?;
    Ok(())
}

/// Waits until what follows an archive is as it should be.
pub(super) async fn maintained(w: &World, backup: &str, pvc: &str, what: &str, is: impl Fn(&Maintenance) -> bool) -> Result<Maintenance> {
    let of = |v: &VolumeStatus| v.pvc == pvc && v.maintenance.as_ref().is_some_and(&is);
    let all = |b: &Backup| b.status.iter().flat_map(|s| &s.volumes).find(|v| of(v)).cloned();
    let seen = until(&w.api::<Backup>(), backup, what, DEADLINE, |b| b.and_then(all).is_some()).await?;
    seen.as_ref().and_then(all).and_then(|v| v.maintenance).context("seen and yet absent")
}

/// What a person is told in an Event about an object of the test's namespace.
async fn told(w: &World, about: &str, reason: &str) -> Result<String> {
    let is = |e: &Event| e.involved_object.name.as_deref() == Some(about) && e.reason.as_deref() == Some(reason);
    let all = until_all(&w.api::<Event>(), "", &format!("an Event {reason} about {about}"), DEADLINE, |all| all.iter().any(is)).await?;
    all.into_iter().find(is).and_then(|e| e.message).context("seen and yet absent")
}

fn of<'a>(w: &World, pvc: &str, archives: &'a [String]) -> Vec<&'a String> {
    let prefix = format!("{}_{pvc}_", w.namespace);
    archives.iter().filter(|name| name.starts_with(&prefix)).collect()
}

/// PVC and fate of each archive that a preview shows.
fn fates(json: &[u8]) -> Result<Vec<(String, String)>> {
    let said: Value = serde_json::from_slice(json)?;
    let items = said["items"].as_array().context("no items")?.iter().filter(|item| item["archive"].is_string());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(items.map(|item| (text(&item["pvc"]), text(&item["fate"]))).collect())
}

#[test]
fn maintenance_prunes_after_each_archive_what_the_policy_of_its_pvc_says() -> Result<()> {
    test("maintenance_prunes_after_each_archive_what_the_policy_of_its_pvc_says", async |w: &World| {
        w.cli_binary()?;
        let (folder, repository) = shared(w).await?;
        volume(w, "data", &repository, Some("last=2")).await?;
        volume(w, "data-db", &repository, None).await?;
        let app = w.app(App::new("app").mount("data", "/data").mount("data-db", "/db")).await?;
        let mut made = Vec::new();
        for n in 1..=4 {
            fill(&app, "/data").await?;
            let backup = w.backup(&["data", "data-db"]).await?;
            w.backup_succeeded(&backup).await?;
            let done = maintained(w, &backup, "data", "its archives are in order", |m| m.phase == MaintenancePhase::Done).await?;
            let deleted = done.pruned.map(|p| p.deleted);
            ensure!(deleted == Some(u32::from(n > 2)), "archive {n}: {done:?}");
            made.push(backup);
        }
        let archives = w.archives_in(&folder).await?;
        ensure!((of(w, "data", &archives).len(), of(w, "data-db", &archives).len()) == (2, 4), "{archives:?}");
        let note = told(w, made.last().context("four were made")?, "Pruned").await?;
        ensure!(note == "data: 1 archives deleted, 2 stay", "{note}");
        told(w, made.last().context("four were made")?, "Compacted").await?;
        let bytes: u64 = w.on_server(&format!("du -sm '{folder}/data' | cut -f1")).await?.parse()?;
        ensure!(bytes < 9, "after compacting the repository takes {bytes} MiB, and what is in it 6");
        // by another policy one would go, and the one that has none is tried as well
        let said = w.cli(&["retention", "preview", "--archive-keep", "last=1", "-o", "json"]).await?.ok("borgherd retention preview")?;
        let fates = fates(&said.stdout)?;
        let of_one = |pvc: &str| fates.iter().filter(|(of, _)| of == pvc).map(|(_, fate)| fate.as_str()).collect::<Vec<_>>();
        ensure!((of_one("data"), of_one("data-db")) == (vec!["prune", "keep"], vec!["prune", "prune", "prune", "keep"]), "{fates:?}");
        ensure!(w.archives_in(&folder).await?.len() == 6, "a preview has deleted something");
        let latest = w.backups().await?.pop().and_then(|b| b.status).context("a Backup without status")?;
        ensure!(latest.volumes.iter().all(|v| v.pvc == "data" || v.maintenance.is_none()), "nothing is said of data-db: {latest:#?}");
        Ok(())
    })
}

#[test]
fn maintenance_waits_for_a_person_where_another_cluster_wrote() -> Result<()> {
    test("maintenance_waits_for_a_person_where_another_cluster_wrote", async |w: &World| {
        w.cli_binary()?;
        let (folder, repository) = shared(w).await?;
        volume(w, "data", &repository, Some("last=1")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        fill(&app, "/data").await?;
        let first = w.backup(&["data"]).await?;
        w.backup_succeeded(&first).await?;
        maintained(w, &first, "data", "there is nothing to do", |m| m.phase == MaintenancePhase::Done).await?;
        let passphrase = w.server_credentials().await?.remove("passphrase").context("no passphrase")?;
        let foreign = format!("{}_data_2020-01-01T00-00-00Z", w.namespace);
        w.on_server(&format!(
            "export BORG_PASSPHRASE='{passphrase}' BORG_BASE_DIR=$(mktemp -d) BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
            borg create --comment '{{{{\"clusterUid\":\"elsewhere\",\"backupUid\":\"x\"}}}}' '{folder}::{foreign}' /etc/hostname"
        ))
        .await?;
        let second = w.backup(&["data"]).await?;
        w.backup_succeeded(&second).await?;
        let stopped = maintained(w, &second, "data", "it waits for a person", |m| m.phase == MaintenancePhase::Stopped).await?;
        ensure!(stopped.reason == Some(Reason::ForeignArchives), "{stopped:?}");
        let note = told(w, "data", "ForeignArchives").await?;
        let command = format!("borgherd accept -n {} data foreign:elsewhere", w.namespace);
        ensure!(note.contains(&command), "the Event does not say how to accept it: {note}");
        let labels = [("namespace", w.namespace.as_str()), ("pvc", "data"), ("reason", "ForeignArchives")];
        w.controller_metric("borgherd_pruning_stopped", &labels, |v| v == Some(1.0)).await?;
        let said = w.cli(&["retention", "preview", "data", "--archives"]).await?.ok("borgherd retention preview")?;
        let said = said.text();
        ensure!(said.contains(" held ") && said.contains("ForeignArchives: ") && said.contains(&command), "{said}");
        ensure!(w.archives_in(&folder).await?.len() == 3, "nothing is deleted");
        w.cli(&["accept", "data", "foreign:elsewhere"]).await?.ok("borgherd accept")?;
        let done = maintained(w, &second, "data", "it goes on", |m| m.phase == MaintenancePhase::Done).await?;
        ensure!(done.pruned.is_some_and(|p| (p.deleted, p.kept) == (2, 1)), "{done:?}");
        let left = w.archives_in(&folder).await?;
        ensure!(left.len() == 1 && left[0] != foreign, "{left:?}");
        w.controller_metric("borgherd_pruning_stopped", &labels, |v| v.is_none()).await?;
        Ok(())
    })
}

#[test]
fn maintenance_deletes_nothing_while_the_newest_archive_lacks_files() -> Result<()> {
    test("maintenance_deletes_nothing_while_the_newest_archive_lacks_files", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster: it damages a file below the file system");
        };
        let (folder, repository) = shared(w).await?;
        volume(w, "data", &repository, Some("last=1")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("mkdir /data/folder && echo good >/data/folder/good && head -c 1000000 /dev/urandom >/data/folder/bad").await?;
        let good = w.backup(&["data"]).await?;
        w.backup_succeeded(&good).await?;
        cluster.damage(&w.volume_handle("data").await?, "folder/bad").await?;
        // Borg does not read a file again that has not changed
        app.sh("touch /data/folder/bad").await?;
        let lacking = w.backup(&["data"]).await?;
        w.backup_ended(&lacking).await?;
        let stopped = maintained(w, &lacking, "data", "nothing is deleted", |m| m.phase == MaintenancePhase::Stopped).await?;
        ensure!(stopped.reason == Some(Reason::NewestIncomplete), "{stopped:?}");
        let archives = w.archives_in(&folder).await?;
        ensure!(archives.len() == 2, "{archives:?}");
        app.sh("rm /data/folder/bad && head -c 1000000 /dev/urandom >/data/folder/bad").await?;
        let mended = w.backup(&["data"]).await?;
        w.backup_succeeded(&mended).await?;
        let done = maintained(w, &mended, "data", "it goes on", |m| m.phase == MaintenancePhase::Done).await?;
        ensure!(done.pruned.is_some_and(|p| (p.deleted, p.kept) == (2, 1)), "{done:?}");
        Ok(())
    })
}

#[test]
fn maintenance_waits_where_an_archive_lacks_most_of_what_there_was() -> Result<()> {
    test("maintenance_waits_where_an_archive_lacks_most_of_what_there_was", async |w: &World| {
        w.cli_binary()?;
        let (folder, repository) = shared(w).await?;
        volume(w, "data", &repository, Some("last=1")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("for n in 1 2 3 4; do echo $n >/data/$n; done").await?;
        let whole = w.backup(&["data"]).await?;
        w.backup_succeeded(&whole).await?;
        maintained(w, &whole, "data", "there is nothing to do", |m| m.phase == MaintenancePhase::Done).await?;
        app.sh("rm /data/*").await?;
        let emptied = w.backup(&["data"]).await?;
        w.backup_succeeded(&emptied).await?;
        let stopped = maintained(w, &emptied, "data", "it waits for a person", |m| m.phase == MaintenancePhase::Stopped).await?;
        ensure!(stopped.reason == Some(Reason::SuspectArchive), "{stopped:?}");
        let note = told(w, "data", "SuspectArchive").await?;
        let (_, token) = note.rsplit_once(' ').context("no token in the Event")?;
        ensure!(note.contains("0 files, and the one before had 4") && token.starts_with("suspect:"), "{note}");
        ensure!(w.archives_in(&folder).await?.len() == 2, "nothing is deleted");
        w.cli(&["accept", "data", token]).await?.ok("borgherd accept")?;
        let done = maintained(w, &emptied, "data", "it goes on", |m| m.phase == MaintenancePhase::Done).await?;
        ensure!(done.pruned.is_some_and(|p| p.deleted == 1), "{done:?}");
        Ok(())
    })
}
