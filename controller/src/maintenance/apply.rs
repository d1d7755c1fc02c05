//! Carrying out one step, and writing what came of it into the Backup.
//!
//! What a run's end means is written into the record and the status before the run is deleted: a controller that is killed in between
//! finds the run, or the status without it.

use super::check::{being_read, place_ticket};
use super::decide::{Said, Seen, Stage};
use super::observe::{Newest, is_maintenance};
use super::{run_name, suspect, tell, ticket};
use crate::admission::{Answer, Request, Ticket, Turn};
use crate::backup::decide::retry;
use crate::backup::status;
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::repository::record::{self, Record};
use crate::repository::{self, Chosen, Unusable, damage};
use crate::run;
use crate::world::World;
use borgherd_api::Reason;
use borgherd_api::crd::{
    Backup, BorgRun, CompactOptions, Maintenance, MaintenancePhase, Operation, PruneOptions, PruneResult, Restore, RunPhase,
};
use borgherd_api::names::{COMPONENT, MAINTENANCE};
use borgherd_api::retention::{Accepted, repaired_token, suspect_token};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use std::sync::{Arc, PoisonError};

type Next = Result<Option<DateTime<Utc>>, Error>;

/// What an earlier process had admitted keeps its turn: read live, before anything new is admitted.
pub async fn adopt(ctx: &Context) -> Result<(), kube::Error> {
    let ours = ListParams::default().labels(&format!("{COMPONENT}={MAINTENANCE}"));
    for run in runs(ctx).list(&ours).await?.items {
        let (owner, subject, repository) = (&run.spec.owner, &run.spec.subject, &run.spec.repository);
        let request = Request {
            owner: (owner.namespace.clone(), owner.name.clone()),
            turn: Turn::Maintenance,
            namespace: subject.namespace.clone(),
            cut: DateTime::default(),
            repository: repository.name.clone(),
            max_concurrent: None,
            location: repository.location.clone(),
            class: None,
        };
        let of_a_place = matches!(run.spec.operation, Operation::Check(_));
        let ticket = if of_a_place { place_ticket(&repository.location) } else { ticket(&owner.uid, &subject.pvc) };
        ctx.admission.adopt(ticket, request);
    }
    Ok(())
}

fn runs(ctx: &Context) -> Api<BorgRun> {
    Api::namespaced(ctx.client.clone(), &ctx.config.namespace)
}

pub(super) fn records(ctx: &Context) -> Api<ConfigMap> {
    Api::namespaced(ctx.client.clone(), &ctx.config.namespace)
}

/// Asks for the turn; once it is there, the run is made.
pub(super) async fn begin(ctx: &Context, newest: &Newest, stage: Stage, seen: &Seen<'_>) -> Next {
    let chosen = match choose(ctx, newest) {
        Ok(chosen) => chosen,
        Err(Unusable { reason, message }) => return stop(ctx, newest, (reason, message), seen.accepted).await,
    };
    let (owner, volume) = (&newest.owner, &newest.volume);
    if chosen.spec.append_only {
        return Ok(None);
    }
    if !is_admitted(ctx, newest, &chosen, &ticket(&owner.uid, &volume.pvc)) {
        return Ok(None);
    }
    let Some(record) = record::read(&records(ctx), &newest.location).await.doing("reading the repository's record")? else {
        let message = format!("nothing records an archive at {} any more, so none is deleted", newest.location);
        return stop(ctx, newest, (Reason::RepositoryMissing, message), seen.accepted).await;
    };
    let accepted = Accepted::parse(seen.accepted);
    let pvc = (owner.namespace.as_str(), volume.pvc.as_str());
    if let Some(why) = unrepaired(pvc, &record, &accepted) {
        return stop(ctx, newest, why, seen.accepted).await;
    }
    if record.damage().is_some() {
        record::repaired(&records(ctx), &newest.location).await.doing("recording that the repository is repaired")?;
    }
    if let (Stage::Prune, Some(why)) = (stage, doubt(ctx, newest, &record, &accepted)) {
        return stop(ctx, newest, why, seen.accepted).await;
    }
    let operation = match (stage, &seen.said) {
        (Stage::Compact, _) => Operation::Compact(CompactOptions::default()),
        (Stage::Prune, Said::Keep(keep)) => Operation::Prune(prune_options(ctx, pvc, (&chosen, &record), keep, seen.accepted).await?),
        (Stage::Prune, Said::Nothing | Said::Invalid(_)) | (Stage::Check, _) => return Ok(None),
    };
    let Some(node) = node(ctx, newest) else { return Ok(None) };
    let name = run_name(newest, stage);
    let zone = ctx.world().policy(&owner.namespace, &volume.pvc).map(|policy| policy.time_zone);
    let Ok(zone) = zone else { return Ok(None) };
    let order = run::Order { name: &name, owner, pvc: &volume.pvc, node, chosen: &chosen, volume: None, operation, time_zone: zone.name() };
    run::create(ctx, order).await?;
    Ok(None)
}

