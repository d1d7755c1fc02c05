//! What becomes of single snapshots: marks, hands that take them off, and everything that must not be touched.

use super::{at, carry_out, judge, keep, object, set, snapshot};
use crate::retention::{Fate, Field, Retain, Rule, Said, Snapshot, Why};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use serde_json::json;

const CUT: &str = "2026-11-01T10:00:00Z";

/// An old one that no tier holds, and a newest one that keeps the hour.
fn two() -> Vec<Snapshot> {
    vec![snapshot("data", at(CUT)), snapshot("data", at("2026-11-20T10:00:00Z"))]
}

fn hourly() -> Rule {
    keep("hourly=1", Tz::Europe__Berlin)
}

fn fate(all: &[Snapshot], now: DateTime<Utc>) -> (Fate, Why) {
    let verdict = judge(all, &hourly(), now).into_iter().next().unwrap();
    (verdict.fate, verdict.why)
}

fn label(all: &[Snapshot], field: Field) -> Option<String> {
    all[0].get(field).map(str::to_owned)
}

#[test]
fn what_loses_its_last_tier_is_marked_and_swept_a_whole_day_later() {
    let mut all = two();
    // one minute before midnight in Berlin
    let now = at("2026-11-20T22:59:00Z");
    assert!(carry_out(&mut all, &hourly(), now).is_empty());
    assert_eq!(label(&all, Field::DeleteAfter).as_deref(), Some("2026-11-20"));
    assert_eq!(label(&all, Field::TiersAtBirth).as_deref(), Some(""), "the hour is that of the newer one, nothing else is kept");
    assert!(all[0].get(Field::Tier(crate::policy::Tier::Hourly)).is_none());
    assert_eq!(fate(&all, now + Duration::minutes(2)).0, Fate::Marked, "a day before today is not enough");
    assert_eq!(fate(&all, now + Duration::minutes(24 * 60 - 1)).0, Fate::Marked);
    assert_eq!(fate(&all, now + Duration::hours(24)).0, Fate::Sweep);
    // marked just after midnight: 24 hours are not enough, the day has to be over
    let mut all = two();
    let now = at("2026-11-20T23:01:00Z");
    carry_out(&mut all, &hourly(), now);
    assert_eq!(label(&all, Field::DeleteAfter).as_deref(), Some("2026-11-21"));
    assert_eq!(fate(&all, now + Duration::minutes(24 * 60 - 2)).0, Fate::Marked);
    // the zone changes: still a day
    let verdicts = judge(&all, &keep("hourly=1", Tz::Pacific__Kiritimati), now + Duration::hours(12));
    assert_eq!(verdicts[0].fate, Fate::Marked);
}

#[test]
fn a_mark_that_a_person_took_off_stays_off_for_a_week() {
    let mut all = two();
    let now = at("2026-11-20T12:00:00Z");
    carry_out(&mut all, &hourly(), now);
    set(&mut all[0], Field::DeleteAfter, None);
    let seen = now + Duration::hours(30);
    carry_out(&mut all, &hourly(), seen);
    assert_eq!(label(&all, Field::UnmarkedAt), Some(seen.to_rfc3339()));
    for hours in [1, 100, 7 * 24 - 1] {
        assert!(carry_out(&mut all, &hourly(), seen + Duration::hours(hours)).is_empty());
        assert_eq!(label(&all, Field::DeleteAfter), None, "{hours} h later");
    }
    let again = seen + Duration::days(7);
    carry_out(&mut all, &hourly(), again);
    assert_eq!(label(&all, Field::DeleteAfter).as_deref(), Some("2026-11-28"));
    assert_eq!((label(&all, Field::MarkedAt), label(&all, Field::UnmarkedAt)), (Some(again.to_rfc3339()), None));
    assert_eq!(fate(&all, again + Duration::hours(23)).0, Fate::Marked);
}

#[test]
fn marks_that_cannot_be_read_wait_or_stay() {
    let now = at("2026-11-20T12:00:00Z");
    for mark in ["", "tomorrow", "2026-11", "2026-2-3", "2026-02-30", "20261101"] {
        let mut all = two();
        set(&mut all[0], Field::DeleteAfter, Some(mark));
        set(&mut all[0], Field::MarkedAt, Some("2026-11-01T00:00:00Z"));
        let (fate, why) = fate(&all, now);
        assert!(fate == Fate::Keep && why.is_warning() && why.to_string().contains(&format!("'{mark}'")), "{mark}: {why}");
    }
    for since in [None, Some(""), Some("yesterday")] {
        let mut all = two();
        set(&mut all[0], Field::DeleteAfter, Some("2026-11-02"));
        set(&mut all[0], Field::MarkedAt, since);
        assert!(carry_out(&mut all, &hourly(), now).is_empty(), "{since:?}");
        assert_eq!(label(&all, Field::MarkedAt), Some(now.to_rfc3339()));
        assert_eq!(fate(&all, now + Duration::hours(24)).0, Fate::Sweep);
    }
    // taken off, seen, and set again with the old date: it waits its day again
    let mut all = two();
    for (field, value) in [(Field::DeleteAfter, "2026-11-02"), (Field::MarkedAt, CUT), (Field::UnmarkedAt, CUT)] {
        set(&mut all[0], field, Some(value));
    }
    assert!(carry_out(&mut all, &hourly(), now).is_empty());
    assert_eq!(fate(&all, now + Duration::hours(23)).0, Fate::Marked);
}

