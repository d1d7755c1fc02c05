//! The second half of a Restore: a volume is made and filled, and becomes the target PVC.

use super::apply::Work;
use super::handover::{self, Handed, Handover};
use crate::admission::{Answer, Request, Turn};
use crate::error::{Doing, Error};
use crate::expose::{self, Exposed, objects};
use crate::repository::{Chosen, Unusable};
use crate::run;
use borgherd_api::Reason;
use borgherd_api::crd::{Operation, RestoreOptions, RestorePhase, RestoreStatus, RestoreTarget, RunVolume, SourceKind, VolumeFacts};
use borgherd_api::names::{self, OWNER};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::json;

impl Work<'_> {
    /// What the ledger is asked for.
    fn request(&self, status: &RestoreStatus, chosen: &Chosen, class: Option<String>) -> Request {
        Request {
            owner: (self.owner.namespace.clone(), self.owner.name.clone()),
            turn: Turn::Restore,
            namespace: self.owner.namespace.clone(),
            cut: status.started_at.unwrap_or(self.now),
            repository: chosen.name.clone(),
            max_concurrent: chosen.spec.max_concurrent.and_then(|n| usize::try_from(n).ok()),
            location: chosen.location.clone(),
            class,
        }
    }

    /// What an earlier process had admitted keeps its place.
    pub fn adopt(&self) {
        let status = self.restore.status.clone().unwrap_or_default();
        let admitted = matches!(status.phase, RestorePhase::Preparing | RestorePhase::Queued | RestorePhase::Extracting);
        if let (true, Ok(chosen)) = (admitted, self.repository()) {
            let class = self.shape(&status).ok().and_then(|(_, class, _)| class);
            self.ctx.admission.adopt(self.ticket(), self.request(&status, &chosen, class));
        }
    }

    pub(super) fn target(&self) -> RestoreTarget {
        self.restore.spec.target.clone().unwrap_or_default()
    }

    /// Size, class and first mode of what is made.
    pub(super) fn shape(&self, status: &RestoreStatus) -> Result<(String, Option<String>, VolumeFacts), Unusable> {
        let facts = status.facts.clone().unwrap_or_default();
        let target = self.target();
        let size = target.size.unwrap_or_else(|| facts.size.clone());
        if objects::bytes(&size).is_none_or(|b| b == 0) {
            let message = format!("the size of the volume is not known (\"{size}\"); give one in spec.target.size, such as 10Gi");
            return Err(Unusable { reason: Reason::Invalid, message });
        }
        Ok((size, target.storage_class.or_else(|| facts.storage_class.clone()), facts))
    }

    pub(super) async fn prepare(&self, status: &RestoreStatus) -> Result<RestoreStatus, Error> {
        let (chosen, shape) = match (self.repository(), self.shape(status)) {
            (Ok(chosen), Ok(shape)) => (chosen, shape),
            (Err(unusable), _) | (_, Err(unusable)) => return Ok(self.refused(status, unusable)),
        };
        let (size, class, facts) = shape;
        let request = self.request(status, &chosen, class.clone());
        let (answer, woken) = self.ctx.admission.ask(&self.ticket(), &request, self.ctx.capacity());
        self.ctx.wake(&woken);
        let waits = |reason: Reason, message: String| RestoreStatus { reason: Some(reason), message: Some(message), ..status.clone() };
        match answer {
            Answer::Granted => {}
            Answer::RepositoryBusy => return Ok(waits(Reason::WaitingForRepository, format!("another run uses {}", chosen.location))),
            Answer::Full | Answer::Superseded | Answer::Parked(_) => {
                return Ok(waits(Reason::WaitingForCapacity, "waits for a free slot or for a place within a limit".into()));
            }
        }
        if status.phase == RestorePhase::Pending {
            let next = self.enter(status, RestorePhase::Preparing);
            return Ok(RestoreStatus { attempt: status.attempt + 1, not_before: None, progress: None, run: None, ..next });
        }
        let name = self.name();
        let place = objects::Place { name: &name, owner: &self.owner, config: &self.ctx.config };
        let namespace = &self.ctx.config.volumes_namespace;
        let claim = place.empty_claim(&size, class.as_deref(), objects::clone_mode(&facts.access_modes))?;
        expose::get_or_create(&Api::namespaced(self.ctx.client.clone(), namespace), &claim)
            .await
            .doing("creating the volume to restore into")?;
        let preferred = self.ctx.world().last_node(&self.owner.namespace, self.pvc());
        let holder = place.holder(false, None, preferred.as_deref())?;
        expose::get_or_create(&Api::namespaced(self.ctx.client.clone(), namespace), &holder).await.doing("creating the holder")?;
        Ok(status.clone())
    }

    pub(super) async fn run(&self, status: &RestoreStatus, exposed: &Exposed, node: String, at: RunVolume) -> Result<RestoreStatus, Error> {
        let chosen = match self.repository() {
            Ok(chosen) => chosen,
            Err(unusable) => return Ok(self.refused(status, unusable)),
        };
        let Some(resolved) = &status.resolved else {
            return Err(Error::Missing("what to restore".into()));
        };
        let (labels, annotations) = expose::marks(&self.owner);
        let marked = expose::volume::own(&self.ctx.client, &at.pv, Some(&labels), Some(&annotations), exposed.volume.as_ref());
        marked.await.doing("marking the volume to restore into")?;
        let name = names::run(&self.name(), status.attempt);
        let volume = at.pv.clone();
        let operation = Operation::Restore(RestoreOptions { archive: resolved.name.clone() });
        self.order(&name, node.clone(), &chosen, Some(at), operation).await?;
        Ok(RestoreStatus { node: Some(node), run: Some(name), volume: Some(volume), ..self.enter(status, RestorePhase::Queued) })
    }

    pub(super) async fn find_run(&self, status: &RestoreStatus) -> Result<RestoreStatus, Error> {
        let name = status.run.clone().unwrap_or_default();
        let message = run::deleted(self.ctx, &name).await?;
        Ok(self.failed(status, Reason::Interrupted, message))
    }

    pub(super) async fn hand_over(&self, status: &RestoreStatus, exposed: &Exposed) -> Result<RestoreStatus, Error> {
        let from_snapshot = status.resolved.as_ref().is_some_and(|r| r.kind == SourceKind::Snapshot);
        if from_snapshot {
            return self.make_from_snapshot(status).await;
        }
        let volume = status.volume.clone().unwrap_or_default();
        let owner = format!("Restore/{}/{}", self.owner.namespace, self.owner.name);
        let target = self.target();
        let made_as = self.name();
        let namespace = &self.owner.namespace;
        let handover = Handover { namespace, target: &target, volume: &volume, made_as: &made_as, owner: &owner };
        match handover::step(self.ctx, handover, exposed).await? {
            Handed::Waiting => Ok(self.slow_handover(status)),
            Handed::Refused(said) => {
                let message = format!("everything is restored, but the target PVC is refused; tried again until it is not: {said}");
                Ok(RestoreStatus { reason: Some(Reason::TargetRefused), message: Some(message), ..status.clone() })
            }
            Handed::Done => Ok(self.ended(status, RestorePhase::Succeeded)),
            Handed::Failed(unusable) => Ok(self.refused(status, unusable)),
        }
    }

    /// After the deadline the status says that the target is not bound yet; the handover goes on.
    pub(super) fn slow_handover(&self, status: &RestoreStatus) -> RestoreStatus {
        let limit = self.ctx.config.timeouts.handover;
        let slow = status.since.is_some_and(|since| (self.now - since).to_std().is_ok_and(|age| age > limit));
        if !slow || status.reason.is_some() {
            return status.clone();
        }
        let message = format!(
            "everything is restored, but the target PVC is not bound after {limit:?}: see kubectl describe pvc {}",
            self.target().pvc
        );
        RestoreStatus { reason: Some(Reason::CloneNotBound), message: Some(message), ..status.clone() }
    }

    /// The storage makes the volume by itself: bound at once, or when the first pod uses it.
    pub(super) async fn make_from_snapshot(&self, status: &RestoreStatus) -> Result<RestoreStatus, Error> {
        let (size, class, facts) = match self.shape(status) {
            Ok(shape) => shape,
            Err(unusable) => return Ok(self.refused(status, unusable)),
        };
        let target = self.target();
        let snapshot = status.resolved.as_ref().map(|r| r.name.clone()).unwrap_or_default();
        let owner = format!("Restore/{}/{}", self.owner.namespace, self.owner.name);
        let mut spec = json!({
            "accessModes": if facts.access_modes.is_empty() { vec!["ReadWriteOnce".to_owned()] } else { facts.access_modes },
            "resources": {"requests": {"storage": size}},
            "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot},
        });
        if let Some(class) = class {
            spec["storageClassName"] = json!(class);
        }
        let claim: PersistentVolumeClaim = serde_json::from_value(
            json!({"metadata": {"name": target.pvc, "namespace": self.owner.namespace, "annotations": {OWNER: owner}}, "spec": spec}),
        )?;
        match self.claims().create(&PostParams::default(), &claim).await {
            Ok(_) => {}
            Err(kube::Error::Api(answer)) if answer.code == 409 => {
                let existing = self.claims().get(&target.pvc).await.doing("reading the target PVC")?;
                if existing.annotations().get(OWNER) != Some(&owner) {
                    let message = format!("PVC {} has appeared in namespace {}; choose another name", target.pvc, self.owner.namespace);
                    return Ok(self.failed(status, Reason::TargetExists, message));
                }
            }
            Err(kube::Error::Api(answer)) if answer.code == 422 || answer.code == 403 => {
                return Ok(self.failed(status, Reason::TargetRefused, format!("the target PVC was refused: {}", answer.message)));
            }
            Err(error) => return Err(error).doing("creating the target PVC"),
        }
        Ok(self.ended(status, RestorePhase::Succeeded))
    }
}
