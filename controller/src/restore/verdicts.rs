//! A preview that asks what becomes of the archives: by the code that prunes, in a run that deletes nothing.

use super::apply::Work;
use super::resolve;
use crate::error::{Doing, Error};
use crate::expose::{Exposed, clean};
use crate::maintenance::preview::{self, Asked, Question};
use crate::repository::Unusable;
use crate::run;
use borgherd_api::Reason;
use borgherd_api::crd::{ListOptions, Operation, RestorePhase, RestoreStatus, RetentionQuestion, RunPhase};
use borgherd_api::names;
use kube::api::Api;

impl Work<'_> {
    /// Answers what is known without looking, else has an agent look. What is against deleting waits in the status for its answer.
    pub(super) async fn ask_verdicts(&self, status: &RestoreStatus, question: &RetentionQuestion) -> Result<RestoreStatus, Error> {
        let pvc = (self.owner.namespace.as_str(), self.pvc());
        let Question { chosen, options, zone, held } = match preview::ask(self.ctx, pvc, question.archive_keep.as_deref()).await? {
            Ok(Asked::Ask(question)) => *question,
            Ok(Asked::Known(judged)) => {
                return Ok(RestoreStatus { judged: Some(judged), ..self.ended(status, RestorePhase::Succeeded) });
            }
            Err(unusable) => return Ok(self.refused(status, unusable)),
        };
        let node = match self.reader() {
            Ok(node) => node,
            Err(unusable) => return Ok(self.refused(status, unusable)),
        };
        let name = names::run(&self.name(), 0);
        let operation = Operation::List(ListOptions { judge: Some(options), last: None });
        let order = run::Order {
            name: &name,
            owner: &self.owner,
            pvc: self.pvc(),
            node,
            chosen: &chosen,
            volume: None,
            operation,
            time_zone: zone,
        };
        run::create(self.ctx, order).await?;
        Ok(RestoreStatus { run: Some(name), judged: Some(held), ..self.enter(status, RestorePhase::Resolving) })
    }

    /// Takes over what the agent found.
    pub(super) async fn take_verdicts(&self, status: &RestoreStatus, exposed: &Exposed) -> Result<RestoreStatus, Error> {
        let Some(run) = &exposed.run else {
            return Err(Error::Missing("the run that judges".into()));
        };
        let told = run.status.clone().unwrap_or_default();
        let runs = Api::namespaced(self.ctx.client.clone(), &self.ctx.config.namespace);
        clean::delete(&runs, run).await.doing("deleting the run that judged")?;
        if told.phase != RunPhase::Succeeded {
            return Ok(self.refused(status, resolve::unlisted(&told)));
        }
        let Some(found) = told.judged else {
            let message = "the agent on the node is older than the controller and cannot judge archives".to_owned();
            return Ok(self.refused(status, Unusable { reason: Reason::BorgFailed, message }));
        };
        let held = status.judged.clone().unwrap_or_default();
        Ok(RestoreStatus { judged: Some(preview::answer(&held, found)), ..self.ended(status, RestorePhase::Succeeded) })
    }
}
