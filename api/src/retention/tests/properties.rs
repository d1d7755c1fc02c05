//! What holds for every history: backups ready or not, late or never; people who delete snapshots, take marks off and protect them;
//! policies that change; clocks that change; two PVCs of one namespace.

use super::{carry_out, judge, keep, set, snapshot};
use crate::policy::Tier;
use crate::retention::{Fate, Field, Retain, Rule, Snapshot, by_pvc, plan};
use chrono::{DateTime, Duration, NaiveDate, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

const PVCS: [&str; 2] = ["data", "data-db"];

#[derive(Clone, Debug)]
enum Event {
    Backup { pvc: usize, ready: bool },
    Ready(usize),
    NotReady(usize),
    Gone(usize),
    Unmark(usize),
    Mark(usize, &'static str),
    Manual(usize),
    Use(usize),
    Policy(String),
    Nothing,
}

fn policy() -> impl Strategy<Value = String> {
    prop::collection::vec(0_u32..5, 6).prop_map(|n| {
        let names = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];
        let all: Vec<_> = names.iter().zip(&n).map(|(name, n)| format!("{name}={n}")).collect();
        if n.iter().all(|n| *n == 0) { "last=1".to_owned() } else { all.join(",") }
    })
}

fn event() -> impl Strategy<Value = Event> {
    let any = || 0_usize..30;
    prop_oneof![
        8 => (0..2_usize, prop::bool::weighted(0.8)).prop_map(|(pvc, ready)| Event::Backup { pvc, ready }),
        1 => any().prop_map(Event::Ready),
        1 => any().prop_map(Event::NotReady),
        1 => any().prop_map(Event::Gone),
        1 => any().prop_map(Event::Unmark),
        1 => (any(), prop::sample::select(vec!["2020-01-01", "2024-02-29", "2030-01-01", "", "x"])).prop_map(|(n, day)| Event::Mark(n, day)),
        1 => any().prop_map(Event::Manual),
        1 => any().prop_map(Event::Use),
        1 => policy().prop_map(Event::Policy),
        1 => Just(Event::Nothing),
    ]
}

/// Minutes to the next event: often within the hour, sometimes weeks.
fn wait() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 1..90_i64, 4 => 60..1800_i64, 1 => 1800..50_000_i64]
}

fn zone() -> impl Strategy<Value = Tz> {
    prop::sample::select(vec![Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Pacific__Apia])
}

/// Around New Year, leap days and both changes of clocks.
fn begin() -> impl Strategy<Value = DateTime<Utc>> {
    let days = ["2023-12-20T00:00:00Z", "2024-02-20T05:00:00Z", "2026-03-20T10:00:00Z", "2026-10-20T22:00:00Z", "2026-12-25T11:00:00Z"];
    prop::sample::select(days.map(|day| day.parse().unwrap()).to_vec())
}

fn history() -> impl Strategy<Value = (DateTime<Utc>, Tz, String, Vec<(i64, Event)>)> {
    (begin(), zone(), policy(), prop::collection::vec((wait(), event()), 1..60))
}

fn happen(all: &mut Vec<Snapshot>, event: &Event, now: DateTime<Utc>, rule: &mut String) {
    let place = |n: &usize| if all.is_empty() { None } else { Some(n % all.len()) };
    match event {
        Event::Backup { pvc, ready } => {
            let mut made = snapshot(PVCS[*pvc], now);
            made.ready = *ready;
            all.push(made);
        }
        Event::Policy(policy) => rule.clone_from(policy),
        Event::Nothing => {}
        Event::Gone(n) => {
            if let Some(place) = place(n) {
                all.remove(place);
            }
        }
        Event::Ready(n) | Event::NotReady(n) | Event::Unmark(n) | Event::Mark(n, _) | Event::Manual(n) | Event::Use(n) => {
            let Some(one) = place(n).and_then(|place| all.get_mut(place)) else { return };
            match event {
                Event::Ready(_) => one.ready = true,
                Event::NotReady(_) => one.ready = false,
                Event::Unmark(_) => set(one, Field::DeleteAfter, None),
                Event::Mark(_, day) => set(one, Field::DeleteAfter, Some(day)),
                Event::Manual(_) => one.retain = Retain::Forever,
                Event::Use(_) => one.in_use = one.in_use.is_none().then(|| "it is restored from".to_owned()),
                Event::Backup { .. } | Event::Gone(_) | Event::Policy(_) | Event::Nothing => {}
            }
        }
    }
}