/// Asks for the writer's turn.
pub(super) fn is_admitted(ctx: &Context, newest: &Newest, chosen: &Chosen, ticket: &Ticket) -> bool {
    let owner = &newest.owner;
    let request = Request {
        owner: (owner.namespace.clone(), owner.name.clone()),
        turn: Turn::Maintenance,
        namespace: owner.namespace.clone(),
        cut: newest.volume.cut.unwrap_or_default(),
        repository: chosen.name.clone(),
        max_concurrent: chosen.spec.max_concurrent.and_then(|n| usize::try_from(n).ok()),
        location: newest.location.clone(),
        class: None,
    };
    let (answer, woken) = ctx.admission.ask(ticket, &request, ctx.capacity());
    ctx.wake(&woken);
    answer == Answer::Granted
}

/// A node for a run: the one that has borg's cache, else any.
pub(super) fn node(ctx: &Context, newest: &Newest) -> Option<String> {
    let last = newest.volume.node.clone().filter(|node| ctx.has_agent(node));
    last.or_else(|| ctx.agents().min())
}

/// How a person accepts something about the archives of a PVC (namespace, name).
fn accept((namespace, pvc): (&str, &str), token: &str) -> String {
    format!("borgherd accept -n {namespace} {pvc} {token}")
}

/// Damage where the archives of a PVC (namespace, name) are, if a person has not said that it is repaired.
pub(super) fn unrepaired(pvc: (&str, &str), record: &Record, accepted: &Accepted) -> Option<(Reason, String)> {
    let (at, what) = record.damage()?;
    if accepted.repaired.is_some_and(|repaired| repaired >= at) {
        return None;
    }
    let how = accept(pvc, &repaired_token(at));
    Some((Reason::RepositoryCorrupted, format!("{what}; nothing is deleted there until it is repaired and you say so: {how}")))
}

/// What about the newest archive is suspect, if a person has not said that it is right.
pub(super) fn doubt(ctx: &Context, newest: &Newest, record: &Record, accepted: &Accepted) -> Option<(Reason, String)> {
    let volume = &newest.volume;
    let pvc = (newest.owner.namespace.as_str(), volume.pvc.as_str());
    let before = record.right(pvc)?;
    if accepted.suspect.is_some_and(|until| volume.cut.is_some_and(|cut| cut <= until)) {
        return None;
    }
    let limits = suspect::Limits { left: ctx.config.maintenance.suspect_left, new: ctx.config.maintenance.suspect_new };
    let why = suspect::judge(before, volume.progress.unwrap_or_default(), limits)?;
    let how = accept(pvc, &suspect_token(volume.cut.unwrap_or_default()));
    Some((Reason::SuspectArchive, format!("{why}; it is kept, and no archive is deleted until you say that it is right: {how}")))
}

/// What an agent has to know to judge the archives of a PVC (namespace, name).
pub(super) async fn prune_options(
    ctx: &Context,
    pvc: (&str, &str),
    (chosen, record): (&Chosen, &Record),
    keep: &str,
    accepted: &str,
) -> Result<PruneOptions, Error> {
    Ok(PruneOptions {
        keep: keep.to_owned(),
        cluster_uid: ctx.cluster_uid.clone(),
        incomplete: record.not_good(pvc).into_iter().collect(),
        in_use: in_use(ctx, pvc).await?.into_iter().chain(being_read(ctx, chosen, pvc, record)).collect(),
        accepted: accepted.chars().take(4096).collect(),
    })
}

