//! Carrying out one step of a Restore. Returns its new status.

use super::decide::Step;
use super::handover::{self, Handed, Handover};
use super::resolve::{self, Found};
use crate::admission::{Answer, Request, Ticket};
use crate::backup::apply::{Doing, Error};
use crate::backup::decide::retry;
use crate::context::Context;
use crate::expose::{self, Exposed, clean, objects};
use crate::repository::{self, Chosen, Unusable, record};
use borgherd_api::Reason;
use borgherd_api::crd::{
    BorgRun, BorgRunSpec, ListOptions, Operation, Owner, Restore, RestoreOptions, RestorePhase, RestoreStatus, RestoreTarget,
    RunRepository, RunVolume, SourceKind, Subject, VolumeFacts,
};
use borgherd_api::names::{self, OWNER};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::json;

/// Candidates that a status shows.
const SHOWN: usize = 1000;

/// One Restore being worked on.
pub struct Work<'a> {
    /// Everything shared.
    pub ctx: &'a Context,
    /// The Restore as it was last written.
    pub restore: &'a Restore,
    /// It, as the owner of what is made.
    pub owner: Owner,
    /// Now.
    pub now: DateTime<Utc>,
}

impl<'a> Work<'a> {
    /// Of a Restore.
    pub fn new(ctx: &'a Context, restore: &'a Restore) -> Self {
        let owner = Owner {
            kind: "Restore".into(),
            namespace: restore.namespace().unwrap_or_default(),
            name: restore.name_any(),
            uid: restore.uid().unwrap_or_default(),
        };
        Self { ctx, restore, owner, now: (ctx.clock)() }
    }

    fn pvc(&self) -> &str {
        &self.restore.spec.source.pvc
    }

    fn name(&self) -> String {
        names::temporary(&self.owner.uid, self.pvc())
    }

