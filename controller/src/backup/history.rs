//! Ended Backups and Restores are kept for a while: the newest success and the newest failure of each group, and the last few.
//!
//! Only accounts are deleted here, never a snapshot or an archive.

use crate::config::Config;
use crate::context::Context;
use borgherd_api::crd::{Backup, BackupPhase, Restore};
use borgherd_api::time::created;
use chrono::{DateTime, Utc};
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use kube::{Resource, ResourceExt};
use std::collections::HashMap;

/// Whoever asked for a preview has read it by then, or is gone.
const LOOK: chrono::Duration = chrono::Duration::hours(1);

/// Which of these ended Backups of one group may go: neither among the newest `count`, nor young, nor the newest of its kind.
fn expired<'a>(backups: &mut [&'a Backup], config: &Config, now: DateTime<Utc>) -> Vec<&'a Backup> {
    backups.sort_by_key(|b| std::cmp::Reverse(created(*b)));
    let phase = |b: &Backup| b.status.as_ref().map(|s| s.phase).unwrap_or_default();
    let newest_success = backups.iter().position(|b| phase(b) == BackupPhase::Succeeded);
    let newest_failure = backups.iter().position(|b| matches!(phase(b), BackupPhase::Failed | BackupPhase::PartiallyFailed));
    let old = now - chrono::Duration::from_std(config.history_age).unwrap_or_default();
    let goes = |(i, b): &(usize, &&'a Backup)| {
        let beyond = *i >= config.history_count || created(**b).is_some_and(|at| at < old);
        beyond && Some(*i) != newest_success && Some(*i) != newest_failure
    };
    backups.iter().enumerate().filter(goes).map(|(_, b)| *b).collect()
}

/// Deletes what has expired, by a complete live listing.
pub async fn sweep(ctx: &Context) -> Result<usize, kube::Error> {
    let now = (ctx.clock)();
    let backups: Vec<Backup> = Api::all(ctx.client.clone()).list(&ListParams::default()).await?.items;
    let mut groups: HashMap<(String, Vec<String>), Vec<&Backup>> = HashMap::new();
    for backup in backups.iter().filter(|b| b.status.as_ref().is_some_and(|s| s.phase.is_final())) {
        groups.entry((backup.namespace().unwrap_or_default(), backup.spec.volumes.clone())).or_default().push(backup);
    }
    let mut deleted = 0;
    for group in groups.values_mut() {
        for backup in expired(group, &ctx.config, now) {
            delete(ctx, backup).await?;
            deleted += 1;
        }
    }
    let old = now - chrono::Duration::from_std(ctx.config.history_age).unwrap_or_default();
    let restores: Vec<Restore> = Api::all(ctx.client.clone()).list(&ListParams::default()).await?.items;
    let over = |r: &&Restore| {
        let before = if r.spec.preview { old.max(now - LOOK) } else { old };
        r.status.as_ref().is_some_and(|s| s.phase.is_final() && s.finished_at.is_some_and(|at| at < before))
    };
    for restore in restores.iter().filter(over) {
        delete(ctx, restore).await?;
        deleted += 1;
    }
    Ok(deleted)
}

async fn delete<K>(ctx: &Context, object: &K) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let params = DeleteParams::default().preconditions(Preconditions { uid: object.uid(), resource_version: None });
    match api.delete(&object.name_any(), &params).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(|_| ()),
    }
}