/// One thing that is different.
type Alter = fn(&mut Vec<Snapshot>);

/// The old one is due; each change alone must keep it.
#[test]
fn what_keeps_a_snapshot_whose_time_has_come() {
    let now = at("2026-11-20T12:00:00Z");
    let due = || {
        let mut all = two();
        carry_out(&mut all, &hourly(), now - Duration::days(3));
        all
    };
    let then = now + Duration::days(1);
    assert_eq!(fate(&due(), then).0, Fate::Sweep, "the rest means something");
    let cases: [(&str, Alter); 7] = [
        ("is restored", |all| all[0].in_use = Some("it is restored from".into())),
        ("not ready", |all| all[0].ready = false),
        ("cut", |all| all[0].cut = None),
        ("deleted", |all| all[0].deleting = Some(at(CUT))),
        ("none of tiers", |all| all[0].retain = Retain::Unknown),
        ("newest", |all| drop(all.remove(1))),
        ("newest", |all| all[1].ready = false),
    ];
    for (text, change) in cases {
        let mut all = due();
        change(&mut all);
        let (fate, why) = fate(&all, then);
        assert!(fate == Fate::Keep && why.to_string().contains(text), "{text}: {fate:?} {why}");
    }
    let all = due();
    let refused = judge(&all, &Rule::Refused("borgherd.dev/keep says nothing".into()), then);
    assert!(refused.iter().all(|verdict| verdict.fate == Fate::Keep && verdict.changes.is_empty() && verdict.why.is_warning()));
    let longer = judge(&all, &keep("last=2", Tz::UTC), then);
    assert_eq!((longer[0].fate, &longer[0].why), (Fate::Keep, &Why::Last(true)));
    // A mark is a mark, also when nobody says any more what to keep.
    assert_eq!(judge(&all, &Rule::Nothing { zone: Tz::UTC }, then)[0].fate, Fate::Sweep);
}

#[test]
fn manual_ones_stay_for_their_days_or_for_ever_and_take_no_tier() {
    let mut all = two();
    let now = at("2026-11-20T12:00:00Z");
    all[0].retain = Retain::Forever;
    let mut days = snapshot("data", at("2026-11-20T09:00:00Z"));
    days.retain = Retain::Days;
    set(&mut days, Field::DeleteAfter, Some("2026-11-25"));
    all.push(days);
    carry_out(&mut all, &hourly(), now);
    assert_eq!(fate(&all, now), (Fate::Keep, Why::Forever));
    let tier = Field::Tier(crate::policy::Tier::Daily);
    assert_eq!([0, 1, 2].map(|n: usize| all[n].get(tier)), [None, None, None], "only the hour is kept");
    assert_eq!(all[1].get(Field::TiersAtBirth), Some("hourly"));
    assert_eq!(all[2].get(Field::MarkedAt), Some(now.to_rfc3339().as_str()));
    let at_day = |day: &str| judge(&all, &hourly(), at(day))[1].fate;
    assert_eq!((at_day("2026-11-25T12:00:00Z"), at_day("2026-11-26T00:00:00Z")), (Fate::Marked, Fate::Sweep));
    set(&mut all[2], Field::DeleteAfter, None);
    assert_eq!(judge(&all, &hourly(), at("2027-11-25T12:00:00Z"))[1].why, Why::Unlimited);
}

