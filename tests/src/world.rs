//! What one test sees of the cluster: its own namespace, Borgherd's, and handles to everything else.

use crate::leak;
use crate::node::Cluster;
use crate::release::Release;
use crate::settings::Settings;
use crate::wait::{DEADLINE, Object, until};
use anyhow::{Context, Result, bail};
use borgherd_api::names;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::path::PathBuf;

/// Name of the agents' DaemonSet and label `app.kubernetes.io/component` of their pods.
const AGENT: &str = "borgherd-agent";

/// One test's view of the cluster.
#[derive(Clone)]
pub struct World {
    /// As cluster administrator.
    pub client: Client,
    /// Of this test alone.
    pub namespace: String,
    /// Image for applications: has a shell, coreutils and Python.
    pub image: String,
    /// Name of the test function.
    pub test: String,
    pub(crate) settings: Settings,
}

impl World {
    pub(crate) async fn create(test: &str, settings: Settings) -> Result<Self> {
        let client = Client::try_default().await.context("no cluster: is KUBECONFIG set? (hack/test e2e sets it)")?;
        let image = match &settings.image {
            Some(image) => image.clone(),
            None => agent_image(&client, &settings).await?,
        };
        let namespace = namespace_name(test);
        let world = Self { client, namespace, image, test: test.to_owned(), settings };
        world.create_namespace().await?;
        Ok(world)
    }

    /// A second namespace of the test's own; [`World::leave`] takes it away.
    pub async fn second(&self) -> Result<Self> {
        let second = Self { namespace: namespace_name(&format!("{}_second", self.test)), ..self.clone() };
        second.create_namespace().await?;
        Ok(second)
    }

    /// Looks for what should not be left of a second namespace, and deletes it.
    pub async fn leave(self) -> Result<()> {
        leak::none(&self).await?;
        leak::remove(&self).await
    }

    /// New pods of all workloads start on `node` only, until [`World::open_all_nodes`]. Only in a test that runs alone.
    pub async fn close_other_nodes(&self, node: &str) -> Result<()> {
        self.close_nodes(|name| name != node).await
    }

    /// All nodes take pods.
    pub async fn open_all_nodes(&self) -> Result<()> {
        self.close_nodes(|_| false).await
    }

    async fn close_nodes(&self, is_closed: impl Fn(&str) -> bool) -> Result<()> {
        let nodes = self.api_all::<Node>();
        for name in nodes.list(&ListParams::default()).await?.iter().map(ResourceExt::name_any) {
            let patch = Patch::Merge(json!({ "spec": { "unschedulable": is_closed(&name) } }));
            drop(nodes.patch(&name, &PatchParams::default(), &patch).await?);
        }
        Ok(())
    }

    async fn create_namespace(&self) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        if let Some(left) = api.get_opt(&self.namespace).await? {
            if left.metadata.deletion_timestamp.is_none() {
                drop(api.delete(&self.namespace, &DeleteParams::default()).await?);
            }
            until(&api, &self.namespace, "an earlier run's namespace is gone", DEADLINE, |n| n.is_none()).await?;
        }
        let object = Namespace {
            metadata: ObjectMeta {
                name: Some(self.namespace.clone()),
                labels: Some([("borgherd.dev/e2e".to_owned(), "true".to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        api.create(&PostParams::default(), &object).await.context("create the test's namespace")?;
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = self.api();
        until(&accounts, "default", "pods can be created", DEADLINE, |a| a.is_some()).await?;
        Ok(())
    }

    /// API for a kind, in the test's namespace.
    pub fn api<K: Object + Resource<Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// API for a kind, in Borgherd's own namespace.
    pub fn api_own<K: Object + Resource<Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }

    /// API for a kind, in the namespace of clones and holders.
    pub fn api_volumes<K: Object + Resource<Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.settings.volumes_namespace)
    }

    /// API for a kind, across namespaces or of the cluster.
    pub fn api_all<K: Object>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Namespace of the chart's release.
    pub fn own_namespace(&self) -> &str {
        &self.settings.namespace
    }

    /// Namespace of clones and holders.
    pub fn volumes_namespace(&self) -> &str {
        &self.settings.volumes_namespace
    }

    /// The Helm release, for tests that need other values ([`crate::exclusive`] ones only).
    pub fn release(&self) -> Release<'_> {
        Release { settings: &self.settings }
    }

    /// The project's own cluster, if the test runs on it: its nodes, components and storage can be reached into.
    pub fn cluster(&self) -> Option<Cluster> {
        Cluster::of(&self.settings)
    }

