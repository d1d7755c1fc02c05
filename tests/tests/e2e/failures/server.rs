//! A Borg server of the test's own, in its namespace: the chart's, with a disk of a few MiB in memory.

use anyhow::{Context, Result};
use borgherd_e2e::{Credentials, DEADLINE, World, until};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Of everything here, and of what the chart calls so.
const NAME: &str = "borgherd-server";
const LABEL: &str = "borg-of-the-test";

/// Its Service, configuration and keys; nobody answers yet.
pub(crate) async fn prepare(w: &World) -> Result<()> {
    let config: ConfigMap = w.api_own().get(NAME).await.context("configuration of the chart's server")?;
    apply::<ConfigMap>(w, json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": config.data })).await?;
    let keys = w.server_credentials().await?;
    apply::<Secret>(w, json!({ "apiVersion": "v1", "kind": "Secret", "stringData": keys })).await?;
    let spec = json!({ "selector": { "app": LABEL }, "ports": [{ "port": 2222 }] });
    apply::<Service>(w, json!({ "apiVersion": "v1", "kind": "Service", "spec": spec })).await
}

/// Starts it with a disk of `size`.
pub(crate) async fn start(w: &World, size: &str) -> Result<()> {
    let chart: Deployment = w.api_own().get(NAME).await.context("the chart's server")?;
    let template = chart.spec.and_then(|s| s.template.spec).context("a template of pods")?;
    let mut spec = serde_json::to_value(template)?;
    let fields = spec.as_object_mut().context("a spec")?;
    for field in ["serviceAccountName", "serviceAccount", "priorityClassName"] {
        fields.remove(field);
    }
    let volumes = spec["volumes"].as_array_mut().context("volumes")?;
    for volume in volumes.iter_mut().filter(|v| v["name"] == "repositories") {
        *volume = json!({ "name": "repositories", "emptyDir": { "medium": "Memory", "sizeLimit": size } });
    }
    let metadata = json!({ "labels": { "app": LABEL } });
    apply::<Pod>(w, json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })).await?;
    let ready = |p: &Pod| p.status.as_ref().and_then(|s| s.container_statuses.as_ref()).is_some_and(|c| c.iter().all(|c| c.ready));
    until(&w.api::<Pod>(), NAME, "the server is ready", DEADLINE, |p: Option<&Pod>| p.is_some_and(ready)).await.map(drop)
}

/// A shell script in it.
pub(crate) async fn sh(w: &World, script: &str) -> Result<()> {
    w.exec(&w.namespace, NAME, "sshd", &["sh", "-c", script]).await?.ok(script).map(drop)
}

/// A Repository on it, with the Secret for it.
pub(crate) async fn repository(w: &World, name: &str) -> Result<String> {
    let host = format!("{NAME}.{}.svc", w.namespace);
    let mut credentials: Credentials = w.server_credentials().await?;
    let known = credentials.get("known_hosts").context("known_hosts of the chart's server")?;
    let key = known.lines().next().and_then(|l| l.split_once(' ')).context("a line of known_hosts")?.1;
    let line = format!("[{host}]:2222 {key}\n");
    credentials.insert("known_hosts".into(), line);
    let secret = w.credentials(name, &credentials).await?;
    // a place that no earlier run has used: what held archives once is remembered
    let (folder, _) = w.fresh_place(name).await?;
    let below = folder.trim_start_matches("/repositories/");
    w.repository(name, &format!("ssh://borg@{host}:2222/./{below}"), &secret).await
}

async fn apply<K>(w: &World, mut object: Value) -> Result<()>
where
    K: borgherd_e2e::Object + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    object["metadata"]["name"] = NAME.into();
    let params = PatchParams::apply("borgherd-e2e").force();
    drop(w.api::<K>().patch(NAME, &params, &Patch::Apply(object)).await.with_context(|| format!("make {}", K::kind(&())))?);
    Ok(())
}
