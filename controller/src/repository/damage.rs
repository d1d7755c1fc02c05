//! Borg has found damage at a place: the one way to record it, whoever met it, and to tell people.
//!
//! Invariant: it stands in the record before anything else is done about it, so that nothing is deleted there from then on.

use super::record;
use crate::context::Context;
use crate::events;
use borgherd_api::Reason;
use borgherd_api::crd::RunRepository;
use kube::api::Api;
use kube::{Error, ResourceExt};
use tracing::warn;

/// Records damage that was found at a place by work for a PVC (namespace, name); what was not known is told at the Repository and the PVC.
/// Nothing is recorded where nothing has been archived yet.
pub async fn found(ctx: &Context, at: &RunRepository, (namespace, pvc): (&str, &str), message: &str) -> Result<(), Error> {
    let records = Api::namespaced(ctx.client.clone(), &ctx.config.namespace);
    if !record::damaged(&records, &at.location, &at.name, message, (ctx.clock)()).await? {
        return Ok(());
    }
    ctx.touch.repositories.notify_one();
    ctx.touch.maintenance.notify_one();
    warn!(repository = at.name, location = at.location, namespace, pvc, message, "damage was found");
    let word = Reason::RepositoryCorrupted.to_string();
    let note = format!("{message}; nothing is pruned or compacted there until it is repaired and accepted");
    let repositories = ctx.stores.repositories.state();
    if let Some(repository) = repositories.iter().find(|repository| repository.name_any() == at.name) {
        ctx.events.warning(&events::about(&**repository), "FindDamage", &word, &note).await;
    }
    let uid = ctx.world().spaces.get(namespace).and_then(|space| space.claims.get(pvc)).map(|claim| claim.uid.clone());
    ctx.events.warning(&events::pvc(namespace, pvc, uid.as_deref()), "FindDamage", &word, &format!("{pvc}: {note}")).await;
    Ok(())
}
