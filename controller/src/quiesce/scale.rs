//! Scaling a workload for a freeze, and back: by its subresource `scale`, which is all that the controller may change of it.
//!
//! Invariant: it is only scaled where it has the replicas that the status says; with any other number somebody else has changed it, and it is
//! left as it is.

use super::exec::Ended;
use borgherd_api::crd::{ActionResult, ActionStatus, Scaling, Workload};
use borgherd_api::hooks::resolve::{Found, Placed};
use borgherd_api::hooks::{Mode, Place};
use borgherd_api::names;
use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Until the API server answers.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two looks at pods that go or come.
const LOOK: Duration = Duration::from_millis(500);
/// A workload is not scaled down any more so long after that was claimed; whoever comes later may take it for not done.
const BEGIN: TimeDelta = TimeDelta::seconds(15);
/// A request of a controller that is gone has come, or never comes, so long after it was claimed.
const LOST: TimeDelta = TimeDelta::seconds(30);

/// The workload that is to be scaled, as it is; the message is for people.
pub(super) async fn find(client: &Client, namespace: &str, place: &Place) -> Result<Found, String> {
    let (kind, name) = match place {
        Place::Deployment(name) => (Workload::Deployment, name),
        Place::StatefulSet(name) => (Workload::StatefulSet, name),
        Place::Pod(_) | Place::DaemonSet(_) | Place::Selector(_) => return Err(format!("{place} cannot be scaled")),
    };
    let scale = Scales { client, namespace }.get(kind, name).await.map_err(|said| format!("reading the scale of {place}: {said}"))?;
    let scale = scale.ok_or_else(|| format!("there is no {place} in namespace {namespace}"))?;
    let pod_uid = scale.uid().ok_or_else(|| format!("the scale of {place} has no UID"))?;
    Ok(Found { pod: name.clone(), pod_uid, replicas: Some((kind, replicas(&scale))), ..Found::default() })
}

/// Why hooks cannot be run while a volume is read by `pod`: one of them scales its workload down.
pub(super) fn takes_away(pod: &Pod, placed: &[Placed]) -> Option<String> {
    let scaled = placed.iter().filter_map(|placed| match placed.hook.mode {
        Mode::Scale(to) => Some((placed.pre.first()?, to)),
        Mode::Command | Mode::Beside | Mode::Session => None,
    });
    let down = scaled.filter_map(|(found, to)| found.replicas.filter(|(_, from)| to < *from).map(|(kind, _)| (found, kind, to)));
    let (found, kind, to) = down.into_iter().find(|(found, kind, _)| is_of(pod, (*kind, &found.pod, &found.pod_uid)))?;
    let (name, pod) = (&found.pod, pod.name_any());
    let what = match kind {
        Workload::Deployment => "deployment",
        Workload::StatefulSet => "statefulset",
    };
    Some(format!("a hook scales {what}/{name} to {to}, of whose pod {pod} the volume is read in mode live: use hooks with commands"))
}

/// Scales for the freeze and waits until only that many pods are there, all of them ready. `claimed`: when that was written. `Void`: nothing was
/// scaled.
pub(super) async fn pre(
    client: &Client,
    namespace: &str,
    action: &ActionStatus,
    claimed: DateTime<Utc>,
    clock: fn() -> DateTime<Utc>,
) -> Ended {
    let Some(scaling) = action.scale else { return failed("nothing to scale") };
    let scales = Scales { client, namespace };
    let until = Instant::now() + Duration::from_secs(u64::from(action.timeout_seconds));
    let scale = loop {
        let scale = match scales.of(action, scaling).await {
            Ok(Some(scale)) => scale,
            Ok(None) => return void("it is gone"),
            Err(said) => return void(said),
        };
        if replicas(&scale) != scaling.from {
            return void(format!("not done: somebody has scaled it from {} to {} meanwhile", scaling.from, replicas(&scale)));
        }
        if clock() - claimed > BEGIN {
            return void("not done: the API server took too long to answer");
        }
        match scales.set(action, scaling, &scale).await {
            Ok(true) => break scale,
            Ok(false) => sleep(LOOK).await, // its controller writes to it, too
            Err(said) => return failed(said),
        }
    };
    loop {
        let seen = scales.settled(action, scaling, &scale).await;
        match seen {
            Ok(None) => {
                return Ended { result: ActionResult::Succeeded, output: format!("scaled from {} to {}", scaling.from, scaling.to) };
            }
            Ok(Some(said)) | Err(said) if Instant::now() >= until => {
                let output = format!("not within {} s: {said}", action.timeout_seconds);
                return Ended { result: ActionResult::TimedOut, output };
            }
            Ok(Some(_)) | Err(_) => sleep(LOOK).await,
        }
    }
}

