//! The Repositories that the chart's values declare: written here while this process leads.
//!
//! Why not by the chart: Helm resolves every kind before it creates anything, so an object of a kind that the same install brings cannot
//! be in it; and `kubectl apply` and Argo CD stumble too. Written from here they are there after any way of installing.
//! Invariant: what is not labelled as declared is never deleted, and deleting a Repository deletes no data.

use borgherd_api::crd::{Repository, RepositorySpec};
use borgherd_api::names::COMPONENT;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Client, Error, ResourceExt};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// Value of the label [`COMPONENT`] of what was declared.
const DECLARED: &str = "declared-repository";
/// Field manager of these writes: a field that is no longer declared goes.
const MANAGER: &str = "borgherd-chart";
/// How often they are compared: a change by hand does not stay.
const INTERVAL: Duration = Duration::from_mins(10);
/// Before the next try after a failure: the custom resource definitions may be a moment younger than this process.
const RETRY: Duration = Duration::from_secs(2);
/// For one comparison with all its writes.
const DEADLINE: Duration = Duration::from_secs(30);

/// One entry of the chart's `BORGHERD_REPOSITORIES`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Name of the Repository.
    pub name: String,
    /// All of its spec.
    pub spec: RepositorySpec,
}

/// One write that makes the cluster as declared.
#[derive(Clone, Debug, PartialEq)]
enum Write {
    Apply(Declared),
    Delete { name: String, uid: Option<String> },
}

/// Keeps the cluster as declared; ends only with the process. What is wrong with one does not keep the others from being written.
pub async fn keep(client: Client, declared: Vec<Declared>) -> Infallible {
    let api: Api<Repository> = Api::all(client);
    loop {
        let pause = match timeout(DEADLINE, bring(&api, &declared)).await {
            Ok(Ok(())) => INTERVAL,
            Ok(Err(error)) => {
                warn!(%error, "could not write the Repositories of the chart's values; trying again");
                RETRY
            }
            Err(_) => {
                warn!("no answer from the API server about the Repositories of the chart's values; trying again");
                RETRY
            }
        };
        sleep(pause).await;
    }
}

async fn bring(api: &Api<Repository>, declared: &[Declared]) -> Result<(), Error> {
    let there = api.list(&ListParams::default()).await?.items;
    let mut outcome = Ok(());
    for write in plan(declared, &there) {
        match carry_out(api, &write).await {
            Ok(()) => info!(?write, "made a Repository what the chart's values say"),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

fn plan(declared: &[Declared], there: &[Repository]) -> Vec<Write> {
    let names: HashSet<&str> = declared.iter().map(|one| one.name.as_str()).collect();
    let same = |one: &&Declared| there.iter().any(|r| r.name_any() == one.name && is_declared(r) && r.spec == one.spec);
    let applied = declared.iter().filter(|one| !same(one)).cloned().map(Write::Apply);
    let gone = there.iter().filter(|r| is_declared(r) && !names.contains(r.name_any().as_str()));
    applied.chain(gone.map(|r| Write::Delete { name: r.name_any(), uid: r.uid() })).collect()
}

fn is_declared(repository: &Repository) -> bool {
    repository.labels().get(COMPONENT).is_some_and(|value| value == DECLARED)
}

async fn carry_out(api: &Api<Repository>, write: &Write) -> Result<(), Error> {
    match write {
        Write::Apply(Declared { name, spec }) => {
            let object = json!({
                "apiVersion": "borgherd.dev/v1alpha1",
                "kind": "Repository",
                "metadata": {"name": name, "labels": {COMPONENT: DECLARED}},
                "spec": spec,
            });
            api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await.map(|_| ())
        }
        Write::Delete { name, uid } => {
            let same = Preconditions { uid: uid.clone(), ..Preconditions::default() };
            api.delete(name, &DeleteParams::default().preconditions(same)).await.map(|_| ())
        }
    }
}

/// Reads the value of `BORGHERD_REPOSITORIES`.
///
/// # Errors
/// When it is not a JSON list of names with specs.
pub fn parse(text: &str) -> Result<Vec<Declared>, String> {
    serde_json::from_str(text).map_err(|e| format!("not a JSON list of Repositories, each with name and spec: {e}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const VALUES: &str = r#"[{"name":"nas","spec":{"default":true,"location":"ssh://u@h/./{pvc}","secretRef":"nas","maxConcurrent":2}},
        {"name":"in-cluster","spec":{"default":false,"location":"ssh://borg@s:2222/./{pvc}","secretRef":"borgherd-server"}}]"#;

    fn there(one: &Declared, labelled: bool) -> Repository {
        let mut repository = Repository::new(&one.name, one.spec.clone());
        repository.metadata.uid = Some(format!("uid-{}", one.name));
        if labelled {
            repository.labels_mut().insert(COMPONENT.into(), DECLARED.into());
        }
        repository
    }

    #[test]
    fn what_is_as_declared_is_left_alone_and_the_rest_written() {
        let declared = parse(VALUES).unwrap();
        assert_eq!(plan(&declared, &[]), [Write::Apply(declared[0].clone()), Write::Apply(declared[1].clone())]);
        let mut found = [there(&declared[0], true), there(&declared[1], true)];
        assert_eq!(plan(&declared, &found), []);
        found[1].spec.default = true;
        assert_eq!(plan(&declared, &found), [Write::Apply(declared[1].clone())]);
    }

    #[test]
    fn only_what_was_declared_is_deleted() {
        let declared = parse(VALUES).unwrap();
        let found = [there(&declared[0], true), there(&declared[1], false)];
        assert_eq!(plan(&[], &found), [Write::Delete { name: "nas".into(), uid: Some("uid-nas".into()) }]);
    }

    #[test]
    fn a_value_that_cannot_be_is_named() {
        for (text, why) in [("{}", "expected a sequence"), (r#"[{"name":"x"}]"#, "spec"), (r#"[{"name":"x","spec":{}}]"#, "location")] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
