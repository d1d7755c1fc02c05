//! Which Backups of one namespace are due: pure, from the compact facts.
//!
//! Invariant: the same facts give the same names, so two leaders that decide at once make one Backup.

use crate::config::Annotations;
use crate::world::{Claim, Decided, Past, Space};
use borgherd_api::due::due;
use borgherd_api::names::{self, BackupSubject};
use borgherd_api::policy::{self, ArchiveWhen, Key, Mode, Origin, Policy};
use borgherd_api::schedule::Schedule;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::collections::BTreeMap;

/// A Backup that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its deterministic name.
    pub name: String,
    /// Names of its PVCs, sorted.
    pub volumes: Vec<String>,
    /// Whether it is archived.
    pub archive: bool,
    /// The time it was due.
    pub scheduled: DateTime<Utc>,
}

/// The plan of one namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be created now.
    pub backups: Vec<Planned>,
    /// When to plan again.
    pub next: Option<DateTime<Utc>>,
    /// By PVC; those with a schedule or a problem.
    pub decided: BTreeMap<String, Decided>,
}

/// PVCs that are cut together: same group (or the one PVC), same schedule, same zone. What is read in place is read alone.
struct Group<'a> {
    kind: &'static str,
    name: String,
    schedule: Schedule,
    time_zone: Tz,
    members: Vec<Member<'a>>,
}

/// A PVC of a group. What is suspended is in no group.
struct Member<'a> {
    pvc: &'a String,
    claim: &'a Claim,
    archive: ArchiveWhen,
}

/// Plans one namespace.
pub fn decide(namespace: &str, space: &Space, defaults: &Annotations, now: DateTime<Utc>) -> Plan {
    let mut plan = Plan::default();
    if space.deleting {
        return plan;
    }
    for (pvc, claim) in &space.claims {
        warn(&mut plan, pvc, policy::unknown(&claim.annotations, Origin::Pvc).iter().map(ToString::to_string));
    }
    let groups = groups(namespace, space, defaults, &mut plan);
    tell_split_groups(&groups, &mut plan);
    for group in groups.into_values() {
        let interval = group.schedule.interval(now, group.time_zone).map(chrono::Duration::as_seconds_f64);
        for member in &group.members {
            plan.decided.entry(member.pvc.clone()).or_default().interval = interval;
        }
        let created = group.members.iter().map(|m| m.claim.created).min().unwrap_or(now);
        let past: Vec<&Past> = group.members.iter().filter_map(|m| space.past.get(m.pvc)).collect();
        let last = past.iter().filter_map(|p| p.scheduled).max();
        let due = due(&group.schedule, group.time_zone, created, last, now);
        plan.next = [plan.next, due.next].into_iter().flatten().min();
        if let Some(scheduled) = due.now {
            let archived = past.iter().filter_map(|p| p.archive_scheduled).max();
            plan.backups.push(planned(namespace, &group, archived.unwrap_or(created), scheduled));
        }
    }
    plan
}

/// Adds to what a person is warned of.
fn warn(plan: &mut Plan, pvc: &str, warnings: impl Iterator<Item = String>) {
    for warning in warnings {
        let told = &mut plan.decided.entry(pvc.to_owned()).or_default().warning;
        *told = Some(told.take().map_or_else(|| warning.clone(), |before| format!("{before}; {warning}")));
    }
}

/// A group whose members have different schedules or zones is cut in parts: allowed, and hardly meant.
fn tell_split_groups(groups: &Groups<'_>, plan: &mut Plan) {
    let mut parts: BTreeMap<&String, usize> = BTreeMap::new();
    for (name, _, _) in groups.keys() {
        *parts.entry(name).or_default() += 1;
    }
    for group in groups.iter().filter(|((name, _, _), _)| parts.get(name).is_some_and(|n| *n > 1)).map(|(_, group)| group) {
        for Member { pvc, .. } in &group.members {
            let told = format!("the PVCs of group {} have different schedules or time zones, so they are not all cut together", group.name);
            warn(plan, pvc, std::iter::once(told));
        }
    }
}

/// By group (or PVC), schedule and zone.
type Groups<'a> = BTreeMap<(String, String, String), Group<'a>>;

