//! Repositories that cannot be reached: after some runs in a row that could not, all but one at a time are parked, until one has come through.
//!
//! Invariant: who is parked is in the ledger (`admission`) and in the Repository's status, from which the next process takes it over. What a
//! run says counts once.

use crate::context::Context;
use crate::events;
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, Repository, RunPhase};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use kube::ResourceExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tracing::{info, warn};

/// So many runs in a row that did not come through park the others.
const ENOUGH: u32 = 3;
/// The longest time between two that try.
const LONGEST: Duration = Duration::from_mins(10);
/// Looked again after this, though nothing was heard.
const RESYNC: Duration = Duration::from_mins(5);

/// Why and since when the runs of a Repository are parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// When the last one failed that was needed for it.
    pub since: DateTime<Utc>,
    /// Of that one.
    pub reason: Reason,
    /// The whole, in a sentence.
    pub message: String,
    tries: u32,
    next: DateTime<Utc>,
}

/// What is known of one Repository.
#[derive(Debug, Default)]
struct Breaker {
    /// Runs in a row that did not come through.
    failed: u32,
    parked: Option<Parked>,
    /// Of the Repository: another one is another spec.
    generation: Option<i64>,
}

/// What a run that has ended says about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Reached,
    NotReached(Reason, String),
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Parked,
    Resumed,
}

/// What is known of all Repositories, by name.
#[derive(Default)]
pub struct Breakers(Mutex<State>);

#[derive(Default)]
struct State {
    of: BTreeMap<String, Breaker>,
    /// UIDs of runs that were heard.
    heard: HashSet<String>,
}

impl Breakers {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the runs of a Repository are parked.
    pub fn parked(&self, repository: &str) -> Option<Parked> {
        self.state().of.get(repository)?.parked.clone()
    }
}

/// What an earlier process has parked stays so; one may try at once.
pub fn adopt(ctx: &Context) {
    let now = (ctx.clock)();
    for repository in ctx.stores.repositories.state() {
        let Some(parked) = read(&repository, now) else { continue };
        let name = repository.name_any();
        ctx.wake(&ctx.admission.park(&name, &parked.message));
        ctx.breakers.state().of.insert(name, Breaker { failed: ENOUGH, parked: Some(parked), generation: repository.metadata.generation });
    }
}

fn read(repository: &Repository, now: DateTime<Utc>) -> Option<Parked> {
    let status = repository.status.as_ref()?;
    let (since, reason) = (status.parked_since?, status.reason.unwrap_or(Reason::ConnectionFailed));
    Some(Parked { since, reason, message: status.message.clone().unwrap_or_default(), tries: 0, next: now })
}

/// Parks and resumes; ends only with the process.
pub async fn keep(ctx: &Context) -> Infallible {
    loop {
        let next = look(ctx).await;
        let wait = next.map_or(RESYNC, |at| (at - (ctx.clock)()).to_std().unwrap_or_default());
        let heard = timeout(wait, ctx.touch.runs.notified()).await;
        tracing::trace!(heard = heard.is_ok(), "looking at what runs say of their Repositories");
    }
}

/// Hears what has ended, and lets one try where it is time; when the next one may.
async fn look(ctx: &Context) -> Option<DateTime<Utc>> {
    let now = (ctx.clock)();
    for (repository, news) in hear(ctx, now) {
        let parked = ctx.breakers.parked(&repository);
        match news {
            News::Parked => ctx.wake(&ctx.admission.park(&repository, parked.as_ref().map_or("", |parked| &parked.message))),
            News::Resumed => ctx.wake(&ctx.admission.resume(&repository, ctx.capacity())),
        }
        tell(ctx, &repository, parked.as_ref()).await;
        ctx.touch.repositories.notify_one();
    }
    let mut state = ctx.breakers.state();
    for (repository, breaker) in &mut state.of {
        if let Some(parked) = breaker.parked.as_mut().filter(|parked| parked.next <= now) {
            parked.tries += 1;
            parked.next = now + pause(ctx.config.limits.retry_delay, parked.tries);
            ctx.wake(&ctx.admission.let_one_try(repository, ctx.capacity()));
        }
    }
    ctx.metrics.parked(state.of.iter().filter(|(_, breaker)| breaker.parked.is_some()).map(|(name, _)| name.as_str()));
    state.of.values().filter_map(|breaker| Some(breaker.parked.as_ref()?.next)).min()
}

