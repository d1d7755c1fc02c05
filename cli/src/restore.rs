//! `restore PVC --to NEW`: makes a Restore, says what was chosen, and with `--wait` follows it to its end.
//!
//! Everything that can be told wrong beforehand is refused before the Restore exists.

use crate::args::{self, Kind};
use crate::errors::{Exit, Failure};
use crate::follow::{self, End};
use crate::instant::{self, Here};
use crate::output;
use crate::progress::{Board, Step, numbers};
use crate::session::Session;
use borgherd_api::Reason;
use borgherd_api::crd::{
    Candidate, Repository, Restore, RestorePhase, RestoreSource, RestoreSpec, RestoreStatus, RestoreTarget, SourceKind,
};
use chrono::{DateTime, Local, Utc};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use std::time::Duration;

/// Without `--wait`: how long the choice may take before the command ends without it.
const CHOICE: Duration = Duration::from_mins(1);

/// Runs `restore`.
pub(crate) async fn run(session: &Session, args: &args::Restore) -> Result<(), Failure> {
    let at = args.at.as_deref().map(|text| instant::parse(text, session.now(), &Local)).transpose();
    let at = at.map_err(|wrong| Failure::invalid(format!("--at: {wrong}")))?;
    let namespace = &session.namespace;
    check(session, args).await?;
    let made = session.create(namespace, &order(namespace, args, at)).await?;
    let full_name = format!("{namespace}/{}", made.name_any());
    session.screen.note(&format!("restore {full_name} created"));
    let ended = if args.wait {
        let limit = args.timeout;
        let ended = follow_to(session, &made, limit, |s| s.phase.is_final()).await?;
        reached(ended, &full_name, limit)?
    } else {
        match follow_to(session, &made, Some(CHOICE), |s| s.resolved.is_some() || s.phase.is_final()).await? {
            End::TimedOut => {
                let pods = format!("`kubectl -n {} get pods,borgruns`", session.borgherd_namespace);
                session.screen.warn(&format!(
                    "what is restored is not decided yet; follow it with `kubectl -n {namespace} get restores -w`, look at {pods}"
                ));
                made
            }
            other @ (End::Reached(_) | End::Deleted | End::Stopped) => reached(other, &full_name, Some(CHOICE))?,
        }
    };
    let status = ended.status.clone().unwrap_or_default();
    let failed = failure(&status, &format!("restore {namespace}/{}", args.pvc));
    if failed.is_none() || !session.screen.for_people() {
        session.screen.show(&ended, || summary(&status, namespace, &args.to, session.here()))?;
    }
    failed.map_or(Ok(()), Err)
}

/// What can be told wrong before anything is made. What may not be looked at is left to the controller.
async fn check(session: &Session, args: &args::Restore) -> Result<(), Failure> {
    let namespace = &session.namespace;
    if session.find::<PersistentVolumeClaim>(namespace, &args.to).await?.is_some() {
        let wrong = format!("PVC {namespace}/{} exists, and a restore touches no volume that exists", args.to);
        return Err(Failure::invalid(wrong).hint("give another name with --to"));
    }
    if let Some(class) = &args.storage_class {
        exists(session.find_global::<StorageClass>(class).await, "StorageClass", class, "storageclasses")?;
    }
    if let Some(repository) = &args.repository {
        exists(session.find_global::<Repository>(repository).await, "Repository", repository, "repositories.borgherd.dev")?;
    }
    Ok(())
}

fn exists<K>(found: Result<Option<K>, Failure>, kind: &str, name: &str, resource: &str) -> Result<(), Failure> {
    match found {
        Ok(None) => {
            Err(Failure::new(Exit::NotFound, format!("there is no {kind} {name}")).hint(format!("`kubectl get {resource}` lists them")))
        }
        Err(failure) if failure.exit != Exit::Forbidden => Err(failure),
        Ok(Some(_)) | Err(_) => Ok(()),
    }
}

