//! `rebind CONTENT`: a snapshot whose VolumeSnapshot or namespace is gone becomes usable again. New content → new VolumeSnapshot → bound and
//! ready → the old content goes.
//!
//! Invariant: until the new pair is bound and ready the old content is not touched, and it goes only in the version that was seen to be at
//! `Retain` without a VolumeSnapshot. All names follow from the old content, so whoever was interrupted calls it again.

mod list;

use crate::args;
use crate::errors::{Exit, Failure};
use crate::follow::{self, End};
use crate::policy;
use crate::session::Session;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::names::{CUT, PVC, PVC_NAME};
use borgherd_api::rebind;
use borgherd_api::retention::Prefix;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Preconditions};

/// Runs `rebind`; `namespace` is the one that was asked for.
pub(crate) async fn run(session: &Session, args: &args::Rebind, namespace: Option<&str>) -> Result<(), Failure> {
    let prefix = policy::label_prefix(session).await?;
    let Some(name) = &args.content else {
        return list::run(session, &prefix).await;
    };
    let old = session.find_global::<VolumeSnapshotContent>(name).await?.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no VolumeSnapshotContent {name}"))
            .hint("`borgherd rebind --list` shows what can be rebound")
    })?;
    let of = old.spec.volume_snapshot_ref.clone();
    let namespace = namespace.map(str::to_owned).or(of.namespace).unwrap_or_default();
    let unfit = |unfit: rebind::Unfit| Failure::invalid(format!("VolumeSnapshotContent {name} cannot be rebound: {unfit}"));
    let (content, snapshot) = rebind::pair(&old, &namespace, &prefix).map_err(unfit)?;
    is_gone(session, &old).await?;
    there_is_room(session, &snapshot, &namespace).await?;
    let made = make(session, &content, &snapshot, &namespace).await?;
    let bound = wait(session, &made, &namespace, args).await?;
    let left = remove(session, &old).await?;
    if let Some(left) = left {
        session.screen.warn(&left);
    }
    session.screen.show(&bound, || summary(&bound, &namespace, &prefix))
}

/// Its VolumeSnapshot is not there any more.
async fn is_gone(session: &Session, old: &VolumeSnapshotContent) -> Result<(), Failure> {
    let of = &old.spec.volume_snapshot_ref;
    let (Some(namespace), Some(name)) = (&of.namespace, &of.name) else { return Ok(()) };
    let found = session.find::<VolumeSnapshot>(namespace, name).await?;
    if found.is_some_and(|found| of.uid.is_none() || found.uid() == of.uid) {
        let wrong = format!("VolumeSnapshotContent {} belongs to VolumeSnapshot {namespace}/{name}, which is there", old.name_any());
        return Err(Failure::invalid(wrong).hint("restore from that one; nothing has to be rebound"));
    }
    Ok(())
}

/// The namespace is there, and in it no other VolumeSnapshot of that name.
async fn there_is_room(session: &Session, snapshot: &VolumeSnapshot, namespace: &str) -> Result<(), Failure> {
    match session.find_global::<Namespace>(namespace).await {
        Ok(Some(found)) if found.metadata.deletion_timestamp.is_none() => {}
        Ok(Some(_)) => {
            return Err(
                Failure::invalid(format!("namespace {namespace} is being deleted")).hint("wait until it is gone, or give another with -n")
            );
        }
        Ok(None) => {
            let hint = format!("`kubectl create namespace {namespace}`, or give another with -n");
            return Err(Failure::new(Exit::NotFound, format!("there is no namespace {namespace}")).hint(hint));
        }
        Err(failure) if failure.exit == Exit::Forbidden => {}
        Err(failure) => return Err(failure),
    }
    let name = snapshot.name_any();
    let found = session.find::<VolumeSnapshot>(namespace, &name).await?;
    if found.is_some_and(|found| found.spec.source != snapshot.spec.source) {
        let wrong = format!("there is another VolumeSnapshot {namespace}/{name}");
        return Err(Failure::new(Exit::Exists, wrong).hint("rebind into another namespace with -n"));
    }
    Ok(())
}

