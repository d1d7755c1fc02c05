//! Repositories and Secrets of a test's own, and the chart's Borg server from inside.
//!
//! Invariant: each carries the test's namespace as label [`LABEL`], and goes with it whatever came of the test.

use crate::exec::Output;
use crate::wait::Object;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::Repository;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;

/// Label of what a test makes outside of its namespace; the value is the namespace.
const LABEL: &str = "borgherd.dev/e2e-of";
/// The chart's server: Deployment, Service, Secret and container.
const SERVER: &str = "borgherd-server";
/// Name of the Repository that the chart's server is.
const IN_CLUSTER: &str = "in-cluster";

/// What a Secret of a Repository holds, as text.
pub type Credentials = BTreeMap<String, String>;

impl World {
    /// Makes or changes a Repository; its name begins with the test's namespace.
    pub async fn repository(&self, name: &str, location: &str, secret: &str) -> Result<String> {
        self.repository_with(name, json!({ "location": location, "secretRef": secret })).await
    }

    /// The same with the whole spec.
    pub async fn repository_with(&self, name: &str, spec: serde_json::Value) -> Result<String> {
        let name = format!("{}-{name}", self.namespace);
        let object = json!({
            "apiVersion": "borgherd.dev/v1alpha1", "kind": "Repository",
            "metadata": { "name": name, "labels": { LABEL: self.namespace } }, "spec": spec,
        });
        let params = PatchParams::apply("borgherd-e2e").force();
        let made = self.api_all::<Repository>().patch(&name, &params, &Patch::Apply(object)).await;
        drop(made.with_context(|| format!("make Repository {name}"))?);
        Ok(name)
    }

    /// Makes or changes a Secret in Borgherd's namespace; its name begins with the test's namespace.
    pub async fn credentials(&self, name: &str, values: &Credentials) -> Result<String> {
        let name = format!("{}-{name}", self.namespace);
        let object = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name, "labels": { LABEL: self.namespace } }, "stringData": values,
        });
        let api: Api<Secret> = self.api_own();
        // replaced, not merged: a key that is not named must not stay
        drop(api.delete(&name, &DeleteParams::default()).await);
        let params = PatchParams::apply("borgherd-e2e").force();
        let made = api.patch(&name, &params, &Patch::Apply(object)).await;
        drop(made.with_context(|| format!("make Secret {name}"))?);
        Ok(name)
    }

    /// What the Secret of the chart's server holds.
    pub async fn server_credentials(&self) -> Result<Credentials> {
        let secret: Secret = self.api_own().get(SERVER).await.context("the Secret of the chart's server")?;
        let data = secret.data.unwrap_or_default().into_iter();
        data.map(|(key, value)| Ok((key, String::from_utf8(value.0)?))).collect()
    }

    /// A folder on the chart's server that no earlier run has used, below `/repositories`; and the location of it.
    pub async fn fresh_place(&self, name: &str) -> Result<(String, String)> {
        let namespace: Namespace = self.api_all().get(&self.namespace).await?;
        let uid = namespace.uid().unwrap_or_default();
        let folder = format!("e2e/{}-{}/{name}", self.namespace, uid.get(..8).unwrap_or(&uid));
        let server: Repository = self.api_all().get(IN_CLUSTER).await.context("the chart's Repository")?;
        let (host, _) = server.spec.location.split_once("/./").context("the chart's location has a /./")?;
        Ok((format!("/repositories/{folder}"), format!("{host}/./{folder}")))
    }

    /// A shell script in the chart's server.
    pub async fn on_server(&self, script: &str) -> Result<String> {
        let pods = self.api_own::<Pod>().list(&ListParams::default()).await?.items;
        let living = |p: &&Pod| p.name_any().starts_with(&format!("{SERVER}-")) && p.metadata.deletion_timestamp.is_none();
        let pod = pods.iter().find(living).context("the chart's server has no pod")?;
        let output: Output = self.exec(self.own_namespace(), &pod.name_any(), "sshd", &["sh", "-c", script]).await?;
        Ok(output.ok(script)?.text())
    }

    /// Removes the test's Repositories and Secrets.
    pub(crate) async fn remove_repositories(&self) -> Result<()> {
        let ours = format!("{LABEL}={}", self.namespace);
        remove(&self.api_all::<Repository>(), &ours).await?;
        remove(&self.api_own::<Secret>(), &ours).await
    }
}

async fn remove<K: Object>(api: &Api<K>, selector: &str) -> Result<()> {
    for object in api.list(&ListParams::default().labels(selector)).await? {
        let gone = api.delete(&object.name_any(), &DeleteParams::default()).await;
        let fine = matches!(&gone, Err(kube::Error::Api(status)) if status.code == 404);
        ensure!(fine || gone.is_ok(), "cannot remove {}: {:?}", object.name_any(), gone.err());
    }
    Ok(())
}