fn order(namespace: &str, args: &args::Restore, at: Option<DateTime<Utc>>) -> Restore {
    let prefix: String = args.to.chars().take(50).collect();
    Restore {
        metadata: ObjectMeta { generate_name: Some(format!("{prefix}-")), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
        spec: RestoreSpec {
            source: RestoreSource {
                pvc: args.pvc.clone(),
                from: args.from.map(|kind| match kind {
                    Kind::Snapshot => SourceKind::Snapshot,
                    Kind::Archive => SourceKind::Archive,
                }),
                name: args.name.clone(),
                at,
                repository: args.repository.clone(),
            },
            target: Some(RestoreTarget { pvc: args.to.clone(), storage_class: args.storage_class.clone(), size: args.size.clone() }),
            preview: false,
            retention: None,
        },
        status: None,
    }
}

async fn follow_to(
    session: &Session,
    made: &Restore,
    limit: Option<Duration>,
    enough: impl Fn(&RestoreStatus) -> bool,
) -> Result<End<Restore>, Failure> {
    let mut board = Board::new(session.screen);
    let mut told = false;
    let seen = |restore: &Restore| {
        let Some(status) = &restore.status else {
            return;
        };
        if let (Some(chosen), false) = (&status.resolved, told) {
            board.say(&format!("chosen: {}", choice(chosen, session.here())));
            told = true;
        }
        board.show(&step(&restore.name_any(), status), session.now());
    };
    let begun = |restore: &Restore| restore.status.is_some();
    follow::to_the_end(session, made, limit, seen, begun, |r| r.status.as_ref().is_some_and(&enough)).await
}

fn reached(end: End<Restore>, name: &str, limit: Option<Duration>) -> Result<Restore, Failure> {
    let goes_on = format!("follow it with `kubectl -n {} get restores -w`", name.split('/').next().unwrap_or_default());
    match end {
        End::Reached(restore) => Ok(restore),
        End::Deleted => Err(Failure::new(Exit::Failed, format!("restore {name} was deleted before its end"))),
        End::TimedOut => {
            let seconds = limit.unwrap_or_default().as_secs();
            Err(Failure::new(Exit::TimedOut, format!("restore {name} has not ended within {seconds} s; it goes on")).hint(goes_on))
        }
        End::Stopped => Err(Failure::new(Exit::Interrupted, format!("stopped waiting; restore {name} goes on")).hint(goes_on)),
    }
}

/// Why it failed, if it did.
pub(crate) fn failure(status: &RestoreStatus, what: &str) -> Option<Failure> {
    if status.phase != RestorePhase::Failed {
        return None;
    }
    let reason = status.reason.map_or_else(|| "no reason given".to_owned(), |r| r.to_string());
    let message = status.message.clone().unwrap_or_default();
    let exit = match status.reason {
        Some(Reason::NoMatch | Reason::PvcNotFound | Reason::ArchiveNotFound | Reason::RepositoryNotFound) => Exit::NotFound,
        Some(Reason::Invalid | Reason::TargetExists | Reason::TargetRefused) => Exit::Invalid,
        Some(_) | None => Exit::Failed,
    };
    let because = if message.is_empty() { reason } else { format!("{reason}: {message}") };
    Some(Failure::new(exit, format!("cannot {what}: {because}")))
}

/// `archive shop_data_2026-11-21T10-00-00Z, cut 2026-11-21 11:00:00 +01:00 (2h ago), repository nas, 1.2 GB`.
fn choice(chosen: &Candidate, here: Here) -> String {
    let kind = match chosen.kind {
        SourceKind::Snapshot => "snapshot",
        SourceKind::Archive => "archive",
    };
    let repository = chosen.repository.as_ref().map(|r| format!(", repository {r}")).unwrap_or_default();
    let size = chosen.bytes.map(|b| format!(", {}", output::bytes(b))).unwrap_or_default();
    format!("{kind} {}, cut {}{repository}{size}", chosen.name, here.full(chosen.cut))
}

/// Where it stands, in words.
fn step(name: &str, status: &RestoreStatus) -> Step {
    let node = status.node.as_ref().map(|n| format!(" on {n}")).unwrap_or_default();
    let (at, doing) = match status.phase {
        RestorePhase::Pending => (0, "waiting for its turn".to_owned()),
        RestorePhase::Resolving => (1, "looking for what matches".to_owned()),
        RestorePhase::Preparing => (2, "making a volume".to_owned()),
        RestorePhase::Queued => (3, format!("waiting for a slot{node}")),
        RestorePhase::Extracting => (4, format!("extracting{node}")),
        RestorePhase::HandingOver => (5, "making the PVC".to_owned()),
        RestorePhase::Cleaning => (5, "failed; cleaning up".to_owned()),
        RestorePhase::Succeeded => (6, "done".to_owned()),
        RestorePhase::Failed => (6, "failed".to_owned()),
    };
    let waits = status.reason.filter(|_| !status.phase.is_final()).map(|r| format!(" ({r})")).unwrap_or_default();
    Step {
        name: name.to_owned(),
        at,
        of: 6,
        doing: doing + &waits,
        numbers: numbers(status.progress.filter(|_| status.phase == RestorePhase::Extracting)),
        ended: status.phase.is_final(),
    }
}

fn summary(status: &RestoreStatus, namespace: &str, to: &str, here: Here) -> String {
    let Some(chosen) = &status.resolved else {
        return format!("{namespace}/{to} is being restored\n");
    };
    let chosen = choice(chosen, here);
    if status.phase != RestorePhase::Succeeded {
        return format!(
            "restoring into {namespace}/{to}: {chosen}\nThe PVC appears when it is complete: kubectl -n {namespace} get restores,pvc -w\n"
        );
    }
    let took = status.started_at.zip(status.finished_at).map(|(from, to)| {
        let seconds = (to - from).as_seconds_f64();
        format!(" in {}", crate::duration::precise(seconds))
    });
    let numbers = numbers(status.progress);
    let numbers = if numbers.is_empty() { String::new() } else { format!(": {numbers}") };
    format!("restored {namespace}/{to} from {chosen}{}{numbers}\n", took.unwrap_or_default())
}

#[cfg(test)]
mod tests;
