//! An archive whose reading takes several pieces, here of a second: each goes on where the one before ended, and only the last one counts.

use crate::live::one;
use crate::maintenance::maintained;
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::MaintenancePhase;
use borgherd_api::names::COMPONENT;
use borgherd_e2e::{App, Claim, DEADLINE, World, exclusive, until_all};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use std::collections::BTreeMap;

type Data = BTreeMap<String, String>;

/// The record of a place as soon as it is as it should be.
async fn record(w: &World, location: &str, what: &str, is: impl Fn(&Data) -> bool) -> Result<Data> {
    let of = |map: &ConfigMap| map.data.clone().filter(|data| data.get("location").is_some_and(|at| at == location) && is(data));
    let records = format!("{COMPONENT}=repository-record");
    let all = until_all(&w.api_own::<ConfigMap>(), &records, what, 3 * DEADLINE, |all| all.iter().any(|map| of(map).is_some())).await?;
    all.iter().find_map(of).context("seen and yet absent")
}

/// Archive and position of the only volume that is being read.
fn reading(data: &Data) -> Option<(String, u64)> {
    let (_, text) = data.iter().find(|(key, _)| key.starts_with("reading."))?;
    let mut words = text.split(' ');
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

fn checks(data: &Data) -> Result<u32> {
    Ok(data.get("checks").context("no number of checks")?.parse()?)
}

/// When the only volume was read to its end.
fn read_at(data: &Data) -> Option<&String> {
    data.iter().find(|(key, _)| key.starts_with("read.")).map(|(_, at)| at)
}

#[test]
fn maintenance_reads_a_large_archive_in_pieces_to_its_end() -> Result<()> {
    exclusive("maintenance_reads_a_large_archive_in_pieces_to_its_end", async |w: &World| {
        w.release().with(&["maintenance.check.piece=1s"], async || Box::pin(pieces(w)).await).await
    })
}

async fn pieces(w: &World) -> Result<()> {
    let (folder, location) = w.fresh_place("large").await?;
    let check = json!({ "repository": "0s", "archives": "0s", "data": "15s" });
    let spec = json!({ "location": location, "secretRef": "borgherd-server", "check": check });
    let repository = w.repository_with("large", spec).await?;
    w.claim(Claim::new("data").size("600Mi").annotation("repository", &repository).annotation("archive-keep", "last=1")).await?;
    let app = w.app(App::new("app").mount("data", "/data")).await?;
    app.sh("for n in $(seq 30); do head -c 6000000 /dev/urandom >/data/$n; done").await?;
    let first = w.backup(&["data"]).await?;
    w.backup_succeeded(&first).await?;

    // on a busy machine the first pieces come to nothing, and the one that gets their time manyfold reads all: then the next round is looked at
    let begun = record(w, &location, "a piece of it is read", |data| reading(data).is_some_and(|(_, position)| position > 0)).await?;
    ensure!(read_at(&begun).is_none() || checks(&begun)? >= 2, "the first piece counts as the whole: {begun:?}");
    let (archive, position) = reading(&begun).context("not being read")?;
    let is_read = |data: &Data| read_at(data) != read_at(&begun);
    let further = |data: &Data| is_read(data) || reading(data).is_some_and(|(same, now)| same == archive && now > position);
    let further = record(w, &location, "another piece of it is read", further).await?;
    ensure!(is_read(&further) != reading(&further).is_some(), "a piece counts as the whole, or is lost: {begun:?}, then {further:?}");
    let read = record(w, &location, "it is read to its end", is_read).await?;
    ensure!(checks(&read)? >= 2 && !read.contains_key("damaged") && !read.contains_key("checkNotBefore"), "{read:?}");
    w.controller_metric("borgherd_repository_read_timestamp_seconds", &[("repository", &repository)], |v| v.is_some_and(|v| v > 0.0))
        .await?;

    // pruning spares it as long as it is being read; then the newest is begun, and the next pruning spares it no more
    let of = |data: &Data, archive: &str| reading(data).is_some_and(|(one, position)| one == archive && position > 0);
    record(w, &location, "it is read once more", |data| of(data, &archive)).await?;
    let newest = one_more(w, &folder).await?;
    let anew = record(w, &location, "the newest is being read", |data| of(data, &newest)).await?;
    ensure!(!anew.contains_key("checkNotBefore"), "it is taken for a failure: {anew:?}");
    one_more(w, &folder).await?;
    let left = w.archives_in(&folder).await?;
    ensure!(!left.contains(&archive) && left.len() <= 2, "an archive that is not being read is spared: {left:?}");
    Ok(())
}

/// Archives once more, until pruning has ended. The name of the archive.
async fn one_more(w: &World, folder: &str) -> Result<String> {
    let name = w.backup(&["data"]).await?;
    let volume = one(w, &name).await?;
    maintained(w, &name, "data", "it is pruned", |m| m.phase == MaintenancePhase::Done).await?;
    let archive = volume.archive.context("no archive is told")?;
    ensure!(w.archives_in(folder).await?.contains(&archive), "the newest was pruned");
    Ok(archive)
}