/// Each verdict as it is carried out, by name.
fn told(all: &[&Snapshot], rule: &Rule, now: DateTime<Utc>) -> Vec<String> {
    let mut told: Vec<_> =
        plan(all, rule, now).iter().map(|v| format!("{} {:?} {:?} {:?}", v.snapshot.name, v.fate, v.why, v.changes)).collect();
    told.sort();
    told
}

fn good(all: &[Snapshot], pvc: &str) -> usize {
    all.iter().filter(|snapshot| snapshot.pvc == pvc && snapshot.is_good()).count()
}

/// What the tests see of marks themselves: since when each snapshot has had one. That one was taken off counts if it is good then.
type Seen = HashMap<String, DateTime<Utc>>;

fn see(seen: &mut Seen, all: &[Snapshot], now: DateTime<Utc>) {
    for one in all {
        if one.get(Field::DeleteAfter).is_some() {
            seen.entry(one.uid.clone()).or_insert(now);
        } else if one.is_good() {
            seen.remove(&one.uid);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_good_is_lost((begin, zone, first, events) in history()) {
        let (mut all, mut now, mut policy, mut seen) = (Vec::new(), begin, first, Seen::new());
        for (minutes, event) in &events {
            now += Duration::minutes(*minutes);
            happen(&mut all, event, now, &mut policy);
            see(&mut seen, &all, now);
            let rule = keep(&policy, zone);
            let before: Vec<_> = all.clone();
            let swept = carry_out(&mut all, &rule, now);
            for pvc in PVCS {
                prop_assert_eq!(good(&before, pvc) > 0, good(&all, pvc) > 0, "the last ready one of {} is gone", pvc);
            }
            for name in &swept {
                let one = before.iter().find(|snapshot| snapshot.name == *name).unwrap();
                prop_assert!(one.is_good() && one.in_use.is_none(), "{:?}", one);
                let (mark, since) = (one.get(Field::DeleteAfter).unwrap(), &seen[&one.uid]);
                let day: NaiveDate = mark.parse().unwrap();
                prop_assert!(day < now.with_timezone(&zone).date_naive() && *since + Duration::hours(24) <= now, "{} {} {}", mark, since, now);
            }
            for one in &before {
                let after = all.iter().find(|snapshot| snapshot.uid == one.uid);
                prop_assert!(one.is_good() || after == Some(one), "not ready, and touched: {:?} {:?}", one, after);
            }
            see(&mut seen, &all, now);
            let settled = all.clone();
            prop_assert_eq!(carry_out(&mut all, &rule, now), Vec::<String>::new(), "a second time");
            prop_assert_eq!(&all, &settled, "a second time");
        }
    }

    #[test]
    fn order_unready_ones_and_other_pvcs_mean_nothing((begin, zone, first, events) in history()) {
        let (mut all, mut now, mut policy) = (Vec::new(), begin, first);
        for (minutes, event) in &events {
            now += Duration::minutes(*minutes);
            happen(&mut all, event, now, &mut policy);
            let rule = keep(&policy, zone);
            for of_one in by_pvc(&all) {
                let forwards = told(&of_one, &rule, now);
                let mut other = of_one.clone();
                other.reverse();
                prop_assert_eq!(&forwards, &told(&other, &rule, now));
                let middle = other.len() / 2;
                other.rotate_left(middle);
                prop_assert_eq!(&forwards, &told(&other, &rule, now));
                let ready: Vec<_> = of_one.iter().filter(|s| s.is_good()).copied().collect();
                let without = told(&ready, &rule, now);
                prop_assert!(without.iter().all(|verdict| forwards.contains(verdict)), "{:?} {:?}", forwards, without);
            }
            let mut together = all.clone();
            carry_out(&mut together, &rule, now);
            let mut apart: Vec<Snapshot> = Vec::new();
            for pvc in PVCS {
                let mut own: Vec<_> = all.iter().filter(|snapshot| snapshot.pvc == pvc).cloned().collect();
                carry_out(&mut own, &rule, now);
                apart.extend(own);
            }
            together.sort_by(|one, other| one.uid.cmp(&other.uid));
            apart.sort_by(|one, other| one.uid.cmp(&other.uid));
            prop_assert_eq!(&together, &apart);
            all = together;
        }
    }

    #[test]
    fn a_longer_policy_keeps_all_that_a_shorter_one_keeps((begin, zone, first, events) in history(), more in prop::collection::vec(0..4_u32, 6)) {
        let (mut all, mut now, mut policy) = (Vec::new(), begin, first);
        for (minutes, event) in &events {
            now += Duration::minutes(*minutes);
            happen(&mut all, event, now, &mut policy);
            let rule = keep(&policy, zone);
            let longer = keep(&lengthened(&policy, &more), zone);
            for of_one in by_pvc(&all) {
                for (short, long) in plan(&of_one, &rule, now).iter().zip(plan(&of_one, &longer, now)) {
                    prop_assert_eq!(&short.snapshot.uid, &long.snapshot.uid);
                    prop_assert!(short.fate == Fate::Sweep || long.fate != Fate::Sweep, "{:?} {:?}", short, long);
                    prop_assert!(short.fate != Fate::Keep || long.fate == Fate::Keep, "{:?} {:?}", short, long);
                }
            }
            carry_out(&mut all, &rule, now);
        }
    }

    #[test]
    fn over_a_whole_history_too((begin, zone, policy, events) in history(), more in prop::collection::vec(0..4_u32, 6)) {
        let longer = lengthened(&policy, &more);
        let (mut one, mut other, mut now) = (Vec::new(), Vec::new(), begin);
        for (minutes, event) in &events {
            now += Duration::minutes(*minutes);
            // Backups only: what people do names snapshots by their place, which is not the same in both.
            if matches!(event, Event::Backup { ready: true, .. }) {
                happen(&mut one, event, now, &mut policy.clone());
                happen(&mut other, event, now, &mut policy.clone());
            }
            carry_out(&mut one, &keep(&policy, zone), now);
            carry_out(&mut other, &keep(&longer, zone), now);
            let names = |all: &[Snapshot]| all.iter().map(|snapshot| snapshot.name.clone()).collect::<BTreeSet<_>>();
            prop_assert!(names(&one).is_subset(&names(&other)), "{} {}", policy, longer);
        }
    }

    #[test]
    fn no_more_of_a_tier_stay_than_the_policy_says((begin, zone, policy, events) in history()) {
        let (mut all, mut now) = (Vec::new(), begin);
        let rule = keep(&policy, zone);
        let Rule::Keep { keep: wanted, .. } = rule else { return Ok(()) };
        for (minutes, event) in &events {
            now += Duration::minutes(*minutes);
            happen(&mut all, event, now, &mut policy.clone());
            carry_out(&mut all, &rule, now);
            for pvc in PVCS {
                let own: Vec<_> = all.iter().filter(|snapshot| snapshot.pvc == pvc).cloned().collect();
                for tier in Tier::ALL {
                    let held: Vec<_> = own.iter().filter(|s| s.counts()).filter_map(|s| s.get(Field::Tier(tier))).collect();
                    prop_assert!(held.len() <= wanted.of(tier), "{:?} {:?} {}", tier, held, policy);
                }
                for verdict in judge(&own, &rule, now).iter().filter(|v| v.snapshot.counts() && v.fate == Fate::Keep) {
                    prop_assert!(!verdict.why.to_string().is_empty());
                }
            }
        }
    }
}

fn lengthened(policy: &str, more: &[u32]) -> String {
    let parts = policy.split(',').zip(more.iter().chain([&0; 6]));
    let longer = parts.map(|(part, more)| {
        let (name, n) = part.split_once('=').unwrap();
        format!("{name}={}", n.parse::<u32>().unwrap() + more)
    });
    longer.collect::<Vec<_>>().join(",")
}
