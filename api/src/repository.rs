//! Which Repository a PVC is archived to: the one it names, else the one marked default.

use crate::Reason;
use crate::crd::Repository;
use kube::ResourceExt;
use std::borrow::Borrow;

/// Why no Repository can be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Unusable {
    /// The bounded reason.
    pub reason: Reason,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The Repository of `all` for a PVC of `namespace` that names `wanted`, or nothing.
pub fn choose<'a, R: Borrow<Repository>>(all: &'a [R], wanted: Option<&str>, namespace: &str) -> Result<&'a Repository, Unusable> {
    let found = match wanted {
        Some(name) => all.iter().map(Borrow::borrow).find(|r| r.name_any() == name).ok_or_else(|| not_found(name, all))?,
        None => default(all)?,
    };
    let allowed = &found.spec.namespaces;
    if allowed.is_empty() || allowed.iter().any(|n| n == namespace) {
        return Ok(found);
    }
    let name = found.name_any();
    let message = format!("Repository {name} may not be used from namespace {namespace}; its spec.namespaces lists who may");
    Err(Unusable { reason: Reason::RepositoryNotAllowed, message })
}

fn names<'a>(repositories: impl Iterator<Item = &'a Repository>) -> Vec<String> {
    let mut names: Vec<String> = repositories.map(ResourceExt::name_any).collect();
    names.sort();
    names
}

fn not_found<R: Borrow<Repository>>(name: &str, all: &[R]) -> Unusable {
    let names = names(all.iter().map(Borrow::borrow));
    let there = if names.is_empty() { "there is none".to_owned() } else { format!("there are: {}", names.join(", ")) };
    let message = format!("there is no Repository {name}; {there}; make it, or name another in the annotation borgherd.dev/repository");
    Unusable { reason: Reason::RepositoryNotFound, message }
}

fn default<R: Borrow<Repository>>(all: &[R]) -> Result<&Repository, Unusable> {
    let marked: Vec<&Repository> = all.iter().map(Borrow::borrow).filter(|r| r.spec.default).collect();
    let (reason, message) = match marked[..] {
        [one] => return Ok(one),
        [] => {
            let right = "set spec.default on one, or name one in the annotation borgherd.dev/repository";
            (Reason::RepositoryNotFound, format!("no Repository is marked default; {right}"))
        }
        _ => {
            let names = names(marked.into_iter()).join(", ");
            (Reason::RepositoryAmbiguous, format!("more than one Repository is marked default: {names}; leave spec.default on one"))
        }
    };
    Err(Unusable { reason, message })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::sync::Arc;

    fn repository(name: &str, default: bool, namespaces: &[&str]) -> Arc<Repository> {
        let spec = serde_json::json!({ "location": "ssh://nas/./{pvc}", "secretRef": "s", "default": default, "namespaces": namespaces });
        Arc::new(Repository::new(name, serde_json::from_value(spec).unwrap()))
    }

    #[test]
    fn by_name_or_the_one_default_if_the_namespace_may() {
        let (nas, cloud, shop) = (repository("nas", true, &[]), repository("cloud", true, &[]), repository("shop", false, &["shop"]));
        let two = [nas.clone(), cloud.clone()];
        for (all, wanted, expected) in [
            (&[nas.clone(), shop.clone()][..], None, Ok("nas")),
            (&two, Some("cloud"), Ok("cloud")),
            (&two, None, Err((Reason::RepositoryAmbiguous, "default: cloud, nas; leave"))),
            (std::slice::from_ref(&shop), None, Err((Reason::RepositoryNotFound, "no Repository is marked default; set"))),
            (&two, Some("tape"), Err((Reason::RepositoryNotFound, "no Repository tape; there are: cloud, nas; make it"))),
            (&[], Some("tape"), Err((Reason::RepositoryNotFound, "no Repository tape; there is none; make it"))),
            (&[nas.clone(), shop.clone()], Some("shop"), Err((Reason::RepositoryNotAllowed, "from namespace wiki; its spec.namespaces"))),
        ] {
            let chosen = choose(all, wanted, "wiki");
            let (name, words) = (expected.ok(), expected.err());
            assert_eq!(chosen.as_ref().ok().map(|r| r.name_any()).as_deref(), name, "{wanted:?}");
            assert_eq!(chosen.as_ref().err().map(|e| e.reason), words.map(|(reason, _)| reason), "{wanted:?}");
            assert!(chosen.err().is_none_or(|e| words.is_some_and(|(_, words)| e.message.contains(words))), "{wanted:?}");
        }
        assert_eq!(choose(&[shop], Some("shop"), "shop").unwrap().name_any(), "shop");
    }
}
