//! Which database is meant, and the container that it runs in.

use super::args::Which;
use crate::errors::{Exit, Failure};
use crate::policy;
use crate::session::{Readable, Session};
use borgherd_api::database::Preset;
use borgherd_api::hooks::{self, Place};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use kube::{Resource, ResourceExt as _};

/// A database and its container.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What the annotation says.
    pub(crate) preset: Preset,
    /// Name of the pod.
    pub(crate) pod: String,
    /// UID of the pod.
    pub(crate) pod_uid: String,
    /// Name of the container.
    pub(crate) container: String,
}

/// The databases that `which` names; at least one.
pub(crate) async fn find(session: &Session, which: &Which) -> Result<Vec<Target>, Failure> {
    let presets = meant(which, known(session).await?, &session.namespace)?;
    let mut targets = Vec::with_capacity(presets.len());
    for preset in presets {
        let pod = pod(session, &preset.place).await?;
        let container = container(&pod, preset.container.as_deref())?;
        targets.push(Target { preset, pod: pod.name_any(), pod_uid: pod.uid().unwrap_or_default(), container });
    }
    Ok(targets)
}

/// The one database that `which` names.
pub(crate) async fn one(session: &Session, which: &Which) -> Result<Target, Failure> {
    let mut all = find(session, which).await?;
    if all.len() > 1 {
        let files: Vec<&str> = all.iter().map(|t| t.preset.file.as_str()).collect();
        return Err(Failure::invalid(format!("{} has {} databases", which.workload, all.len()))
            .hint(format!("choose one by its file: --file {}", files.join(" or "))));
    }
    all.pop().ok_or_else(|| Failure::new(Exit::NotFound, "there is no such database"))
}

/// All databases of the namespace's PVCs, each once.
async fn known(session: &Session) -> Result<Vec<Preset>, Failure> {
    let both = async {
        futures::try_join!(
            policy::inherited(session, Some(&session.namespace)),
            session.list::<PersistentVolumeClaim>(Some(&session.namespace))
        )
    };
    let (inherited, pvcs) = Box::pin(both).await?;
    let mut presets: Vec<Preset> = Vec::new();
    for pvc in pvcs {
        match policy::judge(&pvc, None, &inherited).policy {
            Ok(policy) => presets.extend(policy.databases.list),
            Err(problems) => {
                for problem in problems {
                    session.screen.warn(&format!("PVC {}: {problem}", pvc.name_any()));
                }
            }
        }
    }
    let mut once: Vec<Preset> = Vec::new();
    for preset in presets {
        if !once.contains(&preset) {
            once.push(preset);
        }
    }
    Ok(once)
}

fn meant(which: &Which, known: Vec<Preset>, namespace: &str) -> Result<Vec<Preset>, Failure> {
    let Which { workload, file } = which;
    let place = Place::parse(workload).ok();
    let names = |other: &Place| {
        place.as_ref().map_or_else(|| other.to_string().split_once('/').is_some_and(|(_, n)| n == workload), |p| p == other)
    };
    let is_meant = |preset: &Preset| names(&preset.place) && file.as_ref().is_none_or(|file| *file == preset.file);
    let all: Vec<String> = known.iter().map(|p| format!("{} ({} in {})", p.place, p.kind, p.file)).collect();
    let found: Vec<Preset> = known.into_iter().filter(is_meant).collect();
    if found.is_empty() {
        let about = file.as_ref().map(|file| format!(" with the file {file}")).unwrap_or_default();
        let there = if all.is_empty() { "none is annotated".to_owned() } else { format!("there is {}", all.join(", ")) };
        let message = format!("no annotation borgherd.dev/database in namespace {namespace} names {workload}{about}");
        return Err(Failure::new(Exit::NotFound, message).hint(there));
    }
    Ok(found)
}

/// The first ready pod of a place, by name.
async fn pod(session: &Session, place: &Place) -> Result<Pod, Failure> {
    let namespace = &session.namespace;
    let missing = || Failure::new(Exit::NotFound, format!("{place} has no pod that is ready in namespace {namespace}"));
    let labels = match place {
        Place::Pod(name) => {
            let pod = session.find::<Pod>(namespace, name).await?;
            return pod.filter(hooks::pod::is_ready).ok_or_else(missing);
        }
        Place::Selector(labels) => labels.clone(),
        Place::Deployment(name) => selected(session, place, name, |d: Deployment| Some(d.spec?.selector)).await?,
        Place::StatefulSet(name) => selected(session, place, name, |s: StatefulSet| Some(s.spec?.selector)).await?,
        Place::DaemonSet(name) => selected(session, place, name, |d: DaemonSet| Some(d.spec?.selector)).await?,
    };
    let mut pods = session.select::<Pod>(namespace, &labels).await?;
    pods.retain(hooks::pod::is_ready);
    pods.into_iter().min_by_key(kube::ResourceExt::name_any).ok_or_else(missing)
}

/// The selector of a workload.
async fn selected<K>(session: &Session, place: &Place, name: &str, selector: fn(K) -> Option<LabelSelector>) -> Result<String, Failure>
where
    K: Readable + Resource<Scope = NamespaceResourceScope>,
{
    let missing = || Failure::new(Exit::NotFound, format!("there is no {place} in namespace {}", session.namespace));
    let found = session.find::<K>(&session.namespace, name).await?.ok_or_else(missing)?;
    let labels = selector(found).and_then(|labels| Selector::try_from(labels).ok());
    labels.map(|labels| labels.to_string()).ok_or_else(|| Failure::new(Exit::Failed, format!("{place} has no selector that can be used")))
}

/// The container named, else the first.
fn container(pod: &Pod, wanted: Option<&str>) -> Result<String, Failure> {
    let none = |names: Vec<&str>| {
        let message = format!("pod {} has no container {}", pod.name_any(), wanted.unwrap_or("at all"));
        Failure::new(Exit::NotFound, message).hint(format!("there is {}", names.join(", ")))
    };
    hooks::pod::container(pod, wanted).map(str::to_owned).map_err(none)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_database_is_named_as_the_annotation_does_or_by_name_alone() {
        let known = borgherd_api::database::parse(
            "- postgres: {in: deployment/app, file: /a/x.gz}\n- mysql: {in: deployments/app, file: /a/y.gz}\n- mysql: {in: tier=db, file: /a/z.gz}",
        )
        .unwrap();
        let found = |workload: &str, file: Option<&str>| {
            let which = Which { workload: workload.to_owned(), file: file.map(str::to_owned) };
            let files = |presets: Vec<Preset>| presets.into_iter().map(|p| p.file).collect::<Vec<_>>().join(" ");
            meant(&which, known.clone(), "shop").map(files)
        };
        for (workload, file, expected) in [
            ("deployment/app", None, "/a/x.gz /a/y.gz"),
            ("deployments/app", Some("/a/y.gz"), "/a/y.gz"),
            ("app", None, "/a/x.gz /a/y.gz"),
            ("tier=db", None, "/a/z.gz"),
        ] {
            assert_eq!(found(workload, file).as_deref(), Ok(expected), "{workload}");
        }
        for (workload, file) in [("statefulset/app", None), ("ap", None), ("tier", None), ("app", Some("/a/z.gz"))] {
            let failure = found(workload, file).unwrap_err();
            assert_eq!(failure.exit, Exit::NotFound);
            assert!(failure.hint.unwrap().contains("deployment/app (postgres in /a/x.gz), deployment/app (mysql in /a/y.gz), tier=db"));
        }
    }
}
