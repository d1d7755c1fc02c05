//! Carrying out the steps of a live volume.

use super::super::prepare;
use super::super::work::Work;
use super::find::Consumer;
use crate::error::{Doing, Error};
use crate::expose::{clean, objects};
use crate::repository::{Unusable, record};
use crate::run;
use crate::stores;
use borgherd_api::Reason;
use borgherd_api::crd::{
    ArchiveOptions, BorgRun, Durations, HostFolder, LiveOptions, LiveStatus, Operation, QuiescePhase, RunVolume, VolumePhase, VolumeStatus,
};
use borgherd_api::hooks;
use borgherd_api::names::{self, ACCEPT, CONTROLLER, GO};
use borgherd_api::policy::{Mode, Policy};
use borgherd_api::retention::Accepted;
use chrono::{DateTime, SubsecRound, Utc};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// For finding the places of hooks, on a busy cluster.
const FINDING: Duration = Duration::from_mins(5);
/// As long as a look at a database may take.
const LOOKING: Duration = Duration::from_mins(1);

impl Work<'_> {
    /// Whether a volume is read in place.
    pub(in crate::backup) fn is_live(&self, pvc: &str) -> bool {
        self.policy(pvc).is_ok_and(|policy| policy.mode == Mode::Live)
    }

    /// Checks a volume by live reads; from here on it waits for its turn.
    pub(in crate::backup) async fn prepare_live(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let claim = match prepare::claim(self, volume).await? {
            Ok(claim) => claim,
            Err(Unusable { reason, message }) => return Ok(self.failed(volume, reason, message)),
        };
        let spec = &self.backup.spec;
        if !spec.archive {
            let message = format!("PVC {} is in mode live, which has no snapshots: ask for a backup with an archive", volume.pvc);
            return Ok(self.failed(volume, Reason::Invalid, message));
        }
        if spec.volumes.len() > 1 {
            let message = format!("PVC {} is in mode live, and such a volume is backed up alone: ask for a backup of it alone", volume.pvc);
            return Ok(self.failed(volume, Reason::Invalid, message));
        }
        let pv = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).unwrap_or_default();
        let volumes: Api<PersistentVolume> = Api::all(self.ctx.client.clone());
        let found = volumes.get_opt(&pv).await.doing("reading the PersistentVolume")?;
        let host_path = match readable(&claim, found.as_ref(), &self.ctx.config.live_host_paths) {
            Ok(host_path) => host_path,
            Err(why) => return Ok(self.failed(volume, Reason::VolumeNotSupported, format!("PVC {}: {why}", volume.pvc))),
        };
        Ok(VolumeStatus {
            pvc_uid: claim.uid(),
            capacity_bytes: objects::bytes(&prepare::facts(self, &claim, String::new()).size),
            live: Some(LiveStatus { pv, host_path, ..LiveStatus::default() }),
            ..self.enter(volume, VolumePhase::Waiting)
        })
    }

    /// Makes the run by which the volume is read through the mount of `consumer`.
    pub(in crate::backup) async fn run_live(&self, volume: &VolumeStatus, consumer: Consumer) -> Result<VolumeStatus, Error> {
        let live = volume.live.clone().unwrap_or_default();
        let read = self.policy(&volume.pvc).and_then(|policy| Ok((self.repository(volume, &policy)?, self.patience(&policy)?, policy)));
        let (chosen, patience, policy) = match read {
            Ok(read) => read,
            Err(Unusable { reason, message }) => return Ok(self.failed(volume, reason, message)),
        };
        let claim = match prepare::claim(self, volume).await? {
            Ok(claim) => claim,
            Err(Unusable { reason, message }) => return Ok(self.failed(volume, reason, message)),
        };
        if claim.uid() != volume.pvc_uid || claim.spec.as_ref().and_then(|s| s.volume_name.as_ref()) != Some(&live.pv) {
            let message = format!("PVC {} was made anew while its backup waited", volume.pvc);
            return Ok(self.failed(volume, Reason::PvcNotFound, message));
        }
        let accepted = Accepted::parse(claim.annotations().get(ACCEPT).map(String::as_str).unwrap_or_default());
        let host = live.host_path.clone().map(|path| HostFolder { path, may_be_empty: accepted.empty });
        let name = names::run(&self.temporary(&volume.pvc), volume.attempt);
        let operation = Operation::Archive(ArchiveOptions {
            name: names::archive(&self.owner.namespace, &volume.pvc, self.now),
            cut: self.now,
            facts: prepare::facts(self, &claim, String::new()),
            exclude: policy.exclude,
            compression: policy.compression,
            files_cache: policy.files_cache,
            live: Some(LiveOptions { patience: u32::try_from(patience.as_secs()).unwrap_or(u32::MAX), held: live.held, host }),
        });
        let Consumer { pod, uid, node, restarts } = consumer;
        let order = run::Order {
            name: &name,
            owner: &self.owner,
            pvc: &volume.pvc,
            node: node.clone(),
            chosen: &chosen,
            // the kubelet names the folder after the PersistentVolume that the pod has
            volume: Some(RunVolume { holder_uid: uid.clone(), pv: if live.held { self.temporary(&volume.pvc) } else { live.pv.clone() } }),
            operation,
            time_zone: policy.time_zone.name(),
        };
        run::create(self.ctx, order).await?;
        if let Some(other) = self.made_for_another(&name, &uid).await? {
            return Ok(self.failed(volume, Reason::Interrupted, other));
        }
        let durations = Durations { clone: self.since(volume.since), ..volume.durations.unwrap_or_default() };
        Ok(VolumeStatus {
            node: Some(node),
            run: Some(name),
            live: Some(LiveStatus { pod: Some(pod), pod_uid: Some(uid), restarts, ..live }),
            durations: Some(durations),
            ..self.enter(volume, VolumePhase::Queued)
        })
    }

    /// A run that an earlier look has made, for a pod that the status was never told, must not be read by: it goes. The pod that is watched
    /// and the one whose mount is read are the same.
    async fn made_for_another(&self, run: &str, pod_uid: &str) -> Result<Option<String>, Error> {
        let runs: Api<BorgRun> = Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace);
        let found = runs.get_opt(run).await.doing("reading the run")?;
        let Some(made) = found.filter(|run| run.spec.volume.as_ref().is_none_or(|volume| volume.holder_uid != pod_uid)) else {
            return Ok(None);
        };
        clean::delete(&runs, &Arc::new(made)).await.doing("deleting the run")?;
        Ok(Some("the run was for a pod that was chosen before; it was not begun".to_owned()))
    }

    /// How long a run that is ready waits: all that is done before the reading has its time.
    fn patience(&self, policy: &Policy) -> Result<Duration, Unusable> {
        let own = self.backup.spec.hooks.as_ref().map(|own| hooks::check(own)).transpose();
        let own = own.map_err(|said| Unusable { reason: Reason::Invalid, message: format!("spec.hooks: {said}") })?;
        let hooks = own.as_ref().unwrap_or(&policy.hooks);
        let pre: Duration = hooks.iter().filter_map(|hook| Some(hook.pre.as_ref()?.timeout)).sum();
        let dumps: Duration = policy.databases.list.iter().map(|preset| preset.timeout + LOOKING).sum();
        Ok(FINDING + pre + dumps)
    }

    /// All is held still: writes down the moment from which on the volume is read. Archives' names have whole seconds.
    pub(in crate::backup) fn begin_reading(&self, volume: &VolumeStatus) -> VolumeStatus {
        let quiesce = self.backup.status.as_ref().and_then(|s| s.quiesce.as_ref());
        let frozen = quiesce.filter(|q| q.phase == QuiescePhase::Frozen).and_then(|q| q.frozen_at);
        let moment = frozen.unwrap_or(self.now).trunc_subsecs(0);
        // an archive of the same second as one that does not count would not count either
        let void = volume.live.iter().flat_map(|live| &live.void).max().map(|void| *void + chrono::Duration::seconds(1));
        VolumeStatus { cut: void.into_iter().chain([moment]).max(), ..volume.clone() }
    }

    /// Tells the run that it may begin. Until it is known to have been right, what it makes is in doubt.
    pub(in crate::backup) async fn let_go(&self, volume: &VolumeStatus, run: &BorgRun, at: DateTime<Utc>) -> Result<VolumeStatus, Error> {
        let pvc = (self.owner.namespace.as_str(), volume.pvc.as_str());
        let records = self.records();
        let doubted = record::doubt(&records, &run.spec.repository.location, pvc, at);
        doubted.await.doing("recording that the archive is in doubt until it is made")?;
        let runs: Api<BorgRun> = Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace);
        let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
        let patch = json!({"metadata": {"annotations": {GO: at.to_rfc3339()}}});
        match runs.patch(&run.name_any(), &params, &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(volume.clone()), // what became of it is seen next
            other => other.map(|_| volume.clone()).doing("letting the run begin"),
        }
    }

    /// Ends the reading: the agent lets go of the volume.
    pub(crate) async fn stop_reading(&self, volume: &VolumeStatus) -> Result<(), Error> {
        let namespace = &self.ctx.config.namespace;
        let Some(run) = volume.run.as_deref().and_then(|run| stores::get(&self.ctx.stores.runs, Some(namespace), run)) else {
            return Ok(());
        };
        clean::delete(&Api::namespaced(self.ctx.client.clone(), namespace), &run).await.doing("deleting the run")
    }
}