/// The Repository that the archive went to, if it still leads there.
pub(super) fn choose(ctx: &Context, newest: &Newest) -> Result<Chosen, Unusable> {
    let subject = repository::Subject { cluster: &ctx.cluster_uid, namespace: &newest.owner.namespace, pvc: &newest.volume.pvc };
    let all = ctx.stores.repositories.state();
    let chosen = repository::choose(&all, newest.volume.repository.as_deref(), subject)?;
    if chosen.location == newest.location {
        return Ok(chosen);
    }
    let message = format!("Repository {} leads to {} now, and the archives are at {}", chosen.name, chosen.location, newest.location);
    Err(Unusable { reason: Reason::RepositoryNotFound, message })
}

/// Names of the archives of a PVC (namespace, name) that Restores under way are made from.
async fn in_use(ctx: &Context, (namespace, pvc): (&str, &str)) -> Result<Vec<String>, Error> {
    let restores: Api<Restore> = Api::namespaced(ctx.client.clone(), namespace);
    let all = restores.list(&ListParams::default()).await.doing("listing the Restores")?.items;
    let statuses = all.into_iter().filter(|r| r.spec.source.pvc == pvc).filter_map(|r| r.status);
    let names: Vec<String> = statuses.filter(|s| !s.phase.is_final()).filter_map(|s| Some(s.resolved?.name)).collect();
    Ok(names)
}

/// Takes over how the run ended.
pub(super) async fn conclude(ctx: &Context, newest: &Newest, stage: Stage, run: Option<&Arc<BorgRun>>, accepted: &str) -> Next {
    let status = run.and_then(|run| run.status.clone()).unwrap_or_default();
    if status.phase != RunPhase::Succeeded {
        let interrupted = status.phase == RunPhase::Interrupted;
        let reason = if interrupted { Reason::Interrupted } else { status.reason.unwrap_or(Reason::BorgFailed) };
        return fail(ctx, newest, stage, run, (reason, status.message.unwrap_or_default()), accepted).await;
    }
    let now = (ctx.clock)();
    let before = newest.volume.maintenance.clone().unwrap_or_default();
    let (pruned, compacts) = match stage {
        Stage::Prune => {
            let pruned = status.prune.unwrap_or_default();
            let of = (newest.owner.namespace.as_str(), newest.volume.pvc.as_str());
            let right = newest.volume.progress.unwrap_or_default();
            let due = record::pruned(&records(ctx), &newest.location, (of, right), pruned, now).await.doing("recording what was pruned")?;
            (Some(pruned), due)
        }
        Stage::Compact => {
            record::compacted(&records(ctx), &newest.location, now).await.doing("recording that it was compacted")?;
            (before.pruned, false)
        }
        Stage::Check => return Ok(None),
    };
    let phase = if compacts { MaintenancePhase::Compacting } else { MaintenancePhase::Done };
    write(ctx, newest, Maintenance { phase, pruned, ..Maintenance::default() }).await?;
    ctx.metrics.maintained(stage.name(), "Succeeded", None);
    if let (Stage::Prune, Some(PruneResult { deleted, .. })) = (stage, pruned) {
        ctx.metrics.archives_deleted(deleted);
    }
    tell::done(ctx, newest, stage, pruned).await;
    discard_one(ctx, run).await
}

/// A try that did not go: once more later, or not before the next archive; or it waits for a person.
pub(super) async fn fail(
    ctx: &Context,
    newest: &Newest,
    stage: Stage,
    run: Option<&Arc<BorgRun>>,
    (reason, message): (Reason, String),
    accepted: &str,
) -> Next {
    let now = (ctx.clock)();
    let before = newest.volume.maintenance.clone().unwrap_or_default();
    let attempt = before.attempt + 1;
    let again = retry(reason, attempt, &ctx.config.limits, now);
    let phase = match (again, stage) {
        (Some(_), Stage::Prune) => MaintenancePhase::Pruning,
        (Some(_), Stage::Compact | Stage::Check) => MaintenancePhase::Compacting,
        (None, _) if is_a_persons(reason) => MaintenancePhase::Stopped,
        (None, _) => MaintenancePhase::Failed,
    };
    let news = Maintenance {
        phase,
        attempt,
        not_before: again,
        reason: Some(reason),
        message: Some(message.clone()),
        pruned: before.pruned,
        accepted: accepted.to_owned(),
        ..Maintenance::default()
    };
    if let (Reason::RepositoryCorrupted, Some(run)) = (reason, run) {
        let pvc = (newest.owner.namespace.as_str(), newest.volume.pvc.as_str());
        damage::found(ctx, &run.spec.repository, pvc, &message).await.doing("recording damage")?;
    }
    write(ctx, newest, news).await?;
    ctx.metrics.maintained(stage.name(), if phase == MaintenancePhase::Stopped { "Stopped" } else { "Failed" }, Some(reason));
    if again.is_none() {
        tell::problem(ctx, newest, reason, &message).await;
    }
    discard_one(ctx, run).await
}

