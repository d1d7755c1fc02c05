//! What stands in each Repository's status: whether anything in the specs is against using it. Secrets are the agents' to read.

use super::breaker::Parked;
use super::record::Record;
use super::{Subject, fill};
use crate::context::Context;
use borgherd_api::Reason;
use borgherd_api::crd::{Repository, RepositoryStatus};
use kube::api::{Api, Patch, PatchParams};
use kube::{Error, ResourceExt};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;

/// Looked at again after this, though nothing was heard.
const RESYNC: Duration = Duration::from_mins(10);
/// Before the next try after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the status of every Repository true; ends only with the process.
pub async fn keep(ctx: &Context) -> Infallible {
    loop {
        let wait = match write(ctx).await {
            Ok(()) => RESYNC,
            Err(error) => {
                warn!(%error, "could not write the status of the Repositories; trying again");
                RETRY
            }
        };
        let heard = timeout(wait, ctx.touch.repositories.notified()).await;
        tracing::trace!(heard = heard.is_ok(), "looking at the Repositories");
    }
}

async fn write(ctx: &Context) -> Result<(), Error> {
    let all = ctx.stores.repositories.state();
    let records: Vec<Record> = ctx.stores.records.state().iter().map(|map| Record::of((**map).clone())).collect();
    let api: Api<Repository> = Api::all(ctx.client.clone());
    for repository in &all {
        let name = repository.name_any();
        let found = Found { damage: damage(&records, &name), parked: ctx.breakers.parked(&name) };
        let status = judge(repository, &all, &ctx.cluster_uid, found);
        if repository.status.as_ref() == Some(&status) {
            continue;
        }
        // A merge: what is not wrong any more must be taken out by null.
        let patch = json!({"status": {"ready": status.ready, "reason": status.reason, "message": status.message, "parkedSince": status.parked_since}});
        match api.patch_status(&repository.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {}
            Err(Error::Api(answer)) if answer.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What damage was found in the places of a Repository.
fn damage(records: &[Record], repository: &str) -> Option<String> {
    let mut found: Vec<&str> =
        records.iter().filter(|r| r.damaged_repository() == Some(repository)).filter_map(|r| Some(r.damage()?.1)).collect();
    found.sort_unstable();
    let more = found.len().saturating_sub(1);
    found.first().map(|first| if more == 0 { (*first).to_owned() } else { format!("{first}; and {more} more of its Borg repositories") })
}

/// What was found out about a Repository beside its spec.
#[derive(Default)]
struct Found {
    damage: Option<String>,
    parked: Option<Parked>,
}

/// The status of one among all.
fn judge(repository: &Repository, all: &[Arc<Repository>], cluster: &str, found: Found) -> RepositoryStatus {
    let Found { damage, parked } = found;
    let parked_since = parked.as_ref().map(|parked| parked.since);
    let mut defaults: Vec<_> = all.iter().filter(|r| r.spec.default).map(|r| r.name_any()).collect();
    defaults.sort();
    let example = Subject { cluster, namespace: "namespace", pvc: "pvc" };
    let problem = match fill(&repository.spec.location, example) {
        Err(unusable) => Some((unusable.reason, unusable.message)),
        Ok(_) if repository.spec.default && defaults.len() > 1 => {
            let message = format!("more than one Repository is marked default: {}; leave spec.default on one", defaults.join(", "));
            Some((Reason::RepositoryAmbiguous, message))
        }
        Ok(_) => damage.map(|what| (Reason::RepositoryCorrupted, what)).or(parked.map(|parked| (parked.reason, parked.message))),
    };
    let (reason, message) = problem.unzip();
    RepositoryStatus { ready: reason.is_none(), reason, message, parked_since }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgherd_api::crd::{Encryption, RepositorySpec};

    fn repository(name: &str, location: &str, default: bool) -> Arc<Repository> {
        let spec = RepositorySpec {
            location: location.into(),
            secret_ref: "s".into(),
            default,
            encryption: Encryption::default(),
            max_concurrent: None,
            rate_limit: None,
            append_only: false,
            check: None,
            namespaces: vec![],
        };
        Arc::new(Repository::new(name, spec))
    }

    #[test]
    fn two_defaults_name_each_other_and_a_third_is_ready() {
        let all = [repository("a", "ssh://a/./x", true), repository("b", "ssh://b/./x", true), repository("c", "ssh://c/./x", false)];
        let judged: Vec<_> = all.iter().map(|r| judge(r, &all, "c", Found::default())).collect();
        assert_eq!(
            judged.iter().map(|s| s.reason).collect::<Vec<_>>(),
            [Some(Reason::RepositoryAmbiguous), Some(Reason::RepositoryAmbiguous), None]
        );
        assert!(judged.iter().take(2).all(|s| s.message.as_deref().is_some_and(|m| m.contains("a, b"))));
        assert!(judged.iter().map(|s| s.ready).eq([false, false, true]));
    }

    #[test]
    fn an_unknown_placeholder_is_told_before_anything_uses_it() {
        let all = [repository("a", "ssh://a/./{volume}", false)];
        assert_eq!(judge(&all[0], &all, "c", Found::default()).reason, Some(Reason::Invalid));
    }
}
