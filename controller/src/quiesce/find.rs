//! From a hook's place to the containers it runs in: pods that are ready, by live reads. Nothing is frozen yet.

use super::{exec, scale};
use borgherd_api::hooks::resolve::{Found, Placed};
use borgherd_api::hooks::{self, Action, Hook, Mode, Place, Pods};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ListParams};
use kube::core::Selector;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// As many pods as one hook may run in.
const MAX_PODS: usize = 32;

/// Looks for places, and remembers which containers have a shell.
pub(super) struct Finder<'a> {
    client: &'a Client,
    namespace: &'a str,
    shells: HashMap<(String, String), bool>,
}

impl<'a> Finder<'a> {
    /// In one namespace.
    pub(super) fn new(client: &'a Client, namespace: &'a str) -> Self {
        Self { client, namespace, shells: HashMap::new() }
    }

    /// The places of all hooks; the message is for people.
    pub(super) async fn place(&mut self, hooks: Vec<(u32, Hook)>) -> Result<Vec<Placed>, String> {
        let mut placed = Vec::with_capacity(hooks.len());
        for (group, hook) in hooks {
            if let (Mode::Scale(_), Some(pre)) = (hook.mode, &hook.pre) {
                let found = vec![scale::find(self.client, self.namespace, &pre.place).await?];
                placed.push(Placed { hook, group, pre: found.clone(), post: found });
                continue;
            }
            let pre = self.of(hook.pre.as_ref()).await?;
            let same = hook.pre.as_ref().zip(hook.post.as_ref()).is_some_and(|(pre, post)| is_same_place(pre, post));
            let post = if same { pre.clone() } else { self.of(hook.post.as_ref()).await? };
            placed.push(Placed { hook, group, pre, post });
        }
        Ok(placed)
    }

    async fn of(&mut self, action: Option<&Action>) -> Result<Vec<Found>, String> {
        let Some(action) = action else { return Ok(vec![]) };
        let Action { place, .. } = action;
        let mut pods = self.ready(place).await?;
        match (action.pods, pods.len()) {
            (Pods::First, _) => pods.truncate(1),
            (Pods::All, count) if count > MAX_PODS => return Err(format!("{place} has {count} ready pods, more than {MAX_PODS}")),
            (Pods::All, _) => {}
        }
        let mut found = Vec::with_capacity(pods.len());
        for pod in pods {
            found.push(self.at(&pod, action.container.as_deref()).await?);
        }
        Ok(found)
    }

    /// The pods of a place that are ready, by name; at least one.
    pub(super) async fn ready(&self, place: &Place) -> Result<Vec<Pod>, String> {
        let mut pods = self.pods(place).await?;
        pods.retain(hooks::pod::is_ready);
        pods.sort_by_key(ResourceExt::name_any);
        if pods.is_empty() {
            return Err(format!("{place} has no pod that is ready in namespace {}", self.namespace));
        }
        Ok(pods)
    }

    /// The container of a pod: the one named, else its first.
    pub(super) async fn at(&mut self, pod: &Pod, wanted: Option<&str>) -> Result<Found, String> {
        let container = container(pod, wanted)?;
        let shell = self.has_shell(&pod.name_any(), &container).await?;
        let restarts = hooks::pod::restarts(pod, &container);
        Ok(Found { pod: pod.name_any(), pod_uid: pod.uid().unwrap_or_default(), container, shell, restarts, replicas: None })
    }

    async fn has_shell(&mut self, pod: &str, container: &str) -> Result<bool, String> {
        let key = (pod.to_owned(), container.to_owned());
        if let Some(known) = self.shells.get(&key) {
            return Ok(*known);
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        let shell = exec::has_shell(&pods, pod, container).await?;
        self.shells.insert(key, shell);
        Ok(shell)
    }

    async fn pods(&self, place: &Place) -> Result<Vec<Pod>, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        let selector = match place {
            Place::Pod(name) => {
                let found = pods.get_opt(name).await.map_err(|error| format!("reading {place}: {error}"))?;
                return found.map(|pod| vec![pod]).ok_or_else(|| format!("there is no {place} in namespace {}", self.namespace));
            }
            Place::Selector(labels) => labels.clone(),
            Place::Deployment(name) => self.selected(place, name, |d: Deployment| Some(d.spec?.selector)).await?,
            Place::StatefulSet(name) => self.selected(place, name, |s: StatefulSet| Some(s.spec?.selector)).await?,
            Place::DaemonSet(name) => self.selected(place, name, |d: DaemonSet| Some(d.spec?.selector)).await?,
        };
        let listed = pods.list(&ListParams::default().labels(&selector)).await;
        Ok(listed.map_err(|error| format!("listing the pods of {place}: {error}"))?.items)
    }

    /// The selector of a workload.
    async fn selected<K>(&self, place: &Place, name: &str, selector: fn(K) -> Option<LabelSelector>) -> Result<String, String>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let found = api.get_opt(name).await.map_err(|error| format!("reading {place}: {error}"))?;
        let found = found.ok_or_else(|| format!("there is no {place} in namespace {}", self.namespace))?;
        let labels = selector(found).ok_or_else(|| format!("{place} has no selector"))?;
        Selector::try_from(labels).map(|selector| selector.to_string()).map_err(|error| format!("the selector of {place}: {error}"))
    }
}

fn is_same_place(pre: &Action, post: &Action) -> bool {
    pre.place == post.place && pre.container == post.container && pre.pods == post.pods
}

/// The container named, else the first.
fn container(pod: &Pod, wanted: Option<&str>) -> Result<String, String> {
    let none = |names: Vec<&str>| {
        format!("pod {} has no container {}; there are {}", pod.name_any(), wanted.unwrap_or("at all"), names.join(", "))
    };
    hooks::pod::container(pod, wanted).map(str::to_owned).map_err(none)
}