/// Why the workload is not scaled for the freeze any more, if so.
pub(super) async fn not_held(client: &Client, namespace: &str, action: &ActionStatus) -> Option<String> {
    let scaling = action.scale?;
    let scales = Scales { client, namespace };
    match scales.of(action, scaling).await {
        Ok(Some(scale)) if replicas(&scale) == scaling.to => match scales.settled(action, scaling, &scale).await {
            Ok(said) => said,
            Err(said) => Some(said),
        },
        Ok(Some(scale)) => Some(format!("somebody has scaled it from {} to {} while it was held", scaling.to, replicas(&scale))),
        Ok(None) => Some("it is gone".to_owned()),
        Err(said) => Some(said),
    }
}

/// Scales back. `pre` is what it was scaled by, `claimed` when.
pub(super) async fn post(
    client: &Client,
    namespace: &str,
    action: &ActionStatus,
    pre: Option<&ActionStatus>,
    claimed: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Ended {
    let Some(scaling) = action.scale else { return failed("nothing to scale") };
    let scales = Scales { client, namespace };
    if pre.is_some_and(|pre| pre.result == Some(ActionResult::Void)) {
        return Ended { result: ActionResult::Succeeded, output: "it was not scaled, and is left as it is".to_owned() };
    }
    let scale = match scales.of(action, scaling).await {
        Ok(Some(scale)) => scale,
        Ok(None) => return void("it is gone, or another of that name is there"),
        Err(said) => return failed(said),
    };
    let is_known = pre.is_some_and(|pre| matches!(pre.result, Some(ActionResult::Succeeded | ActionResult::TimedOut)));
    let is_lost = !is_known && claimed.is_some_and(|claimed| now - claimed < LOST);
    match judge(replicas(&scale), scaling, is_lost) {
        Verdict::Set => match scales.set(action, scaling, &scale).await {
            Ok(true) => Ended { result: ActionResult::Succeeded, output: format!("scaled back to {}", scaling.to) },
            Ok(false) => failed("it was changed in the same moment"),
            Err(said) => failed(said),
        },
        Verdict::Done => Ended { result: ActionResult::Succeeded, output: format!("it has {} replicas", scaling.to) },
        Verdict::Later => failed("how it was scaled is not known yet: looked at again"),
        Verdict::Others(has) => void(format!("somebody else has scaled it to {has}, so it is left at that and not set to {}", scaling.to)),
    }
}

/// What is owed to a workload that was scaled for a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Set,
    Done,
    /// A request that is on its way may still scale it.
    Later,
    Others(i32),
}

/// `is_lost`: whether its scaling for the freeze has an end that nobody knows, and may still come.
const fn judge(has: i32, scaling: Scaling, is_lost: bool) -> Verdict {
    let Scaling { from, to, .. } = scaling;
    if has == to && is_lost && from != to {
        Verdict::Later
    } else if has == to {
        Verdict::Done
    } else if has == from {
        Verdict::Set
    } else {
        Verdict::Others(has)
    }
}

fn void(output: impl Into<String>) -> Ended {
    Ended { result: ActionResult::Void, output: output.into() }
}

fn failed(output: impl Into<String>) -> Ended {
    Ended { result: ActionResult::Failed, output: output.into() }
}

fn replicas(scale: &Scale) -> i32 {
    scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default()
}

