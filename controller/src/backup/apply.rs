//! Carrying out one step of one volume. Returns the volume's new status; nothing else is kept.
//!
//! Each step is get-or-create or a write that may be repeated.

use super::decide::{self, Step};
use super::prepare::{self, Prepared};
use crate::admission::{Answer, Request, Ticket};
use crate::context::Context;
use crate::expose::{self, Exposed, clean, objects};
use crate::repository::{self, Unusable, record};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{
    ArchiveOptions, Backup, BorgRun, BorgRunSpec, Durations, Operation, Outcome, Owner, RunRepository, RunVolume, Subject, VolumeFacts,
    VolumePhase, VolumeStatus,
};
use borgherd_api::names::{self, CONTROLLER, CUT, IN_FLIGHT, OWN_DELETION_POLICY, VOLUME_FACTS};
use borgherd_api::policy::Policy;
use borgherd_api::{Reason, time};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

/// What could not be carried out; the reconcile is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("{doing}: {source}")]
    Api {
        /// What was tried.
        doing: &'static str,
        /// What came back.
        source: kube::Error,
    },
    /// An object could not be built.
    #[error("building an object: {0}")]
    Build(#[from] serde_json::Error),
    /// What should be there by now is not.
    #[error("{0}")]
    Missing(String),
}

impl Error {
    /// Not worth a word: somebody else was faster, or a cache lags.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => status.code == 409,
            Self::Missing(_) => true,
            Self::Api { .. } | Self::Build(_) => false,
        }
    }
}

/// Says what was tried when a request fails.
pub trait Doing<T> {
    /// Adds `doing`.
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, kube::Error> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Api { doing, source })
    }
}

/// One Backup being worked on.
pub struct Work<'a> {
    /// Everything shared.
    pub ctx: &'a Context,
    /// The Backup as it was last written.
    pub backup: &'a Backup,
    /// It, as the owner of what is made.
    pub owner: Owner,
    /// Now.
    pub now: DateTime<Utc>,
}

impl<'a> Work<'a> {
    /// Of a Backup.
    pub fn new(ctx: &'a Context, backup: &'a Backup) -> Self {
        let owner = Owner {
            kind: "Backup".into(),
            namespace: backup.namespace().unwrap_or_default(),
            name: backup.name_any(),
            uid: backup.uid().unwrap_or_default(),
        };
        Self { ctx, backup, owner, now: (ctx.clock)() }
    }

    /// Name of everything temporary of a volume.
    pub fn temporary(&self, pvc: &str) -> String {
        names::temporary(&self.owner.uid, pvc)
    }

    /// The volume's place in the ledger.
    pub fn ticket(&self, pvc: &str) -> Ticket {
        Ticket { uid: self.owner.uid.clone(), pvc: pvc.to_owned() }
    }

    fn snapshots(&self) -> Api<VolumeSnapshot> {
        Api::namespaced(self.ctx.client.clone(), &self.owner.namespace)
    }

    fn contents(&self) -> Api<VolumeSnapshotContent> {
        Api::all(self.ctx.client.clone())
    }

