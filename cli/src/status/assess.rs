//! From what there is to what to say of each PVC: pure, the time is an argument.

use super::observe::Seen;
use crate::policy::{Judged, judge};
use borgherd_api::crd::{Backup, Outcome, Progress, VolumePhase, VolumeStatus};
use borgherd_api::due::due;
use borgherd_api::policy::{ArchiveWhen, Key, Mode, Origin, Policy, Problem};
use borgherd_api::repository::{self, Unusable};
use borgherd_api::{Reason, names, time};
use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A backup that is due for this long without having begun: nobody works on it.
const PATIENCE: TimeDelta = TimeDelta::minutes(5);

/// What there is to say of one PVC. Its JSON is part of the interface: fields are added, never changed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    pub(crate) namespace: String,
    pub(crate) pvc: String,
    pub(crate) state: State,
    /// Why it cannot be backed up at all.
    pub(crate) excluded: Option<String>,
    pub(crate) suspended: bool,
    /// Each value in force, by the annotation's name without prefix.
    pub(crate) policy: BTreeMap<&'static str, Setting>,
    /// The Repository that archives go to.
    pub(crate) repository: Option<String>,
    /// What switches its backups off.
    pub(crate) problems: Vec<String>,
    /// What is written and has no effect.
    pub(crate) warnings: Vec<String>,
    /// The newest one, which may still run.
    pub(crate) last_backup: Option<Attempted>,
    pub(crate) last_success: Option<Attempted>,
    pub(crate) last_failure: Option<Attempted>,
    /// Due since, where it has not begun.
    pub(crate) due: Option<DateTime<Utc>>,
    pub(crate) next_backup: Option<DateTime<Utc>>,
}

/// How it stands with a PVC, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// No schedule: not backed up.
    Off,
    /// A schedule, but a volume that cannot be backed up.
    Excluded,
    /// Something it depends on is wrong: an annotation, the Repository.
    Invalid,
    /// Nothing new starts.
    Suspended,
    /// A backup runs.
    Running,
    /// Due, and nobody has begun.
    Overdue,
    /// The last one failed.
    Failed,
    /// The last one lacks files.
    Incomplete,
    /// No backup yet, the first is to come.
    Waiting,
    /// The last one succeeded.
    Ok,
}

impl State {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Excluded => "excluded",
            Self::Invalid => "invalid",
            Self::Suspended => "suspended",
            Self::Running => "running",
            Self::Overdue => "overdue",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
            Self::Waiting => "waiting",
            Self::Ok => "ok",
        }
    }
}

/// A value and where it was written: `pvc`, `namespace` or `default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    pub(crate) value: String,
    pub(crate) origin: &'static str,
}

/// One Backup, as it was for this PVC.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attempted {
    /// Name of the Backup.
    pub(crate) name: String,
    /// When it ended, else began, else was created.
    pub(crate) time: DateTime<Utc>,
    pub(crate) phase: VolumePhase,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) reason: Option<Reason>,
    pub(crate) message: Option<String>,
    pub(crate) cut: Option<DateTime<Utc>>,
    pub(crate) snapshot: Option<String>,
    pub(crate) archive: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) progress: Option<Progress>,
}

/// One item for each PVC, in the order of namespace and name, or as they were named.
pub(crate) fn assess(seen: &Seen, now: DateTime<Utc>) -> Vec<Item> {
    let timetable = Timetable::new(seen);
    seen.pvcs.iter().map(|pvc| item(seen, &timetable, pvc, now)).collect()
}

fn item(seen: &Seen, timetable: &Timetable, pvc: &PersistentVolumeClaim, now: DateTime<Utc>) -> Item {
    let (namespace, name) = (pvc.namespace().unwrap_or_default(), pvc.name_any());
    let judged = judged(seen, pvc);
    let attempts = attempts(&seen.backups, &namespace, &name);
    let newest = |wanted: fn(Outcome) -> bool| attempts.iter().find(|a| a.outcome.is_some_and(wanted)).cloned();
    let chosen = chosen_repository(seen, &judged, &namespace);
    let due = judged.policy.as_ref().ok().and_then(|policy| timetable.due(policy, pvc, now));
    let mut problems = texts(judged.policy.as_ref().err().map_or(&[][..], Vec::as_slice));
    problems.extend(chosen.as_ref().and_then(|c| c.as_ref().err()).cloned());
    let mut warnings = texts(&judged.warnings);
    warnings.extend(judged.policy.as_ref().ok().and_then(|policy| timetable.split(policy, pvc)));
    let mut item = Item {
        state: State::Ok,
        excluded: judged.excluded.map(|e| e.to_string()),
        suspended: judged.policy.as_ref().is_ok_and(|p| p.suspend),
        policy: settings(&judged),
        repository: chosen.and_then(Result::ok),
        problems,
        warnings,
        last_backup: attempts.first().cloned(),
        last_success: newest(|o| o == Outcome::Succeeded),
        last_failure: newest(|o| matches!(o, Outcome::Failed | Outcome::Incomplete)),
        due: due.and_then(|d| d.since),
        next_backup: due.and_then(|d| d.next),
        namespace,
        pvc: name,
    };
    item.state = state(&item, now);
    if matches!(item.state, State::Off | State::Excluded | State::Invalid | State::Suspended) {
        (item.due, item.next_backup) = (None, None);
    }
    item
}

