//! `accept PVC TOKEN…`: writes what a person has accepted about the archives of a PVC beside what was accepted before.

use crate::args;
use crate::errors::Failure;
use crate::session::Session;
use crate::status::missing;
use borgherd_api::names::ACCEPT;
use borgherd_api::retention::Accepted;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use serde_json::json;

/// Runs `accept`.
pub(crate) async fn run(session: &Session, args: &args::Accept) -> Result<(), Failure> {
    let namespace = &session.namespace;
    let found = session.find::<PersistentVolumeClaim>(namespace, &args.pvc).await?;
    let claim = found.ok_or_else(|| missing(namespace, &args.pvc))?;
    let before = claim.annotations().get(ACCEPT).map(String::as_str).unwrap_or_default();
    let all = join(before, &args.tokens);
    let patch = json!({"metadata": {"annotations": {ACCEPT: all}, "resourceVersion": claim.resource_version()}});
    let changed = session.patch::<PersistentVolumeClaim>(namespace, &args.pvc, &patch).await?;
    session.screen.show(&changed, || format!("accepted for {namespace}/{}: {}\n", args.pvc, args.tokens.join(", ")))
}

/// The tokens that stand there and those that are new.
fn join(before: &str, new: &[String]) -> String {
    let mut all: Vec<&str> = before.split(',').map(str::trim).filter(|token| !token.is_empty()).collect();
    for token in new {
        if !all.contains(&token.as_str()) {
            all.push(token);
        }
    }
    all.join(",")
}

/// One token; anything that would allow nothing is refused.
pub(crate) fn token(text: &str) -> Result<String, String> {
    if text.contains(',') || Accepted::parse(text) == Accepted::default() {
        return Err("is no token; take it as the Event or the message gives it, such as prune:2026-11-21T10-00-00Z".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_stays_and_nothing_stands_there_twice() {
        let new = ["foreign:a", "prune:x"].map(str::to_owned);
        assert_eq!(join("", &new), "foreign:a,prune:x");
        assert_eq!(join(" foreign:a, suspect:y ,", &new), "foreign:a,suspect:y,prune:x");
    }

    #[test]
    fn what_would_allow_nothing_is_no_token() {
        for good in ["foreign:0a1b", "prune:2026-11-21T10-00-00Z", "suspect:2026-11-21T10-00-00Z"] {
            assert!(token(good).is_ok(), "{good}");
        }
        for bad in ["", "yes", "prune:today", "foreign:", "foreign:a,foreign:b"] {
            assert!(token(bad).is_err(), "{bad}");
        }
    }
}
