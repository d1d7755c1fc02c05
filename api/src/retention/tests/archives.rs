//! Which archives stay: tables of single cases, and what holds for every history.

use super::at;
use crate::names;
use crate::policy::Keep;
use crate::retention::{Accepted, Archive, ArchiveRule, ArchiveWhy, Stop, plan_archives};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const OURS: &str = "cluster";

fn archive(cut: &str) -> Archive {
    Archive { name: names::archive("shop", "db", at(cut)), cluster: Some(OURS.into()) }
}

fn rest(cut: &str, suffix: &str, cluster: Option<&str>) -> Archive {
    Archive { name: format!("{}{suffix}", archive(cut).name), cluster: cluster.map(Into::into) }
}

struct Case {
    keep: &'static str,
    zone: Tz,
    incomplete: BTreeSet<DateTime<Utc>>,
    in_use: BTreeSet<String>,
    accepted: Accepted,
}

impl Case {
    fn new(keep: &'static str) -> Self {
        Self { keep, zone: Tz::UTC, incomplete: BTreeSet::new(), in_use: BTreeSet::new(), accepted: Accepted::default() }
    }

    fn rule(&self) -> ArchiveRule<'_> {
        ArchiveRule {
            keep: Keep::parse(self.keep).unwrap(),
            zone: self.zone,
            cluster: OURS,
            incomplete: &self.incomplete,
            in_use: &self.in_use,
            accepted: &self.accepted,
        }
    }

    fn deleted(&self, archives: &[Archive]) -> Result<Vec<String>, Stop> {
        let plan = plan_archives("shop", "db", archives, &self.rule());
        let deleted = plan.deleted().into_iter().map(|name| name.strip_prefix("shop_db_").unwrap().to_owned()).collect();
        plan.stop.map_or(Ok(deleted), Err)
    }
}

#[test]
fn the_last_of_a_day_by_the_policys_clock_stands_for_it() {
    // 22:30 UTC is 23:30 in Berlin: of the same day as noon; 23:30 UTC is of the next.
    let archives = ["2026-11-20T11:00:00Z", "2026-11-20T22:30:00Z", "2026-11-20T23:30:00Z", "2026-11-21T12:00:00Z"].map(archive);
    let mut case = Case::new("daily=7");
    case.zone = Tz::Europe__Berlin;
    assert_eq!(case.deleted(&archives).unwrap(), ["2026-11-20T23-30-00Z"], "the oldest stays: there are not 7 days yet");
    case.keep = "daily=2";
    assert_eq!(case.deleted(&archives).unwrap(), ["2026-11-20T11-00-00Z", "2026-11-20T23-30-00Z"]);
    case.zone = Tz::UTC;
    assert_eq!(case.deleted(&archives).unwrap(), ["2026-11-20T11-00-00Z", "2026-11-20T22-30-00Z"]);
}

#[test]
fn names_and_comments_that_are_not_ours_neither_count_nor_go() {
    let mut archives: Vec<_> = ["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z"].map(archive).into();
    for name in
        ["shop_db_by-hand", "shop_db-2_2026-11-09T00-00-00Z", "shop_db_2026-11-09T00-00-00Z.checkpointed", "shop_db_2026-11-9T0-00-00Z"]
    {
        archives.push(Archive { name: name.into(), cluster: Some(OURS.into()) });
    }
    archives.push(Archive { cluster: None, ..archive("2026-11-10T00:00:00Z") });
    let deleted = Case::new("last=2").deleted(&archives).unwrap();
    assert_eq!(deleted, ["2026-11-01T00-00-00Z"]);
}

#[test]
fn rests_of_dead_runs_go_when_there_is_a_good_archive_as_new() {
    let mut archives = vec![archive("2026-11-02T00:00:00Z")];
    for (cut, suffix, cluster) in [
        ("2026-11-01T00:00:00Z", ".checkpoint", None),
        ("2026-11-02T00:00:00Z", ".checkpoint.3", None),
        ("2026-11-02T00:00:00Z", ".incomplete-0a1b2c3d", Some(OURS)),
        ("2026-11-03T00:00:00Z", ".checkpoint", None),
        ("2026-11-03T00:00:00Z", ".incomplete-0a1b2c3d", Some(OURS)),
    ] {
        archives.push(rest(cut, suffix, cluster));
    }
    let deleted = Case::new("last=1").deleted(&archives).unwrap();
    assert_eq!(
        deleted,
        ["2026-11-01T00-00-00Z.checkpoint", "2026-11-02T00-00-00Z.checkpoint.3", "2026-11-02T00-00-00Z.incomplete-0a1b2c3d"]
    );
    archives.remove(0);
    assert_eq!(Case::new("last=1").deleted(&archives), Err(Stop::NoneGood), "what is left may be all there is");
}