fn groups<'a>(namespace: &str, space: &'a Space, defaults: &Annotations, plan: &mut Plan) -> Groups<'a> {
    let mut groups = BTreeMap::new();
    for (pvc, claim) in &space.claims {
        let effective = space.effective(claim, defaults);
        let mode = Mode::of(&effective);
        if claim.exclusion.is_some_and(|e| e.stands(mode)) || !effective.values.contains_key(&Key::Schedule) {
            continue;
        }
        let named = effective.values.get(&Key::Group).map(|(group, _)| group.clone()).filter(|g| !g.is_empty() && mode == Mode::Snapshot);
        let (kind, name) = named.map_or_else(|| ("pvc", pvc.clone()), |group| ("group", group));
        match policy::resolve(namespace, &name, &effective) {
            Err(problems) => {
                let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                plan.decided.entry(pvc.clone()).or_default().problem = Some(text);
            }
            Ok(Policy { schedule: Some(schedule), time_zone, archive, suspend: false, .. }) => {
                let key = (format!("{kind}/{name}"), schedule.to_string(), time_zone.name().to_owned());
                let group = groups.entry(key).or_insert_with(|| Group { kind, name, schedule, time_zone, members: vec![] });
                group.members.push(Member { pvc, claim, archive });
            }
            Ok(_) => {} // suspended
        }
    }
    groups
}

