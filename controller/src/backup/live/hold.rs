//! A live volume that no pod uses is mounted by a holder, through a twin of its PersistentVolume (`expose::twin`).
//!
//! Invariant: at every look no pod of the application uses the volume, and it is still its PVC's. Whoever starts one gets it at once.

use super::super::prepare;
use super::super::work::Work;
use super::{apply, decide, find};
use crate::error::{Doing, Error};
use crate::expose::{self, Exposed, objects, twin};
use crate::repository::Unusable;
use borgherd_api::Reason;
use borgherd_api::crd::{LiveStatus, VolumeStatus};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::api::Api;
use kube::{Client, ResourceExt};
use tracing::warn;

/// A PVC with its volume, as they are now.
async fn pair(
    client: &Client,
    namespace: &str,
    pvc: &str,
    pv: &str,
) -> Result<(Option<PersistentVolumeClaim>, Option<PersistentVolume>), Error> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let claim = claims.get_opt(pvc).await.doing("reading the PVC")?;
    Ok((claim, volumes.get_opt(pv).await.doing("reading the PersistentVolume")?))
}

/// Why no holder can mount the volume, if that is so.
pub(super) async fn refusal(work: &Work<'_>, pvc: &str, pv: &str) -> Result<Option<String>, Error> {
    let (ctx, namespace) = (work.ctx, work.owner.namespace.as_str());
    if work.needs_pods(pvc) {
        return Ok(Some("its hooks or dumps need pods to run in".to_owned()));
    }
    Ok(match pair(&ctx.client, namespace, pvc, pv).await? {
        (Some(claim), Some(volume)) => {
            let driver = driver(&ctx.client, &volume).await?;
            is_not_its(&claim, Some(&volume)).or_else(|| twin::refusal(&claim, &volume, driver.as_ref(), &ctx.config.twins))
        }
        (None, _) => Some(format!("there is no PVC {pvc}")),
        (_, None) => Some("its PersistentVolume is gone".to_owned()),
    })
}

/// What the driver of a CSI volume has said of itself.
async fn driver(client: &Client, volume: &PersistentVolume) -> Result<Option<CSIDriver>, Error> {
    let Some(csi) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) else { return Ok(None) };
    Api::<CSIDriver>::all(client.clone()).get_opt(&csi.driver).await.doing("reading the CSIDriver")
}

/// Why the volume is not that PVC's, or will not be for long.
fn is_not_its(claim: &PersistentVolumeClaim, volume: Option<&PersistentVolume>) -> Option<String> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Some("the PVC is being deleted".to_owned());
    }
    apply::is_bound(claim, volume).err()
}

/// Why the holder must not have the volume any longer, or has it no longer.
pub async fn gone(work: &Work<'_>, volume: &VolumeStatus, live: &LiveStatus, exposed: &Exposed) -> Result<Option<(Reason, String)>, Error> {
    let (ctx, namespace) = (work.ctx, work.owner.namespace.as_str());
    if let Some(pod) = find::user(ctx, namespace, &volume.pvc).await? {
        return Ok(Some((Reason::PodStarted, decide::started(&pod))));
    }
    let (claim, found) = pair(&ctx.client, namespace, &volume.pvc, &live.pv).await?;
    let is_same = |claim: &PersistentVolumeClaim| claim.uid() == volume.pvc_uid && is_not_its(claim, found.as_ref()).is_none();
    if !claim.as_ref().is_some_and(is_same) {
        return Ok(Some((Reason::PvcNotFound, format!("PVC {} was deleted while it was read", volume.pvc))));
    }
    let mounted = exposed.mounted_on().map(|(_, uid)| uid);
    Ok((mounted != live.pod_uid.as_deref()).then(|| (Reason::Interrupted, "the pod that had it mounted is gone".to_owned())))
}