    fn ticket(&self) -> Ticket {
        Ticket { uid: self.owner.uid.clone(), pvc: self.pvc().to_owned() }
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.ctx.client.clone(), &self.owner.namespace)
    }

    fn enter(&self, status: &RestoreStatus, phase: RestorePhase) -> RestoreStatus {
        RestoreStatus {
            phase,
            since: Some(self.now),
            started_at: status.started_at.or(Some(self.now)),
            reason: None,
            message: None,
            ..status.clone()
        }
    }

    fn failed(&self, status: &RestoreStatus, reason: Reason, message: impl Into<String>) -> RestoreStatus {
        self.leave();
        RestoreStatus {
            reason: Some(reason),
            message: Some(message.into().chars().take(4000).collect()),
            not_before: (status.attempt > 0).then(|| retry(reason, status.attempt, &self.ctx.config.limits, self.now)).flatten(),
            ..self.enter(status, RestorePhase::Cleaning)
        }
    }

    fn refused(&self, status: &RestoreStatus, unusable: Unusable) -> RestoreStatus {
        self.failed(status, unusable.reason, unusable.message)
    }

    fn leave(&self) {
        let woken = self.ctx.admission.leave(&self.ticket(), self.ctx.capacity());
        self.ctx.wake(&woken);
    }

    fn ended(&self, status: &RestoreStatus, phase: RestorePhase) -> RestoreStatus {
        self.leave();
        RestoreStatus { finished_at: Some(self.now), ..self.enter(status, phase) }
    }

    /// Carries `step` out.
    pub async fn apply(&self, status: &RestoreStatus, exposed: &Exposed, step: Step) -> Result<RestoreStatus, Error> {
        match step {
            Step::Wait(_) => Ok(status.clone()),
            Step::Begin => self.begin(status).await,
            Step::Resolve => self.resolve(status, exposed).await,
            Step::Prepare => self.prepare(status).await,
            Step::Run { node, holder, pv } => self.run(status, exposed, node, RunVolume { holder_uid: holder, pv }).await,
            Step::FindRun => self.find_run(status).await,
            Step::Follow(phase) => {
                let told = exposed.run.as_ref().and_then(|r| r.status.clone()).unwrap_or_default();
                let since = if phase == status.phase { status.since } else { Some(self.now) };
                Ok(RestoreStatus { phase, since, progress: told.progress, ..status.clone() })
            }
            Step::Extracted => {
                let progress = exposed.run.as_ref().and_then(|r| r.status.as_ref()?.progress).or(status.progress);
                self.leave();
                Ok(RestoreStatus { progress, ..self.enter(status, RestorePhase::HandingOver) })
            }
            Step::HandOver => self.hand_over(status, exposed).await,
            Step::Fail(reason, message) => Ok(self.failed(status, reason, message)),
            Step::Clean => {
                clean::step(self.ctx, exposed).await.doing("cleaning up")?;
                Ok(status.clone())
            }
            Step::Finish => Ok(self.finish(status)),
        }
    }

    fn finish(&self, status: &RestoreStatus) -> RestoreStatus {
        if status.not_before.is_some() {
            let again = self.enter(status, RestorePhase::Pending);
            return RestoreStatus { reason: status.reason, message: status.message.clone(), run: None, volume: None, ..again };
        }
        RestoreStatus { reason: status.reason, message: status.message.clone(), run: None, ..self.ended(status, RestorePhase::Failed) }
    }

    fn repository(&self) -> Result<Chosen, Unusable> {
        let source = &self.restore.spec.source;
        let policy = self.ctx.world().policy(&self.owner.namespace, &source.pvc).ok();
        let wanted = source.repository.clone().or_else(|| policy.and_then(|p| p.repository));
        let subject = repository::Subject { cluster: &self.ctx.cluster_uid, namespace: &self.owner.namespace, pvc: &source.pvc };
        repository::choose(&self.ctx.stores.repositories.state(), wanted.as_deref(), subject)
    }

    /// A target that exists is refused before anything else is done.
    async fn begin(&self, status: &RestoreStatus) -> Result<RestoreStatus, Error> {
        let spec = &self.restore.spec;
        if let Some(target) = &spec.target
            && self.claims().get_opt(&target.pvc).await.doing("looking for the target PVC")?.is_some()
        {
            let message =
                format!("PVC {} exists in namespace {}; choose another name, or delete it first", target.pvc, self.owner.namespace);
            return Ok(self.failed(status, Reason::TargetExists, message));
        }
        if spec.source.from == Some(SourceKind::Snapshot) {
            return Ok(self.enter(status, RestorePhase::Resolving));
        }
        let listed = match self.repository() {
            Ok(chosen) => self.list_archives(&chosen).await?,
            Err(unusable) => Err(unusable),
        };
        match listed {
            Ok(run) => Ok(RestoreStatus { run: Some(run), ..self.enter(status, RestorePhase::Resolving) }),
            // Without a repository there may still be snapshots to look at.
            Err(unusable) if spec.preview => Ok(RestoreStatus {
                reason: Some(unusable.reason),
                message: Some(unusable.message),
                ..self.enter(status, RestorePhase::Resolving)
            }),
            Err(unusable) => Ok(self.refused(status, unusable)),
        }
    }

    async fn list_archives(&self, chosen: &Chosen) -> Result<Result<String, Unusable>, Error> {
        let preferred = self.ctx.world().last_node(&self.owner.namespace, self.pvc());
        let nodes: Vec<String> =
            self.ctx.stores.agents.state().iter().filter_map(|l| Some(l.name_any().strip_prefix("agent-")?.to_owned())).collect();
        let node = preferred.filter(|n| nodes.contains(n)).or_else(|| nodes.iter().min().cloned());
        let Some(node) = node else {
            return Ok(Err(Unusable {
                reason: Reason::AgentNotFound,
                message: "no agent runs on any node, so archives cannot be listed".into(),
            }));
        };
        let name = names::run(&self.name(), 0);
        self.create_run(&name, node, chosen, None, Operation::List(ListOptions { last: None })).await?;
        Ok(Ok(name))
    }

    async fn create_run(
        &self,
        name: &str,
        node: String,
        chosen: &Chosen,
        volume: Option<RunVolume>,
        operation: Operation,
    ) -> Result<(), Error> {
        let records: Api<ConfigMap> = Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace);
        let known = record::read(&records, &chosen.location).await.doing("reading the repository's record")?;
        let (labels, annotations) = expose::marks(&self.owner);
        let mut run = BorgRun::new(
            name,
            BorgRunSpec {
                node,
                subject: Subject { namespace: self.owner.namespace.clone(), pvc: self.pvc().to_owned() },
                owner: self.owner.clone(),
                repository: RunRepository {
                    name: chosen.name.clone(),
                    location: chosen.location.clone(),
                    secret_ref: chosen.spec.secret_ref.clone(),
                    encryption: chosen.spec.encryption,
                    rate_limit: None,
                    may_init: false,
                    expected_id: known.and_then(|r| r.id),
                },
                volume,
                operation,
                time_zone: "UTC".into(),
                deadline: self.now + chrono::Duration::from_std(self.ctx.config.timeouts.run).unwrap_or_default(),
            },
        );
        run.metadata.namespace = Some(self.ctx.config.namespace.clone());
        run.metadata.labels = Some(labels);
        run.metadata.annotations = Some(annotations);
        expose::get_or_create(&Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace), &run)
            .await
            .doing("creating the BorgRun")
    }

    async fn resolve(&self, status: &RestoreStatus, exposed: &Exposed) -> Result<RestoreStatus, Error> {
        let source = &self.restore.spec.source;
        let mut found: Vec<Found> = vec![];
        if source.from != Some(SourceKind::Archive) {
            found.extend(resolve::snapshots(self.ctx, &self.owner.namespace, self.pvc()).await?);
        }
        let archives = exposed.run.as_ref().map(|run| resolve::archives(run)).transpose();
        if self.restore.spec.preview {
            let (archives, problem) = match archives {
                Ok(archives) => (archives.unwrap_or_default(), None),
                Err(unusable) => (vec![], Some(unusable)),
            };
            return Ok(self.shown(status, found, archives, problem));
        }
        let chosen = archives.and_then(|archives| {
            found.extend(archives.unwrap_or_default());
            resolve::choose(source, found)
        });
        match chosen {
            Err(unusable) => Ok(self.refused(status, unusable)),
            Ok(Found { candidate, facts }) => {
                let kind = candidate.kind;
                let resolved = RestoreStatus { resolved: Some(candidate), facts: self.facts(facts).await?, ..status.clone() };
                let next = if kind == SourceKind::Snapshot { RestorePhase::HandingOver } else { RestorePhase::Pending };
                Ok(self.enter(&resolved, next))
            }
        }
    }

    fn shown(&self, status: &RestoreStatus, mut found: Vec<Found>, archives: Vec<Found>, problem: Option<Unusable>) -> RestoreStatus {
        found.extend(archives);
        resolve::newest_first(&mut found);
        let (reason, message) = problem.map_or((status.reason, status.message.clone()), |p| (Some(p.reason), Some(p.message)));
        RestoreStatus {
            candidates: found.into_iter().map(|f| f.candidate).take(SHOWN).collect(),
            reason,
            message,
            ..self.ended(status, RestorePhase::Succeeded)
        }
    }

    /// What Borgherd wrote down, or else what the source PVC says, if it is still there.
    async fn facts(&self, written: Option<VolumeFacts>) -> Result<Option<VolumeFacts>, Error> {
        if written.as_ref().is_some_and(|f| !f.size.is_empty()) {
            return Ok(written);
        }
        let claim = self.claims().get_opt(self.pvc()).await.doing("reading the source PVC")?;
        Ok(claim.and_then(|c| c.spec).map(|spec| VolumeFacts {
            size: spec.resources.and_then(|r| r.requests?.get("storage").map(|q| q.0.clone())).unwrap_or_default(),
            storage_class: spec.storage_class_name,
            access_modes: spec.access_modes.unwrap_or_default(),
            ..VolumeFacts::default()
        }))
    }

    fn target(&self) -> RestoreTarget {
        self.restore.spec.target.clone().unwrap_or_default()
    }

    /// Size, class and first mode of what is made.
    fn shape(&self, status: &RestoreStatus) -> Result<(String, Option<String>, VolumeFacts), Unusable> {
        let facts = status.facts.clone().unwrap_or_default();
        let target = self.target();
        let size = target.size.unwrap_or_else(|| facts.size.clone());
        if objects::bytes(&size).is_none_or(|b| b == 0) {
            let message = format!("the size of the volume is not known (\"{size}\"); give one in spec.target.size, such as 10Gi");
            return Err(Unusable { reason: Reason::Invalid, message });
        }
        Ok((size, target.storage_class.or_else(|| facts.storage_class.clone()), facts))
    }

    async fn prepare(&self, status: &RestoreStatus) -> Result<RestoreStatus, Error> {
        let (chosen, shape) = match (self.repository(), self.shape(status)) {
            (Ok(chosen), Ok(shape)) => (chosen, shape),
            (Err(unusable), _) | (_, Err(unusable)) => return Ok(self.refused(status, unusable)),
        };
        let (size, class, facts) = shape;
        let request = Request {
            owner: (self.owner.namespace.clone(), self.owner.name.clone()),
            restore: true,
            namespace: self.owner.namespace.clone(),
            cut: status.started_at.unwrap_or(self.now),
            repository: chosen.name,
            max_concurrent: chosen.spec.max_concurrent.and_then(|n| usize::try_from(n).ok()),
            location: chosen.location.clone(),
            class: class.clone(),
        };
        let (answer, woken) = self.ctx.admission.ask(&self.ticket(), &request, self.ctx.capacity());
        self.ctx.wake(&woken);
        let waits = |reason: Reason, message: String| RestoreStatus { reason: Some(reason), message: Some(message), ..status.clone() };
        match answer {
            Answer::Granted => {}
            Answer::RepositoryBusy => return Ok(waits(Reason::WaitingForRepository, format!("another run uses {}", chosen.location))),
            Answer::Full | Answer::Superseded => {
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

    async fn run(&self, status: &RestoreStatus, exposed: &Exposed, node: String, at: RunVolume) -> Result<RestoreStatus, Error> {
        let chosen = match self.repository() {
            Ok(chosen) => chosen,
            Err(unusable) => return Ok(self.refused(status, unusable)),
        };
        let Some(resolved) = &status.resolved else {
            return Err(Error::Missing("what to restore".into()));
        };
        let (labels, annotations) = expose::marks(&self.owner);
        let marked = clean::own_volume(&self.ctx.client, &at.pv, Some(&labels), Some(&annotations), exposed.volume.as_ref());
        marked.await.doing("marking the volume to restore into")?;
        let name = names::run(&self.name(), status.attempt);
        let volume = at.pv.clone();
        let operation = Operation::Restore(RestoreOptions { archive: resolved.name.clone() });
        self.create_run(&name, node.clone(), &chosen, Some(at), operation).await?;
        Ok(RestoreStatus { node: Some(node), run: Some(name), volume: Some(volume), ..self.enter(status, RestorePhase::Queued) })
    }

    async fn find_run(&self, status: &RestoreStatus) -> Result<RestoreStatus, Error> {
        let name = status.run.clone().unwrap_or_default();
        let runs: Api<BorgRun> = Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace);
        match runs.get_opt(&name).await.doing("looking for the BorgRun")? {
            Some(_) => Err(Error::Missing(format!("BorgRun {name} is there, but not yet in the cache"))),
            None => Ok(self.failed(status, Reason::Interrupted, format!("BorgRun {name} was deleted before it had ended"))),
        }
    }

    async fn hand_over(&self, status: &RestoreStatus, exposed: &Exposed) -> Result<RestoreStatus, Error> {
        let from_snapshot = status.resolved.as_ref().is_some_and(|r| r.kind == SourceKind::Snapshot);
        if from_snapshot {
            return self.make_from_snapshot(status).await;
        }
        let volume = status.volume.clone().unwrap_or_default();
        let owner = format!("Restore/{}/{}", self.owner.namespace, self.owner.name);
        let target = self.target();
        let handover = Handover { namespace: &self.owner.namespace, target: &target, volume: &volume, owner: &owner };
        match handover::step(self.ctx, handover, exposed).await? {
            Handed::Waiting => Ok(self.slow_handover(status)),
            Handed::Done => Ok(self.ended(status, RestorePhase::Succeeded)),
            Handed::Failed(unusable) => Ok(self.refused(status, unusable)),
        }
    }

    /// After the deadline the status says that the target is not bound yet; the handover goes on.
    fn slow_handover(&self, status: &RestoreStatus) -> RestoreStatus {
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
    async fn make_from_snapshot(&self, status: &RestoreStatus) -> Result<RestoreStatus, Error> {
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
                return Ok(self.failed(status, Reason::Invalid, format!("the target PVC was refused: {}", answer.message)));
            }
            Err(error) => return Err(error).doing("creating the target PVC"),
        }
        Ok(self.ended(status, RestorePhase::Succeeded))
    }
}
