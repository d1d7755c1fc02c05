//! What pruning would do now: the question an agent is asked, and what the controller itself knows against it.

use super::apply::{self, doubt, prune_options, unrepaired};
use super::observe::{self, Said};
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::repository::{self, Chosen, Unusable, record};
use borgherd_api::Reason;
use borgherd_api::crd::{Judged, PruneOptions};
use borgherd_api::retention::Accepted;

/// What is to be found out, and about what.
#[derive(Debug)]
pub struct Question {
    /// Where the archives are.
    pub chosen: Chosen,
    /// By what an agent judges them.
    pub options: PruneOptions,
    /// IANA name of the clock it does it by.
    pub zone: &'static str,
    /// What is against deleting anything, beside what the agent finds.
    pub held: Judged,
}

/// The answer, or who can give it.
#[derive(Debug)]
pub enum Asked {
    /// Nothing is deleted, whatever there is.
    Known(Judged),
    /// An agent has to look.
    Ask(Box<Question>),
}

/// What pruning would do with the archives of a PVC (namespace, name) by `keep`, or else by what is in force.
///
/// # Errors
/// The API server's; within, why no repository can be looked into.
pub async fn ask(ctx: &Context, pvc: (&str, &str), keep: Option<&str>) -> Result<Result<Asked, Unusable>, Error> {
    let (namespace, name) = pvc;
    let (said, accepted) = observe::said(ctx, namespace, name);
    let held = |reason: Option<Reason>, message: String| Judged { reason, message: Some(message), ..Judged::default() };
    let keep = match (keep.map(str::to_owned), said) {
        (_, Said::Invalid(problem)) => {
            let message = format!("no archive is deleted by a policy that cannot be: {problem}");
            return Ok(Ok(Asked::Known(held(Some(Reason::Invalid), message))));
        }
        (Some(keep), _) | (None, Said::Keep(keep)) => keep,
        (None, Said::Nothing) => return Ok(Ok(Asked::Known(held(None, nothing_said(ctx, pvc))))),
    };
    let newest = observe::newest_of(&ctx.world(), namespace, name);
    let chosen = match &newest {
        Some(newest) => apply::choose(ctx, newest),
        None => by_policy(ctx, pvc),
    };
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(unusable) => return Ok(Err(unusable)),
    };
    let Some(record) = record::read(&apply::records(ctx), &chosen.location).await.doing("reading the repository's record")? else {
        let message = format!("nothing records an archive at {}", chosen.location);
        return Ok(Ok(Asked::Known(held(None, message))));
    };
    let tokens = Accepted::parse(&accepted);
    let known = unrepaired(pvc, &record, &tokens).or_else(|| doubt(ctx, newest.as_ref()?, &record, &tokens));
    let against = match (known, &newest) {
        _ if chosen.spec.append_only => {
            held(None, format!("Repository {} is append-only: nothing is deleted there from here", chosen.name))
        }
        (Some((reason, message)), _) => held(Some(reason), message),
        (None, None) => held(None, nothing_follows(ctx, pvc)),
        (None, Some(_)) => Judged::default(),
    };
    let options = prune_options(ctx, pvc, (&chosen, &record), &keep, &accepted).await?;
    let zone = ctx.world().policy(namespace, name).map_or("UTC", |policy| policy.time_zone.name());
    Ok(Ok(Asked::Ask(Box::new(Question { chosen, options, zone, held: against }))))
}

/// Puts what the controller knows before what the agent has found.
pub fn answer(held: &Judged, found: Judged) -> Judged {
    match &held.message {
        Some(message) => Judged { reason: held.reason, message: Some(message.clone()), ..found },
        None => found,
    }
}

fn by_policy(ctx: &Context, (namespace, pvc): (&str, &str)) -> Result<Chosen, Unusable> {
    let wanted = ctx.world().policy(namespace, pvc).ok().and_then(|policy| policy.repository);
    let subject = repository::Subject { cluster: &ctx.cluster_uid, namespace, pvc };
    repository::choose(&ctx.stores.repositories.state(), wanted.as_deref(), subject)
}

fn is_there(ctx: &Context, (namespace, pvc): (&str, &str)) -> bool {
    ctx.world().spaces.get(namespace).is_some_and(|space| space.claims.contains_key(pvc))
}

fn nothing_said(ctx: &Context, pvc: (&str, &str)) -> String {
    if is_there(ctx, pvc) { "archive-keep says nothing, so no archive is deleted".into() } else { gone(pvc) }
}

fn nothing_follows(ctx: &Context, pvc: (&str, &str)) -> String {
    if is_there(ctx, pvc) { "nothing is deleted before the next archive is made".into() } else { gone(pvc) }
}

fn gone((_, pvc): (&str, &str)) -> String {
    format!("PVC {pvc} is gone, so all its archives stay")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_controller_knows_goes_before_what_was_found_and_verdicts_stay() {
        let text = |text: &str| Some(text.to_owned());
        let found = Judged { left_out: 3, reason: Some(Reason::TooManyDeletions), message: text("many"), ..Judged::default() };
        assert_eq!(answer(&Judged::default(), found.clone()), found);
        let held = Judged { reason: None, message: text("append-only"), ..Judged::default() };
        assert_eq!(answer(&held, found), Judged { left_out: 3, reason: None, message: text("append-only"), ..Judged::default() });
    }
}
