//! `backup PVC…`: makes one Backup of the named PVCs and with `--wait` follows it to its end.
//!
//! What cannot be backed up is refused before anything is made. Waiting may end early; the backup goes on.

mod report;

use crate::args;
use crate::errors::{Exit, Failure};
use crate::follow::{self, End};
use crate::policy::{self, Inherited};
use crate::progress::Board;
use crate::session::Session;
use crate::status::missing;
use borgherd_api::crd::{Backup, BackupPhase, BackupSpec, Trigger};
use borgherd_api::names;
use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use std::collections::BTreeSet;
use std::time::Duration;

/// The most volumes that one Backup takes: the limit in its schema.
const MOST: usize = 64;

/// Runs `backup`.
pub(crate) async fn run(session: &Session, args: &args::Backup) -> Result<(), Failure> {
    let namespace = &session.namespace;
    let names: BTreeSet<String> = args.pvcs.iter().cloned().collect();
    if names.len() > MOST {
        return Err(
            Failure::invalid(format!("{} PVCs are too many for one backup", names.len())).hint(format!("name at most {MOST} at a time"))
        );
    }
    let pvcs = try_join_all(names.iter().map(|name| find(session, name))).await?;
    check(session, &pvcs).await?;
    let made = make(session, &order(namespace, &pvcs, args, session.now())).await?;
    let full_name = format!("{namespace}/{}", made.name_any());
    if !args.wait {
        return session
            .screen
            .show(&made, || format!("backup {full_name} created\nfollow it with: kubectl -n {namespace} get backups -w\n"));
    }
    session.screen.note(&format!("backup {full_name} created"));
    let ended = wait(session, &made, args.timeout).await?;
    session.screen.show(&ended, || report::summary(&ended, session.here(), session.screen.colours))?;
    judge(&ended)
}

async fn find(session: &Session, name: &str) -> Result<PersistentVolumeClaim, Failure> {
    let found = session.find::<PersistentVolumeClaim>(&session.namespace, name).await?;
    found.ok_or_else(|| missing(&session.namespace, name))
}

/// Refuses PVCs that are excluded or whose annotations cannot be understood.
async fn check(session: &Session, pvcs: &[PersistentVolumeClaim]) -> Result<(), Failure> {
    let inherited = policy::inherited(session, Some(&session.namespace)).await?;
    for pvc in pvcs {
        let volume = volume(session, pvc).await?;
        refuse(pvc, volume.as_ref(), &inherited)?;
    }
    Ok(())
}

/// The volume behind a PVC, where it may be seen.
async fn volume(session: &Session, pvc: &PersistentVolumeClaim) -> Result<Option<PersistentVolume>, Failure> {
    let Some(name) = pvc.spec.as_ref().and_then(|s| s.volume_name.as_deref()) else {
        return Ok(None);
    };
    match session.find_global::<PersistentVolume>(name).await {
        Err(failure) if failure.exit == Exit::Forbidden => Ok(None),
        found => found,
    }
}

fn refuse(pvc: &PersistentVolumeClaim, volume: Option<&PersistentVolume>, inherited: &Inherited) -> Result<(), Failure> {
    let full_name = format!("{}/{}", pvc.namespace().unwrap_or_default(), pvc.name_any());
    let judged = policy::judge(pvc, volume, inherited);
    if let Some(excluded) = judged.excluded {
        return Err(Failure::invalid(format!("PVC {full_name} cannot be backed up: it {excluded}")));
    }
    match judged.policy.as_ref().err().and_then(|problems| problems.first()) {
        Some(problem) => Err(Failure::invalid(format!("PVC {full_name} cannot be backed up: {problem}")).hint(format!(
            "`borgherd status -n {} {}` shows all annotations in force",
            pvc.namespace().unwrap_or_default(),
            pvc.name_any()
        ))),
        None => Ok(()),
    }
}

/// The Backup of these PVCs, which are in the order of their names.
fn order(namespace: &str, pvcs: &[PersistentVolumeClaim], args: &args::Backup, now: DateTime<Utc>) -> Backup {
    let volumes: Vec<String> = pvcs.iter().map(ResourceExt::name_any).collect();
    let uids: Vec<String> = pvcs.iter().filter_map(ResourceExt::uid).collect();
    let subject =
        names::BackupSubject { kind: if volumes.len() == 1 { "pvc" } else { "group" }, namespace, name: &volumes.join("-"), uids: &uids };
    Backup {
        metadata: ObjectMeta { name: Some(names::backup(subject, now)), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
        spec: BackupSpec {
            volumes,
            archive: !args.no_archive,
            trigger: Trigger::Manual,
            keep_days: args.keep_days,
            scheduled_time: None,
            hooks: None,
        },
        status: None,
    }
}

/// Creates it. The same one asked for twice within a second is one backup.
async fn make(session: &Session, order: &Backup) -> Result<Backup, Failure> {
    let made = session.create(&session.namespace, order).await;
    let Err(Failure { exit: Exit::Exists, .. }) = &made else {
        return made;
    };
    let found = session.find::<Backup>(&session.namespace, &order.name_any()).await?;
    match found.filter(|found| found.spec == order.spec) {
        Some(found) => Ok(found),
        None => made,
    }
}

async fn wait(session: &Session, made: &Backup, limit: Option<Duration>) -> Result<Backup, Failure> {
    let mut board = Board::new(session.screen);
    let seen = |backup: &Backup| {
        for volume in backup.status.iter().flat_map(|s| &s.volumes) {
            board.show(&report::step(volume, session.here()), session.now());
        }
    };
    let begun = |b: &Backup| b.status.is_some();
    let ended = |b: &Backup| b.status.as_ref().is_some_and(|s| s.phase.is_final());
    let end = follow::to_the_end(session, made, limit, seen, begun, ended).await?;
    drop(board);
    let name = format!("{}/{}", session.namespace, made.name_any());
    let goes_on = format!("follow it with `kubectl -n {} get backups -w`", session.namespace);
    match end {
        End::Reached(backup) => Ok(backup),
        End::Deleted => Err(Failure::new(Exit::Failed, format!("backup {name} was deleted before its end"))),
        End::TimedOut => {
            let seconds = limit.unwrap_or_default().as_secs();
            Err(Failure::new(Exit::TimedOut, format!("backup {name} has not ended within {seconds} s; it goes on")).hint(goes_on))
        }
        End::Stopped => Err(Failure::new(Exit::Interrupted, format!("stopped waiting; backup {name} goes on")).hint(goes_on)),
    }
}

/// Whether it ended well.
fn judge(backup: &Backup) -> Result<(), Failure> {
    let status = backup.status.clone().unwrap_or_default();
    let how = match status.phase {
        BackupPhase::Succeeded => return Ok(()),
        BackupPhase::PartiallyFailed => "failed for some volumes",
        BackupPhase::Failed => "failed",
        BackupPhase::Pending | BackupPhase::Snapshotting | BackupPhase::Archiving => "has not ended",
    };
    let reason = status.reason.map(|r| format!(": {r}")).unwrap_or_default();
    let message = status.message.map(|m| format!(": {m}")).unwrap_or_default();
    let name = backup.name_any();
    Err(Failure::new(Exit::Failed, format!("backup {name} {how}{reason}{message}")))
}

#[cfg(test)]
mod tests;
