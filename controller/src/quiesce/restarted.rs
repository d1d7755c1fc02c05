//! Containers that were restarted, or whose pods were deleted, between pre hooks and cut: what was frozen in them is not any more, and the
//! snapshots may be of anything.
//!
//! Looked at once, when all is cut: each pod is read once. The kubelet tells of a restart some moments after it, so one just before the cut is
//! not seen.

use super::late;
use crate::backup::work::Work;
use borgherd_api::crd::{ActionResult, ActionStatus, HookStatus, QuiesceStatus, StepKind};
use borgherd_api::hooks::pod::has_let_go;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;

/// Applications are held still meanwhile. Where the API server does not answer, the claim that follows is not written, either.
const ANSWER: Duration = Duration::from_secs(2);

/// Marks the pre hooks as failed whose containers have let go.
pub(super) async fn look(work: &Work<'_>, quiesce: &mut QuiesceStatus) {
    let names: BTreeSet<String> = holding(&mut quiesce.hooks).map(|pre| pre.pod.clone()).collect();
    let pods: Api<Pod> = Api::namespaced(work.ctx.client.clone(), &work.owner.namespace);
    let reads = names.into_iter().map(|name| async {
        match timeout(ANSWER, pods.get_opt(&name)).await {
            Ok(Ok(pod)) => Some((name, pod)),
            Ok(Err(error)) => {
                warn!(pod = name, %error, "cannot see whether a container was restarted while it was held still");
                None
            }
            Err(_) => None,
        }
    });
    let found: HashMap<String, Option<Pod>> = join_all(reads).await.into_iter().flatten().collect();
    // another hook may be meant to take the pods away, and is looked at by itself
    let is_scaled = quiesce.hooks.iter().any(|hook| hook.kind == StepKind::Scale);
    for pre in holding(&mut quiesce.hooks) {
        let (Some(pod), Some(restarts)) = (found.get(&pre.pod), pre.restarts) else { continue };
        let stays = |pod: &Pod| pod.metadata.uid.as_ref() == Some(&pre.pod_uid) && pod.metadata.deletion_timestamp.is_none();
        if is_scaled && !pod.as_ref().is_some_and(stays) {
            continue;
        }
        if let Some(said) = has_let_go(pod.as_ref(), &pre.pod_uid, &pre.container, restarts) {
            late::pre_failed(work, pre, &said);
        }
    }
}

/// Commands that hold something until their post lets it go.
fn holding(hooks: &mut [HookStatus]) -> impl Iterator<Item = &mut ActionStatus> {
    let holds = |hook: &&mut HookStatus| match hook.kind {
        StepKind::Hook | StepKind::Session => !hook.post.is_empty(),
        StepKind::Beside | StepKind::Scale | StepKind::Check | StepKind::Dump => false,
    };
    let has_held = |pre: &&mut ActionStatus| pre.result == Some(ActionResult::Succeeded) && pre.restarts.is_some();
    hooks.iter_mut().filter(holds).flat_map(|hook| &mut hook.pre).filter(has_held)
}
