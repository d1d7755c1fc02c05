//! The pod that has a live volume mounted, by live reads. It is listed by name later on, so that the right to list is enough.

use super::super::work::Work;
use super::hold;
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::expose::users::{is_of, uses};
use borgherd_api::crd::LiveStatus;
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use kube::ResourceExt;
use kube::api::{Api, ListParams};

/// A running pod that has a volume mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub pod: String,
    /// Its UID: the name of its folder below the kubelet's pods.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// How often its containers have been restarted, all together.
    pub restarts: i32,
}

/// By what a volume can be read; messages are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The mount of this pod.
    Pod(Consumer),
    /// Pods use it, none of which will do now.
    Pods(String),
    /// No pod uses it: a holder can mount it.
    Holder,
    /// No pod uses it, and no holder can mount it.
    Nobody(String),
}

/// Those that have not ended: one that waits for a node or an image is as good as one that runs.
const ALIVE: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// By what `pvc` can be read now, whose volume is `pv`.
pub async fn reader(work: &Work<'_>, pvc: &str, pv: &str) -> Result<Reader, Error> {
    let (ctx, namespace) = (work.ctx, work.owner.namespace.as_str());
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let alive = pods.list(&ListParams::default().fields(ALIVE)).await.doing("listing the pods")?;
    let preferred = ctx.world().last_node(namespace, pvc);
    match choose(&alive.items, pvc, preferred.as_deref(), |node| ctx.has_agent(node)) {
        Ok(consumer) => Ok(Reader::Pod(consumer)),
        Err(why) if alive.items.iter().any(|pod| uses(pod, pvc)) => Ok(Reader::Pods(why)),
        Err(why) => Ok(match hold::refusal(work, pvc, pv).await? {
            None => Reader::Holder,
            Some(refusal) => Reader::Nobody(format!("{why}. No holder mounts it: {refusal}")),
        }),
    }
}

/// A pod of the application that uses `pvc`. Asked for once a second while a holder has it, so of what the API server has in memory.
pub async fn user(ctx: &Context, namespace: &str, pvc: &str) -> Result<Option<String>, Error> {
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let alive = pods.list(&ListParams::default().fields(ALIVE).match_any()).await.doing("listing the pods")?;
    Ok(alive.items.iter().find(|pod| uses(pod, pvc)).map(ResourceExt::name_any))
}

/// Rather on the node that has borg's cache, rather one that is ready, then by name.
fn choose(pods: &[Pod], pvc: &str, preferred: Option<&str>, has_agent: impl Fn(&str) -> bool) -> Result<Consumer, String> {
    let mounted: Vec<(&Pod, Consumer)> = pods.iter().filter(|pod| has_mounted(pod, pvc)).filter_map(|pod| Some((pod, of(pod)?))).collect();
    let served = mounted.iter().filter(|(_, consumer)| has_agent(&consumer.node));
    let rank = |(pod, consumer): &&(&Pod, Consumer)| (preferred != Some(&consumer.node), !is_ready(pod), consumer.pod.clone());
    let used = || pods.iter().filter(|pod| uses(pod, pvc)).map(ResourceExt::name_any).min();
    match (served.min_by_key(rank), mounted.first()) {
        (Some((_, best)), _) => Ok(best.clone()),
        (None, Some((_, Consumer { pod, node, .. }))) => Err(format!("pod {pod} has it mounted on node {node}, where no agent runs")),
        (None, None) => Err(match used() {
            Some(pod) => format!("no running pod has PVC {pvc} mounted; pod {pod} uses it and is waited for: see why it does not run"),
            None => format!("no running pod has PVC {pvc} mounted, and in mode live it is read where one has; start one"),
        }),
    }
}

fn of(pod: &Pod) -> Option<Consumer> {
    Some(Consumer { pod: pod.name_any(), uid: pod.uid()?, node: pod.spec.as_ref()?.node_name.clone()?, restarts: restarts(pod) })
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).map(|c| c.restart_count).sum()
}