#[test]
fn whose_policy_holds() {
    let mut all = two();
    set(&mut all[0], Field::Keep, Some("daily=1"));
    let rule = |said: &Said, all: &[Snapshot]| Rule::of(said, &all.iter().collect::<Vec<_>>());
    let opted_out = Said::Policy { keep: None, zone: Tz::Asia__Tokyo };
    assert_eq!(rule(&Said::Gone, &all), Rule::Nothing { zone: Tz::UTC }, "the newest says nothing");
    assert_eq!(rule(&opted_out, &all), Rule::Nothing { zone: Tz::Asia__Tokyo });
    set(&mut all[1], Field::Keep, Some("hourly=3"));
    assert_eq!(rule(&opted_out, &all), keep("hourly=3", Tz::Asia__Tokyo));
    set(&mut all[1], Field::TimeZone, Some("Europe/Berlin"));
    assert_eq!(rule(&Said::Gone, &all), keep("hourly=3", Tz::Europe__Berlin));
    all[1].ready = false;
    assert_eq!(rule(&Said::Gone, &all), keep("daily=1", Tz::UTC), "the newest that is good");
    let own = Said::Policy { keep: Some(crate::policy::Keep::parse("last=9").unwrap()), zone: Tz::UTC };
    assert_eq!(rule(&own, &all), keep("last=9", Tz::UTC));
    for (field, wrong) in [(Field::Keep, "daily=0"), (Field::Keep, ""), (Field::TimeZone, "Mars")] {
        let mut all = two();
        set(&mut all[1], Field::Keep, Some("daily=1"));
        set(&mut all[1], field, Some(wrong));
        assert!(matches!(rule(&Said::Gone, &all), Rule::Refused(_)), "{wrong}");
    }
    assert!(matches!(rule(&Said::Invalid("x".into()), &all), Rule::Refused(_)));
    assert_eq!(rule(&Said::Gone, &[]), Rule::Nothing { zone: Tz::UTC });
}

#[test]
fn without_a_policy_nothing_is_marked_and_no_tier_lost() {
    let mut all = two();
    all.push(snapshot("data", at("2026-11-20T10:30:00Z")));
    let rule = Rule::Nothing { zone: Tz::UTC };
    carry_out(&mut all, &rule, at("2026-11-21T10:00:00Z"));
    assert!(all.iter().all(|snapshot| snapshot.get(Field::DeleteAfter).is_none()));
    let verdicts = judge(&all, &rule, at("2027-11-21T10:00:00Z"));
    assert_eq!(verdicts[2].why, Why::NoPolicy);
    assert!(matches!(&verdicts[1].why, Why::Holds(tiers) if tiers.len() == 3), "{:?}", verdicts[1].why);
}

#[test]
fn only_snapshots_with_both_labels_are_read() {
    let full = object("data", at(CUT));
    assert_eq!(Snapshot::of(&full).map(|s| (s.pvc, s.cut)), Some(("data".to_owned(), Some(at(CUT)))));
    for label in ["retain", "pvc"] {
        let mut object = full.clone();
        object.metadata.annotations.as_mut().unwrap().insert("borgherd.dev/pvc-name".into(), "data".into());
        object.metadata.labels.as_mut().unwrap().remove(&format!("borgherd.dev/{label}"));
        assert_eq!(Snapshot::of(&object), None, "{label}");
    }
    let mut temporary = full.clone();
    temporary.metadata.labels.as_mut().unwrap().insert("borgherd.dev/temporary".into(), "true".into());
    assert_eq!(Snapshot::of(&temporary), None);
    for (whose, used) in [("provisioner.storage.kubernetes.io", true), ("snapshot.storage.kubernetes.io", false)] {
        let mut cloned = full.clone();
        cloned.metadata.finalizers = Some(vec![format!("{whose}/volumesnapshot-as-source-protection")]);
        assert_eq!(Snapshot::of(&cloned).unwrap().in_use.is_some(), used, "{whose}");
    }
    let mut long: crate::crd::snapshot::VolumeSnapshot = full;
    long.metadata.annotations.as_mut().unwrap().insert("borgherd.dev/pvc-name".into(), "x".repeat(200));
    long.status = Some(serde_json::from_value(json!({"readyToUse": false})).unwrap());
    let read = Snapshot::of(&long).unwrap();
    assert_eq!((read.pvc.len(), read.ready, read.content), (200, false, None));
}

#[test]
fn the_first_ready_one_of_a_period_holds_it_however_late_another_becomes_ready() {
    let mut all = vec![snapshot("data", at("2026-11-20T10:10:00Z")), snapshot("data", at("2026-11-20T10:40:00Z"))];
    all[0].ready = false;
    let rule = keep("hourly=5", Tz::UTC);
    carry_out(&mut all, &rule, at("2026-11-20T10:45:00Z"));
    assert_eq!(all[0].get(Field::TiersAtBirth), None, "not ready: it neither counts nor is it touched");
    all[0].ready = true;
    carry_out(&mut all, &rule, at("2026-11-20T11:00:00Z"));
    assert_eq!(all[0].get(Field::TiersAtBirth), Some(""));
    assert_eq!(all[1].get(Field::Tier(crate::policy::Tier::Hourly)), Some("2026-11-20T10"));
}
