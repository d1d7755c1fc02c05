//! Repositories checked for damage, each a while after the last time and in pieces; what is damaged is told, and nothing is deleted there.
//!
//! The state is in the record of the place, so that it is of the Borg repository and not of a PVC. A check goes last of all: it does not
//! begin while anybody waits, and gives way to a restore.

use super::decide::{Seen, Stage, Step, follow};
use super::observe::{Newest, Said};
use super::{apply, tell, ticket};
use crate::admission::Ticket;
use crate::config;
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::lost;
use crate::repository::record::{self, Record};
use crate::run;
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, CheckOptions, Operation, RunPhase};
use borgherd_api::{names, time};
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// A check that did not go is tried again after this, or after its cadence if that is shorter.
const AGAIN: Duration = Duration::from_hours(1);

/// What of a repository is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its segments.
    Repository,
    /// The metadata of its archives.
    Archives,
}

/// One look at all places that hold the newest archive of a PVC.
pub(super) async fn look(ctx: &Context, all: &[Newest], runs: &mut HashMap<String, Arc<BorgRun>>, wanted: &mut HashSet<Ticket>) {
    let mut places: BTreeMap<&str, &Newest> = BTreeMap::new();
    for newest in all {
        let place = places.entry(&newest.location).or_insert(newest);
        if (&newest.owner.namespace, &newest.volume.pvc) < (&place.owner.namespace, &place.volume.pvc) {
            *place = newest;
        }
    }
    let records = records(ctx);
    for (location, newest) in &places {
        let Some(record) = records.get(*location) else { continue };
        let run = runs.remove(&run_name(location, record));
        match one(ctx, newest, record, run.as_ref()).await {
            Ok(false) => {}
            Ok(true) => drop(wanted.insert(place_ticket(location))),
            Err(error) => {
                wanted.insert(place_ticket(location));
                if !error.is_passing() {
                    warn!(location, %error, "could not check a repository; trying again");
                }
            }
        }
    }
    let known = places.iter().filter_map(|(location, newest)| Some((newest.volume.repository.as_deref()?, records.get(*location)?)));
    tell::checked(ctx, known);
}

/// The records of all places, by location.
fn records(ctx: &Context) -> HashMap<String, Record> {
    let all = ctx.stores.records.state().into_iter().map(|map| Record::of((*map).clone()));
    all.filter_map(|record| Some((record.location()?.to_owned(), record))).collect()
}

/// A place in the ledger, whatever PVC is named with it.
pub(super) fn place_ticket(location: &str) -> Ticket {
    ticket(&names::hash(&[location], 10), "")
}

fn run_name(location: &str, record: &Record) -> String {
    names::maintenance(&names::hash(&[location], 10), "", Stage::Check.name(), record.checks() + 1)
}

/// One step for one place; whether it asks for the writer's turn, or has it.
async fn one(ctx: &Context, newest: &Newest, record: &Record, run: Option<&Arc<BorgRun>>) -> Result<bool, Error> {
    let now = (ctx.clock)();
    let Some(run) = run else {
        let Some(kind) = due(record, &newest.location, &ctx.config.maintenance, now) else { return Ok(false) };
        return begin(ctx, newest, kind, now).await;
    };
    let living = run.metadata.deletion_timestamp.is_none();
    let lost = if living { lost::check(ctx, time::created(&**run), run, now).await? } else { None };
    let restore_waits = ctx.admission.restore_waits(&newest.location);
    let seen = Seen { said: Said::Nothing, accepted: "", run: Some(run), lost, restore_waits };
    match follow(Stage::Check, run, &seen, TimeDelta::seconds(30), now) {
        Step::Conclude(_) => conclude(ctx, newest, run, now).await?,
        Step::Fail(_, reason, message) => failed(ctx, newest, run, (reason, message), now).await?,
        Step::Yield => {}
        Step::Wait(_) | Step::Follow(_) | Step::Begin(_) | Step::Stop(..) => return Ok(true),
    }
    apply::discard(ctx, run).await.doing("deleting a run of maintenance")?;
    Ok(false)
}

/// What of a repository is to be checked now. A place that was never checked counts from its record's creation.
fn due(record: &Record, location: &str, config: &config::Maintenance, now: DateTime<Utc>) -> Option<Kind> {
    if record.damage().is_some() || record.check_not_before().is_some_and(|at| now < at) {
        return None;
    }
    let is_due = |last: Option<DateTime<Utc>>, interval: Duration| {
        slot(location, interval, now).is_some_and(|slot| last.or(record.created()).is_some_and(|last| last < slot))
    };
    if is_due(record.checked_at(), config.check_interval) {
        return Some(Kind::Repository);
    }
    is_due(record.archives_checked_at(), config.check_archives_interval).then_some(Kind::Archives)
}

