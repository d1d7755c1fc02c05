//! What there is, by complete live listings. A listing that breaks off is an error, never a shorter list.

use crate::context::Context;
use crate::error::{Doing, Error};
use borgherd_api::crd::Restore;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::names::{PVC, RETAIN, TEMPORARY};
use borgherd_api::retention::{self, Restored, Snapshot};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams};
use kube::core::Resource;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt::Debug;

/// Objects decoded at once.
const PAGE: u32 = 250;

/// Every object that `params` selects, reduced page by page.
pub(super) async fn pages<K, T>(api: &Api<K>, params: ListParams, reduce: impl Fn(&K) -> Option<T>) -> Result<Vec<T>, kube::Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let (mut params, mut all) = (params.limit(PAGE), Vec::new());
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items.iter().filter_map(&reduce));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// The retained snapshots of a namespace, or of all, with what Restores use of them.
pub(super) async fn snapshots(ctx: &Context, namespace: Option<&str>) -> Result<Vec<Snapshot>, Error> {
    let selector = format!("{RETAIN},{PVC},!{TEMPORARY}");
    let api: Api<VolumeSnapshot> = match namespace {
        Some(namespace) => Api::namespaced(ctx.client.clone(), namespace),
        None => Api::all(ctx.client.clone()),
    };
    let mut all = pages(&api, ListParams::default().labels(&selector), Snapshot::of).await.doing("listing snapshots")?;
    let restores: Api<Restore> = match namespace {
        Some(namespace) => Api::namespaced(ctx.client.clone(), namespace),
        None => Api::all(ctx.client.clone()),
    };
    let under_way = pages(&restores, ListParams::default(), retention::restored).await.doing("listing Restores")?;
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
    let found = pages(&api, ListParams::default(), source).await.doing("listing PVCs that are made from snapshots")?;
    Ok(found.into_iter().collect())
}
