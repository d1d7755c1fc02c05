//! PersistentVolumeClaims of applications.

use crate::wait::{DEADLINE, until};
use crate::world::World;
use anyhow::{Context, Result};
use borgherd_api::names;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeMap;

/// A PVC to make.
#[derive(Clone, Debug)]
pub struct Claim {
    name: String,
    size: String,
    class: Option<String>,
    mode: String,
    annotations: BTreeMap<String, String>,
}

impl Claim {
    /// 1 GiB of the default class, ReadWriteOnce.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), size: "1Gi".into(), class: None, mode: "ReadWriteOnce".into(), annotations: BTreeMap::new() }
    }

    /// Size, a quantity.
    #[must_use]
    pub fn size(mut self, size: &str) -> Self {
        self.size = size.into();
        self
    }

    /// StorageClass.
    #[must_use]
    pub fn class(mut self, class: &str) -> Self {
        self.class = Some(class.into());
        self
    }

    /// Access mode.
    #[must_use]
    pub fn mode(mut self, mode: &str) -> Self {
        self.mode = mode.into();
        self
    }

    /// Annotation `borgherd.dev/<key>`.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(format!("{}/{key}", names::GROUP), value.into());
        self
    }
}

impl World {
    /// Makes a PVC in the test's namespace, or changes its annotations.
    pub async fn claim(&self, claim: Claim) -> Result<PersistentVolumeClaim> {
        let Claim { name, size, class, mode, annotations } = claim;
        let mut spec = json!({ "accessModes": [mode], "resources": { "requests": { "storage": size } } });
        if let Some(class) = class {
            spec["storageClassName"] = class.into();
        }
        let object = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": name, "annotations": annotations }, "spec": spec,
        });
        let params = PatchParams::apply("borgherd-e2e").force();
        self.api().patch(&name, &params, &Patch::Apply(object)).await.with_context(|| format!("make PVC {name}"))
    }

    /// Waits until a PVC is bound.
    pub async fn bound(&self, pvc: &str) -> Result<PersistentVolumeClaim> {
        let phase = |p: &PersistentVolumeClaim| p.status.as_ref().and_then(|s| s.phase.clone());
        let api = self.api();
        let bound =
            until(&api, pvc, "is bound", DEADLINE, |p: Option<&PersistentVolumeClaim>| p.and_then(phase).as_deref() == Some("Bound"));
        bound.await?.context("bound and yet absent")
    }

    /// Says of a bound PVC's volume that it can be mounted on one node only, as storage of a zone does.
    pub async fn pin(&self, pvc: &str, node: &str) -> Result<()> {
        let volume = self.bound(pvc).await?.spec.and_then(|s| s.volume_name).context("bound to no volume")?;
        let term = json!({ "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }] });
        let affinity = json!({ "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [term] } } } });
        let volumes = self.api_all::<PersistentVolume>();
        let pinned = volumes.patch(&volume, &PatchParams::default(), &Patch::Merge(affinity)).await;
        pinned.with_context(|| format!("pin {volume} to {node}")).map(drop)
    }
}