fn planned(namespace: &str, group: &Group<'_>, archived: DateTime<Utc>, scheduled: DateTime<Utc>) -> Planned {
    let uids: Vec<String> = group.members.iter().map(|m| m.claim.uid.clone()).collect();
    let subject = BackupSubject { kind: group.kind, namespace, name: &group.name, uids: &uids };
    let wants = |member: &Member<'_>| match &member.archive {
        ArchiveWhen::EveryBackup => true,
        ArchiveWhen::Never => false,
        ArchiveWhen::At(schedule) => schedule.latest_due(archived, scheduled, group.time_zone).is_some(),
    };
    Planned {
        name: names::backup(subject, scheduled),
        volumes: group.members.iter().map(|m| m.pvc.clone()).collect(),
        archive: group.members.iter().any(wants),
        scheduled,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn claim(created: &str, annotations: &[(&str, &str)]) -> Claim {
        Claim {
            uid: format!("uid-{created}"),
            created: at(created),
            annotations: annotations.iter().map(|(k, v)| (format!("borgherd.dev/{k}"), (*v).to_owned())).collect(),
            exclusion: None,
        }
    }

    fn space(claims: Vec<(&str, Claim)>) -> Space {
        Space { claims: claims.into_iter().map(|(n, c)| (n.to_owned(), c)).collect(), ..Space::default() }
    }

    const OLD: &str = "2026-11-01T00:30:00Z";
    const NOW: &str = "2026-11-21T10:20:00Z";

    #[test]
    fn many_missed_times_make_one_backup_and_it_is_made_once() {
        let mut space = space(vec![("db", claim(OLD, &[("schedule", "0 * * * *")]))]);
        let plan = decide("shop", &space, &Annotations::new(), at(NOW));
        assert_eq!(plan.backups.len(), 1);
        assert_eq!(plan.backups[0].scheduled, at("2026-11-21T10:00:00Z"));
        assert_eq!(plan.next, Some(at("2026-11-21T11:00:00Z")));
        assert_eq!(plan, decide("shop", &space, &Annotations::new(), at(NOW)), "the same facts, the same names");
        space.past.insert("db".into(), Past { scheduled: Some(at("2026-11-21T10:00:00Z")), ..Past::default() });
        assert_eq!(decide("shop", &space, &Annotations::new(), at(NOW)).backups, vec![]);
    }

    #[test]
    fn a_group_is_cut_together_and_others_alone() {
        let grouped = [("schedule", "@hourly"), ("group", "app")];
        let space = space(vec![
            ("a", claim(OLD, &grouped)),
            ("b", claim(OLD, &grouped)),
            ("c", claim(OLD, &[("schedule", "@hourly")])),
            ("d", claim(OLD, &[])),
        ]);
        let volumes: Vec<_> = decide("shop", &space, &Annotations::new(), at(NOW)).backups.into_iter().map(|b| b.volumes).collect();
        assert_eq!(volumes, [vec!["a".to_owned(), "b".into()], vec!["c".into()]]);
    }

    #[test]
    fn one_wrong_annotation_stops_only_its_own_pvc() {
        let space = space(vec![("bad", claim(OLD, &[("schedule", "61 * * * *")])), ("good", claim(OLD, &[("schedule", "@hourly")]))]);
        let plan = decide("shop", &space, &Annotations::new(), at(NOW));
        assert_eq!(plan.backups.len(), 1);
        let problem = plan.decided["bad"].problem.clone().unwrap();
        assert!(problem.contains("borgherd.dev/schedule") && problem.contains("61 * * * *"), "{problem}");
    }

    #[test]
    fn what_is_hardly_meant_is_told_and_stops_nothing() {
        let typo = claim(OLD, &[("schedule", "@hourly"), ("scheduel", "@daily")]);
        let one = claim(OLD, &[("schedule", "@hourly"), ("group", "app")]);
        let other = claim(OLD, &[("schedule", "30 * * * *"), ("group", "app")]);
        let plan = decide("shop", &space(vec![("a", typo), ("b", one), ("c", other)]), &Annotations::new(), at(NOW));
        assert_eq!(plan.backups.len(), 3);
        let told = |pvc: &str| plan.decided[pvc].warning.clone().unwrap_or_default();
        assert!(told("a").contains("borgherd.dev/scheduel"), "{}", told("a"));
        assert!(told("b").contains("group app") && told("c").contains("different schedules"), "{}", told("b"));
    }

    #[test]
    fn what_is_suspended_excluded_or_leaving_starts_nothing() {
        let suspended = claim(OLD, &[("schedule", "@hourly"), ("suspend", "true")]);
        let excluded = Claim { exclusion: Some(policy::Exclusion::Block), ..claim(OLD, &[("schedule", "@hourly")]) };
        assert_eq!(decide("shop", &space(vec![("a", suspended), ("b", excluded)]), &Annotations::new(), at(NOW)).backups, vec![]);
        let leaving = Space { deleting: true, ..space(vec![("a", claim(OLD, &[("schedule", "@hourly")]))]) };
        assert_eq!(decide("shop", &leaving, &Annotations::new(), at(NOW)), Plan::default());
    }

    #[test]
    fn a_member_that_is_suspended_or_never_archived_decides_for_itself_alone() {
        let grouped = [("schedule", "@hourly"), ("group", "app")];
        let suspended = [("schedule", "@hourly"), ("group", "app"), ("suspend", "true")];
        let never = [("schedule", "@hourly"), ("group", "app"), ("archive-schedule", "")];
        let space = space(vec![("a", claim(OLD, &suspended)), ("b", claim(OLD, &never)), ("c", claim(OLD, &grouped))]);
        let backups = decide("shop", &space, &Annotations::new(), at(NOW)).backups;
        assert_eq!(backups.len(), 1);
        assert_eq!(backups[0].volumes, ["b", "c"]);
        assert!(backups[0].archive);
    }

    #[test]
    fn what_is_read_in_place_is_alone_always_archived_and_need_not_be_of_a_csi_driver() {
        let grouped = [("schedule", "@hourly"), ("group", "app"), ("archive-schedule", "")];
        let live = [("schedule", "@hourly"), ("group", "app"), ("archive-schedule", ""), ("mode", "live")];
        let not_csi = |annotations: &[(&str, &str)]| Claim { exclusion: Some(policy::Exclusion::NotCsi), ..claim(OLD, annotations) };
        let space = space(vec![
            ("a", claim(OLD, &grouped)),
            ("b", claim(OLD, &live)),
            ("c", not_csi(&live)),
            ("d", not_csi(&grouped)),
            ("e", Claim { exclusion: Some(policy::Exclusion::Block), ..claim(OLD, &live) }),
        ]);
        let plan = decide("shop", &space, &Annotations::new(), at(NOW));
        let mut backups: Vec<_> = plan.backups.into_iter().map(|b| (b.volumes.join(","), b.archive)).collect();
        backups.sort();
        assert_eq!(backups, [("a".to_owned(), false), ("b".into(), true), ("c".into(), true)]);
        assert!(plan.decided.values().all(|d| d.warning.is_none()), "{:?}", plan.decided);
    }

    #[test]
    fn archives_have_a_schedule_of_their_own() {
        let when = |archive: &str, last: Option<&str>| {
            let mut space = space(vec![("a", claim(OLD, &[("schedule", "@hourly"), ("archive-schedule", archive)]))]);
            space.past.insert("a".into(), Past { archive_scheduled: last.map(at), ..Past::default() });
            decide("shop", &space, &Annotations::new(), at(NOW)).backups[0].archive
        };
        assert!(!when("", None), "empty: never");
        assert!(when("0 3 * * *", None));
        assert!(!when("0 3 * * *", Some("2026-11-21T03:00:00Z")));
        assert!(when("0 3 * * *", Some("2026-11-20T03:00:00Z")));
    }
}