#[test]
fn one_that_lacks_files_evicts_nothing_and_stops_everything_while_it_is_the_newest() {
    let archives = ["2026-11-01T08:00:00Z", "2026-11-01T20:00:00Z", "2026-11-02T20:00:00Z"].map(archive);
    let mut case = Case::new("daily=1");
    case.incomplete = BTreeSet::from([at("2026-11-01T20:00:00Z")]);
    assert_eq!(case.deleted(&archives).unwrap(), ["2026-11-01T08-00-00Z", "2026-11-01T20-00-00Z"]);
    case.keep = "daily=2";
    assert_eq!(case.deleted(&archives).unwrap(), Vec::<String>::new(), "the good one of that day, and the one that has more of it");
    case.incomplete = BTreeSet::from([at("2026-11-02T20:00:00Z")]);
    assert_eq!(case.deleted(&archives), Err(Stop::NewestIncomplete(at("2026-11-02T20:00:00Z"))));
    case.incomplete.extend([at("2026-11-01T20:00:00Z"), at("2026-11-01T08:00:00Z")]);
    assert_eq!(case.deleted(&archives), Err(Stop::NoneGood));
}

#[test]
fn another_clusters_archives_stop_it_until_they_are_accepted() {
    let mut archives: Vec<_> = ["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"].map(archive).into();
    archives.push(Archive { cluster: Some("other".into()), ..archive("2026-10-01T00:00:00Z") });
    let mut case = Case::new("last=1");
    assert_eq!(case.deleted(&archives), Err(Stop::Foreign(BTreeSet::from(["other".into()]))));
    case.accepted = Accepted::parse("foreign:else");
    assert!(case.deleted(&archives).is_err());
    case.accepted = Accepted::parse("foreign:other");
    assert_eq!(case.deleted(&archives).unwrap(), ["2026-10-01T00-00-00Z", "2026-11-01T00-00-00Z"]);
    // a rest of theirs as well
    archives[2] = rest("2026-11-02T00:00:00Z", ".incomplete-00", Some("third"));
    assert_eq!(case.deleted(&archives), Err(Stop::Foreign(BTreeSet::from(["third".into()]))));
}

#[test]
fn more_than_half_waits_until_it_is_accepted() {
    let archives: Vec<_> = (1..=9).map(|day| archive(&format!("2026-11-0{day}T00:00:00Z"))).collect();
    let mut case = Case::new("last=4");
    let held = Stop::TooMany { deleted: 5, of: 9, until: at("2026-11-05T00:00:00Z") };
    assert_eq!(case.deleted(&archives), Err(held.clone()));
    case.accepted = Accepted::parse("prune:2026-11-01T00-00-00Z");
    assert_eq!(case.deleted(&archives).unwrap().len(), 5, "four more are no more than half");
    case.keep = "last=1";
    assert!(case.deleted(&archives).is_err());
    case.in_use = archives[1..5].iter().map(|a| a.name.clone()).collect();
    assert_eq!(case.deleted(&archives).unwrap().len(), 4, "what is restored from stays and is no alarm");
    case.in_use.clear();
    case.accepted = Accepted::parse("prune:2026-11-08T00-00-00Z");
    assert_eq!(case.deleted(&archives).unwrap().len(), 8);
    assert_eq!(Case::new("last=1").deleted(&archives[..4]).unwrap().len(), 3, "three are no alarm");
}

#[derive(Clone, Copy, Debug)]
enum Made {
    Whole { lacks: bool },
    Checkpoint,
    Aside,
    ByHand,
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        8 => prop::bool::weighted(0.2).prop_map(|lacks| Made::Whole { lacks }),
        1 => Just(Made::Checkpoint),
        1 => Just(Made::Aside),
        1 => Just(Made::ByHand),
    ]
}

fn policy() -> impl Strategy<Value = [u32; 6]> {
    prop::array::uniform6(0_u32..5).prop_filter("it keeps something", |n| n.iter().any(|n| *n > 0))
}

