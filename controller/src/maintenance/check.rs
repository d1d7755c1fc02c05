//! Repositories checked for damage, each a while after the last time and in pieces; what is damaged is told, and nothing is deleted there.
//!
//! The state is in the record of the place, so that it is of the Borg repository and not of a PVC. A check goes last of all: it does not
//! begin while anybody waits, and gives way to a restore.

use super::decide::{Seen, Stage, Step, follow};
use super::observe::{Newest, Said};
use super::{apply, tell, ticket};
use crate::admission::Ticket;
use crate::config::{self, Config};
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::lost;
use crate::repository::reading::{self, Reading};
use crate::repository::record::{self, Checked, Record};
use crate::repository::tried::Turn;
use crate::repository::{Chosen, damage};
use crate::run;
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRun, CheckOptions, CheckResult, Operation, RepositorySpec, RunPhase};
use borgherd_api::{names, time};
use borgherd_runtime::duration;
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
    /// The content of the newest archive of one volume.
    Data,
    /// The content of all archives.
    All,
}

/// How often what is checked in a Repository.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cadence {
    repository: Duration,
    archives: Duration,
    data: Duration,
    /// The word by which the content of all is asked for.
    all: Option<String>,
}

impl Cadence {
    /// As the Repository says, else the chart. A check of segments or metadata writes into the repository, which an append-only one keeps for ever.
    fn of(spec: &RepositorySpec, chart: &config::Maintenance) -> Self {
        let said = spec.check.clone().unwrap_or_default();
        let own = |text: Option<String>, chart: Duration| text.and_then(|text| duration::parse(&text).ok()).unwrap_or(chart);
        let data = own(said.data, chart.check_data_interval);
        if spec.append_only {
            return Self { repository: Duration::ZERO, archives: Duration::ZERO, data, all: None };
        }
        let (repository, archives) = (own(said.repository, chart.check_interval), own(said.archives, chart.check_archives_interval));
        Self { repository, archives, data, all: said.verify_data }
    }
}

