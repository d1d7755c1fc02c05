//! What there is in a namespace, by complete live listings.

use crate::context::Context;
use crate::error::{Doing, Error};
use crate::pages;
use borgherd_api::crd::Restore;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::names::{PVC, RETAIN, TEMPORARY};
use borgherd_api::retention::{self, Restored, Snapshot};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams};
use std::collections::HashSet;

/// The retained snapshots of a namespace, with what Restores use of them.
pub(super) async fn snapshots(ctx: &Context, namespace: &str) -> Result<Vec<Snapshot>, Error> {
    let prefix = &ctx.config.retention.label_prefix;
    let retained = ListParams::default().labels(&format!("{},{},!{TEMPORARY}", prefix.key(RETAIN), prefix.key(PVC)));
    let api: Api<VolumeSnapshot> = Api::namespaced(ctx.client.clone(), namespace);
    let mut all = pages::reduced(&api, retained, |found| Snapshot::under(prefix, found)).await.doing("listing snapshots")?;
    if all.is_empty() {
        return Ok(all);
    }
    let restores: Api<Restore> = Api::namespaced(ctx.client.clone(), namespace);
    let under_way = pages::reduced(&restores, ListParams::default(), retention::restored).await.doing("listing Restores")?;
    let under_way: Restored = under_way.into_iter().collect();
    for snapshot in &mut all {
        snapshot.note_restores(&under_way);
    }
    Ok(all)
}

/// Names of the snapshots of a namespace that somebody's PVC is waiting to be made from.
pub(super) async fn sources(ctx: &Context, namespace: &str) -> Result<HashSet<String>, Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), namespace);
    let source = |claim: &PersistentVolumeClaim| {
        let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let spec = claim.spec.as_ref().filter(|_| !bound)?;
        let by_source = spec.data_source.as_ref().filter(|source| source.kind == "VolumeSnapshot").map(|source| source.name.clone());
        by_source
            .or_else(|| spec.data_source_ref.as_ref().filter(|source| source.kind == "VolumeSnapshot").map(|source| source.name.clone()))
    };
    let found = pages::reduced(&api, ListParams::default(), source).await.doing("listing PVCs that are made from snapshots")?;
    Ok(found.into_iter().collect())
}
