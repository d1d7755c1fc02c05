//! A fleet of snapshots that a program before Borgherd has labelled goes on being retained.

use super::{at, judge, keep, object};
use crate::policy::Tier;
use crate::retention::{Fate, Field, Period, Prefix, Retain, Snapshot, Verdict, Why};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;

fn prefix() -> Prefix {
    Prefix::parse("backup-ns.sh/").unwrap()
}

/// One as backup-ns.sh leaves it: labels under its prefix, no annotation.
fn theirs(cut: &str, labels: &[(&str, &str)]) -> Snapshot {
    let mut object = object("data", at(cut));
    object.metadata.annotations = None;
    object.status.as_mut().unwrap().creation_time = Some(at(cut));
    let all = [("pvc", "data"), ("retain", "daily_weekly_monthly")].into_iter().chain(labels.iter().copied());
    object.metadata.labels = Some(all.map(|(key, value)| (format!("backup-ns.sh/{key}"), value.to_owned())).collect());
    assert_eq!(Snapshot::of(&object), None, "under another prefix it is nobody's");
    Snapshot::under(&prefix(), &object).unwrap()
}

fn now() -> DateTime<Utc> {
    at("2022-05-22T12:00:00Z")
}

fn shown(verdicts: &[Verdict<'_>]) -> Vec<(String, Fate)> {
    verdicts.iter().map(|v| (v.snapshot.cut.unwrap().date_naive().to_string(), v.fate)).collect()
}

#[test]
fn its_labels_are_read_as_they_were_meant() {
    let one = theirs("2022-05-21T00:30:00Z", &[("daily", "2022-05-21"), ("weekly", "w20"), ("monthly", "2022-05")]);
    assert_eq!((one.retain, one.pvc.as_str(), one.cut), (Retain::Tiers, "data", Some(at("2022-05-21T00:30:00Z"))));
    assert_eq!(one.get(Field::Tier(Tier::Weekly)), Some("w20"));
    let days = theirs("2022-05-21T00:30:00Z", &[("retain", "days"), ("retain-days", "30"), ("delete-after", "2022-06-20")]);
    assert_eq!((days.retain, days.get(Field::DeleteAfter)), (Retain::Days, Some("2022-06-20")));
    for (written, meant) in [("daily_weekly", Retain::Tiers), ("hourly", Retain::Tiers), ("daily_", Retain::Unknown), ("", Retain::Unknown)]
    {
        assert_eq!(theirs("2022-05-21T00:30:00Z", &[("retain", written)]).retain, meant, "{written}");
    }
    for (cut, text, week) in [
        ("2022-05-21T00:00:00", "w20", Some("2022-W20")),
        ("2023-01-01T00:00:00", "w52", Some("2022-W52")),
        ("2024-12-30T00:00:00", "w01", Some("2025-W01")),
        ("2024-12-30T00:00:00", "w1", Some("2025-W01")),
        ("2022-05-21T00:00:00", "w54", None),
        ("2022-05-21T00:00:00", "w", None),
        ("2022-05-21T00:00:00", "2022-W19", Some("2022-W19")),
        ("2024-04-11T00:00:00", "2024-w15", Some("2024-W15")),
        ("2025-04-11T00:00:00", "2024-w15", Some("2024-W15")),
        ("2024-04-11T00:00:00", "2024w15", None),
        ("2024-04-11T00:00:00", "w-15", None),
    ] {
        let period = Period::read_of(Tier::Weekly, text, || cut.parse().unwrap());
        assert_eq!(period.map(|period| period.to_string()).as_deref(), week, "{text} of {cut}");
    }
}

#[test]
fn a_week_without_a_year_blocks_only_its_own_year() {
    let rule = keep("weekly=2", Tz::UTC);
    let all = [theirs("2021-05-22T00:30:00Z", &[("weekly", "w20")]), theirs("2022-05-21T00:30:00Z", &[])];
    let verdicts = judge(&all, &rule, now());
    let given = |verdict: &Verdict<'_>| verdict.changes.iter().find(|(field, _)| *field == Field::Tier(Tier::Weekly)).cloned();
    assert_eq!(given(&verdicts[1]), Some((Field::Tier(Tier::Weekly), Some("2022-W20".to_owned()))));
    assert_eq!(given(&verdicts[0]), None, "its own label stays as it is");
    // the second of a week does not take its place
    let all = [theirs("2022-05-20T00:30:00Z", &[("weekly", "w20")]), theirs("2022-05-21T00:30:00Z", &[])];
    assert_eq!(given(&judge(&all, &rule, now())[1]), None);
}

#[test]
fn the_fleet_is_thinned_out_by_the_policy_and_its_marks_wait_a_day() {
    let rule = keep("daily=2,weekly=1", Tz::UTC);
    let mut all = vec![
        theirs("2022-05-10T00:30:00Z", &[("delete-after", "2022-05-12")]),
        theirs("2022-05-19T00:30:00Z", &[("daily", "2022-05-19")]),
        theirs("2022-05-20T00:30:00Z", &[("daily", "2022-05-20"), ("weekly", "w20")]),
        theirs("2022-05-21T00:30:00Z", &[("daily", "2022-05-21")]),
        theirs("2022-05-22T00:30:00Z", &[("daily", "2022-05-22")]),
    ];
    let fates = |fates: [Fate; 5]| {
        ["2022-05-10", "2022-05-19", "2022-05-20", "2022-05-21", "2022-05-22"].map(str::to_owned).into_iter().zip(fates).collect::<Vec<_>>()
    };
    let first = judge(&all, &rule, now());
    assert_eq!(shown(&first), fates([Fate::Marked, Fate::Marked, Fate::Keep, Fate::Keep, Fate::Keep]));
    assert!(matches!(first[0].why, Why::Marked { .. }), "the mark of before waits a day: {:?}", first[0].why);
    let changes: Vec<_> = first.iter().map(|verdict| verdict.changes.clone()).collect();
    for (snapshot, changes) in all.iter_mut().zip(changes) {
        snapshot.apply(changes);
    }
    let later = judge(&all, &rule, now() + Duration::days(2));
    assert_eq!(shown(&later), fates([Fate::Sweep, Fate::Sweep, Fate::Keep, Fate::Keep, Fate::Keep]));
}