fn text(n: [u32; 6]) -> String {
    let names = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];
    names.iter().zip(n).map(|(name, n)| format!("{name}={n}")).collect::<Vec<_>>().join(",")
}

fn zone() -> impl Strategy<Value = Tz> {
    prop::sample::select(vec![Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Pacific__Apia])
}

fn begin() -> impl Strategy<Value = DateTime<Utc>> {
    let days = ["2023-12-20T00:00:00Z", "2024-02-20T05:00:00Z", "2026-03-20T10:00:00Z", "2026-10-20T22:00:00Z", "2026-12-25T11:00:00Z"];
    prop::sample::select(days.map(at).to_vec())
}

fn steps() -> impl Strategy<Value = Vec<(i64, Made)>> {
    let wait = prop_oneof![4 => 1..90_i64, 4 => 60..1800_i64, 1 => 1800..50_000_i64];
    prop::collection::vec((wait, made()), 1..50)
}

/// Everything is accepted: what the breaker would hold is judged elsewhere.
fn unheld() -> Accepted {
    Accepted::parse("prune:2099-01-01T00-00-00Z")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_good_archive_is_lost(begin in begin(), zone in zone(), wanted in policy(), more in prop::array::uniform6(0_u32..4), steps in steps()) {
        let (mut all, mut incomplete, mut now) = (Vec::<Archive>::new(), BTreeSet::new(), begin);
        let (accepted, in_use) = (unheld(), BTreeSet::new());
        let keep = Keep::parse(&text(wanted)).unwrap();
        let longer = Keep::parse(&text(std::array::from_fn(|n| wanted[n] + more[n]))).unwrap();
        for (minutes, made) in steps {
            now += Duration::minutes(minutes);
            let name = names::archive("shop", "db", now);
            let (name, cluster) = match made {
                Made::Whole { lacks } => {
                    if lacks {
                        incomplete.insert(now);
                    }
                    (name, Some(OURS.to_owned()))
                }
                Made::Checkpoint => (format!("{name}.checkpoint"), None),
                Made::Aside => (format!("{name}.incomplete-01234567"), Some(OURS.to_owned())),
                Made::ByHand => (format!("shop_db_by-hand-{minutes}-{}", now.timestamp()), None),
            };
            all.push(Archive { name, cluster });
            let rule = ArchiveRule { keep, zone, cluster: OURS, incomplete: &incomplete, in_use: &in_use, accepted: &accepted };
            let plan = plan_archives("shop", "db", &all, &rule);
            let mut reversed = all.clone();
            reversed.reverse();
            let backwards = plan_archives("shop", "db", &reversed, &rule);
            prop_assert_eq!(plan.deleted(), backwards.deleted(), "whatever the order");
            let going: BTreeSet<&str> = plan.deleted().into_iter().collect();
            let lengthened = ArchiveRule { keep: longer, ..rule };
            let long = plan_archives("shop", "db", &all, &lengthened);
            prop_assert!(long.deleted().iter().all(|name| going.contains(name)), "{} {}", keep, longer);
            let good: BTreeMap<DateTime<Utc>, &str> = all
                .iter()
                .filter_map(|a| Some((names::cut_of_archive("shop", "db", &a.name).filter(|cut| !incomplete.contains(cut))?, a.name.as_str())))
                .collect();
            prop_assert!(good.last_key_value().is_none_or(|(_, newest)| !going.contains(newest)), "the newest good one");
            prop_assert!(!going.iter().any(|name| name.contains("by-hand")));
            // archives that lack files evict none
            let whole: Vec<Archive> = all.iter().filter(|a| good.values().any(|name| *name == a.name)).cloned().collect();
            let alone = plan_archives("shop", "db", &whole, &rule);
            prop_assert!(plan.stop.is_some() || good.values().all(|name| going.contains(name) == alone.deleted().contains(name)));
            let left: Vec<Archive> = all.iter().filter(|a| !going.contains(a.name.as_str())).cloned().collect();
            let again = plan_archives("shop", "db", &left, &rule);
            prop_assert_eq!(again.deleted(), Vec::<&str>::new(), "a second time");
            prop_assert!(again.verdicts.iter().all(|(_, why)| *why != ArchiveWhy::NoTier) || again.stop.is_some());
            all = left;
        }
    }
}
