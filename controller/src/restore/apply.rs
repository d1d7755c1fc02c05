//! Carrying out one step of a Restore. Returns its new status.

use super::decide::Step;
use crate::admission::Ticket;
use crate::backup::decide::retry;
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::expose::{Exposed, clean};
use crate::repository::{Unusable, damage};
use borgherd_api::Reason;
use borgherd_api::crd::{Owner, Restore, RestorePhase, RestoreSource, RestoreStatus, RunVolume};
use borgherd_api::names;
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::Api;

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
        let owner = Owner::of(restore);
        Self { ctx, restore, owner, now: (ctx.clock)() }
    }

    pub(super) fn pvc(&self) -> &str {
        &self.restore.spec.source.pvc
    }

    pub(super) fn name(&self) -> String {
        names::temporary(&self.owner.uid, self.pvc())
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket { uid: self.owner.uid.clone(), pvc: self.pvc().to_owned() }
    }

    pub(super) fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.ctx.client.clone(), &self.owner.namespace)
    }

    pub(super) fn enter(&self, status: &RestoreStatus, phase: RestorePhase) -> RestoreStatus {
        RestoreStatus {
            phase,
            since: Some(self.now),
            started_at: status.started_at.or(Some(self.now)),
            reason: None,
            message: None,
            ..status.clone()
        }
    }

    pub(super) fn failed(&self, status: &RestoreStatus, reason: Reason, message: impl Into<String>) -> RestoreStatus {
        self.leave();
        let again = (status.attempt > 0).then(|| retry(reason, status.attempt, &self.ctx.config.limits, self.now)).flatten();
        let failed = RestoreStatus {
            reason: Some(reason),
            message: Some(message.into().chars().take(4000).collect()),
            not_before: again,
            ..self.enter(status, RestorePhase::Cleaning)
        };
        if is_chosen_anew(reason, &self.restore.spec.source, status.attempt, self.ctx.config.limits.attempts) {
            return RestoreStatus { not_before: Some(self.now), resolved: None, facts: None, ..failed };
        }
        failed
    }

    pub(super) fn refused(&self, status: &RestoreStatus, unusable: Unusable) -> RestoreStatus {
        self.failed(status, unusable.reason, unusable.message)
    }

    pub(super) fn leave(&self) {
        let woken = self.ctx.admission.leave(&self.ticket(), self.ctx.capacity());
        self.ctx.wake(&woken);
    }

    pub(super) fn ended(&self, status: &RestoreStatus, phase: RestorePhase) -> RestoreStatus {
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
            Step::Fail(reason, message) => {
                if let (Reason::RepositoryCorrupted, Some(run)) = (reason, &exposed.run) {
                    let pvc = (self.owner.namespace.as_str(), self.pvc());
                    damage::found(self.ctx, &run.spec.repository, pvc, &message).await.doing("recording damage")?;
                }
                Ok(self.failed(status, reason, message))
            }
            Step::Clean => {
                clean::step(self.ctx, exposed).await.doing("cleaning up")?;
                Ok(status.clone())
            }
            Step::Finish => Ok(self.finish(status)),
            Step::Abandon => Ok(self.finish(&RestoreStatus { not_before: None, ..status.clone() })),
        }
    }

    fn finish(&self, status: &RestoreStatus) -> RestoreStatus {
        if status.not_before.is_some() {
            let again = self.enter(status, RestorePhase::Pending);
            return RestoreStatus { reason: status.reason, message: status.message.clone(), run: None, volume: None, ..again };
        }
        RestoreStatus { reason: status.reason, message: status.message.clone(), run: None, ..self.ended(status, RestorePhase::Failed) }
    }
}

/// The archive was pruned after it was chosen: the newest that matches now is taken, unless it was asked for by its name.
fn is_chosen_anew(reason: Reason, source: &RestoreSource, attempt: u32, attempts: u32) -> bool {
    reason == Reason::ArchiveNotFound && source.name.is_none() && (1..attempts).contains(&attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pruned_meanwhile_is_chosen_anew_unless_it_has_a_name() {
        let latest = RestoreSource::default();
        let named = RestoreSource { name: Some("a".into()), ..RestoreSource::default() };
        for (reason, source, attempt, anew) in [
            (Reason::ArchiveNotFound, &latest, 1, true),
            (Reason::ArchiveNotFound, &latest, 3, false),
            (Reason::ArchiveNotFound, &latest, 0, false),
            (Reason::ArchiveNotFound, &named, 1, false),
            (Reason::ConnectionFailed, &latest, 1, false),
        ] {
            assert_eq!(is_chosen_anew(reason, source, attempt, 3), anew, "{reason} {attempt}");
        }
    }
}
