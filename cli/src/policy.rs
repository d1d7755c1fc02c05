//! What is in force for a PVC: the same code as the controller's, with what it inherits read from the cluster.
//!
//! What may not be read is said once and counts as absent, never as an error: a user need not see namespaces or ConfigMaps.

use crate::errors::{Exit, Failure};
use crate::session::Session;
use borgherd_api::policy::{self, Annotations, Effective, Exclusion, Mode, Origin, Policy, Problem};
use borgherd_api::retention::Prefix;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;
use std::collections::BTreeMap;

/// Where the chart publishes its defaults, in Borgherd's namespace.
const DEFAULTS: &str = "borgherd-defaults";
/// The key in it: a JSON object from annotation without prefix to value.
const DEFAULTS_KEY: &str = "defaults.json";
/// Another: the value `retention.labelPrefix`.
const LABEL_PREFIX_KEY: &str = "label-prefix";

/// What PVCs inherit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited {
    /// Annotations by namespace.
    pub(crate) namespaces: BTreeMap<String, Annotations>,
    /// The chart's defaults, keys without prefix.
    pub(crate) defaults: Annotations,
}

/// What the annotations of one PVC come to.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// Why it cannot be backed up at all.
    pub(crate) excluded: Option<Exclusion>,
    /// The values in force and where they come from.
    pub(crate) effective: Effective,
    /// What they mean, or what is wrong with them.
    pub(crate) policy: Result<Policy, Vec<Problem>>,
    /// Annotations that look like Borgherd's and mean nothing.
    pub(crate) warnings: Vec<Problem>,
}

/// What PVCs of `namespace` (`None`: of all) inherit.
pub(crate) async fn inherited(session: &Session, namespace: Option<&str>) -> Result<Inherited, Failure> {
    let (namespaces, defaults) = futures::try_join!(namespaces(session, namespace), defaults(session))?;
    Ok(Inherited { namespaces, defaults })
}

async fn namespaces(session: &Session, namespace: Option<&str>) -> Result<BTreeMap<String, Annotations>, Failure> {
    let found = match namespace {
        Some(name) => session.find_global::<Namespace>(name).await.map(|n| n.into_iter().collect()),
        None => session.list_global::<Namespace>().await,
    };
    match found {
        Ok(found) => {
            if let (Some(name), true) = (namespace, found.is_empty()) {
                return Err(Failure::new(Exit::NotFound, format!("there is no namespace {name}")).hint("choose another with -n"));
            }
            Ok(found.into_iter().map(|n| (n.name_any(), n.metadata.annotations.unwrap_or_default())).collect())
        }
        Err(failure) if failure.exit == Exit::Forbidden => {
            session.screen.warn(&format!("{failure}; what PVCs inherit from their namespace is left out"));
            Ok(BTreeMap::new())
        }
        Err(failure) => Err(failure),
    }
}

async fn defaults(session: &Session) -> Result<Annotations, Failure> {
    let place = &session.borgherd_namespace;
    let wrong = match session.find::<ConfigMap>(place, DEFAULTS).await {
        Ok(Some(map)) => match read_defaults(&map) {
            Ok(defaults) => return Ok(defaults),
            Err(wrong) => format!("ConfigMap {place}/{DEFAULTS}: {wrong}"),
        },
        Ok(None) => format!("there is no ConfigMap {place}/{DEFAULTS} (is Borgherd in another namespace? --borgherd-namespace)"),
        Err(failure) if matches!(failure.exit, Exit::Forbidden | Exit::NotFound) => failure.to_string(),
        Err(failure) => return Err(failure),
    };
    session.screen.warn(&format!("the chart's defaults are unknown and left out: {wrong}"));
    Ok(Annotations::new())
}

/// Under which prefix the labels of snapshots stand; where that cannot be read, Borgherd's own.
pub(crate) async fn label_prefix(session: &Session) -> Result<Prefix, Failure> {
    match session.find::<ConfigMap>(&session.borgherd_namespace, DEFAULTS).await {
        Ok(found) => Ok(found.and_then(|map| Prefix::parse(map.data?.get(LABEL_PREFIX_KEY)?).ok()).unwrap_or_default()),
        Err(failure) if matches!(failure.exit, Exit::Forbidden | Exit::NotFound) => Ok(Prefix::default()),
        Err(failure) => Err(failure),
    }
}

fn read_defaults(map: &ConfigMap) -> Result<Annotations, String> {
    let text = map.data.as_ref().and_then(|d| d.get(DEFAULTS_KEY)).ok_or_else(|| format!("it has no key {DEFAULTS_KEY}"))?;
    serde_json::from_str(text).map_err(|e| format!("{DEFAULTS_KEY} is no JSON object of strings: {e}"))
}

/// What is in force for `pvc`; `pv` is its volume, where it may be seen.
pub(crate) fn judge(pvc: &PersistentVolumeClaim, pv: Option<&PersistentVolume>, inherited: &Inherited) -> Judged {
    let (namespace, name) = (pvc.namespace().unwrap_or_default(), pvc.name_any());
    let none = Annotations::new();
    let on_namespace = inherited.namespaces.get(&namespace).unwrap_or(&none);
    let effective = policy::merge(pvc.annotations(), on_namespace, &inherited.defaults);
    let policy = policy::resolve(&namespace, &name, &effective);
    let mut warnings = policy::unknown(pvc.annotations(), Origin::Pvc);
    warnings.extend(policy::unknown(on_namespace, Origin::Namespace));
    warnings.extend(policy::unknown(&inherited.defaults, Origin::Default));
    let mode = Mode::of(&effective);
    let excluded = policy::exclusion(pvc).or_else(|| pv.and_then(policy::exclusion_by_pv)).filter(|e| e.stands(mode));
    Judged { excluded, effective, policy, warnings }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn defaults_are_a_json_object_of_strings() {
        let map = |text: &str| ConfigMap { data: Some([(DEFAULTS_KEY.to_owned(), text.to_owned())].into()), ..ConfigMap::default() };
        let read = read_defaults(&map(r#"{"time-zone":"Europe/Berlin"}"#)).unwrap();
        assert_eq!(read.get("time-zone").map(String::as_str), Some("Europe/Berlin"));
        assert!(read_defaults(&map("[]")).unwrap_err().contains(DEFAULTS_KEY));
        assert!(read_defaults(&ConfigMap::default()).unwrap_err().contains("no key"));
    }
}
