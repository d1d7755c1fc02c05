//! Telling what became of archives: an Event at the Backup for what was done, at the PVC as well for what a person should look at.

use super::decide::Stage;
use super::observe::Newest;
use crate::context::Context;
use crate::events;
use crate::metrics::CheckedSince;
use crate::repository::record::Record;
use borgherd_api::Reason;
use borgherd_api::crd::{MaintenancePhase, PruneResult};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashSet};
use tracing::{info, warn};

/// A stage was carried out.
pub(super) async fn done(ctx: &Context, newest: &Newest, stage: Stage, pruned: Option<PruneResult>) {
    let (namespace, pvc) = (&newest.owner.namespace, &newest.volume.pvc);
    let PruneResult { kept, deleted, unused_bytes, repository_bytes } = pruned.unwrap_or_default();
    let (reason, note) = match stage {
        Stage::Prune if deleted > 0 => ("Pruned", format!("{pvc}: {deleted} archives deleted, {kept} stay")),
        Stage::Compact => ("Compacted", format!("{pvc}: the repository {} was compacted", newest.location)),
        Stage::Prune | Stage::Check => return info!(namespace, pvc, kept, "no archive to delete"),
    };
    info!(namespace, pvc, kept, deleted, unused_bytes, repository_bytes, reason, "archives kept in order");
    ctx.events.normal(&events::owner(&newest.owner), "Maintain", reason, &note).await;
}

/// It did not go, or may not.
pub(super) async fn problem(ctx: &Context, newest: &Newest, reason: Reason, message: &str) {
    let (namespace, pvc) = (&newest.owner.namespace, &newest.volume.pvc);
    warn!(namespace, pvc, %reason, message, "its archives were not kept in order");
    let note = format!("{pvc}: {message}");
    let word = format!("{reason}");
    ctx.events.warning(&events::owner(&newest.owner), "Maintain", &word, &note).await;
    let uid = ctx.world().spaces.get(namespace).and_then(|space| space.claims.get(pvc)).map(|claim| claim.uid.clone());
    ctx.events.warning(&events::pvc(namespace, pvc, uid.as_deref()), "Maintain", &word, &note).await;
}

/// Keeps the series of Repositories: how many of their places are damaged, and since when all are checked and all volumes read. Handed in are
/// Repository, PVC (namespace, name) and record of each volume.
pub(super) fn checked<'a>(ctx: &Context, volumes: impl Iterator<Item = (&'a str, (&'a str, &'a str), &'a Record)>) {
    let mut all: BTreeMap<&str, (HashSet<&str>, CheckedSince)> = BTreeMap::new();
    for (repository, pvc, record) in volumes {
        let (damaged, since) = all.entry(repository).or_default();
        damaged.extend(record.damage().and(record.location()));
        let oldest = |so_far: Option<DateTime<Utc>>, at: Option<DateTime<Utc>>| so_far.into_iter().chain(at.or(record.created())).min();
        since.repository = oldest(since.repository, record.checked_at());
        since.data = oldest(since.data, record.read_at(pvc));
    }
    ctx.metrics.checked(all.into_iter().map(|(name, (damaged, since))| (name, damaged.len(), since)));
}

/// Keeps the series of PVCs whose archives are not pruned.
pub(super) fn stopped(ctx: &Context, all: &[Newest]) {
    let of = |newest: &'_ Newest| {
        let maintenance = newest.volume.maintenance.as_ref()?;
        matches!(maintenance.phase, MaintenancePhase::Stopped | MaintenancePhase::Failed).then_some(maintenance.reason?)
    };
    let world = ctx.world();
    let there =
        |newest: &&Newest| world.spaces.get(&newest.owner.namespace).is_some_and(|space| space.claims.contains_key(&newest.volume.pvc));
    let stopped = all.iter().filter(there).filter_map(|n| Some((n.owner.namespace.as_str(), n.volume.pvc.as_str(), of(n)?)));
    ctx.metrics.pruning_stopped(stopped);
}