fn hear(ctx: &Context, now: DateTime<Utc>) -> Vec<(String, News)> {
    let mut ended: Vec<Arc<BorgRun>> = ctx.stores.runs.state();
    let there: HashSet<String> = ended.iter().filter_map(|run| run.uid()).collect();
    ended.retain(|run| run.status.as_ref().is_some_and(|status| status.phase.is_final()));
    ended.sort_by_key(|run| run.status.as_ref().and_then(|status| status.finished_at));
    let all = ctx.stores.repositories.state();
    let generations: HashMap<String, Option<i64>> = all.iter().map(|r| (r.name_any(), r.metadata.generation)).collect();
    let mut state = ctx.breakers.state();
    state.heard.retain(|uid| there.contains(uid));
    // one of that name that comes later is another
    let gone: Vec<String> = state.of.keys().filter(|name| !generations.contains_key(*name)).cloned().collect();
    state.of.retain(|name, _| generations.contains_key(name));
    for (name, breaker) in &mut state.of {
        breaker.see(generations.get(name).copied().flatten(), now);
    }
    let mut all: Vec<(String, News)> = gone.into_iter().map(|name| (name, News::Resumed)).collect();
    for run in ended {
        let (Some(said), true) = (said(&run), state.heard.insert(run.uid().unwrap_or_default())) else { continue };
        let name = &run.spec.repository.name;
        let new = || Breaker { generation: generations.get(name).copied().flatten(), ..Breaker::default() };
        let news = state.of.entry(name.clone()).or_insert_with(new).hear(said, ctx.config.limits.retry_delay, now);
        all.extend(news.map(|news| (name.clone(), news)));
    }
    all
}

/// What a run that has ended says; `None`: nothing, it did not get so far, or not for that reason.
fn said(run: &BorgRun) -> Option<Said> {
    let status = run.status.as_ref()?;
    match status.phase {
        RunPhase::Succeeded | RunPhase::Incomplete => Some(Said::Reached),
        RunPhase::Failed => status.reason.and_then(|reason| {
            let message = || status.message.clone().unwrap_or_default();
            let not_reached = is_out_of_reach(reason).then(|| Said::NotReached(reason, message()));
            not_reached.or_else(|| has_met_the_server(reason).then_some(Said::Reached))
        }),
        RunPhase::Interrupted | RunPhase::Pending | RunPhase::Queued | RunPhase::Running => None,
    }
}

/// So fails who cannot get to the server, or is not let in.
const fn is_out_of_reach(reason: Reason) -> bool {
    matches!(reason, Reason::ConnectionFailed | Reason::HostKeyUnknown | Reason::AuthenticationFailed)
}

/// Nobody fails so whom the server has not let in.
const fn has_met_the_server(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::PassphraseWrong
            | Reason::RepositoryFull
            | Reason::RepositoryVanished
            | Reason::RepositoryReplaced
            | Reason::RepositoryMissing
            | Reason::RepositoryCorrupted
            | Reason::RepositoryLocked
            | Reason::ArchiveNameTaken
            | Reason::ArchiveNotFound
    )
}

impl Breaker {
    /// A spec that was changed may be what it takes: it is tried at once, and as often as at first.
    fn see(&mut self, generation: Option<i64>, now: DateTime<Utc>) {
        if self.generation == generation {
            return;
        }
        self.generation = generation;
        if let Some(parked) = &mut self.parked {
            (parked.tries, parked.next) = (0, now);
        }
    }

    fn hear(&mut self, said: Said, delay: Duration, now: DateTime<Utc>) -> Option<News> {
        match said {
            Said::Reached => {
                self.failed = 0;
                self.parked.take().map(|_| News::Resumed)
            }
            Said::NotReached(reason, said) => {
                self.failed = self.failed.saturating_add(1);
                if let Some(parked) = &mut self.parked {
                    parked.next = now + pause(delay, parked.tries);
                    return None;
                }
                if self.failed < ENOUGH {
                    return None;
                }
                let message = format!("{ENOUGH} runs in a row did not come through: {said}; the others wait, and one at a time tries");
                let message = message.chars().take(4000).collect();
                self.parked = Some(Parked { since: now.trunc_subsecs(0), reason, message, tries: 0, next: now + pause(delay, 0) });
                Some(News::Parked)
            }
        }
    }
}

/// Before the next one tries: doubled each time.
fn pause(delay: Duration, tries: u32) -> TimeDelta {
    TimeDelta::from_std((delay * 2_u32.saturating_pow(tries.min(10))).min(LONGEST)).unwrap_or_default()
}