/// The scales of workloads of one namespace.
struct Scales<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Scales<'_> {
    async fn get(&self, kind: Workload, name: &str) -> Result<Option<Scale>, String> {
        let (client, namespace) = (self.client.clone(), self.namespace);
        let got = async {
            match kind {
                Workload::Deployment => Api::<Deployment>::namespaced(client, namespace).get_scale(name).await,
                Workload::StatefulSet => Api::<StatefulSet>::namespaced(client, namespace).get_scale(name).await,
            }
        };
        match timeout(ANSWER, got).await {
            Err(_) => Err("the API server does not answer".to_owned()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
            Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(scale)) => Ok(Some(scale)),
        }
    }

    /// That of the same workload.
    async fn of(&self, action: &ActionStatus, scaling: Scaling) -> Result<Option<Scale>, String> {
        Ok(self.get(scaling.kind, &action.pod).await?.filter(|scale| scale.uid().as_ref() == Some(&action.pod_uid)))
    }

    /// Sets what is wanted; `false`: something has changed since `seen`.
    async fn set(&self, action: &ActionStatus, scaling: Scaling, seen: &Scale) -> Result<bool, String> {
        if replicas(seen) == scaling.to {
            return Ok(true);
        }
        let (client, namespace, name) = (self.client.clone(), self.namespace, action.pod.as_str());
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": seen.resource_version()}, "spec": {"replicas": scaling.to}}));
        let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
        let set = async {
            match scaling.kind {
                Workload::Deployment => Api::<Deployment>::namespaced(client, namespace).patch_scale(name, &params, &patch).await,
                Workload::StatefulSet => Api::<StatefulSet>::namespaced(client, namespace).patch_scale(name, &params, &patch).await,
            }
        };
        match timeout(ANSWER, set).await {
            Err(_) => Err("the API server does not answer".to_owned()),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(false),
            Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
            Ok(other) => other.map(|_| true).map_err(|error| error.to_string()),
        }
    }

    /// What is still to happen until the pods are those that are wanted.
    async fn settled(&self, action: &ActionStatus, scaling: Scaling, scale: &Scale) -> Result<Option<String>, String> {
        let selector = scale.status.as_ref().and_then(|status| status.selector.clone()).filter(|s| !s.is_empty());
        let selector = selector.ok_or("its scale tells no selector")?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        let listed = timeout(ANSWER, pods.list(&ListParams::default().labels(&selector))).await;
        let listed = listed.map_err(|_| "the API server does not answer")?.map_err(|error| error.to_string())?;
        let workload = (scaling.kind, action.pod.as_str(), action.pod_uid.as_str());
        let own: Vec<&Pod> = listed.items.iter().filter(|pod| is_of(pod, workload) && !has_ended(pod)).collect();
        let ready = own.iter().filter(|pod| borgherd_api::hooks::pod::is_ready(pod)).count();
        let wanted = usize::try_from(scaling.to).unwrap_or_default();
        let told = || {
            let names: Vec<String> = own.iter().map(|pod| pod.name_any()).collect();
            format!("{} pods, {ready} of them ready, where {wanted} are wanted: {}", own.len(), names.join(", "))
        };
        Ok((own.len() != wanted || ready != wanted).then(told))
    }
}

/// Whether a pod is of the workload of that kind, name and UID. Rule: a StatefulSet owns its pods; those of a Deployment are owned by its
/// `ReplicaSets`, which are named after it.
fn is_of(pod: &Pod, (kind, name, uid): (Workload, &str, &str)) -> bool {
    pod.owner_references().iter().filter(|owner| owner.controller == Some(true)).any(|owner| match kind {
        Workload::StatefulSet => owner.uid == uid,
        Workload::Deployment => {
            let hash = owner.name.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
            owner.kind == "ReplicaSet" && hash.is_some_and(|hash| !hash.contains('-'))
        }
    })
}

fn has_ended(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use borgherd_api::hooks;

    #[test]
    fn only_who_scales_down_the_workload_of_the_pod_takes_it_away() {
        let pod = |owner: &str, uid: &str, kind: &str| -> Pod {
            let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": uid, "controller": true});
            serde_json::from_value(json!({"metadata": {"name": "shop-0", "ownerReferences": [owner]}})).unwrap()
        };
        let placed = |to: i32, kind, from| {
            let hook = hooks::parse(&format!("- {{pre: {{in: deployment/shop}}, scale: {to}}}")).unwrap().remove(0);
            let found = Found { pod: "shop".into(), pod_uid: "uid".into(), replicas: Some((kind, from)), ..Found::default() };
            vec![Placed { hook, group: 1, pre: vec![found.clone()], post: vec![found] }]
        };
        let (deployment, statefulset) = (Workload::Deployment, Workload::StatefulSet);
        for (pod, placed, is_taken) in [
            (pod("shop-5d9", "x", "ReplicaSet"), placed(0, deployment, 1), true),
            (pod("shop-5d9", "x", "ReplicaSet"), placed(1, deployment, 3), true),
            (pod("shop-5d9", "x", "ReplicaSet"), placed(3, deployment, 3), false),
            (pod("shop-5d9", "x", "ReplicaSet"), placed(4, deployment, 3), false),
            (pod("shop-web-5d9", "x", "ReplicaSet"), placed(0, deployment, 1), false),
            (pod("shop", "uid", "StatefulSet"), placed(0, statefulset, 1), true),
            (pod("shop", "other", "StatefulSet"), placed(0, statefulset, 1), false),
        ] {
            let said = takes_away(&pod, &placed);
            assert_eq!(said.is_some(), is_taken, "{said:?}");
        }
    }

    #[test]
    fn what_somebody_else_has_scaled_is_left_as_it_is() {
        let back = |from, to| Scaling { kind: Workload::Deployment, from, to };
        for (has, scaling, is_lost, expected) in [
            (0, back(0, 3), false, Verdict::Set),
            (0, back(0, 3), true, Verdict::Set),
            (3, back(0, 3), false, Verdict::Done),
            (3, back(0, 3), true, Verdict::Later),
            (5, back(0, 3), false, Verdict::Others(5)),
            (1, back(0, 3), true, Verdict::Others(1)),
            (0, back(0, 0), true, Verdict::Done),
        ] {
            assert_eq!(judge(has, scaling, is_lost), expected, "{has} {scaling:?} {is_lost}");
        }
    }
}