/// Whether the kubelet has the PVC mounted for the pod: a volume that no container mounts is none to it.
fn has_mounted(pod: &Pod, pvc: &str) -> bool {
    let running = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    let Some(spec) = pod.spec.as_ref().filter(|_| running && pod.metadata.deletion_timestamp.is_none()) else { return false };
    let is_mounted = |volume: &Volume| {
        let has = |c: &Container| c.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(has)
    };
    spec.volumes.iter().flatten().any(|volume| is_of(volume, pod, pvc) && is_mounted(volume))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Why a volume cannot be read any more by the pod that was chosen; `None`: it can. `is_held`: it is to be held still meanwhile.
pub async fn gone(ctx: &Context, namespace: &str, live: &LiveStatus, is_held: bool) -> Result<Option<String>, Error> {
    let Some(name) = &live.pod else { return Ok(None) };
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let found = pods.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await.doing("looking for the pod")?;
    Ok(why_gone(found.items.first(), live, is_held))
}

fn why_gone(found: Option<&Pod>, live: &LiveStatus, is_held: bool) -> Option<String> {
    let name = live.pod.as_deref().unwrap_or_default();
    let Some(pod) = found.filter(|pod| pod.uid() == live.pod_uid) else {
        return Some(format!("pod {name} was deleted while its volume was read"));
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(format!("pod {name} is being deleted while its volume is read"));
    }
    if is_held && restarts(pod) != live.restarts {
        return Some(format!(
            "a container of pod {name} was restarted while it should be held still; see whether a liveness probe ends it"
        ));
    }
    let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
    (phase != "Running").then(|| format!("pod {name} ended ({phase}) while its volume was read"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, node: &str, change: Value) -> Pod {
        let mut pod = json!({
            "metadata": { "name": name, "uid": format!("uid-{name}") },
            "spec": {
                "nodeName": node,
                "containers": [{ "name": "app", "volumeMounts": [{ "name": "v", "mountPath": "/data" }] }],
                "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }],
            },
            "status": { "phase": "Running" },
        });
        merge(&mut pod, change);
        serde_json::from_value(pod).unwrap()
    }

    fn merge(into: &mut Value, change: Value) {
        let Value::Object(change) = change else {
            *into = change;
            return;
        };
        change.into_iter().for_each(|(key, value)| merge(&mut into[key], value));
    }

    fn chosen(pods: &[Pod], preferred: Option<&str>) -> Result<String, String> {
        choose(pods, "data", preferred, |node| node != "bare").map(|consumer| consumer.pod)
    }

    #[test]
    fn only_a_pod_that_runs_and_stays_and_mounts_it_will_do() {
        for (change, will_do) in [
            (json!({}), true),
            (json!({ "status": { "phase": "Pending" } }), false),
            (json!({ "status": { "phase": "Succeeded" } }), false),
            (json!({ "metadata": { "deletionTimestamp": "2026-11-21T10:00:00Z" } }), false),
            (json!({ "spec": { "nodeName": "bare" } }), false),
            (json!({ "spec": { "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "other" } }] } }), false),
            (json!({ "spec": { "volumes": [{ "name": "w", "persistentVolumeClaim": { "claimName": "data" } }] } }), false),
            (json!({ "metadata": { "name": "a" }, "spec": { "volumes": [{ "name": "v", "ephemeral": {} }] } }), false),
        ] {
            assert_eq!(chosen(&[pod("db-0", "n1", change.clone())], None).is_ok(), will_do, "{change}");
        }
        let own = pod("a", "n1", json!({ "spec": { "volumes": [{ "name": "v", "ephemeral": {} }] } }));
        assert!(choose(&[own], "a-v", None, |_| true).is_ok());
        assert!(chosen(&[pod("a", "bare", json!({}))], None).unwrap_err().contains("no agent runs"));
        assert!(chosen(&[], None).unwrap_err().contains("no running pod has PVC data mounted"));
    }

    #[test]
    fn whoever_names_it_and_has_not_ended_uses_it() {
        let unmounted = json!({ "spec": { "containers": [{ "name": "app" }] } });
        for (change, is_used) in [
            (json!({}), true),
            (json!({ "status": { "phase": "Pending" } }), true),
            (json!({ "metadata": { "deletionTimestamp": "2026-11-21T10:00:00Z" } }), true),
            (unmounted, true),
            (json!({ "status": { "phase": "Succeeded" } }), false),
            (json!({ "status": { "phase": "Failed" } }), false),
            (json!({ "spec": { "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "other" } }] } }), false),
        ] {
            assert_eq!(uses(&pod("db-0", "n1", change.clone()), "data"), is_used, "{change}");
        }
        let waits = pod("db-0", "n1", json!({ "status": { "phase": "Pending" } }));
        assert!(chosen(&[waits], None).unwrap_err().contains("pod db-0 uses it"));
    }

    #[test]
    fn of_several_the_one_where_the_cache_is_then_a_ready_one() {
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        let pods = [pod("a", "n1", json!({})), pod("b", "n1", ready), pod("c", "n2", json!({}))];
        assert_eq!(chosen(&pods, None), Ok("b".to_owned()));
        assert_eq!(chosen(&pods, Some("n2")), Ok("c".to_owned()));
    }

    #[test]
    fn a_pod_that_leaves_or_is_another_is_gone() {
        let live = LiveStatus { pv: "pv".into(), pod: Some("a".into()), pod_uid: Some("uid-a".into()), ..LiveStatus::default() };
        for (change, gone) in [
            (json!({}), false),
            (json!({ "metadata": { "uid": "other" } }), true),
            (json!({ "metadata": { "deletionTimestamp": "2026-11-21T10:00:00Z" } }), true),
            (json!({ "status": { "phase": "Failed" } }), true),
        ] {
            assert_eq!(why_gone(Some(&pod("a", "n1", change.clone())), &live, true).is_some(), gone, "{change}");
        }
        assert!(why_gone(None, &live, false).is_some());
        let container = json!({ "name": "app", "image": "x", "imageID": "x", "ready": true, "restartCount": 1 });
        let restarted = pod("a", "n1", json!({ "status": { "containerStatuses": [container] } }));
        assert_eq!([true, false].map(|is_held| why_gone(Some(&restarted), &live, is_held).is_some()), [true, false]);
    }
}