async fn tell(ctx: &Context, name: &str, parked: Option<&Parked>) {
    let all = ctx.stores.repositories.state();
    let Some(repository) = all.iter().find(|repository| repository.name_any() == name) else { return };
    let about = events::about(&**repository);
    if let Some(Parked { reason, message, .. }) = parked {
        warn!(repository = name, %reason, message, "its runs are parked");
        ctx.events.warning(&about, "Reach", "RepositoryParked", message).await;
    } else {
        info!(repository = name, "it can be reached again, its runs go on");
        ctx.events.normal(&about, "Reach", "RepositoryResumed", "it can be reached again, its runs go on").await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use borgherd_api::crd::{BorgRunSpec, BorgRunStatus, CompactOptions, Operation, Owner, RunRepository, Subject};

    const DELAY: Duration = Duration::from_mins(1);

    fn now() -> DateTime<Utc> {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn refused() -> Said {
        Said::NotReached(Reason::ConnectionFailed, "nobody answers".into())
    }

    #[test]
    fn three_in_a_row_park_and_one_that_comes_through_resumes() {
        let mut breaker = Breaker::default();
        let mut hear = |said, at| (breaker.hear(said, DELAY, at), breaker.parked.clone());
        for said in [refused(), refused(), Said::Reached, refused(), refused()] {
            assert_eq!(hear(said, now()), (None, None), "two in a row are not enough");
        }
        let (news, parked) = hear(refused(), now());
        let parked = parked.unwrap();
        assert_eq!((news, parked.next, parked.reason), (Some(News::Parked), now() + TimeDelta::minutes(1), Reason::ConnectionFailed));
        assert!(parked.message.contains("nobody answers"), "{}", parked.message);
        let later = now() + TimeDelta::minutes(5);
        let (news, parked) = hear(refused(), later);
        let parked = parked.unwrap();
        assert_eq!((news, parked.since, parked.next), (None, now(), later + TimeDelta::minutes(1)), "told once; it waits anew");
        assert_eq!(hear(Said::Reached, later), (Some(News::Resumed), None));
        assert_eq!(hear(refused(), later), (None, None), "and counts anew");
    }

    #[test]
    fn another_spec_is_tried_at_once_and_the_same_waits() {
        let parked =
            Parked { since: now(), reason: Reason::ConnectionFailed, message: "m".into(), tries: 5, next: now() + TimeDelta::minutes(9) };
        let mut breaker = Breaker { failed: ENOUGH, parked: Some(parked), generation: Some(1) };
        let mut next = |generation, at| {
            breaker.see(generation, at);
            breaker.parked.as_ref().map(|parked| (parked.tries, parked.next))
        };
        assert_eq!(next(Some(1), now()), Some((5, now() + TimeDelta::minutes(9))));
        assert_eq!(next(Some(2), now()), Some((0, now())));
        assert_eq!(next(Some(2), now() + TimeDelta::minutes(1)), Some((0, now())), "once");
    }

    #[test]
    fn tries_become_rarer_up_to_a_limit() {
        let minutes = |tries| pause(DELAY, tries).num_minutes();
        assert_eq!([0, 1, 2, 3, 4, 5, 4_000_000].map(minutes), [1, 2, 4, 8, 10, 10, 10]);
    }

    #[test]
    fn only_what_has_met_the_server_or_not_found_it_counts() {
        let run = |phase, reason| {
            let spec = BorgRunSpec {
                node: "n".into(),
                subject: Subject::default(),
                owner: Owner::default(),
                repository: RunRepository::default(),
                volume: None,
                operation: Operation::Compact(CompactOptions::default()),
                time_zone: "UTC".into(),
                deadline: now(),
            };
            let mut run = BorgRun::new("run", spec);
            run.status = Some(BorgRunStatus { phase, reason, message: Some("m".into()), ..BorgRunStatus::default() });
            said(&run)
        };
        assert_eq!(run(RunPhase::Succeeded, None), Some(Said::Reached));
        assert_eq!(run(RunPhase::Failed, Some(Reason::RepositoryFull)), Some(Said::Reached));
        let refused = Said::NotReached(Reason::AuthenticationFailed, "m".into());
        assert_eq!(run(RunPhase::Failed, Some(Reason::AuthenticationFailed)), Some(refused));
        for (phase, reason) in [
            (RunPhase::Running, None),
            (RunPhase::Interrupted, Some(Reason::Interrupted)),
            (RunPhase::Failed, Some(Reason::VolumeNotMounted)),
            (RunPhase::Failed, None),
        ] {
            assert_eq!(run(phase, reason), None, "{phase:?} {reason:?}");
        }
    }
}
