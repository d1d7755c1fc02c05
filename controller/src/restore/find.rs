//! The first half of a Restore: what there is, and which of it is meant.

use super::apply::Work;
use super::resolve::{self, Found};
use crate::error::{Doing, Error};
use crate::expose::{Exposed, clean};
use crate::repository::{self, Chosen, Unusable, damage, record};
use crate::run;
use borgherd_api::Reason;
use borgherd_api::crd::{ListOptions, Operation, RestorePhase, RestoreStatus, RunVolume, SourceKind, VolumeFacts};
use borgherd_api::names;
use kube::api::Api;

/// Candidates that a status shows.
const SHOWN: usize = 1000;

impl Work<'_> {
    pub(super) fn repository(&self) -> Result<Chosen, Unusable> {
        let source = &self.restore.spec.source;
        let policy = self.ctx.world().policy(&self.owner.namespace, &source.pvc).ok();
        let wanted = source.repository.clone().or_else(|| policy.and_then(|p| p.repository));
        let subject = repository::Subject { cluster: &self.ctx.cluster_uid, namespace: &self.owner.namespace, pvc: &source.pvc };
        repository::choose(&self.ctx.stores.repositories.state(), wanted.as_deref(), subject)
    }

    /// A target that exists is refused before anything else is done.
    pub(super) async fn begin(&self, status: &RestoreStatus) -> Result<RestoreStatus, Error> {
        let spec = &self.restore.spec;
        if let Some(question) = &spec.retention {
            return self.ask_verdicts(status, question).await;
        }
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

    pub(super) async fn list_archives(&self, chosen: &Chosen) -> Result<Result<String, Unusable>, Error> {
        let node = match self.reader() {
            Ok(node) => node,
            Err(unusable) => return Ok(Err(unusable)),
        };
        let name = names::run(&self.name(), 0);
        self.order(&name, node, chosen, None, Operation::List(ListOptions::default())).await?;
        Ok(Ok(name))
    }

    /// A node whose agent may look into a repository: the one with borg's cache, else any.
    pub(super) fn reader(&self) -> Result<String, Unusable> {
        let preferred = self.ctx.world().last_node(&self.owner.namespace, self.pvc());
        let node = preferred.filter(|node| self.ctx.has_agent(node)).or_else(|| self.ctx.agents().min());
        node.ok_or_else(|| Unusable {
            reason: Reason::AgentNotFound,
            message: "no agent runs on any node, so archives cannot be listed".into(),
        })
    }

    pub(super) async fn order(
        &self,
        name: &str,
        node: String,
        chosen: &Chosen,
        volume: Option<RunVolume>,
        operation: Operation,
    ) -> Result<(), Error> {
        let order = run::Order { name, owner: &self.owner, pvc: self.pvc(), node, chosen, volume, operation, time_zone: "UTC" };
        run::create(self.ctx, order).await
    }

    pub(super) async fn resolve(&self, status: &RestoreStatus, exposed: &Exposed) -> Result<RestoreStatus, Error> {
        if self.restore.spec.retention.is_some() {
            return self.take_verdicts(status, exposed).await;
        }
        let source = &self.restore.spec.source;
        let mut found: Vec<Found> = vec![];
        if source.from != Some(SourceKind::Archive) {
            found.extend(resolve::snapshots(self.ctx, &self.owner.namespace, self.pvc()).await?);
        }
        let mut archives = exposed.run.as_ref().map(|run| resolve::archives(run)).transpose();
        if let Some(run) = &exposed.run {
            let (at, pvc) = (&run.spec.repository, (self.owner.namespace.as_str(), self.pvc()));
            if let Err(Unusable { reason: Reason::RepositoryCorrupted, message }) = &archives {
                damage::found(self.ctx, at, pvc, message).await.doing("recording damage")?;
            }
            let records = Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace);
            let doubtful = record::doubtful(&records, &at.location, pvc).await.doing("reading the repository's record")?;
            archives = archives.map(|found| found.map(|found| resolve::with_doubts(found, &doubtful)));
            // Read; whoever asked may delete the Restore at any moment now.
            clean::delete(&Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace), run)
                .await
                .doing("deleting the list run")?;
        }
        if self.restore.spec.preview {
            let (archives, problem) = match archives {
                Ok(archives) => (archives.unwrap_or_default(), None),
                Err(unusable) => (vec![], Some(unusable)),
            };
            let sizes = resolve::sizes(self.ctx, &self.owner.namespace).await?;
            return Ok(self.shown(status, found, resolve::with_sizes(archives, &sizes), problem));
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

    pub(super) fn shown(
        &self,
        status: &RestoreStatus,
        mut found: Vec<Found>,
        archives: Vec<Found>,
        problem: Option<Unusable>,
    ) -> RestoreStatus {
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
    pub(super) async fn facts(&self, written: Option<VolumeFacts>) -> Result<Option<VolumeFacts>, Error> {
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
}
