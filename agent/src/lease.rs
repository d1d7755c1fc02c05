//! The Lease by which the controller knows that this node's agent lives, how many slots it has and which pod it is.
//!
//! It has no owner: an owned Lease would go with the agent's pod while the next pod already renews it, and the Node, which would be
//! the right owner, is not the agent's to read. What is left of a removed node is an expired Lease, which means the same as none.
//!
//! Invariant: one field manager applies the whole Lease each time, so a deleted or damaged one is whole again at the next renewal.

use borgherd_api::{crd::AgentRef, names};
use borgherd_runtime::refusal::words;
use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often it is renewed.
pub const EVERY: Duration = Duration::from_secs(10);
/// How long it counts after a renewal.
pub const DURATION: Duration = Duration::from_secs(40);
const REQUEST: Duration = Duration::from_secs(5);

/// Why it was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The API server refuses, or cannot be reached.
    #[error("renewing the Lease: {}", words(.0))]
    Api(#[from] kube::Error),
    /// No answer.
    #[error("renewing the Lease: no answer within {} s", REQUEST.as_secs())]
    Timeout,
}

/// What stands in the Lease.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Name of the node.
    pub node: String,
    /// This process.
    pub agent: AgentRef,
    /// Slots of the node.
    pub slots: usize,
    /// When this process took it.
    pub since: DateTime<Utc>,
}

/// The Lease of `claim`, renewed at `now`.
pub fn lease(claim: &Claim, now: DateTime<Utc>) -> Lease {
    let Claim { node, agent: AgentRef { pod, uid, instance }, slots, since } = claim;
    let annotations = [
        (names::SLOTS, slots.to_string()),
        (names::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        (names::AGENT_POD, pod.clone()),
        (names::AGENT_POD_UID, uid.clone()),
    ];
    Lease {
        metadata: ObjectMeta {
            name: Some(names::agent_lease(node)),
            labels: Some(BTreeMap::from([(names::COMPONENT.to_owned(), "agent".to_owned())])),
            annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(format!("{pod}/{instance}")),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: micro(*since),
            renew_time: micro(now),
            ..LeaseSpec::default()
        }),
    }
}

/// Write it once.
pub async fn renew(api: &Api<Lease>, claim: &Claim, now: DateTime<Utc>) -> Result<(), LeaseError> {
    let params = PatchParams::apply(names::AGENT).force();
    let wanted = lease(claim, now);
    let name = names::agent_lease(&claim.node);
    let patch = Patch::Apply(&wanted);
    let write = api.patch(&name, &params, &patch);
    tokio::time::timeout(REQUEST, write).await.map_err(|_| LeaseError::Timeout)??;
    Ok(())
}

fn micro(at: DateTime<Utc>) -> Option<MicroTime> {
    k8s_openapi::jiff::Timestamp::from_microsecond(at.timestamp_micros()).ok().map(MicroTime)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn it_says_what_the_controller_reads() {
        let at: DateTime<Utc> = "2026-11-21T10:00:00.123456Z".parse().unwrap();
        let claim = Claim {
            node: "n1".to_owned(),
            agent: AgentRef { pod: "agent-x".to_owned(), uid: "u".to_owned(), instance: "i".to_owned() },
            slots: 3,
            since: at,
        };
        let json = serde_json::to_value(lease(&claim, at)).unwrap();
        assert_eq!(json["metadata"]["name"], "agent-n1");
        assert_eq!(json["metadata"]["labels"][names::COMPONENT], "agent");
        assert_eq!(json["metadata"]["annotations"][names::SLOTS], "3");
        assert_eq!(json["metadata"]["annotations"][names::AGENT_POD_UID], "u");
        assert_eq!(json["metadata"]["annotations"][names::AGENT_POD], "agent-x");
        assert_eq!(json["spec"]["renewTime"], "2026-11-21T10:00:00.123456Z");
        assert_eq!(json["spec"]["leaseDurationSeconds"], 40);
    }
}
