//! One active controller by Lease. The lease is no fence (borg's own lock is): it only keeps two from doing the same work.
//!
//! Invariant: `acquire` returns only while nobody else's lease is fresh, as measured by *our* clock since we saw it change;
//! once `keep` returns, this process must end.

use crate::config::Config;
use borgherd_api::names::LEADER_LEASE;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// How long a lease is respected after its last renewal.
pub const DURATION: Duration = Duration::from_secs(15);
/// After this long without a renewal we stop by ourselves, before others may begin.
pub const GIVE_UP: Duration = Duration::from_secs(12);
/// How often it is renewed, and looked at by those who wait.
pub const RENEWAL: Duration = Duration::from_secs(3);

/// The Lease and who we are in it.
pub struct Leader {
    leases: Api<Lease>,
    identity: String,
}

/// What an attempt to hold the lease found.
enum Attempt {
    Held,
    Other { holder: String, version: String },
}

impl Leader {
    /// Prepares; asks for nothing yet.
    pub fn new(client: Client, config: &Config) -> Self {
        Self { leases: Api::namespaced(client, &config.namespace), identity: config.identity.clone() }
    }

    /// Waits until this process holds the lease.
    pub async fn acquire(&self) {
        let mut seen: Option<(String, Instant)> = None;
        loop {
            let stale = seen.as_ref().is_some_and(|(_, since)| since.elapsed() > DURATION);
            match timeout(RENEWAL, self.attempt(stale)).await {
                Ok(Ok(Attempt::Held)) => {
                    info!(identity = self.identity, "leading");
                    return;
                }
                Ok(Ok(Attempt::Other { holder, version })) => {
                    if seen.as_ref().is_none_or(|(v, _)| *v != version) {
                        info!(holder, "another controller leads; waiting");
                        seen = Some((version, Instant::now()));
                    }
                }
                Ok(Err(error)) => warn!(%error, "could not take the leader's lease"),
                Err(_) => warn!("no answer from the API server about the leader's lease"),
            }
            sleep(RENEWAL / 3).await;
        }
    }

    /// Renews until the lease is lost; whoever awaits this must then end the process.
    pub async fn keep(&self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < GIVE_UP {
            sleep(RENEWAL).await;
            match timeout(RENEWAL, self.attempt(false)).await {
                Ok(Ok(Attempt::Held)) => renewed = Instant::now(),
                Ok(Ok(Attempt::Other { holder, .. })) => {
                    warn!(holder, "another controller has taken the lease");
                    return;
                }
                Ok(Err(error)) => warn!(%error, "could not renew the leader's lease"),
                Err(_) => warn!("no answer from the API server about the leader's lease"),
            }
        }
        warn!("the leader's lease could not be renewed in time");
    }

    /// Gives the lease up, so that a successor need not wait for it to run out.
    pub async fn release(&self) {
        let Ok(Ok(Some(mut lease))) = timeout(RENEWAL, self.leases.get_opt(LEADER_LEASE)).await else {
            return;
        };
        let Some(spec) = lease.spec.as_mut() else { return };
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = None;
            if let Err(error) = self.leases.replace(LEADER_LEASE, &PostParams::default(), &lease).await {
                warn!(%error, "could not give the leader's lease up");
            }
        }
    }

    async fn attempt(&self, take_over: bool) -> Result<Attempt, Error> {
        let params = PostParams::default();
        let Some(mut lease) = self.leases.get_opt(LEADER_LEASE).await? else {
            let lease =
                Lease { metadata: ObjectMeta { name: Some(LEADER_LEASE.into()), ..ObjectMeta::default() }, spec: Some(self.spec(0)) };
            return self.leases.create(&params, &lease).await.map(|_| Attempt::Held).or_else(lost_race);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or(0);
        if holder == self.identity {
            lease.spec = Some(LeaseSpec { acquire_time: spec.acquire_time, ..self.spec(transitions) });
        } else if holder.is_empty() || take_over {
            lease.spec = Some(self.spec(transitions + 1));
        } else {
            return Ok(Attempt::Other { holder, version: lease.metadata.resource_version.unwrap_or_default() });
        }
        self.leases.replace(LEADER_LEASE, &params, &lease).await.map(|_| Attempt::Held).or_else(lost_race)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        #[allow(clippy::disallowed_methods, reason = "the wall clock is written for people; decisions use Instant")]
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

fn lost_race(error: Error) -> Result<Attempt, Error> {
    if matches!(&error, Error::Api(status) if status.code == 409) {
        return Ok(Attempt::Other { holder: "unknown".into(), version: String::new() });
    }
    Err(error)
}
