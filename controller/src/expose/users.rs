//! Which pods of an application use a PVC.

use k8s_openapi::api::core::v1::{Pod, Volume};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

/// Whether a pod names the PVC and has not ended; one that is being deleted may still write.
pub fn uses(pod: &Pod, pvc: &str) -> bool {
    let ended = matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    !ended && volumes.into_iter().any(|volume| is_of(volume, pod, pvc))
}

/// Whether a volume of a pod is the PVC.
pub fn is_of(volume: &Volume, pod: &Pod, pvc: &str) -> bool {
    let claimed = volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.claim_name == pvc);
    // rule: the PVC of a generic ephemeral volume is named after pod and volume
    claimed || volume.ephemeral.is_some() && format!("{}-{}", pod.name_any(), volume.name) == pvc
}

/// A pod on a node that waits there for the PVC to be mounted, or for something else; by a live read.
pub async fn awaits(client: &Client, namespace: &str, pvc: &str) -> Result<Option<String>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pending = pods.list(&ListParams::default().fields("status.phase=Pending")).await?;
    Ok(pending.items.iter().find(|pod| is_waiting(pod, pvc)).map(ResourceExt::name_any))
}

fn is_waiting(pod: &Pod, pvc: &str) -> bool {
    let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let is_pending = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Pending");
    is_placed && is_pending && uses(pod, pvc)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_waits_from_when_it_has_a_node_until_it_runs() {
        for (node, phase, waits) in
            [(Some("n"), "Pending", true), (None, "Pending", false), (Some("n"), "Running", false), (Some("n"), "Failed", false)]
        {
            let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
            let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": node, "containers": [], "volumes": volumes}, "status": {"phase": phase}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!((is_waiting(&pod, "data"), is_waiting(&pod, "other")), (waits, false), "{node:?} {phase}");
        }
    }
}
