//! Everything that `status` reads from the cluster, in as few requests as there are kinds.

use crate::args;
use crate::errors::{Exit, Failure};
use crate::policy::{self, Inherited};
use crate::session::Session;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{Backup, Repository};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;
use std::collections::BTreeMap;

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The PVCs to tell about.
    pub(crate) pvcs: Vec<PersistentVolumeClaim>,
    /// All PVCs of their namespaces: who else is in a group.
    pub(crate) neighbours: Vec<PersistentVolumeClaim>,
    /// By name; empty where they may not be seen.
    pub(crate) volumes: BTreeMap<String, PersistentVolume>,
    /// What the PVCs inherit.
    pub(crate) inherited: Inherited,
    /// All Backups of their namespaces.
    pub(crate) backups: Vec<Backup>,
    /// All snapshots of their namespaces.
    pub(crate) snapshots: Vec<VolumeSnapshot>,
    /// `None`: they may not be seen.
    pub(crate) repositories: Option<Vec<Repository>>,
}

/// Reads all of it.
pub(crate) async fn observe(session: &Session, args: &args::Status) -> Result<Seen, Failure> {
    let namespace = (!args.all_namespaces).then_some(session.namespace.as_str());
    let (backups, neighbours, inherited, repositories, snapshots) = futures::try_join!(
        session.list::<Backup>(namespace),
        session.list::<PersistentVolumeClaim>(namespace),
        policy::inherited(session, namespace),
        async { unless_forbidden(session.list_global::<Repository>().await) },
        async { unless_forbidden(session.list::<VolumeSnapshot>(namespace).await) },
    )?;
    let pvcs = choose(&neighbours, &args.pvcs, &session.namespace)?;
    let volumes = volumes(session, &pvcs).await?;
    Ok(Seen { pvcs, neighbours, volumes, inherited, backups, snapshots: snapshots.unwrap_or_default(), repositories })
}

/// The named ones in the order of their naming, else all.
fn choose(all: &[PersistentVolumeClaim], names: &[String], namespace: &str) -> Result<Vec<PersistentVolumeClaim>, Failure> {
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let find = |name: &String| {
        let found = all.iter().find(|p| p.name_any() == *name).cloned();
        found.ok_or_else(|| missing(namespace, name))
    };
    names.iter().map(find).collect()
}

/// A PVC that does not exist, and where its backups are.
pub(crate) fn missing(namespace: &str, name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no PVC {namespace}/{name}"))
        .hint(format!("`kubectl -n {namespace} get pvc` lists them; backups of one that is gone: `borgherd list -n {namespace} {name}`"))
}

/// The volumes behind the PVCs: one by one where they are few.
async fn volumes(session: &Session, pvcs: &[PersistentVolumeClaim]) -> Result<BTreeMap<String, PersistentVolume>, Failure> {
    const FEW: usize = 8;
    let names: Vec<&str> = pvcs.iter().filter_map(|p| p.spec.as_ref()?.volume_name.as_deref()).collect();
    let found = if names.len() > FEW {
        session.list_global::<PersistentVolume>().await
    } else {
        let each = try_join_all(names.iter().map(|name| session.find_global::<PersistentVolume>(name))).await;
        each.map(|each| each.into_iter().flatten().collect())
    };
    let found = unless_forbidden(found)?.unwrap_or_default();
    Ok(found.into_iter().map(|pv| (pv.name_any(), pv)).collect())
}

fn unless_forbidden<T>(found: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.exit == Exit::Forbidden => Ok(None),
        Err(failure) => Err(failure),
    }
}
