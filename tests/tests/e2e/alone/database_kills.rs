//! What dies while a database is dumped: the controller, the way to the API server. The container is left as it should be, and nothing is told
//! that was not done.

use super::quiesce_kills;
use crate::database::{DUMP, POSTGRES, filled, locked, unlocked};
use crate::quiesce::snapshots;
use anyhow::{Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Backup, BackupPhase};
use borgherd_e2e::{Cluster, DEADLINE, Running, World, exclusive, until_polled};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use std::time::Duration;

const HOOKS: &str =
    "- pre: {in: app=db, command: [sh, -c, 'echo freeze >>/tmp/log']}\n  post: {command: [sh, -c, 'echo thaw >>/tmp/log']}\n";

#[test]
fn database_whoever_dies_during_a_dump_no_half_file_stays_and_nothing_is_held() -> Result<()> {
    exclusive("database_whoever_dies_during_a_dump_no_half_file_stays_and_nothing_is_held", async |w: &World| {
        let (Some(cluster), Some(image)) = (w.cluster(), w.databases_image()) else {
            return w.skip("needs the project's own cluster, and its image with databases");
        };
        cluster.load("databases").await?;
        let app = filled(w, POSTGRES, image, &POSTGRES.preset("")).await?;
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(HOOKS))]).await?;
        let good = w.backup_as(&["data"], false).await?;
        w.backup_succeeded(&good).await?;
        Box::pin(controller(w, &cluster, &app)).await?;
        Box::pin(api_server(w, &cluster, &app)).await?;
        let last = w.backup_as(&["data"], false).await?;
        w.backup_succeeded(&last).await.map(drop)
    })
}

/// A Backup whose dump waits for a lock.
async fn dumping(w: &World, app: &Running) -> Result<String> {
    locked(app).await?;
    let name = w.backup_as(&["data"], false).await?;
    let runs = async || Ok((!app.sh("pgrep -x pg_dump || true").await?.is_empty()).then_some(()));
    until_polled("the dump runs", DEADLINE, runs).await?;
    Ok(name)
}

/// Its dump goes on in the container, and nobody takes it for a success.
async fn controller(w: &World, cluster: &Cluster, app: &Running) -> Result<()> {
    let (before, made) = (app.sh(&format!("md5sum {DUMP}")).await?, snapshots(w).await?);
    let name = dumping(w, app).await?;
    quiesce_kills::kill(w, cluster).await?;
    w.backup_failed(&name, Reason::Interrupted).await?;
    ensure!(app.sh(&format!("md5sum {DUMP}")).await? == before, "the last dump was touched before the new one was whole");
    ensure!(snapshots(w).await? == made, "there is a snapshot of a backup that failed");
    unlocked(app).await?;
    as_it_should_be(app).await
}

/// Nothing can be told or asked for 20 seconds, longer than a leader may stay without its lease.
async fn api_server(w: &World, cluster: &Cluster, app: &Running) -> Result<()> {
    let made = snapshots(w).await?;
    let name = dumping(w, app).await?;
    cluster.signal("apiserver", "STOP").await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    cluster.signal("apiserver", "CONT").await?;
    unlocked(app).await?;
    w.backup_ended(&name).await?;
    let status = w.api::<Backup>().get(&name).await?.status.unwrap_or_default();
    let expected = usize::from(status.phase == BackupPhase::Succeeded);
    let new = snapshots(w).await? - made;
    ensure!(new == expected, "{new} snapshots of a backup that ended as {:?}, {:?}", status.phase, status.reason);
    ensure!(expected == 1 || status.reason == Some(Reason::Interrupted), "{status:#?}");
    as_it_should_be(app).await
}

/// No half file, no process, a dump that is whole, an application that is not held.
async fn as_it_should_be(app: &Running) -> Result<()> {
    // what hooks remember of themselves stays for an hour
    let look = "ls /data | grep part- ; ls -d /dev/shm/borgherd-database* /tmp/borgherd-database* 2>/dev/null; \
                pgrep -r R,S,D,T -x 'pg_dump|gzip'; pgrep -r R,S,D,T -f '[b]orgherd-watch'; true";
    until_polled("nothing is left of the dump", DEADLINE, async || Ok(app.sh(look).await?.is_empty().then_some(()))).await?;
    app.sh(&format!("gzip -dc {DUMP} | tail -n 5 | grep -q 'dump complete'")).await?;
    let log = app.sh("cat /tmp/log 2>/dev/null || true").await?;
    let last = log.lines().last();
    ensure!(matches!(last, None | Some("thaw")), "it is held: {log}");
    Ok(())
}