/// The last time that was a place's turn: places are spread over the interval. None without an interval.
fn slot(location: &str, interval: Duration, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let interval = i64::try_from(interval.as_secs()).ok().filter(|seconds| *seconds > 0)?;
    let offset = i64::from_str_radix(&names::hash(&[location], 4), 16).unwrap_or_default() % interval;
    DateTime::from_timestamp((now.timestamp() - offset).div_euclid(interval) * interval + offset, 0)
}

async fn begin(ctx: &Context, newest: &Newest, kind: Kind, now: DateTime<Utc>) -> Result<bool, Error> {
    let location = &newest.location;
    let Ok(chosen) = apply::choose(ctx, newest) else { return Ok(false) };
    if chosen.spec.append_only {
        return Ok(false); // a check writes down how far it came
    }
    if ctx.admission.somebody_waits() || !apply::is_admitted(ctx, newest, &chosen, &place_ticket(location)) {
        return Ok(!ctx.admission.somebody_waits());
    }
    let live = record::read(&apply::records(ctx), location).await.doing("reading the repository's record")?;
    let Some(record) = live.filter(|record| record.id.is_some() && due(record, location, &ctx.config.maintenance, now).is_some()) else {
        return Ok(false);
    };
    let Some(node) = apply::node(ctx, newest) else { return Ok(false) };
    let piece = u32::try_from(ctx.config.maintenance.check_piece.as_secs()).unwrap_or(u32::MAX);
    let archives = kind == Kind::Archives;
    let operation = Operation::Check(CheckOptions { archives, max_seconds: (!archives).then_some(piece) });
    let name = run_name(location, &record);
    let pvc = &newest.volume.pvc;
    let order = run::Order { name: &name, owner: &newest.owner, pvc, node, chosen: &chosen, volume: None, operation, time_zone: "UTC" };
    run::create(ctx, order).await?;
    Ok(true)
}

async fn conclude(ctx: &Context, newest: &Newest, run: &BorgRun, now: DateTime<Utc>) -> Result<(), Error> {
    let status = run.status.clone().unwrap_or_default();
    if status.phase != RunPhase::Succeeded {
        let reason = status.reason.unwrap_or(Reason::BorgFailed);
        return failed(ctx, newest, run, (reason, status.message.unwrap_or_default()), now).await;
    }
    let archives = matches!(&run.spec.operation, Operation::Check(CheckOptions { archives: true, .. }));
    let finished = status.check.is_some_and(|check| check.finished);
    record::checked(&apply::records(ctx), &newest.location, archives, finished, now).await.doing("recording a check")?;
    ctx.metrics.maintained(Stage::Check.name(), "Succeeded", None);
    info!(location = newest.location, archives, finished, run = run.name_any(), "checked a repository");
    Ok(())
}

async fn failed(
    ctx: &Context,
    newest: &Newest,
    run: &BorgRun,
    (reason, message): (Reason, String),
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let records = apply::records(ctx);
    let again = now + TimeDelta::from_std(AGAIN.min(ctx.config.maintenance.check_interval)).unwrap_or_default();
    record::check_failed(&records, &newest.location, again).await.doing("recording a check")?;
    ctx.metrics.maintained(Stage::Check.name(), "Failed", Some(reason));
    warn!(location = newest.location, %reason, message, run = run.name_any(), "a check did not end well");
    if reason == Reason::RepositoryCorrupted {
        apply::damaged(ctx, newest, &message).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn places_have_their_turns_at_different_times_and_each_once_an_interval() {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().unwrap();
        let week = Duration::from_hours(7 * 24);
        let slots: HashSet<_> = (0..50).map(|n| slot(&format!("place-{n}"), week, now).unwrap()).collect();
        assert!(slots.len() > 45 && slots.iter().all(|at| *at <= now && now - *at < TimeDelta::days(7)));
        let one = slot("place", week, now).unwrap();
        assert_eq!(slot("place", week, one), Some(one));
        assert_eq!(slot("place", week, one + TimeDelta::days(7)), Some(one + TimeDelta::days(7)));
        assert_eq!(slot("place", Duration::ZERO, now), None, "never");
    }
}