/// What is said of the volume that is bound to a PVC, or why it is not.
pub(super) fn is_bound<'a>(claim: &PersistentVolumeClaim, pv: Option<&'a PersistentVolume>) -> Result<&'a PersistentVolumeSpec, String> {
    let spec = pv.and_then(|pv| pv.spec.as_ref()).ok_or("its PersistentVolume is gone")?;
    let bound_to = spec.claim_ref.as_ref().and_then(|claim| claim.uid.as_ref());
    if bound_to.is_none() || bound_to != claim.metadata.uid.as_ref() {
        return Err("its PersistentVolume is bound to another PVC".to_owned());
    }
    Ok(spec)
}

/// Whether the volume of a PVC can be read in place, or why not. Of a hostPath volume, its path.
fn readable(claim: &PersistentVolumeClaim, pv: Option<&PersistentVolume>, allowed: &[String]) -> Result<Option<String>, String> {
    let spec = is_bound(claim, pv)?;
    let Some(path) = spec.host_path.as_ref().map(|host| host.path.clone()) else { return Ok(None) };
    if allowed.iter().any(|allowed| !allowed.is_empty() && Path::new(&path).starts_with(allowed)) {
        return Ok(Some(path));
    }
    Err(format!("its volume is hostPath {path}, which is read only below a path of agent.liveHostPaths in the chart; add one there"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;
    use serde_json::Value;

    #[test]
    fn host_paths_are_read_only_where_that_is_allowed_and_volumes_only_for_their_own_claim() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({"metadata": {"uid": "u"}})).unwrap();
        let pv = |uid: &str, source: Value| -> PersistentVolume {
            let mut spec = json!({"claimRef": {"uid": uid}});
            spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
        };
        let host = |path: &str| pv("u", json!({"hostPath": {"path": path}}));
        let allowed = ["/srv/data".to_owned(), String::new()];
        for (path, is_allowed) in
            [("/srv/data/x", true), ("/srv/data", true), ("/srv/data/", true), ("/srv/database", false), ("/srv", false), ("/etc", false)]
        {
            let found = readable(&claim, Some(&host(path)), &allowed);
            assert_eq!(found, if is_allowed { Ok(Some(path.to_owned())) } else { found.clone() }, "{path}");
            assert_eq!(found.is_ok(), is_allowed, "{path}");
        }
        assert_eq!(readable(&claim, Some(&pv("u", json!({"local": {"path": "/x"}}))), &[]), Ok(None));
        assert!(readable(&claim, Some(&pv("other", json!({}))), &[]).is_err());
        assert!(readable(&claim, None, &[]).is_err());
    }
}
