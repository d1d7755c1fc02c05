//! Whether nobody will ever end a run. A run is lost only when the pod of its agent is gone by a live GET, or its node has no agent.

use crate::context::Context;
use crate::error::{Doing, Error};
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, RunPhase};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use std::time::Duration;

/// How often a run's agent is looked after.
pub const AGENT_CHECK: Duration = Duration::from_secs(30);
/// A run that is younger is not looked after: most end before.
const YOUNG: chrono::Duration = chrono::Duration::seconds(20);
/// How long a run may stay untaken on a node that has no agent.
const UNTAKEN: chrono::Duration = chrono::Duration::seconds(60);

/// Why the run, begun at `since`, is lost; `None`: it is not.
pub async fn check(
    ctx: &Context,
    since: Option<DateTime<Utc>>,
    run: &BorgRun,
    now: DateTime<Utc>,
) -> Result<Option<(Reason, String)>, Error> {
    let age = since.map(|since| now - since).unwrap_or_default();
    if age < YOUNG {
        return Ok(None);
    }
    let status = run.status.clone().unwrap_or_default();
    let Some(agent) = status.agent.filter(|_| status.phase != RunPhase::Pending) else {
        let none = !ctx.has_agent(&run.spec.node);
        return Ok((none && age > UNTAKEN).then(|| (Reason::AgentNotFound, format!("no agent runs on node {}", run.spec.node))));
    };
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), &ctx.config.namespace);
    let found = pods.get_opt(&agent.pod).await.doing("looking for the agent's pod")?;
    let gone = found.and_then(|p| p.uid()).as_deref() != Some(agent.uid.as_str());
    Ok(gone.then(|| (Reason::Interrupted, format!("the agent's pod {} is gone", agent.pod))))
}