/// One look at all places that hold the newest archive of a PVC.
pub(super) async fn look(ctx: &Context, all: &[Newest], runs: &mut HashMap<String, Arc<BorgRun>>, wanted: &mut HashSet<Ticket>) {
    let mut places: BTreeMap<&str, Vec<&Newest>> = BTreeMap::new();
    for newest in all {
        places.entry(&newest.location).or_default().push(newest);
    }
    let records = records(ctx);
    for (location, volumes) in &mut places {
        volumes.sort_by(|one, other| pvc(one).cmp(&pvc(other)));
        let Some(record) = records.get(*location) else { continue };
        let run = runs.remove(&run_name(location, record));
        match one(ctx, volumes, record, run.as_ref()).await {
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
    let known = all.iter().filter_map(|newest| Some((newest, records.get(&newest.location)?)));
    tell::checked(ctx, known.filter_map(|(newest, record)| Some((newest.volume.repository.as_deref()?, pvc(newest), record))));
}

/// Name of the newest archive.
fn archive(newest: &Newest) -> Option<String> {
    let (namespace, name) = pvc(newest);
    Some(names::archive(namespace, name, newest.volume.cut?))
}

/// Namespace and name.
fn pvc(newest: &Newest) -> (&str, &str) {
    (&newest.owner.namespace, &newest.volume.pvc)
}

fn pvcs<'a>(volumes: &[&'a Newest]) -> Vec<(&'a str, &'a str)> {
    volumes.iter().map(|newest| pvc(newest)).collect()
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

/// One step for one place and the volumes that have their newest archive there; whether it asks for the writer's turn, or has it.
async fn one(ctx: &Context, volumes: &[&Newest], record: &Record, run: Option<&Arc<BorgRun>>) -> Result<bool, Error> {
    let now = (ctx.clock)();
    let Some(newest) = volumes.first() else { return Ok(false) };
    let Some(run) = run else {
        let Ok(chosen) = apply::choose(ctx, newest) else { return Ok(false) };
        let cadence = Cadence::of(&chosen.spec, &ctx.config.maintenance);
        let Some((kind, newest)) = due(record, volumes, &cadence, now) else { return Ok(false) };
        return begin(ctx, newest, kind, &chosen, &cadence, now).await;
    };
    let living = run.metadata.deletion_timestamp.is_none();
    let lost = if living { lost::check(ctx, time::created(&**run), run, now).await? } else { None };
    let restore_waits = ctx.admission.restore_waits(&newest.location);
    let seen = Seen { said: Said::Nothing, accepted: "", run: Some(run), lost, restore_waits };
    match follow(Stage::Check, run, &seen, TimeDelta::seconds(30), now) {
        Step::Conclude(_) => conclude(ctx, volumes, run, now).await?,
        Step::Fail(_, reason, message) => failed(ctx, volumes, run, (reason, message), now).await?,
        Step::Yield => {}
        Step::Wait(_) | Step::Follow(_) | Step::Begin(_) | Step::Stop(..) => return Ok(true),
    }
    apply::discard(ctx, run).await.doing("deleting a run of maintenance")?;
    Ok(false)
}

/// What of a repository is to be checked now, and by the name of which volume. What was never checked counts from the record's creation.
fn due<'a>(record: &Record, volumes: &[&'a Newest], cadence: &Cadence, now: DateTime<Utc>) -> Option<(Kind, &'a Newest)> {
    if record.damage().is_some() || record.check_not_before().is_some_and(|at| now < at) {
        return None;
    }
    let first = *volumes.first()?;
    let is_due = |last: Option<DateTime<Utc>>, of: &str, interval: Duration| {
        slot(of, interval, now).is_some_and(|slot| last.or(record.created()).is_some_and(|last| last < slot))
    };
    if cadence.all.as_deref().is_some_and(|word| record.verified() != Some(word)) {
        return Some((Kind::All, first));
    }
    let tried = |turn: Turn<'_>, last: Option<DateTime<Utc>>| record.tried_at(turn).max(last);
    let of_the_place = [
        (Kind::Repository, Turn::Repository, record.checked_at(), cadence.repository),
        (Kind::Archives, Turn::Archives, record.archives_checked_at(), cadence.archives),
    ];
    let of_the_place = of_the_place.into_iter().filter(|(.., last, interval)| is_due(*last, &first.location, *interval));
    let of_the_place = of_the_place.map(|(kind, turn, last, _)| (tried(turn, last), kind, first));
    let reads = volumes.iter().filter_map(|newest| {
        let (namespace, name) = pvc(newest);
        let last = record.read_at((namespace, name));
        let is_so = newest.volume.cut.is_some() && is_due(last, &format!("{namespace}/{name}"), cadence.data);
        is_so.then(|| (tried(Turn::Data((namespace, name)), last), Kind::Data, *newest))
    });
    // what was not tried for the longest time
    of_the_place.chain(reads).min_by_key(|(tried, ..)| *tried).map(|(_, kind, newest)| (kind, newest))
}

/// The last time that was a place's turn: places are spread over the interval. None without an interval.
fn slot(location: &str, interval: Duration, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let interval = i64::try_from(interval.as_secs()).ok().filter(|seconds| *seconds > 0)?;
    let offset = i64::from_str_radix(&names::hash(&[location], 4), 16).unwrap_or_default() % interval;
    DateTime::from_timestamp((now.timestamp() - offset).div_euclid(interval) * interval + offset, 0)
}

