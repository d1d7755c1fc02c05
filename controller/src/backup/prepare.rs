//! What is checked before a snapshot is asked for, by live reads: the PVC, its driver, the class. Nothing is made here.

use super::work::{Work, named_at};
use super::written;
use crate::error::{Doing, Error};
use crate::repository::Unusable;
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::{DEFAULT_CLASS, VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotSource, VolumeSnapshotSpec};
use borgherd_api::crd::{Trigger, VolumeFacts, VolumeStatus};
use borgherd_api::names::{
    self, DELETE_AFTER, IN_FLIGHT, NODE_AFFINITY, OWNER, OWNER_UID, POLICY, PVC, PVC_NAME, PVC_UID, RETAIN, SCHEDULED_TIME, TYPE,
    VOLUME_FACTS,
};
use borgherd_api::policy::{self, Key, Mode, Policy};
use borgherd_api::retention::Retain;
use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, ObjectMeta};
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A snapshot that can be asked for.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// As it will be created.
    pub snapshot: VolumeSnapshot,
    /// Its class.
    pub class: String,
    /// What is needed to make the PVC again.
    pub facts: VolumeFacts,
}

/// The PVC, if it can be backed up; the inner error is for the volume's status.
pub async fn claim(work: &Work<'_>, volume: &VolumeStatus) -> Result<Result<PersistentVolumeClaim, Unusable>, Error> {
    let namespace = &work.owner.namespace;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(work.ctx.client.clone(), namespace);
    let Some(claim) = claims.get_opt(&volume.pvc).await.doing("reading the PVC")? else {
        return Ok(Err(Unusable {
            reason: Reason::PvcNotFound,
            message: format!("there is no PVC {} in namespace {namespace}", volume.pvc),
        }));
    };
    let mode = Mode::of(&work.ctx.world().effective(namespace, &volume.pvc));
    if let Some(exclusion) = policy::exclusion(&claim).filter(|exclusion| exclusion.stands(mode)) {
        return Ok(Err(Unusable { reason: Reason::VolumeNotSupported, message: format!("PVC {}: {exclusion}", volume.pvc) }));
    }
    Ok(Ok(claim))
}

/// Checks one volume; the inner error is for its status.
pub async fn check(work: &Work<'_>, volume: &VolumeStatus) -> Result<Result<Prepared, Unusable>, Error> {
    let namespace = &work.owner.namespace;
    let claim = match claim(work, volume).await? {
        Ok(claim) => claim,
        Err(unusable) => return Ok(Err(unusable)),
    };
    let policy = match work.ctx.world().policy(namespace, &volume.pvc) {
        Ok(policy) => policy,
        Err(problems) => {
            let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Ok(Err(Unusable { reason: Reason::Invalid, message }));
        }
    };
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).unwrap_or_default();
    let volumes: Api<PersistentVolume> = Api::all(work.ctx.client.clone());
    let pv = volumes.get_opt(&name).await.doing("reading the PersistentVolume")?;
    let spec = pv.and_then(|v| v.spec).unwrap_or_default();
    let affinity = spec.node_affinity.and_then(|affinity| affinity.required);
    let Some(driver) = spec.csi.map(|csi| csi.driver) else {
        let message =
            format!("PVC {} is not of a CSI driver, so it cannot be snapshotted, only read in place (borgherd.dev/mode: live)", volume.pvc);
        return Ok(Err(Unusable { reason: Reason::VolumeNotSupported, message }));
    };
    Ok(choose_class(&work.ctx.stores.classes.state(), policy.snapshot_class.as_deref(), &driver)
        .map(|class| prepared(work, &claim, class, &policy, affinity.as_ref())))
}

/// The class named; else the driver's default; else its only one.
fn choose_class(all: &[Arc<VolumeSnapshotClass>], wanted: Option<&str>, driver: &str) -> Result<String, Unusable> {
    let unusable = |message: String| Unusable { reason: Reason::SnapshotClassNotFound, message };
    let of_driver: Vec<_> = all.iter().filter(|c| c.spec.driver == driver).collect();
    let list = || match of_driver.iter().map(|c| c.name_any()).collect::<Vec<_>>() {
        names if names.is_empty() => "there is none".to_owned(),
        mut names => {
            names.sort();
            format!("there are: {}", names.join(", "))
        }
    };
    if let Some(wanted) = wanted {
        return match of_driver.iter().find(|c| c.name_any() == wanted) {
            Some(found) => Ok(found.name_any()),
            None => Err(unusable(format!(
                "there is no VolumeSnapshotClass {wanted} of driver {driver}; {}; name one in the annotation borgherd.dev/snapshot-class",
                list()
            ))),
        };
    }
    let is_default = |c: &&&Arc<VolumeSnapshotClass>| c.annotations().get(DEFAULT_CLASS).map(String::as_str) == Some("true");
    match (of_driver.iter().find(is_default), of_driver.as_slice()) {
        (Some(default), _) => Ok(default.name_any()),
        (None, [one]) => Ok(one.name_any()),
        (None, _) => Err(unusable(format!(
            "no VolumeSnapshotClass of driver {driver} is the default; {}; name one in the annotation borgherd.dev/snapshot-class",
            list()
        ))),
    }
}