impl Work<'_> {
    /// Whether something is done in the application's pods before the volume is read.
    fn needs_pods(&self, pvc: &str) -> bool {
        let own = self.backup.spec.hooks.as_ref().map(|hooks| !hooks.is_empty());
        self.policy(pvc).is_ok_and(|policy| own.unwrap_or(!policy.hooks.is_empty()) || !policy.databases.list.is_empty())
    }

    /// From here on the attempt has a holder, whatever the caches show of it.
    pub(in crate::backup) fn hold(volume: &VolumeStatus) -> VolumeStatus {
        VolumeStatus { live: volume.live.clone().map(|live| LiveStatus { held: true, ..live }), ..volume.clone() }
    }

    /// Makes twin, claim and holder. The twin first: by its marks all is found again.
    pub(in crate::backup) async fn mount(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let live = volume.live.clone().unwrap_or_default();
        let claim = match prepare::claim(self, volume).await? {
            Ok(claim) => claim,
            Err(Unusable { reason, message }) => return Ok(self.failed(volume, reason, message)),
        };
        let volumes: Api<PersistentVolume> = Api::all(self.ctx.client.clone());
        let source = volumes.get_opt(&live.pv).await.doing("reading the PersistentVolume")?;
        let other = if claim.uid() == volume.pvc_uid { is_not_its(&claim, source.as_ref()) } else { Some("it was made anew".to_owned()) };
        if let Some(why) = other {
            return Ok(self.failed(volume, Reason::PvcNotFound, format!("PVC {}: {why}", volume.pvc)));
        }
        let name = self.temporary(&volume.pvc);
        let place = objects::Place { name: &name, owner: &self.owner, config: &self.ctx.config };
        let Some((twin, own)) = source.map(|source| twin::pair(place, &source)).transpose()?.flatten() else { return Ok(volume.clone()) };
        let tried = volume.node.clone().filter(|node| self.ctx.has_agent(node));
        let preferred = tried.or_else(|| self.ctx.world().last_node(&self.owner.namespace, &volume.pvc));
        // read-only, also so that no kubelet relabels or changes the owner of what is the application's
        let mut holder = place.holder(true, None, preferred.as_deref())?;
        if let Some(spec) = holder.spec.as_mut() {
            // an application may wait for what it has, and no controller be there to end it
            let most = self.ctx.config.timeouts.holder + self.ctx.config.timeouts.run;
            spec.active_deadline_seconds = i64::try_from(most.as_secs()).ok();
        }
        let namespace = &self.ctx.config.volumes_namespace;
        let (claims, pods): (Api<PersistentVolumeClaim>, Api<Pod>) =
            (Api::namespaced(self.ctx.client.clone(), namespace), Api::namespaced(self.ctx.client.clone(), namespace));
        let made = async {
            expose::get_or_create(&volumes, &twin).await?;
            expose::get_or_create(&claims, &own).await?;
            expose::get_or_create(&pods, &holder).await
        };
        match made.await {
            // by a right that is missing, or a policy: told, so that somebody can see to it, and asked for again until the deadline
            Err(kube::Error::Api(answer)) if answer.code == 403 || answer.code == 422 => {
                let message = format!("twin, claim or holder of the volume may not be made: {}", answer.message);
                warn!(pvc = volume.pvc, message, "could not make a holder; trying again");
                Ok(VolumeStatus { reason: Some(Reason::HolderNotStarted), message: Some(message), ..volume.clone() })
            }
            made => made.map(|()| volume.clone()).doing("making twin, claim and holder"),
        }
    }

    /// Whether something of this try's holder is there and not being deleted, by live reads: the caches may not show yet what was just made. For as
    /// long as clean-up may take.
    pub(in crate::backup) async fn is_still_held(&self, volume: &VolumeStatus) -> Result<bool, Error> {
        let limit = chrono::Duration::from_std(self.ctx.config.timeouts.cleanup).unwrap_or_default();
        let is_late = volume.since.is_some_and(|since| self.now - since > limit);
        if is_late || !volume.live.as_ref().is_some_and(|live| live.held) {
            return Ok(false);
        }
        let (name, client) = (self.temporary(&volume.pvc), &self.ctx.client);
        let namespace = &self.ctx.config.volumes_namespace;
        let twins: Api<PersistentVolume> = Api::all(client.clone());
        let (claims, pods): (Api<PersistentVolumeClaim>, Api<Pod>) =
            (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace));
        let (twin, claim, pod) = tokio::join!(twins.get_opt(&name), claims.get_opt(&name), pods.get_opt(&name));
        let is_there = twin.doing("looking for the twin")?.is_some_and(|twin| !twin::is_leaving(&twin));
        Ok(is_there || claim.doing("looking for the twin's claim")?.is_some() || pod.doing("looking for the holder")?.is_some())
    }
}