async fn begin(ctx: &Context, newest: &Newest, kind: Kind, chosen: &Chosen, cadence: &Cadence, now: DateTime<Utc>) -> Result<bool, Error> {
    let location = &newest.location;
    if ctx.admission.somebody_waits() || !apply::is_admitted(ctx, newest, chosen, &place_ticket(location)) {
        return Ok(!ctx.admission.somebody_waits());
    }
    let live = record::read(&apply::records(ctx), location).await.doing("reading the repository's record")?;
    let is_due_still = |record: &Record| due(record, &[newest], cadence, now).is_some_and(|(again, _)| again == kind);
    let Some(record) = live.filter(|record| record.id.is_some() && is_due_still(record)) else {
        return Ok(false);
    };
    let Some(node) = apply::node(ctx, newest) else { return Ok(false) };
    let piece = Some(seconds(ctx.config.maintenance.check_piece));
    let asked = match kind {
        Kind::Repository => CheckOptions { max_seconds: piece, ..CheckOptions::default() },
        Kind::Archives => CheckOptions { archives: true, ..CheckOptions::default() },
        Kind::Data => {
            let Some(Reading { archive, id, position, seconds }) = reading(&record, newest, &ctx.config) else { return Ok(false) };
            CheckOptions { read: Some(archive), after: position, archive_id: id, max_seconds: Some(seconds), ..CheckOptions::default() }
        }
        Kind::All => CheckOptions { archives: true, verify_data: cadence.all.clone(), ..CheckOptions::default() },
    };
    let (name, pvc, operation) = (run_name(location, &record), &newest.volume.pvc, Operation::Check(asked));
    let order = run::Order { name: &name, owner: &newest.owner, pvc, node, chosen, volume: None, operation, time_zone: "UTC" };
    run::create(ctx, order).await?;
    Ok(true)
}

/// What of a volume's archives is read next: the rest of the one that is being read, else the newest.
fn reading(record: &Record, newest: &Newest, config: &Config) -> Option<Reading> {
    let (piece, most) = piece(config);
    let reading = record.reading(pvc(newest)).or_else(|| Some(Reading::begin(archive(newest)?, piece)))?;
    Some(Reading { seconds: reading.seconds.min(most), ..reading })
}

/// The archive of a PVC (namespace, name) that a reading goes on with, which pruning would else take from under it again and again.
pub(super) fn being_read(ctx: &Context, chosen: &Chosen, pvc: (&str, &str), record: &Record) -> Option<String> {
    let interval = Cadence::of(&chosen.spec, &ctx.config.maintenance).data;
    reading::being_read(record, pvc, interval, (ctx.clock)())
}

/// Seconds that a piece of a reading gets, and most that it may get: the rest of a run's time is for its slot and for what comes before the reading.
fn piece(config: &Config) -> (u32, u32) {
    let most = seconds(config.timeouts.run / 4 * 3);
    (seconds(config.maintenance.check_piece).min(most), most)
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

async fn conclude(ctx: &Context, volumes: &[&Newest], run: &BorgRun, now: DateTime<Utc>) -> Result<(), Error> {
    let Some(newest) = volumes.first() else { return Ok(()) };
    let status = run.status.clone().unwrap_or_default();
    if status.phase != RunPhase::Succeeded {
        let reason = status.reason.unwrap_or(Reason::BorgFailed);
        return failed(ctx, volumes, run, (reason, status.message.unwrap_or_default()), now).await;
    }
    let check = status.check.unwrap_or_default();
    let finished = check.finished;
    let after = read_on(run, check, &ctx.config);
    let Some(what) = looked_at(run, finished, after.as_ref()) else { return Ok(()) };
    record::checked(&apply::records(ctx), &newest.location, what, &pvcs(volumes), now).await.doing("recording a check")?;
    ctx.metrics.maintained(Stage::Check.name(), "Succeeded", None);
    info!(location = newest.location, ?what, finished, run = run.name_any(), "checked a repository");
    Ok(())
}

/// Where the reading of an archive goes on after a piece of it; `None`: it was none, or was the last.
fn read_on(run: &BorgRun, check: CheckResult, config: &Config) -> Option<Reading> {
    let Operation::Check(CheckOptions { read: Some(archive), after, archive_id, max_seconds, .. }) = &run.spec.operation else {
        return None;
    };
    let (piece, most) = piece(config);
    let before = Reading { archive: archive.clone(), id: archive_id.clone(), position: *after, seconds: max_seconds.unwrap_or(piece) };
    (!check.finished).then(|| before.after(check, piece, most))
}

/// What a check that has ended well has looked at.
fn looked_at<'a>(run: &'a BorgRun, finished: bool, reading: Option<&'a Reading>) -> Option<Checked<'a>> {
    let Operation::Check(CheckOptions { archives, verify_data, read, after: _, archive_id: _, max_seconds: _ }) = &run.spec.operation
    else {
        return None;
    };
    let subject = of_whom(run);
    Some(match (read, verify_data, archives) {
        (Some(_), _, _) => reading.map_or(Checked::Data(subject), |reading| Checked::DataPiece(subject, reading)),
        (None, Some(word), _) => Checked::All(word),
        (None, None, true) => Checked::Archives,
        (None, None, false) if finished => Checked::Repository,
        (None, None, false) => Checked::Piece,
    })
}

/// Whose turn a run is; that of all content is no one's.
fn turn(run: &BorgRun) -> Option<Turn<'_>> {
    let Operation::Check(CheckOptions { archives, verify_data, read, after: _, archive_id: _, max_seconds: _ }) = &run.spec.operation
    else {
        return None;
    };
    match (read, verify_data, archives) {
        (Some(_), _, _) => Some(Turn::Data(of_whom(run))),
        (None, Some(_), _) => None,
        (None, None, true) => Some(Turn::Archives),
        (None, None, false) => Some(Turn::Repository),
    }
}