/// The first thing that stands against a backup decides; then how the last one went.
fn state(item: &Item, now: DateTime<Utc>) -> State {
    let runs = item.last_backup.as_ref().is_some_and(|a| a.outcome.is_none());
    let unheeded = item.due.is_some_and(|due| now - due > PATIENCE);
    let failed_after = |success: &Attempted, failure: &Attempted| failure.time > success.time;
    let failure = match (&item.last_success, &item.last_failure) {
        (Some(success), Some(failure)) => Some(failure).filter(|f| failed_after(success, f)),
        (_, failure) => failure.as_ref(),
    };
    match failure.and_then(|f| f.outcome) {
        _ if runs => State::Running,
        _ if !item.problems.is_empty() => State::Invalid,
        _ if !item.policy.contains_key(Key::Schedule.name()) => State::Off,
        _ if item.excluded.is_some() => State::Excluded,
        _ if item.suspended => State::Suspended,
        _ if unheeded => State::Overdue,
        Some(Outcome::Incomplete) => State::Incomplete,
        Some(Outcome::Failed | Outcome::Succeeded | Outcome::Superseded) => State::Failed,
        None if item.last_success.is_none() => State::Waiting,
        None => State::Ok,
    }
}

fn judged(seen: &Seen, pvc: &PersistentVolumeClaim) -> Judged {
    let volume = pvc.spec.as_ref().and_then(|s| s.volume_name.as_ref());
    judge(pvc, volume.and_then(|name| seen.volumes.get(name)), &seen.inherited)
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

fn settings(judged: &Judged) -> BTreeMap<&'static str, Setting> {
    let setting = |(key, (value, origin)): (&Key, &(String, Origin))| {
        let origin = match origin {
            Origin::Pvc => "pvc",
            Origin::Namespace => "namespace",
            Origin::Default => "default",
        };
        (key.name(), Setting { value: value.clone(), origin })
    };
    judged.effective.values.iter().map(setting).collect()
}

/// The Repository, or why there is none; `None` where none is needed or none may be seen.
fn chosen_repository(seen: &Seen, judged: &Judged, namespace: &str) -> Option<Result<String, String>> {
    let policy = judged.policy.as_ref().ok()?;
    if policy.schedule.is_none() || policy.archive == ArchiveWhen::Never {
        return None;
    }
    let all = seen.repositories.as_ref()?;
    let chosen = repository::choose(all, policy.repository.as_deref(), namespace);
    Some(chosen.map(ResourceExt::name_any).map_err(|Unusable { reason, message }| format!("{reason}: {message}")))
}

/// The Backups that a PVC was in, newest first.
fn attempts(backups: &[Backup], namespace: &str, pvc: &str) -> Vec<Attempted> {
    let has_it = |b: &&Backup| b.namespace().as_deref() == Some(namespace) && b.spec.volumes.iter().any(|v| v == pvc);
    let mut attempts: Vec<Attempted> = backups.iter().filter(has_it).map(|b| attempted(b, pvc)).collect();
    attempts.sort_by_key(|a| Reverse((a.outcome.is_none(), a.time)));
    attempts
}

fn attempted(backup: &Backup, pvc: &str) -> Attempted {
    let status = backup.status.clone().unwrap_or_default();
    let created = time::created(backup).unwrap_or_default();
    let volume = status.volumes.iter().find(|v| v.pvc == pvc).cloned();
    let ended = status.phase.is_final();
    let VolumeStatus { phase, outcome, reason, message, cut, snapshot, archive, node, progress, .. } = volume.unwrap_or_default();
    // What ended before the volume was looked at failed with the reason of the whole.
    let outcome = outcome.filter(|_| ended || phase == VolumePhase::Finished).or(ended.then_some(Outcome::Failed));
    Attempted {
        name: backup.name_any(),
        time: status.finished_at.or(status.started_at).unwrap_or(created),
        phase,
        outcome,
        reason: reason.or(status.reason),
        message: message.or(status.message),
        cut,
        snapshot,
        archive,
        node,
        progress,
    }
}