    fn records(&self) -> Api<ConfigMap> {
        Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace)
    }

    fn enter(&self, volume: &VolumeStatus, phase: VolumePhase) -> VolumeStatus {
        VolumeStatus { phase, since: Some(self.now), reason: None, message: None, ..volume.clone() }
    }

    fn since(&self, from: Option<DateTime<Utc>>) -> Option<f64> {
        from.map(|from| seconds(self.now - from))
    }

    /// Carries `step` out.
    pub async fn apply(
        &self,
        volume: &VolumeStatus,
        seen: &decide::Seen,
        step: Step,
        prepared: &mut Option<Prepared>,
    ) -> Result<VolumeStatus, Error> {
        let exposed = &seen.exposed;
        match step {
            Step::Wait(_) => Ok(volume.clone()),
            Step::Tell(reason, message) => Ok(VolumeStatus { reason: Some(reason), message: Some(message), ..volume.clone() }),
            Step::Prepare => match prepare::check(self, volume).await? {
                Ok(done) => {
                    *prepared = Some(done);
                    Ok(volume.clone())
                }
                Err(Unusable { reason, message }) => Ok(self.failed(volume, reason, message)),
            },
            Step::Snapshot => self.snapshot(volume, prepared.as_ref()).await,
            Step::FindSnapshot => self.find_snapshot(volume).await,
            Step::RecordCut(cut) => self.record_cut(volume, seen.snapshot.as_deref(), cut).await,
            Step::MarkReady => Ok(self.mark_ready(volume, seen.archive)),
            Step::Admit => Ok(self.admit(volume, seen.snapshot.as_deref())),
            Step::CloneSnapshot => self.clone_snapshot(volume, seen.snapshot.as_deref()).await,
            Step::Clone => self.clone_volume(volume, seen.snapshot.as_deref(), exposed).await,
            Step::Run { node, holder, pv } => {
                let at = RunVolume { holder_uid: holder, pv };
                self.run(volume, seen.snapshot.as_deref(), exposed, node, at).await
            }
            Step::FindRun => self.find_run(volume).await,
            Step::Follow(phase) => Ok(follow(volume, exposed, phase)),
            Step::Conclude => self.conclude(volume, exposed).await,
            Step::Fail(reason, message) => Ok(self.failed(volume, reason, message)),
            Step::Clean => {
                clean::step(self.ctx, exposed).await.doing("cleaning up")?;
                Ok(volume.clone())
            }
            Step::Finish => self.finish(volume).await,
        }
    }

    async fn snapshot(&self, volume: &VolumeStatus, prepared: Option<&Prepared>) -> Result<VolumeStatus, Error> {
        let Some(prepared) = prepared else {
            return Err(Error::Missing("the checks before the cut".into()));
        };
        expose::get_or_create(&self.snapshots(), &prepared.snapshot).await.doing("creating the VolumeSnapshot")?;
        Ok(VolumeStatus {
            snapshot: Some(prepared.snapshot.name_any()),
            snapshot_class: Some(prepared.class.clone()),
            pvc_uid: Some(prepared.facts.pvc_uid.clone()),
            capacity_bytes: objects::bytes(&prepared.facts.size),
            ..self.enter(volume, VolumePhase::Cutting)
        })
    }

    /// The cache has no such snapshot with our label: it lags, somebody took the label off, or the snapshot is gone.
    async fn find_snapshot(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let name = volume.snapshot.clone().unwrap_or_default();
        let Some(found) = self.snapshots().get_opt(&name).await.doing("looking for the VolumeSnapshot")? else {
            let reason = if volume.cut.is_some() { Reason::SnapshotGone } else { Reason::SnapshotFailed };
            return Ok(self.failed(volume, reason, format!("VolumeSnapshot {name} is gone")));
        };
        if !found.labels().contains_key(IN_FLIGHT) {
            self.patch_snapshot(&name, json!({"metadata": {"labels": {IN_FLIGHT: self.owner.uid}}})).await?;
        }
        if volume.phase == VolumePhase::Cutting && found.status.as_ref().and_then(|s| s.creation_time).is_none() {
            let said = decide::snapshot_error(&found).unwrap_or("the storage has not answered").to_owned();
            return Ok(self.failed(volume, Reason::SnapshotFailed, format!("no snapshot was cut in time: {said}")));
        }
        Err(Error::Missing(format!("VolumeSnapshot {name} is there, but not yet in the cache")))
    }

    async fn patch_snapshot(&self, name: &str, patch: serde_json::Value) -> Result<(), Error> {
        let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
        match self.snapshots().patch(name, &params, &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()).doing("marking the VolumeSnapshot"),
        }
    }

    /// Writes the cut to snapshot and content, once, and keeps the content when the namespace goes.
    async fn record_cut(
        &self,
        volume: &VolumeStatus,
        snapshot: Option<&VolumeSnapshot>,
        cut: DateTime<Utc>,
    ) -> Result<VolumeStatus, Error> {
        let name = volume.snapshot.clone().unwrap_or_default();
        let content = snapshot.and_then(|s| s.status.as_ref()?.bound_volume_snapshot_content_name.clone()).unwrap_or_default();
        let at = json!({"metadata": {"annotations": {CUT: cut.to_rfc3339()}}});
        let (snapshot_done, content_done) = tokio::join!(self.patch_snapshot(&name, at), self.keep_content(&content, cut));
        snapshot_done?;
        content_done?;
        let durations = Durations { cut_visible: self.since(volume.since), ..volume.durations.unwrap_or_default() };
        Ok(VolumeStatus { cut: Some(cut), durations: Some(durations), ..self.enter(volume, VolumePhase::Cut) })
    }

    async fn keep_content(&self, name: &str, cut: DateTime<Utc>) -> Result<(), Error> {
        let content = self.contents().get(name).await.doing("reading the snapshot's content")?;
        let mut patch = json!({"metadata": {"annotations": {CUT: cut.to_rfc3339()}}});
        if self.ctx.config.retain_content && !content.annotations().contains_key(OWN_DELETION_POLICY) {
            patch["metadata"]["annotations"][OWN_DELETION_POLICY] = json!(content.spec.deletion_policy);
            patch["spec"] = json!({"deletionPolicy": "Retain"});
        }
        let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
        self.contents().patch(name, &params, &Patch::Merge(patch)).await.map(|_| ()).doing("keeping the snapshot's content")
    }

    fn mark_ready(&self, volume: &VolumeStatus, archive: bool) -> VolumeStatus {
        let durations = Durations { cut_to_ready: self.since(volume.since), ..volume.durations.unwrap_or_default() };
        let phase = if archive { VolumePhase::Waiting } else { VolumePhase::Cleaning };
        let outcome = (!archive).then_some(Outcome::Succeeded);
        VolumeStatus { ready_at: Some(self.now), durations: Some(durations), outcome, ..self.enter(volume, phase) }
    }

    fn policy(&self, pvc: &str) -> Result<Policy, Unusable> {
        self.ctx.world().policy(&self.owner.namespace, pvc).map_err(|problems| Unusable {
            reason: Reason::Invalid,
            message: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })
    }

    /// The Repository of a volume: the one it began with, else that of its policy.
    fn repository(&self, volume: &VolumeStatus, policy: &Policy) -> Result<repository::Chosen, Unusable> {
        let all = self.ctx.stores.repositories.state();
        let wanted = volume.repository.as_deref().or(policy.repository.as_deref());
        repository::choose(
            &all,
            wanted,
            repository::Subject { cluster: &self.ctx.cluster_uid, namespace: &self.owner.namespace, pvc: &volume.pvc },
        )
    }

    /// What the ledger is asked for.
    pub fn request(&self, volume: &VolumeStatus, chosen: &repository::Chosen, class: Option<String>) -> Request {
        Request {
            owner: (self.owner.namespace.clone(), self.owner.name.clone()),
            restore: false,
            namespace: self.owner.namespace.clone(),
            cut: volume.cut.unwrap_or(self.now),
            repository: chosen.name.clone(),
            max_concurrent: chosen.spec.max_concurrent.and_then(|n| usize::try_from(n).ok()),
            location: chosen.location.clone(),
            class,
        }
    }

    fn admit(&self, volume: &VolumeStatus, snapshot: Option<&VolumeSnapshot>) -> VolumeStatus {
        let chosen = self.policy(&volume.pvc).and_then(|policy| {
            let class = policy.clone_class.clone().or_else(|| facts(snapshot).storage_class);
            Ok((self.repository(volume, &policy)?, class))
        });
        let (chosen, class) = match chosen {
            Ok(chosen) => chosen,
            Err(Unusable { reason, message }) => return self.failed(volume, reason, message),
        };
        let ticket = self.ticket(&volume.pvc);
        let (answer, woken) = self.ctx.admission.ask(&ticket, &self.request(volume, &chosen, class), self.ctx.capacity());
        self.ctx.wake(&woken);
        let waits = |reason: Reason, message: String| VolumeStatus { reason: Some(reason), message: Some(message), ..volume.clone() };
        match answer {
            Answer::RepositoryBusy => waits(Reason::WaitingForRepository, format!("another run writes to {}", chosen.location)),
            Answer::Full => waits(Reason::WaitingForCapacity, "waits for a free slot or for a place within a limit".into()),
            Answer::Superseded => VolumeStatus {
                outcome: Some(Outcome::Superseded),
                reason: Some(Reason::Superseded),
                message: Some("a newer cut of this volume is archived in its place; the snapshot stays".into()),
                ..self.enter(volume, VolumePhase::Cleaning)
            },
            Answer::Granted => {
                let durations = Durations { admission: self.since(volume.since), ..volume.durations.unwrap_or_default() };
                VolumeStatus {
                    repository: Some(chosen.name),
                    location: Some(chosen.location),
                    attempt: volume.attempt + 1,
                    not_before: None,
                    progress: None,
                    durations: Some(durations),
                    ..self.enter(volume, VolumePhase::Cloning)
                }
            }
        }
    }

    async fn clone_snapshot(&self, volume: &VolumeStatus, snapshot: Option<&VolumeSnapshot>) -> Result<VolumeStatus, Error> {
        let bound = snapshot.and_then(|s| s.status.as_ref()?.bound_volume_snapshot_content_name.clone()).unwrap_or_default();
        let Some(original) = self.contents().get_opt(&bound).await.doing("reading the snapshot's content")? else {
            return Ok(self.failed(volume, Reason::SnapshotGone, format!("VolumeSnapshotContent {bound} is gone")));
        };
        let name = self.temporary(&volume.pvc);
        let place = objects::Place { name: &name, owner: &self.owner, config: &self.ctx.config };
        let content = place.content(&original).ok_or_else(|| Error::Missing(format!("VolumeSnapshotContent {bound} has no handle yet")))?;
        expose::get_or_create(&self.contents(), &content).await.doing("creating the static VolumeSnapshotContent")?;
        let api = Api::namespaced(self.ctx.client.clone(), &self.ctx.config.volumes_namespace);
        expose::get_or_create(&api, &place.snapshot(&original)).await.doing("creating the clone's VolumeSnapshot")?;
        Ok(volume.clone())
    }

    async fn clone_volume(
        &self,
        volume: &VolumeStatus,
        snapshot: Option<&VolumeSnapshot>,
        exposed: &Exposed,
    ) -> Result<VolumeStatus, Error> {
        let class = match self.policy(&volume.pvc) {
            Ok(policy) => policy.clone_class,
            Err(Unusable { reason, message }) => return Ok(self.failed(volume, reason, message)),
        };
        let name = self.temporary(&volume.pvc);
        let place = objects::Place { name: &name, owner: &self.owner, config: &self.ctx.config };
        let restore_size = exposed.snapshot.as_ref().and_then(|s| s.status.as_ref()?.restore_size.clone());
        let affinity = self.affinity(&volume.pvc).await?;
        let preferred = self.ctx.world().last_node(&self.owner.namespace, &volume.pvc);
        let namespace = &self.ctx.config.volumes_namespace;
        let claim = place.clone_claim(&facts(snapshot), restore_size.as_deref(), class.as_deref())?;
        expose::get_or_create(&Api::namespaced(self.ctx.client.clone(), namespace), &claim).await.doing("creating the clone")?;
        let holder = place.holder(true, affinity.as_ref(), preferred.as_deref())?;
        expose::get_or_create(&Api::namespaced(self.ctx.client.clone(), namespace), &holder).await.doing("creating the holder")?;
        Ok(volume.clone())
    }

    /// Node affinity of the source's PersistentVolume: where one can be mounted, so can its clone.
    async fn affinity(&self, pvc: &str) -> Result<Option<k8s_openapi::api::core::v1::NodeSelector>, Error> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.ctx.client.clone(), &self.owner.namespace);
        let claim = claims.get_opt(pvc).await.doing("reading the PVC")?;
        let Some(name) = claim.and_then(|c| c.spec?.volume_name) else {
            return Ok(None);
        };
        let volumes: Api<PersistentVolume> = Api::all(self.ctx.client.clone());
        let volume = volumes.get_opt(&name).await.doing("reading the PersistentVolume")?;
        Ok(volume.and_then(|v| v.spec?.node_affinity?.required))
    }

    async fn run(
        &self,
        volume: &VolumeStatus,
        snapshot: Option<&VolumeSnapshot>,
        exposed: &Exposed,
        node: String,
        at: RunVolume,
    ) -> Result<VolumeStatus, Error> {
        let claim = exposed.claim.as_ref();
        let (labels, annotations) = expose::marks(&self.owner);
        let marked = clean::own_volume(&self.ctx.client, &at.pv, Some(&labels), Some(&annotations), exposed.volume.as_ref());
        marked.await.doing("setting the clone's volume to Delete")?;
        let policy = match self.policy(&volume.pvc) {
            Ok(policy) => policy,
            Err(Unusable { reason, message }) => return Ok(self.failed(volume, reason, message)),
        };
        let chosen = match self.repository(volume, &policy) {
            Ok(chosen) => chosen,
            Err(Unusable { reason, message }) => return Ok(self.failed(volume, reason, message)),
        };
        debug_assert!(claim.is_some(), "a run is decided from a bound claim");
        let known = record::read(&self.records(), &chosen.location).await.doing("reading the repository's record")?;
        let cut = volume.cut.ok_or_else(|| Error::Missing("the cut".into()))?;
        let name = names::run(&self.temporary(&volume.pvc), volume.attempt);
        let mut run = BorgRun::new(
            &name,
            BorgRunSpec {
                node: node.clone(),
                subject: Subject { namespace: self.owner.namespace.clone(), pvc: volume.pvc.clone() },
                owner: self.owner.clone(),
                repository: RunRepository {
                    name: chosen.name.clone(),
                    location: chosen.location.clone(),
                    secret_ref: chosen.spec.secret_ref.clone(),
                    encryption: chosen.spec.encryption,
                    rate_limit: chosen.spec.rate_limit,
                    may_init: known.is_none(),
                    expected_id: known.and_then(|r| r.id),
                },
                volume: Some(at),
                operation: Operation::Archive(ArchiveOptions {
                    name: names::archive(&self.owner.namespace, &volume.pvc, cut),
                    cut,
                    facts: facts(snapshot),
                    exclude: policy.exclude,
                    compression: policy.compression,
                    files_cache: policy.files_cache,
                }),
                time_zone: policy.time_zone.name().to_owned(),
                deadline: self.now + chrono::Duration::from_std(self.ctx.config.timeouts.run).unwrap_or_default(),
            },
        );
        run.metadata.namespace = Some(self.ctx.config.namespace.clone());
        run.metadata.labels = Some(labels);
        run.metadata.annotations = Some(annotations);
        expose::get_or_create(&Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace), &run)
            .await
            .doing("creating the BorgRun")?;
        let durations = Durations { clone: self.since(volume.since), ..volume.durations.unwrap_or_default() };
        Ok(VolumeStatus { node: Some(node), run: Some(name), durations: Some(durations), ..self.enter(volume, VolumePhase::Queued) })
    }

    async fn find_run(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let name = volume.run.clone().unwrap_or_default();
        let runs: Api<BorgRun> = Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace);
        match runs.get_opt(&name).await.doing("looking for the BorgRun")? {
            Some(_) => Err(Error::Missing(format!("BorgRun {name} is there, but not yet in the cache"))),
            None => Ok(self.failed(volume, Reason::Interrupted, format!("BorgRun {name} was deleted before it had ended"))),
        }
    }

    /// Takes over a run's end. The record of the repository is written before the status says that an archive exists.
    async fn conclude(&self, volume: &VolumeStatus, exposed: &Exposed) -> Result<VolumeStatus, Error> {
        let Some(run) = &exposed.run else {
            return Err(Error::Missing("the run".into()));
        };
        let (outcome, reason, message) = decide::ended(run);
        let status = run.status.clone().unwrap_or_default();
        if let (Some(_), Some(cut)) = (outcome, volume.cut) {
            let location = &run.spec.repository.location;
            record::write(&self.records(), location, status.repository_id.as_deref(), cut).await.doing("recording the repository")?;
        }
        let durations = Durations {
            slot_wait: status.queued_at.zip(status.started_at).map(|(from, to)| seconds(to - from)),
            borg: status.borg_seconds,
            ..volume.durations.unwrap_or_default()
        };
        let told = VolumeStatus {
            progress: status.progress.or(volume.progress),
            archive: outcome.and(status.archive).map(|a| a.name),
            durations: Some(durations),
            ..volume.clone()
        };
        match (outcome, reason) {
            (Some(outcome), reason) => {
                self.leave(&volume.pvc);
                Ok(VolumeStatus { outcome: Some(outcome), reason, message: status.message, ..self.enter(&told, VolumePhase::Cleaning) })
            }
            (None, reason) => Ok(self.failed(&told, reason.unwrap_or(Reason::BorgFailed), message.unwrap_or_default())),
        }
    }

    /// Gives the volume's turn to the next.
    pub fn leave(&self, pvc: &str) {
        let woken = self.ctx.admission.leave(&self.ticket(pvc), self.ctx.capacity());
        self.ctx.wake(&woken);
    }

    /// The attempt has failed: cleaning comes next, and then a retry or the end.
    pub fn failed(&self, volume: &VolumeStatus, reason: Reason, message: impl Into<String>) -> VolumeStatus {
        self.leave(&volume.pvc);
        let retry = match volume.attempt {
            0 => None,
            attempt => decide::retry(reason, attempt, &self.ctx.config.limits, self.now),
        };
        VolumeStatus {
            reason: Some(reason),
            message: Some(message.into().chars().take(4000).collect()),
            not_before: retry,
            outcome: retry.is_none().then_some(Outcome::Failed),
            ..self.enter(volume, VolumePhase::Cleaning)
        }
    }

    /// Everything temporary is gone: the end, or the wait for the next try.
    async fn finish(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let durations = Durations { clean: self.since(volume.since), ..volume.durations.unwrap_or_default() };
        let mut done = VolumeStatus { durations: Some(durations), run: None, since: Some(self.now), ..volume.clone() };
        if volume.outcome.is_none() {
            done.phase = VolumePhase::Waiting;
            return Ok(done);
        }
        done.phase = VolumePhase::Finished;
        if let Some(name) = &volume.snapshot {
            if volume.cut.is_some() {
                self.patch_snapshot(name, json!({"metadata": {"labels": {IN_FLIGHT: null}}})).await?;
            } else {
                self.delete_uncut(name).await?;
            }
        }
        Ok(done)
    }

    /// A snapshot that was never cut holds nothing.
    async fn delete_uncut(&self, name: &str) -> Result<(), Error> {
        let Some(found) = self.snapshots().get_opt(name).await.doing("looking for the VolumeSnapshot")? else {
            return Ok(());
        };
        if found.labels().get(names::OWNER_UID) != Some(&self.owner.uid) {
            return Ok(());
        }
        let params = DeleteParams::default().preconditions(Preconditions { uid: found.uid(), resource_version: found.resource_version() });
        match self.snapshots().delete(name, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()).doing("deleting the snapshot that was not cut"),
        }
    }
}

fn follow(volume: &VolumeStatus, exposed: &Exposed, phase: VolumePhase) -> VolumeStatus {
    let status = exposed.run.as_ref().and_then(|r| r.status.clone()).unwrap_or_default();
    let since = if phase == volume.phase { volume.since } else { status.started_at.or(volume.since) };
    VolumeStatus { phase, since, progress: status.progress, ..volume.clone() }
}

/// What is written on a snapshot about its volume; defaults where it is not Borgherd's.
pub fn facts(snapshot: Option<&VolumeSnapshot>) -> VolumeFacts {
    let text = snapshot.and_then(|s| s.annotations().get(VOLUME_FACTS));
    text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default()
}

/// A duration in seconds, with fractions.
pub fn seconds(duration: chrono::Duration) -> f64 {
    duration.as_seconds_f64()
}

/// The time that names of a Backup's snapshots carry.
pub fn named_at(backup: &Backup) -> DateTime<Utc> {
    backup.spec.scheduled_time.or_else(|| time::created(backup)).unwrap_or_default()
}