/// Makes both, or takes what an earlier call has made.
async fn make(
    session: &Session,
    content: &VolumeSnapshotContent,
    snapshot: &VolumeSnapshot,
    namespace: &str,
) -> Result<VolumeSnapshot, Failure> {
    match session.create_global(content).await {
        Err(failure) if failure.exit == Exit::Exists => {
            let found = session.find_global::<VolumeSnapshotContent>(&content.name_any()).await?;
            if found.is_none_or(|found| found.spec.source != content.spec.source || found.metadata.deletion_timestamp.is_some()) {
                let wrong = format!("VolumeSnapshotContent {} is there, but of another snapshot or being deleted", content.name_any());
                return Err(Failure::new(Exit::Exists, wrong).hint("look at it with kubectl; call again when it is gone"));
            }
        }
        other => drop(other?),
    }
    match session.create(namespace, snapshot).await {
        Err(failure) if failure.exit == Exit::Exists => {
            let name = snapshot.name_any();
            let found = session.find::<VolumeSnapshot>(namespace, &name).await?;
            found.filter(|found| found.spec.source == snapshot.spec.source).ok_or_else(|| {
                Failure::new(Exit::Exists, format!("there is another VolumeSnapshot {namespace}/{name}"))
                    .hint("rebind into another namespace with -n")
            })
        }
        other => other,
    }
}

/// Until the snapshot is bound and ready to use.
async fn wait(session: &Session, made: &VolumeSnapshot, namespace: &str, args: &args::Rebind) -> Result<VolumeSnapshot, Failure> {
    let is_bound = |snapshot: &VolumeSnapshot| {
        let status = snapshot.status.clone().unwrap_or_default();
        status.ready_to_use == Some(true) && status.bound_volume_snapshot_content_name == made.spec.source.volume_snapshot_content_name
    };
    let name = format!("VolumeSnapshot {namespace}/{}", made.name_any());
    let mut said = None;
    let seen = |snapshot: &VolumeSnapshot| {
        said = snapshot.status.as_ref().and_then(|status| status.error.clone()?.message);
    };
    let again = "the old content is as it was; call it again";
    match follow::until(session, made, Some(args.timeout), seen, is_bound).await? {
        End::Reached(bound) => Ok(bound),
        End::Deleted => Err(Failure::new(Exit::Failed, format!("{name} was deleted before it was ready")).hint(again)),
        End::Stopped => Err(Failure::new(Exit::Interrupted, format!("stopped waiting for {name} to be ready")).hint(again)),
        End::TimedOut => {
            let because = said.map(|said| format!(": {said}")).unwrap_or_default();
            let seconds = args.timeout.as_secs();
            Err(Failure::new(Exit::TimedOut, format!("{name} was not ready within {seconds} s{because}")).hint(again))
        }
    }
}

/// Deletes the old content as it is now, if that loses nothing; else why it is left.
async fn remove(session: &Session, old: &VolumeSnapshotContent) -> Result<Option<String>, Failure> {
    let name = old.name_any();
    let Some(now) = session.find_global::<VolumeSnapshotContent>(&name).await?.filter(|now| now.uid() == old.uid()) else {
        return Ok(None);
    };
    let left = |why: &str| Ok(Some(format!("the old VolumeSnapshotContent {name} is left: {why}")));
    match rebind::unfit(&now) {
        Some(rebind::Unfit::Leaving) => return Ok(None),
        Some(unfit) => return left(&unfit.to_string()),
        None => {}
    }
    if let Err(failure) = is_gone(session, &now).await {
        return left(&failure.to_string());
    }
    let seen = Preconditions { uid: now.uid(), resource_version: now.resource_version() };
    match session.delete_global::<VolumeSnapshotContent>(&name, &DeleteParams::default().preconditions(seen)).await {
        Ok(()) => Ok(None),
        Err(failure) => left(&failure.to_string()),
    }
}

fn summary(bound: &VolumeSnapshot, namespace: &str, prefix: &Prefix) -> String {
    let name = bound.name_any();
    let cut = bound.annotations().get(CUT).map(|cut| format!(", cut {cut}")).unwrap_or_default();
    let Some(pvc) = bound.annotations().get(PVC_NAME).or_else(|| bound.labels().get(&*prefix.key(PVC))) else {
        return format!("rebound as VolumeSnapshot {namespace}/{name}{cut}; of which PVC it is, nobody has written down\n");
    };
    format!(
        "rebound as VolumeSnapshot {namespace}/{name} of PVC {pvc}{cut}\nRestore it: borgherd restore -n {namespace} {pvc} --from snapshot --name {name} --to NEW\n"
    )
}

#[cfg(test)]
mod tests;