    /// The image with database servers, where the project's own scripts have loaded it.
    pub fn databases_image(&self) -> Option<&'static str> {
        self.cluster().map(|_| "localhost/borgherd-databases:test")
    }

    /// Ends a test that cannot run here: `hack/test` counts it as skipped.
    #[allow(clippy::unnecessary_wraps, reason = "it is returned from a test's body")]
    pub fn skip(&self, reason: &str) -> Result<()> {
        eprintln!("SKIPPED {}: {reason}", self.test);
        Ok(())
    }

    /// Sets annotations `borgherd.dev/<key>` on an object of the test's namespace; an absent value removes one.
    pub async fn annotate<K>(&self, name: &str, annotations: &[(&str, Option<&str>)]) -> Result<()>
    where
        K: Object + Resource<Scope = NamespaceResourceScope>,
    {
        let api: Api<K> = self.api();
        drop(api.patch(name, &PatchParams::default(), &annotation_patch(annotations)).await?);
        Ok(())
    }

    /// Sets annotations `borgherd.dev/<key>` on the test's namespace itself.
    pub async fn annotate_namespace(&self, annotations: &[(&str, Option<&str>)]) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        drop(api.patch(&self.namespace, &PatchParams::default(), &annotation_patch(annotations)).await?);
        Ok(())
    }

    /// The agent's pod on a node.
    pub async fn agent_on(&self, node: &str) -> Result<Pod> {
        let params = ListParams::default().labels(&self.agent_selector().await?).fields(&format!("spec.nodeName={node}"));
        let pods = self.api_own::<Pod>().list(&params).await?;
        let mut living = pods.items.into_iter().filter(|p| p.metadata.deletion_timestamp.is_none());
        living.next().with_context(|| format!("no agent on {node}"))
    }

    /// All pods of the agents.
    pub async fn agents(&self) -> Result<Vec<Pod>> {
        let params = ListParams::default().labels(&self.agent_selector().await?);
        Ok(self.api_own::<Pod>().list(&params).await?.items)
    }

    async fn agent_selector(&self) -> Result<String> {
        let set: DaemonSet = self.api_own().get(AGENT).await.context("the agents' DaemonSet")?;
        let labels = set.spec.and_then(|s| s.selector.match_labels).unwrap_or_default();
        Ok(selector(&labels))
    }

    /// All pods of the controller's Deployment.
    pub async fn controllers(&self) -> Result<Vec<Pod>> {
        let deployment: k8s_openapi::api::apps::v1::Deployment = self.api_own().get("borgherd-controller").await?;
        let labels = deployment.spec.and_then(|s| s.selector.match_labels).unwrap_or_default();
        Ok(self.api_own::<Pod>().list(&ListParams::default().labels(&selector(&labels))).await?.items)
    }

    /// Where a failed test's state goes.
    pub(crate) fn dump_folder(&self) -> PathBuf {
        self.settings.root.join("target/log/e2e").join(&self.test)
    }

    /// The storage's own name of the volume of a PVC.
    pub async fn volume_handle(&self, pvc: &str) -> Result<String> {
        let volume: PersistentVolume = self.api_all().get(&self.volume_of(pvc).await?).await?;
        volume.spec.and_then(|s| s.csi).map(|c| c.volume_handle).with_context(|| format!("PVC {pvc} is not of a CSI driver"))
    }

    /// Name of the PersistentVolume of a PVC.
    pub async fn volume_of(&self, pvc: &str) -> Result<String> {
        let claim: PersistentVolumeClaim = self.api().get(pvc).await?;
        claim.spec.and_then(|s| s.volume_name).with_context(|| format!("PVC {pvc} has no volume"))
    }

    /// Node that a pod runs on.
    pub async fn node_of(&self, pod: &str) -> Result<String> {
        let pod: Pod = self.api().get(pod).await?;
        pod.spec.and_then(|s| s.node_name).context("the pod has no node")
    }
}

/// `a=b,c=d`
fn selector(labels: &std::collections::BTreeMap<String, String>) -> String {
    labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

fn annotation_patch(annotations: &[(&str, Option<&str>)]) -> Patch<serde_json::Value> {
    let map: serde_json::Map<_, _> =
        annotations.iter().map(|(k, v)| (format!("{}/{k}", names::GROUP), v.map_or(serde_json::Value::Null, Into::into))).collect();
    Patch::Merge(json!({ "metadata": { "annotations": map } }))
}

/// The test's name as a namespace: at most 63 characters.
fn namespace_name(test: &str) -> String {
    let name = test.replace('_', "-");
    let short: String = name.chars().take(40).collect();
    format!("e2e-{}-{}", short.trim_end_matches('-'), names::hash(&[test], 4))
}

async fn agent_image(client: &Client, settings: &Settings) -> Result<String> {
    let api: Api<DaemonSet> = Api::namespaced(client.clone(), &settings.namespace);
    let Some(set) = api.get_opt(AGENT).await? else {
        bail!("Borgherd is not installed: no DaemonSet {AGENT} in {}", settings.namespace);
    };
    let name = set.name_any();
    let containers = set.spec.and_then(|s| s.template.spec).map(|s| s.containers).unwrap_or_default();
    containers.into_iter().find_map(|c| c.image).with_context(|| format!("DaemonSet {name} names no image"))
}
