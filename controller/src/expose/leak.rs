//! Leftovers: temporary objects whose Backup or Restore is gone or has ended. Looked for at start and on a timer.
//!
//! Works on complete live listings, never on caches; that an owner is gone is confirmed by a live GET.

use super::{Exposed, clean, twin};
use crate::context::Context;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, BorgRun, Restore};
use borgherd_api::names::{OWNER, OWNER_UID, TEMPORARY};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use std::collections::HashMap;
use tracing::{info, warn};

/// Looks once and issues the next step of every leftover's cleaning; how many leftovers there were.
pub async fn sweep(ctx: &Context) -> Result<usize, kube::Error> {
    let mut left = 0;
    for (key, exposed) in listing(ctx).await? {
        if key.owner.is_empty() || is_wanted(ctx, &key).await? {
            continue;
        }
        left += 1;
        info!(name = key.name, owner = key.owner, "cleaning up a leftover");
        match clean::step(ctx, &exposed).await {
            Ok(_) => {}
            Err(error) => warn!(name = key.name, %error, "could not clean up a leftover; trying again"),
        }
    }
    Ok(left)
}

/// What temporary objects are grouped by: each group is one volume of one owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    owner: String,
    uid: String,
}

async fn listing(ctx: &Context) -> Result<HashMap<Key, Exposed>, kube::Error> {
    let params = ListParams::default().labels(&format!("{TEMPORARY}=true"));
    let (client, volumes) = (&ctx.client, &ctx.config.volumes_namespace);
    let mut all: HashMap<Key, Exposed> = HashMap::new();
    for holder in Api::<Pod>::namespaced(client.clone(), volumes).list(&params).await? {
        let key = key(&holder, holder.name_any());
        all.entry(key).or_default().holder = Some(holder.into());
    }
    for claim in Api::<PersistentVolumeClaim>::namespaced(client.clone(), volumes).list(&params).await? {
        let key = key(&claim, claim.name_any());
        all.entry(key).or_default().claim = Some(claim.into());
    }
    for snapshot in Api::<VolumeSnapshot>::namespaced(client.clone(), volumes).list(&params).await? {
        let key = key(&snapshot, snapshot.name_any());
        all.entry(key).or_default().snapshot = Some(snapshot.into());
    }
    for content in Api::<VolumeSnapshotContent>::all(client.clone()).list(&params).await? {
        let key = key(&content, content.name_any());
        all.entry(key).or_default().content = Some(content.into());
    }
    for volume in Api::<PersistentVolume>::all(client.clone()).list(&params).await? {
        if twin::is_leaving(&volume) {
            continue;
        }
        let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).and_then(|c| c.name.clone()).unwrap_or_default();
        let key = key(&volume, claim);
        all.entry(key).or_default().volume = Some(volume.into());
    }
    for run in Api::<BorgRun>::namespaced(client.clone(), &ctx.config.namespace).list(&params).await? {
        // A run is named after its volume with the attempt behind it.
        let name = run.name_any().rsplit_once('-').map_or_else(|| run.name_any(), |(name, _)| name.to_owned());
        let key = key(&run, name);
        all.entry(key).or_default().run = Some(run.into());
    }
    Ok(all)
}

fn key(object: &impl ResourceExt, name: String) -> Key {
    Key {
        name,
        owner: object.annotations().get(OWNER).cloned().unwrap_or_default(),
        uid: object.labels().get(OWNER_UID).cloned().unwrap_or_default(),
    }
}

/// Whether the owner is there, is the same, and is not done.
async fn is_wanted(ctx: &Context, key: &Key) -> Result<bool, kube::Error> {
    let parts: Vec<_> = key.owner.splitn(3, '/').collect();
    let [kind, namespace, name] = parts.as_slice() else {
        return Ok(true);
    };
    match *kind {
        "Backup" => {
            let found: Option<Backup> = Api::namespaced(ctx.client.clone(), namespace).get_opt(name).await?;
            Ok(found.is_some_and(|b| same(&b, &key.uid) && !b.status.is_some_and(|s| s.phase.is_final())))
        }
        "Restore" => {
            let found: Option<Restore> = Api::namespaced(ctx.client.clone(), namespace).get_opt(name).await?;
            Ok(found.is_some_and(|r| same(&r, &key.uid) && !r.status.is_some_and(|s| s.phase.is_final())))
        }
        _ => Ok(true),
    }
}

fn same(object: &impl Resource, uid: &str) -> bool {
    object.meta().uid.as_deref() == Some(uid)
}
