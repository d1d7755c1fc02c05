//! Which Repository a volume goes to, and what is known of the place it names.
//!
//! Invariant: a Borg repository is only ever created where no record says that one has held an archive.

pub mod breaker;
pub mod damage;
pub mod declared;
pub mod reading;
pub mod record;
pub mod status;
pub mod tried;

use borgherd_api::Reason;
use borgherd_api::crd::{Repository, RepositorySpec};
pub use borgherd_api::repository::Unusable;
use kube::ResourceExt;
use std::sync::Arc;

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

/// The Repository for `subject`, which names `wanted` or nothing, and its place there.
pub fn choose(all: &[Arc<Repository>], wanted: Option<&str>, subject: Subject<'_>) -> Result<Chosen, Unusable> {
    let repository = borgherd_api::repository::choose(all, wanted, subject.namespace)?;
    let location = fill(&repository.spec.location, subject)?;
    Ok(Chosen { name: repository.name_any(), location, spec: repository.spec.clone() })
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
            check: None,
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
}
