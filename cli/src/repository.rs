//! Which Repository a PVC is archived to, as far as can be told from outside: by name, else the one marked default.

use borgherd_api::Reason;
use borgherd_api::crd::Repository;
use kube::ResourceExt as _;

/// The Repository for a PVC of `namespace` that asks for `wanted`; else why there is none.
pub(crate) fn choose<'a>(all: &'a [Repository], wanted: Option<&str>, namespace: &str) -> Result<&'a Repository, (Reason, String)> {
    let found = match wanted {
        Some(name) => named(all, name)?,
        None => default(all)?,
    };
    let allowed = &found.spec.namespaces;
    if !allowed.is_empty() && !allowed.iter().any(|n| n == namespace) {
        let wrong = format!("Repository {} may not be used from namespace {namespace}", found.name_any());
        return Err((Reason::RepositoryNotAllowed, wrong));
    }
    Ok(found)
}

fn named<'a>(all: &'a [Repository], name: &str) -> Result<&'a Repository, (Reason, String)> {
    let found = all.iter().find(|r| r.name_any() == name);
    found.ok_or_else(|| {
        let known: Vec<String> = all.iter().map(Repository::name_any).collect();
        let known = if known.is_empty() { "there is none at all".to_owned() } else { format!("there are: {}", known.join(", ")) };
        (Reason::RepositoryNotFound, format!("there is no Repository {name}; {known}"))
    })
}

fn default(all: &[Repository]) -> Result<&Repository, (Reason, String)> {
    let marked: Vec<&Repository> = all.iter().filter(|r| r.spec.default).collect();
    match marked[..] {
        [only] => Ok(only),
        [] => Err((Reason::RepositoryNotFound, "no Repository is named, and none is marked default".to_owned())),
        _ => {
            let names: Vec<String> = marked.iter().map(|r| r.name_any()).collect();
            Err((Reason::RepositoryAmbiguous, format!("more than one Repository is marked default: {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use borgherd_api::crd::RepositorySpec;

    fn repository(name: &str, default: bool, namespaces: &[&str]) -> Repository {
        let spec = serde_json::json!({
            "location": "ssh://nas/./{pvc}", "secretRef": "s", "default": default, "namespaces": namespaces
        });
        Repository::new(name, serde_json::from_value::<RepositorySpec>(spec).unwrap())
    }

    #[test]
    fn by_name_or_the_one_default_if_the_namespace_may() {
        let (nas, cloud, shop) = (repository("nas", true, &[]), repository("cloud", true, &[]), repository("shop", false, &["shop"]));
        let chosen = |all: &[Repository], wanted| choose(all, wanted, "wiki").map(Repository::name_any).map_err(|(reason, _)| reason);
        for (all, wanted, expected) in [
            (vec![nas.clone(), shop.clone()], None, Ok("nas".to_owned())),
            (vec![nas.clone(), cloud.clone()], Some("cloud"), Ok("cloud".to_owned())),
            (vec![nas.clone(), cloud], None, Err(Reason::RepositoryAmbiguous)),
            (vec![shop.clone()], None, Err(Reason::RepositoryNotFound)),
            (vec![nas.clone()], Some("tape"), Err(Reason::RepositoryNotFound)),
            (vec![nas, shop], Some("shop"), Err(Reason::RepositoryNotAllowed)),
        ] {
            assert_eq!(chosen(&all, wanted), expected);
        }
    }
}