/// What a schedule asks for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The first time that was missed.
    since: Option<DateTime<Utc>>,
    next: Option<DateTime<Utc>>,
}

/// When each group, or PVC without one, was last backed up by the schedule, and how long it has been there. What is cut together
/// is what the controller's plan says: the same group, schedule and time zone.
struct Timetable {
    groups: BTreeMap<Place, History>,
}

/// What counts for when a group is due.
#[derive(Clone, Copy, Debug)]
struct History {
    /// Creation of the oldest.
    created: DateTime<Utc>,
    /// The newest scheduled time.
    last: Option<DateTime<Utc>>,
}

/// Who is cut together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    namespace: String,
    /// Kept apart by its kind, since a group may be called like a PVC.
    subject: String,
    schedule: String,
    zone: &'static str,
}

impl Place {
    fn of(policy: &Policy, pvc: &PersistentVolumeClaim) -> Option<Self> {
        Some(Self {
            namespace: pvc.namespace().unwrap_or_default(),
            subject: policy
                .group
                .as_ref()
                .filter(|_| policy.mode == Mode::Snapshot)
                .map_or_else(|| format!("pvc/{}", pvc.name_any()), |g| format!("group/{g}")),
            schedule: policy.schedule.as_ref()?.to_string(),
            zone: policy.time_zone.name(),
        })
    }
}

impl Timetable {
    fn new(seen: &Seen) -> Self {
        let scheduled = scheduled(seen);
        let mut groups = BTreeMap::new();
        for pvc in &seen.neighbours {
            let judged = judged(seen, pvc);
            let place = judged.policy.as_ref().ok().and_then(|policy| Place::of(policy, pvc));
            let Some(place) = place.filter(|_| judged.excluded.is_none()) else { continue };
            let created = time::created(pvc).unwrap_or_default();
            let last = scheduled.get(&(place.namespace.clone(), pvc.name_any())).copied();
            let group: &mut History = groups.entry(place).or_insert(History { created, last });
            group.created = group.created.min(created);
            group.last = group.last.max(last);
        }
        Self { groups }
    }

    /// What the schedule asks for; `None` without one.
    fn due(&self, policy: &Policy, pvc: &PersistentVolumeClaim, now: DateTime<Utc>) -> Option<Asked> {
        let schedule = policy.schedule.as_ref()?;
        let History { created, last } = *self.groups.get(&Place::of(policy, pvc)?)?;
        let due = due(schedule, policy.time_zone, created, last, now);
        // The controller makes up for the newest of several missed times; how long it has not begun shows the oldest.
        let oldest = schedule.next(last.map_or(created, |last| last.max(created)), policy.time_zone);
        Some(Asked { since: due.now.and(oldest), next: due.next })
    }

    /// What a group that is cut in parts is told.
    fn split(&self, policy: &Policy, pvc: &PersistentVolumeClaim) -> Option<String> {
        let (group, place) = (policy.group.as_ref()?, Place::of(policy, pvc)?);
        let parts = self.groups.keys().filter(|p| (&p.namespace, &p.subject) == (&place.namespace, &place.subject)).count();
        let told = || format!("the PVCs of group {group} have different schedules or time zones, so they are not all cut together");
        (parts > 1).then(told)
    }
}

/// The newest scheduled time of each PVC that a Backup or a snapshot was made for.
fn scheduled(seen: &Seen) -> BTreeMap<(String, String), DateTime<Utc>> {
    let by_backups = seen.backups.iter().flat_map(|b| {
        let namespace = b.namespace().unwrap_or_default();
        let volumes = b.spec.volumes.iter().map(move |v| (namespace.clone(), v.clone()));
        volumes.filter_map(|place| Some((place, b.spec.scheduled_time?)))
    });
    let by_snapshots = seen.snapshots.iter().filter_map(|s| {
        let at = s.annotations().get(names::SCHEDULED_TIME)?.parse().ok()?;
        let pvc = s.spec.source.persistent_volume_claim_name.clone()?;
        Some(((s.namespace().unwrap_or_default(), pvc), at))
    });
    let mut newest = BTreeMap::new();
    for (place, at) in by_backups.chain(by_snapshots) {
        let known: &mut DateTime<Utc> = newest.entry(place).or_insert(at);
        *known = (*known).max(at);
    }
    newest
}