/// What stays so until somebody has looked at it.
const fn is_a_persons(reason: Reason) -> bool {
    matches!(reason, Reason::ForeignArchives | Reason::TooManyDeletions | Reason::RepositoryCorrupted)
}

/// Nothing is deleted after this archive.
pub(super) async fn stop(ctx: &Context, newest: &Newest, (reason, message): (Reason, String), accepted: &str) -> Next {
    let attempt = newest.volume.maintenance.as_ref().map_or(0, |m| m.attempt);
    let phase = MaintenancePhase::Stopped;
    let (told, accepted) = (Some(message.clone()), accepted.to_owned());
    write(ctx, newest, Maintenance { phase, attempt, reason: Some(reason), message: told, accepted, ..Maintenance::default() }).await?;
    ctx.metrics.maintained(Stage::Prune.name(), "Stopped", Some(reason));
    tell::problem(ctx, newest, reason, &message).await;
    Ok(None)
}

/// Lets a restore go first: the run is interrupted, which harms nothing, and made anew when its turn comes again.
pub(super) async fn give_way(ctx: &Context, run: Option<&Arc<BorgRun>>) -> Next {
    tracing::info!(run = run.map(|run| run.name_any()), "maintenance gives way to a restore");
    discard_one(ctx, run).await
}

async fn discard_one(ctx: &Context, run: Option<&Arc<BorgRun>>) -> Next {
    if let Some(run) = run {
        discard(ctx, run).await.doing("deleting a run of maintenance")?;
    }
    Ok(None)
}

/// Deletes a run of maintenance; its agent interrupts a borg that still runs.
pub(super) async fn discard(ctx: &Context, run: &BorgRun) -> Result<(), kube::Error> {
    if !is_maintenance(run) || run.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let same = DeleteParams::default().preconditions(Preconditions { uid: run.uid(), resource_version: None });
    match runs(ctx).delete(&run.name_any(), &same).await {
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
        done => done.map(|_| ()),
    }
}

/// Writes into the Backup, if it still says what was decided from. The caches of ended Backups are too short for it.
async fn write(ctx: &Context, newest: &Newest, maintenance: Maintenance) -> Result<(), Error> {
    let (owner, pvc) = (&newest.owner, &newest.volume.pvc);
    let backups: Api<Backup> = Api::namespaced(ctx.client.clone(), &owner.namespace);
    let found = backups.get_opt(&owner.name).await.doing("reading the Backup")?;
    let Some(backup) = found.filter(|backup| backup.uid().as_deref() == Some(owner.uid.as_str())) else {
        world(ctx).forget_archive(&owner.namespace, pvc);
        return Ok(());
    };
    let message = maintenance.message.map(|message| message.chars().take(4000).collect());
    let accepted = maintenance.accepted.chars().take(4096).collect();
    let maintenance = Maintenance { at: Some((ctx.clock)()), message, accepted, ..maintenance };
    let mut next = backup.status.clone().unwrap_or_default();
    let volume = next.volumes.iter_mut().find(|volume| volume.pvc == *pvc && volume.maintenance == newest.volume.maintenance);
    let Some(volume) = volume else {
        world(ctx).put_backup(&backup);
        return Err(Error::Missing(format!("what Backup {} said of {pvc}", owner.name)));
    };
    volume.maintenance = Some(maintenance);
    let written = status::write(ctx, &backup, next).await?;
    world(ctx).put_backup(&written);
    Ok(())
}

fn world(ctx: &Context) -> std::sync::RwLockWriteGuard<'_, World> {
    ctx.world.write().unwrap_or_else(PoisonError::into_inner)
}
