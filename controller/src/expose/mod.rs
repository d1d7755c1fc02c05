//! Making a snapshot's (or an empty) volume visible to a node's agent, and taking everything away again.
//!
//! content → snapshot → clone → holder, all under one deterministic name in the volumes' namespace, all get-or-create. Or twin → claim → holder.
//! Invariant: whatever is made here carries the label `temporary`, its owner's UID and the owner's name, so that a crash
//! leaves nothing that cannot be found and attributed.

pub mod clean;
pub mod leak;
pub mod objects;
pub mod twin;
pub mod users;
pub mod volume;

use crate::config::Config;
use crate::context::Context;
use crate::stores::{self, Stores};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{BorgRun, Owner};
use borgherd_api::names::{OWNER, OWNER_UID, TEMPORARY};
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// What there is under the one name, as the caches have it.
#[derive(Clone, Debug, Default)]
pub struct Exposed {
    /// Static content.
    pub content: Option<Arc<VolumeSnapshotContent>>,
    /// Its snapshot.
    pub snapshot: Option<Arc<VolumeSnapshot>>,
    /// The clone, the empty volume to restore into, or the claim of a twin.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// Its PersistentVolume, once it carries our label.
    pub volume: Option<Arc<PersistentVolume>>,
    /// The pod that keeps it mounted.
    pub holder: Option<Arc<Pod>>,
    /// The run.
    pub run: Option<Arc<BorgRun>>,
}

impl Exposed {
    /// Looks into the caches. Volumes are found by the owner's UID, since the provisioner names them.
    pub fn see(stores: &Stores, config: &Config, name: &str, owner_uid: &str, run: Option<&str>) -> Self {
        let volumes = Some(config.volumes_namespace.as_str());
        let ours = |volume: &PersistentVolume| {
            let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
            let same = claim.is_some_and(|c| c.name.as_deref() == Some(name) && c.namespace.as_deref() == volumes);
            same && volume.labels().get(OWNER_UID).map(String::as_str) == Some(owner_uid)
        };
        Self {
            content: stores::get(&stores.contents, None, name),
            snapshot: stores::get(&stores.clone_snapshots, volumes, name),
            claim: stores::get(&stores.claims, volumes, name),
            volume: stores.volumes.find(ours),
            holder: stores::get(&stores.holders, volumes, name),
            run: run.and_then(|run| stores::get(&stores.runs, Some(&config.namespace), run)),
        }
    }

    /// Nothing is there any more, but for a twin that goes by itself.
    pub fn is_empty(&self) -> bool {
        let Self { content, snapshot, claim, volume, holder, run } = self;
        let volume = volume.as_ref().filter(|volume| !twin::is_leaving(volume));
        content.is_none() && snapshot.is_none() && claim.is_none() && volume.is_none() && holder.is_none() && run.is_none()
    }

    /// The claim's PersistentVolume, once bound.
    pub fn bound_volume(&self) -> Option<&str> {
        let claim = self.claim.as_ref()?;
        let bound = claim.status.as_ref()?.phase.as_deref() == Some("Bound");
        claim.spec.as_ref()?.volume_name.as_deref().filter(|_| bound)
    }

    /// Node and UID of the holder, once its container runs: only then has the kubelet mounted the volume.
    pub fn mounted_on(&self) -> Option<(&str, &str)> {
        let holder = self.holder.as_ref()?;
        let running = holder.status.as_ref()?.phase.as_deref() == Some("Running");
        Some((holder.spec.as_ref()?.node_name.as_deref()?, holder.metadata.uid.as_deref()?)).filter(|_| running)
    }

    /// What the scheduler says when no node can run the holder.
    pub fn unschedulable(&self) -> Option<&str> {
        let conditions = self.holder.as_ref()?.status.as_ref()?.conditions.as_ref()?;
        let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
        scheduled.message.as_deref()
    }

    /// What the storage says of the clone's snapshot.
    pub fn snapshot_error(&self) -> Option<&str> {
        self.snapshot.as_ref()?.status.as_ref()?.error.as_ref()?.message.as_deref()
    }
}

/// What the newest Warning says of the clone or its holder, which have one name; `None` also when that cannot be had.
pub async fn last_warning(ctx: &Context, name: &str) -> Option<String> {
    let events: Api<Event> = Api::namespaced(ctx.client.clone(), &ctx.config.volumes_namespace);
    let about = ListParams::default().fields(&format!("involvedObject.name={name},type=Warning"));
    let found = events.list(&about).await.inspect_err(|error| tracing::warn!(%error, name, "could not read Events")).ok()?;
    let at = |e: &Event| e.last_timestamp.as_ref().map(|t| t.0).or_else(|| e.event_time.as_ref().map(|t| t.0));
    let newest = found.items.into_iter().max_by_key(at)?;
    Some(format!("{}: {}", newest.reason.unwrap_or_default(), newest.message.unwrap_or_default()))
}

/// Labels and annotations that everything temporary carries.
pub fn marks(owner: &Owner) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let Owner { kind, namespace, name, uid } = owner;
    (
        BTreeMap::from([(TEMPORARY.into(), "true".into()), (OWNER_UID.into(), uid.clone())]),
        BTreeMap::from([(OWNER.into(), format!("{kind}/{namespace}/{name}"))]),
    )
}

/// Creates an object; one of that name is taken for an earlier process's, whose name could only come from the same owner.
pub async fn get_or_create<K>(api: &Api<K>, object: &K) -> Result<(), kube::Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error),
    }
}