/// Namespace and name of the PVC that a run is about.
fn of_whom(run: &BorgRun) -> (&str, &str) {
    (&run.spec.subject.namespace, &run.spec.subject.pvc)
}

/// How long nothing is checked at a place after a check that did not go. One that was interrupted found nothing wrong, so it goes on soon; but
/// if that happens again it may be the check that ends its agent.
fn again(reason: Reason, also_before: bool, config: &Config) -> Duration {
    if reason == Reason::Interrupted && !also_before {
        return config.limits.retry_delay;
    }
    AGAIN.min(config.maintenance.check_interval)
}

async fn failed(
    ctx: &Context,
    volumes: &[&Newest],
    run: &BorgRun,
    (reason, message): (Reason, String),
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let Some(newest) = volumes.first() else { return Ok(()) };
    let records = apply::records(ctx);
    let known = record::read(&records, &newest.location).await.doing("reading the repository's record")?.unwrap_or_default();
    let subject = of_whom(run);
    if reason == Reason::ArchiveNotFound && known.reading(subject).is_some() {
        info!(
            location = newest.location,
            message,
            run = run.name_any(),
            "the archive that was being read is gone; the newest is read instead"
        );
        let gone = record::checked(&records, &newest.location, Checked::DataGone(subject), &pvcs(volumes), now).await;
        return gone.doing("recording a check");
    }
    let pause = again(reason, known.check_not_before().is_some(), &ctx.config);
    let again = now + TimeDelta::from_std(pause).unwrap_or_default();
    record::check_failed(&records, &newest.location, turn(run), again, now).await.doing("recording a check")?;
    ctx.metrics.maintained(Stage::Check.name(), "Failed", Some(reason));
    warn!(location = newest.location, %reason, message, run = run.name_any(), "a check did not end well");
    if reason == Reason::RepositoryCorrupted {
        damage::found(ctx, &run.spec.repository, pvc(newest), &message).await.doing("recording damage")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use borgherd_api::crd::{Owner, VolumeStatus};
    use clap::Parser;
    use serde_json::json;

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

    fn newest(pvc: &str) -> Newest {
        let volume = VolumeStatus { pvc: pvc.into(), cut: Some(DateTime::default()), ..VolumeStatus::default() };
        Newest { owner: Owner { namespace: "shop".into(), ..Owner::default() }, volume, location: "place".into() }
    }

    /// First recorded then, with this in it.
    fn record(created: DateTime<Utc>, data: &serde_json::Value) -> Record {
        let created = created.to_rfc3339();
        Record::of(serde_json::from_value(json!({"metadata": {"creationTimestamp": created}, "data": data})).unwrap())
    }

    #[test]
    fn the_content_of_each_volume_is_read_once_an_interval_and_they_take_turns() {
        let day = Duration::from_hours(24);
        let cadence = Cadence { repository: Duration::ZERO, archives: Duration::ZERO, data: day * 10, all: None };
        let all: Vec<Newest> = (0..40).map(|n| newest(&format!("data-{n}"))).collect();
        let volumes: Vec<&Newest> = all.iter().collect();
        let created: DateTime<Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
        let mut data = serde_json::Map::new();
        let (mut reads, mut days) = (HashMap::<String, u32>::new(), HashSet::new());
        for hour in 0..20 * 24 {
            let now = created + TimeDelta::hours(hour);
            while let Some((kind, newest)) = due(&record(created, &json!(data)), &volumes, &cadence, now) {
                assert_eq!(kind, Kind::Data);
                data.insert(record::read_key(pvc(newest)), json!(now.to_rfc3339()));
                *reads.entry(newest.volume.pvc.clone()).or_default() += 1;
                days.insert(hour / 24);
            }
        }
        assert!(reads.len() == 40 && reads.values().all(|count| *count == 2), "{reads:?}");
        assert!(days.len() > 15, "a share each day: {days:?}");
        let never = Cadence { data: Duration::ZERO, ..cadence };
        assert_eq!(due(&record(created, &json!({})), &volumes, &never, created + TimeDelta::days(99)).map(|due| due.0), None);
    }

    /// The data of a record after news of it.
    fn after(mut data: serde_json::Map<String, serde_json::Value>, news: &serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
        data.extend(news.as_object().cloned().unwrap());
        data.retain(|_, value| !value.is_null());
        data
    }

    #[test]
    fn what_never_ends_or_always_fails_keeps_nothing_else_from_its_turn() {
        let days = |days: u64| Duration::from_hours(days * 24);
        let cadence = Cadence { repository: days(7), archives: days(30), data: days(10), all: None };
        let all = ["data", "endless", "failing", "more"].map(newest);
        let volumes: Vec<&Newest> = all.iter().collect();
        let created: DateTime<Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
        let (mut data, mut turns) = (serde_json::Map::new(), HashMap::<String, u32>::new());
        for hour in 0..60 * 24 {
            let now = created + TimeDelta::hours(hour);
            let known = record(created, &json!(data));
            let Some((kind, newest)) = due(&known, &volumes, &cadence, now) else { continue };
            assert_ne!(kind, Kind::All, "nobody has asked for it");
            let reading = Reading::begin("an-archive".into(), 600);
            let ended = match (kind, pvc(newest).1) {
                (Kind::Data, "endless") => Ok(Checked::DataPiece(pvc(newest), &reading)),
                (Kind::Data, "failing") => Err(Turn::Data(pvc(newest))),
                (Kind::Data, _) => Ok(Checked::Data(pvc(newest))),
                (Kind::Archives, _) => Ok(Checked::Archives),
                // a hundred pieces
                (Kind::Repository, _) if !known.checks().is_multiple_of(100) => Ok(Checked::Piece),
                (Kind::Repository | Kind::All, _) => Ok(Checked::Repository),
            };
            let of = if kind == Kind::Data { pvc(newest).1 } else { "" };
            let what = match ended {
                Ok(Checked::Piece | Checked::DataPiece(..)) | Err(_) => "not ended",
                Ok(_) => "ended",
            };
            *turns.entry(format!("{kind:?} {of} {what}")).or_default() += 1;
            let news = match ended {
                Ok(what) => record::news(&known, what, &pvcs(&volumes), now),
                Err(turn) => record::failure(&known, Some(turn), now + TimeDelta::hours(1), now),
            };
            data = after(data, &news);
        }
        let ended = |what: &str| turns.get(&format!("{what} ended")).copied().unwrap_or_default();
        let turns_of = |what: &str| turns.get(&format!("{what} not ended")).copied().unwrap_or_default();
        assert!(ended("Data data") == 6 && ended("Data more") == 6 && ended("Archives ") == 2 && ended("Repository ") >= 2, "{turns:?}");
        assert!(
            [turns_of("Data endless"), turns_of("Data failing"), turns_of("Repository ")].iter().all(|turns| *turns > 100),
            "{turns:?}"
        );
    }

    #[test]
    fn a_piece_ends_clearly_before_its_run() {
        let hour = Duration::from_hours(1);
        for (run, chart, first, longest) in [(hour, hour / 6, 600, 2700), (hour, hour, 2700, 2700), (hour * 24, hour / 6, 600, 64800)] {
            let mut config = Config::parse_from(["borgherd-controller", "--holder-image", "x"]);
            (config.timeouts.run, config.maintenance.check_piece) = (run, chart);
            let one = newest("data");
            let mut next = reading(&Record::default(), &one, &config).unwrap();
            assert_eq!(next.seconds, first);
            for _ in 0..9 {
                let (piece, most) = piece(&config);
                next = next.after(CheckResult::default(), piece, most);
            }
            assert_eq!(next.seconds, longest);
            let written = record(DateTime::default(), &json!({reading::key(pvc(&one)): "an-archive 7 99999999"}));
            assert_eq!(reading(&written, &one, &config).unwrap().seconds, longest, "the chart was changed");
        }
    }

    #[test]
    fn an_interrupted_check_goes_on_soon_but_not_again_and_again() {
        let config = Config::parse_from(["borgherd-controller", "--holder-image", "x"]);
        for (reason, also_before, pause) in [
            (Reason::Interrupted, false, config.limits.retry_delay),
            (Reason::Interrupted, true, AGAIN),
            (Reason::ConnectionFailed, false, AGAIN),
        ] {
            assert_eq!(again(reason, also_before, &config), pause, "{reason} {also_before}");
        }
    }

    #[test]
    fn all_content_is_read_once_for_each_word_and_nothing_where_there_is_damage() {
        let created: DateTime<Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
        let one = newest("data");
        let asked = Cadence { repository: Duration::ZERO, archives: Duration::ZERO, data: Duration::ZERO, all: Some("b".into()) };
        for (data, kind) in [
            (json!({}), Some(Kind::All)),
            (json!({"verified": "a"}), Some(Kind::All)),
            (json!({"verified": "b"}), None),
            (json!({"damaged": "it is"}), None),
            (json!({"checkNotBefore": "2026-11-01T01:00:00Z"}), None),
        ] {
            assert_eq!(due(&record(created, &data), &[&one], &asked, created).map(|due| due.0), kind, "{data}");
        }
    }

    #[test]
    fn the_repository_says_how_often_else_the_chart_and_what_may_only_grow_is_only_read() {
        let chart = Config::parse_from(["borgherd-controller", "--holder-image", "x"]).maintenance;
        let spec = |more: &serde_json::Value| -> RepositorySpec {
            let mut spec = json!({"location": "ssh://h/./x", "secretRef": "s"});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(spec).unwrap()
        };
        let hours = Duration::from_hours;
        let of = |more| Cadence::of(&spec(&more), &chart);
        let own = Cadence { repository: hours(168), archives: hours(720), data: hours(720), all: None };
        assert_eq!(of(json!({})), own);
        let said = json!({"check": {"repository": "1h", "data": "0s", "verifyData": "now"}});
        let said = of(said);
        assert_eq!(said, Cadence { repository: hours(1), data: Duration::ZERO, all: Some("now".into()), ..own.clone() });
        let grows = json!({"appendOnly": true, "check": {"repository": "1h", "data": "2h", "verifyData": "now"}});
        assert_eq!(of(grows), Cadence { repository: Duration::ZERO, archives: Duration::ZERO, data: hours(2), all: None });
    }
}
