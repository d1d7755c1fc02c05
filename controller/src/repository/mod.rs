//! Which Repository a volume goes to, and what is known of the place it names.
//!
//! Invariant: a Borg repository is only ever created where no record says that one has held an archive.

pub mod declared;
pub mod record;
pub mod status;

use borgherd_api::Reason;
use borgherd_api::crd::{Repository, RepositorySpec};
use kube::ResourceExt;
use std::sync::Arc;

/// Why no Repository can be used, as it stands in the status.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Unusable {
    /// The bounded reason.
    pub reason: Reason,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A Repository and the place in it for one volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Name of the Repository.
    pub name: String,
    /// Its location with the placeholders filled in.
    pub location: String,
    /// The rest of it.
    pub spec: RepositorySpec,
}

/// Whose place is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// UID of the cluster.
    pub cluster: &'a str,
    /// Namespace of the PVC.
    pub namespace: &'a str,
    /// Name of the PVC.
    pub pvc: &'a str,
}

/// The Repository named, or the one marked default.
pub fn choose(all: &[Arc<Repository>], wanted: Option<&str>, subject: Subject<'_>) -> Result<Chosen, Unusable> {
    let repository = match wanted {
        Some(name) => all.iter().find(|r| r.name_any() == name).ok_or_else(|| not_found(name, all))?,
        None => default(all)?,
    };
    let allowed = &repository.spec.namespaces;
    if !allowed.is_empty() && !allowed.iter().any(|n| n == subject.namespace) {
        return Err(Unusable {
            reason: Reason::RepositoryNotAllowed,
            message: format!(
                "Repository {} may not be used from namespace {}; its spec.namespaces lists who may",
                repository.name_any(),
                subject.namespace
            ),
        });
    }
    let location = fill(&repository.spec.location, subject)?;
    Ok(Chosen { name: repository.name_any(), location, spec: repository.spec.clone() })
}

fn not_found(name: &str, all: &[Arc<Repository>]) -> Unusable {
    let mut names: Vec<_> = all.iter().map(|r| r.name_any()).collect();
    names.sort();
    let there = if names.is_empty() { "there is none".to_owned() } else { format!("there are: {}", names.join(", ")) };
    Unusable {
        reason: Reason::RepositoryNotFound,
        message: format!("there is no Repository {name}; {there}; make it, or name another in the annotation borgherd.dev/repository"),
    }
}

fn default(all: &[Arc<Repository>]) -> Result<&Arc<Repository>, Unusable> {
    let mut defaults: Vec<_> = all.iter().filter(|r| r.spec.default).collect();
    defaults.sort_by_key(|r| r.name_any());
    match defaults.as_slice() {
        [one] => Ok(one),
        [] => Err(Unusable {
            reason: Reason::RepositoryNotFound,
            message: "no Repository is marked default; set spec.default on one, or name one in the annotation borgherd.dev/repository"
                .into(),
        }),
        several => Err(Unusable {
            reason: Reason::RepositoryAmbiguous,
            message: format!(
                "more than one Repository is marked default: {}; leave spec.default on one",
                several.iter().map(|r| r.name_any()).collect::<Vec<_>>().join(", ")
            ),
        }),
    }
}

/// The location with `{cluster}`, `{namespace}` and `{pvc}` filled in; any other placeholder is an error.
fn fill(template: &str, subject: Subject<'_>) -> Result<String, Unusable> {
    let Subject { cluster, namespace, pvc } = subject;
    let location = template.replace("{cluster}", cluster).replace("{namespace}", namespace).replace("{pvc}", pvc);
    if location.contains(['{', '}']) {
        return Err(Unusable {
            reason: Reason::Invalid,
            message: format!("location {template} has a placeholder that is not {{cluster}}, {{namespace}} or {{pvc}}"),
        });
    }
    Ok(location)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn repository(name: &str, default: bool, namespaces: &[&str]) -> Arc<Repository> {
        let spec = RepositorySpec {
            location: "ssh://borg@nas/./{cluster}/{namespace}/{pvc}".into(),
            secret_ref: "s".into(),
            default,
            encryption: borgherd_api::crd::Encryption::default(),
            max_concurrent: None,
            rate_limit: None,
            append_only: false,
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
        };
        Arc::new(Repository::new(name, spec))
    }

    const SUBJECT: Subject<'static> = Subject { cluster: "c", namespace: "shop", pvc: "db" };

    #[test]
    fn the_default_is_used_and_the_location_filled_in() {
        let all = [repository("a", false, &[]), repository("b", true, &[])];
        let chosen = choose(&all, None, SUBJECT).unwrap();
        assert_eq!((chosen.name.as_str(), chosen.location.as_str()), ("b", "ssh://borg@nas/./c/shop/db"));
    }

    #[test]
    fn each_way_of_having_none_has_its_reason() {
        let two = [repository("a", true, &[]), repository("b", true, &[])];
        let denied = [repository("a", true, &["other"])];
        let cases = [
            (two.as_slice(), None, Reason::RepositoryAmbiguous, "a, b"),
            (&[], None, Reason::RepositoryNotFound, "no Repository is marked default"),
            (two.as_slice(), Some("x"), Reason::RepositoryNotFound, "there are: a, b"),
            (denied.as_slice(), None, Reason::RepositoryNotAllowed, "shop"),
        ];
        for (all, wanted, reason, words) in cases {
            let error = choose(all, wanted, SUBJECT).unwrap_err();
            assert_eq!(error.reason, reason);
            assert!(error.message.contains(words), "{}", error.message);
        }
    }
}
