//! The second half of a volume's way: admitted, cloned, held, run, and the run's end taken over.

use super::work::{Work, affinity, facts, seconds};
use super::{decide, status};
use crate::admission::{Answer, Request, Turn};
use crate::error::{Doing, Error};
use crate::expose::{self, Exposed, objects};
use crate::repository::{self, Unusable, damage, record};
use crate::run;
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{ArchiveOptions, Durations, LiveStatus, Operation, Outcome, RunVolume, VolumePhase, VolumeStatus};
use borgherd_api::names;
use borgherd_api::policy::Policy;
use kube::api::Api;

impl Work<'_> {
    /// The Repository of a volume: the one it began with, else that of its policy.
    pub(super) fn repository(&self, volume: &VolumeStatus, policy: &Policy) -> Result<repository::Chosen, Unusable> {
        let all = self.ctx.stores.repositories.state();
        let wanted = volume.repository.as_deref().or(policy.repository.as_deref());
        repository::choose(
            &all,
            wanted,
            repository::Subject { cluster: &self.ctx.cluster_uid, namespace: &self.owner.namespace, pvc: &volume.pvc },
        )
    }

    /// What the ledger is asked for, without the Repository's limit: that matters only until it is granted.
    fn request(&self, volume: &VolumeStatus, repository: &str, location: &str, snapshot: Option<&VolumeSnapshot>) -> Request {
        let class = || self.policy(&volume.pvc).ok().and_then(|policy| policy.clone_class).or_else(|| facts(snapshot).storage_class);
        Request {
            owner: (self.owner.namespace.clone(), self.owner.name.clone()),
            turn: Turn::Backup,
            namespace: self.owner.namespace.clone(),
            // a live volume has no cut yet, and must keep its place
            cut: volume.cut.or(volume.since.filter(|_| volume.live.is_some())).unwrap_or(self.now),
            repository: repository.to_owned(),
            max_concurrent: None,
            location: location.to_owned(),
            class: volume.live.is_none().then(class).flatten(),
        }
    }

    /// What an earlier process had admitted keeps its place.
    pub fn adopt(&self) {
        for volume in status::volumes(self.backup) {
            let admitted = matches!(volume.phase, VolumePhase::Cloning | VolumePhase::Queued | VolumePhase::Archiving);
            if let (true, Some(repository), Some(location)) = (admitted, &volume.repository, &volume.location) {
                let snapshot = self.cached_snapshot(&volume);
                self.ctx.admission.adopt(self.ticket(&volume.pvc), self.request(&volume, repository, location, snapshot.as_deref()));
            }
        }
    }

    pub(super) fn admit(&self, volume: &VolumeStatus, snapshot: Option<&VolumeSnapshot>) -> VolumeStatus {
        let chosen = match self.policy(&volume.pvc).and_then(|policy| self.repository(volume, &policy)) {
            Ok(chosen) => chosen,
            Err(Unusable { reason, message }) => return self.failed(volume, reason, message),
        };
        let max_concurrent = chosen.spec.max_concurrent.and_then(|n| usize::try_from(n).ok());
        let request = Request { max_concurrent, ..self.request(volume, &chosen.name, &chosen.location, snapshot) };
        let (answer, woken) = self.ctx.admission.ask(&self.ticket(&volume.pvc), &request, self.ctx.capacity());
        self.ctx.wake(&woken);
        let waits = |reason: Reason, message: String| VolumeStatus { reason: Some(reason), message: Some(message), ..volume.clone() };
        match answer {
            Answer::RepositoryBusy => waits(Reason::WaitingForRepository, format!("another run writes to {}", chosen.location)),
            Answer::Full => waits(Reason::WaitingForCapacity, "waits for a free slot or for a place within a limit".into()),
            Answer::Parked(why) => waits(Reason::RepositoryParked, why),
            Answer::Superseded => VolumeStatus {
                outcome: Some(Outcome::Superseded),
                reason: Some(Reason::Superseded),
                message: Some(match volume.live {
                    None => "a newer cut of this volume is archived in its place; the snapshot stays".into(),
                    Some(_) => "a newer backup of this volume goes in its place".into(),
                }),
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
                    live: volume.live.clone().map(|live| LiveStatus { held: false, ..live }),
                    quiesced: volume.quiesced.filter(|_| volume.live.is_none()),
                    durations: Some(durations),
                    ..self.enter(volume, VolumePhase::Cloning)
                }
            }
        }
    }

    pub(super) async fn clone_snapshot(&self, volume: &VolumeStatus, snapshot: Option<&VolumeSnapshot>) -> Result<VolumeStatus, Error> {
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

    pub(super) async fn clone_volume(
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
        // where the source can be mounted, so can its clone
        let affinity = affinity(snapshot);
        // the node of the try before knows what became of it, that of the last archive has its cache
        let tried = volume.node.clone().filter(|node| self.ctx.has_agent(node));
        let preferred = tried.or_else(|| self.ctx.world().last_node(&self.owner.namespace, &volume.pvc));
        let namespace = &self.ctx.config.volumes_namespace;
        let claim = place.clone_claim(&facts(snapshot), restore_size.as_deref(), class.as_deref())?;
        expose::get_or_create(&Api::namespaced(self.ctx.client.clone(), namespace), &claim).await.doing("creating the clone")?;
        let holder = place.holder(true, affinity.as_ref(), preferred.as_deref())?;
        expose::get_or_create(&Api::namespaced(self.ctx.client.clone(), namespace), &holder).await.doing("creating the holder")?;
        Ok(volume.clone())
    }

    pub(super) async fn run(
        &self,
        volume: &VolumeStatus,
        snapshot: Option<&VolumeSnapshot>,
        exposed: &Exposed,
        node: String,
        at: RunVolume,
    ) -> Result<VolumeStatus, Error> {
        let (labels, annotations) = expose::marks(&self.owner);
        let marked = expose::volume::own(&self.ctx.client, &at.pv, Some(&labels), Some(&annotations), exposed.volume.as_ref());
        marked.await.doing("setting the clone's volume to Delete")?;
        let policy = match self.policy(&volume.pvc) {
            Ok(policy) => policy,
            Err(Unusable { reason, message }) => return Ok(self.failed(volume, reason, message)),
        };
        let chosen = match self.repository(volume, &policy) {
            Ok(chosen) => chosen,
            Err(Unusable { reason, message }) => return Ok(self.failed(volume, reason, message)),
        };
        let cut = volume.cut.ok_or_else(|| Error::Missing("the cut".into()))?;
        let name = names::run(&self.temporary(&volume.pvc), volume.attempt);
        let operation = Operation::Archive(ArchiveOptions {
            name: names::archive(&self.owner.namespace, &volume.pvc, cut),
            cut,
            facts: facts(snapshot),
            exclude: policy.exclude,
            compression: policy.compression,
            files_cache: policy.files_cache,
            live: None,
        });
        let order = run::Order {
            name: &name,
            owner: &self.owner,
            pvc: &volume.pvc,
            node: node.clone(),
            chosen: &chosen,
            volume: Some(at),
            operation,
            time_zone: policy.time_zone.name(),
        };
        run::create(self.ctx, order).await?;
        let durations = Durations { clone: self.since(volume.since), ..volume.durations.unwrap_or_default() };
        Ok(VolumeStatus { node: Some(node), run: Some(name), durations: Some(durations), ..self.enter(volume, VolumePhase::Queued) })
    }

    pub(super) async fn find_run(&self, volume: &VolumeStatus) -> Result<VolumeStatus, Error> {
        let name = volume.run.clone().unwrap_or_default();
        let message = run::deleted(self.ctx, &name).await?;
        Ok(self.failed(volume, Reason::Interrupted, message))
    }

    /// Takes over a run's end. The record of the repository is written before the status says that an archive exists.
    pub(super) async fn conclude(&self, volume: &VolumeStatus, exposed: &Exposed) -> Result<VolumeStatus, Error> {
        let Some(run) = &exposed.run else {
            return Err(Error::Missing("the run".into()));
        };
        let (outcome, reason, message) = decide::ended(run);
        let status = run.status.clone().unwrap_or_default();
        let pvc = (self.owner.namespace.as_str(), volume.pvc.as_str());
        if outcome.is_some() && volume.live.is_some() && volume.cut.is_none() {
            return Ok(self.failed(volume, Reason::Interrupted, "it was read before the applications were held still"));
        }
        if let (Some(_), Some(cut)) = (outcome, volume.cut) {
            let location = &run.spec.repository.location;
            record::write(&self.records(), location, status.repository_id.as_deref(), cut).await.doing("recording the repository")?;
            if outcome == Some(Outcome::Incomplete) {
                record::lacks_files(&self.records(), location, pvc, cut).await.doing("recording that the archive lacks files")?;
            }
            if volume.live.is_some() {
                record::trust(&self.records(), location, pvc, cut).await.doing("recording that the archive is right")?;
            }
        }
        if reason == Some(Reason::RepositoryCorrupted) {
            let found = damage::found(self.ctx, &run.spec.repository, pvc, status.message.as_deref().unwrap_or_default());
            found.await.doing("recording damage")?;
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
}

/// Takes over how far the run is.
pub(super) fn follow(volume: &VolumeStatus, exposed: &Exposed, phase: VolumePhase) -> VolumeStatus {
    let status = exposed.run.as_ref().and_then(|r| r.status.clone()).unwrap_or_default();
    let since = if phase == volume.phase { volume.since } else { status.started_at.or(volume.since) };
    VolumeStatus { phase, since, progress: status.progress, ..volume.clone() }
}