/// What is needed to make the PVC again; `snapshot` is the name of its VolumeSnapshot, if there is one.
pub fn facts(work: &Work<'_>, claim: &PersistentVolumeClaim, snapshot: String) -> VolumeFacts {
    let spec = claim.spec.clone().unwrap_or_default();
    VolumeFacts {
        cluster_uid: work.ctx.cluster_uid.clone(),
        backup_uid: work.owner.uid.clone(),
        pvc_uid: claim.meta().uid.clone().unwrap_or_default(),
        size: spec.resources.and_then(|r| r.requests?.get("storage").map(|q| q.0.clone())).unwrap_or_default(),
        storage_class: spec.storage_class_name,
        access_modes: spec.access_modes.unwrap_or_default(),
        labels: claim.labels().clone(),
        snapshot,
    }
}

fn prepared(work: &Work<'_>, claim: &PersistentVolumeClaim, class: String, policy: &Policy, affinity: Option<&NodeSelector>) -> Prepared {
    let pvc = claim.name_any();
    let name = names::snapshot(&pvc, &work.owner.uid, named_at(work.backup));
    let facts = facts(work, claim, name.clone());
    let mut labels = BTreeMap::from([
        (IN_FLIGHT.to_owned(), work.owner.uid.clone()),
        (OWNER_UID.to_owned(), work.owner.uid.clone()),
        (PVC.to_owned(), names::label(&pvc)),
        (TYPE.to_owned(), work.backup.spec.trigger.as_label().to_owned()),
    ]);
    let prefix = &work.ctx.config.retention.label_prefix;
    labels.insert(prefix.key(PVC).into_owned(), names::label(&pvc));
    labels.insert(prefix.key(TYPE).into_owned(), work.backup.spec.trigger.as_label().to_owned());
    let mut annotations = BTreeMap::from([
        (OWNER.to_owned(), format!("Backup/{}/{}", work.owner.namespace, work.owner.name)),
        (PVC_NAME.to_owned(), pvc.clone()),
        (PVC_UID.to_owned(), facts.pvc_uid.clone()),
        (VOLUME_FACTS.to_owned(), serde_json::to_string(&facts).unwrap_or_default()),
    ]);
    if let Some(affinity) = affinity.and_then(|affinity| serde_json::to_string(affinity).ok()) {
        annotations.insert(NODE_AFFINITY.to_owned(), affinity);
    }
    let effective = work.ctx.world().effective(&work.owner.namespace, &pvc);
    if let Some(in_force) = written::policy(&effective, work.backup.spec.hooks.as_deref()) {
        annotations.insert(POLICY.to_owned(), in_force);
    }
    if let Some(scheduled) = work.backup.spec.scheduled_time {
        annotations.insert(SCHEDULED_TIME.to_owned(), scheduled.to_rfc3339());
    }
    retain(work, policy, &mut labels, &mut annotations);
    let snapshot = VolumeSnapshot {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(work.owner.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: VolumeSnapshotSpec {
            source: VolumeSnapshotSource { persistent_volume_claim_name: Some(pvc), volume_snapshot_content_name: None },
            volume_snapshot_class_name: Some(class.clone()),
        },
        status: None,
    };
    Prepared { snapshot, class, facts }
}

/// How long it stays: by the policy, which is written down for the time when the PVC is gone; or as the person said who asked for it.
fn retain(work: &Work<'_>, policy: &Policy, labels: &mut Marks, annotations: &mut Marks) {
    let spec = &work.backup.spec;
    let retain = match (spec.trigger, spec.keep_days) {
        (Trigger::Scheduled, _) => Retain::Tiers,
        (Trigger::Manual, Some(_)) => Retain::Days,
        (Trigger::Manual, None) => Retain::Forever,
    };
    let prefix = &work.ctx.config.retention.label_prefix;
    labels.insert(prefix.key(RETAIN).into_owned(), retain.as_label().to_owned());
    if let (Retain::Days, Some(days)) = (retain, spec.keep_days) {
        let last = work.now.with_timezone(&policy.time_zone).date_naive() + chrono::Days::new(u64::from(days));
        labels.insert(prefix.key(DELETE_AFTER).into_owned(), last.to_string());
    }
    if let (Retain::Tiers, Some(keep)) = (retain, policy.keep) {
        annotations.insert(Key::Keep.annotation().to_owned(), keep.to_string());
        annotations.insert(Key::TimeZone.annotation().to_owned(), policy.time_zone.name().to_owned());
    }
}

/// Labels or annotations.
type Marks = BTreeMap<String, String>;
