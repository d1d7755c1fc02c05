//! The plan for the snapshots of one PVC: label, thin out, mark, sweep. One pass of each over the snapshots by their cuts.

use super::period::{Period, local, read_day};
use super::rule::Rule;
use super::snapshot::{Change, Field, Retain, Snapshot};
use super::verdict::{Fate, Verdict, Why};
use crate::policy::{Keep, Tier};
use chrono::{DateTime, Duration, NaiveDate, Utc};
use chrono_tz::Tz;
use std::collections::HashSet;

/// From the mark to the sweep at least: there is always a day in which a person can take the mark off.
const WAIT: Duration = Duration::hours(24);
/// For so long a mark that a person took off is not set again.
const PEACE: Duration = Duration::days(7);

/// A snapshot while it is judged: which tiers it holds, as far as that is settled.
struct Judged<'a> {
    snapshot: &'a Snapshot,
    tiers: [bool; Tier::ALL.len()],
    is_new: bool,
    is_last: bool,
    changes: Vec<Change>,
}

/// The verdicts about all retained snapshots of one PVC, the oldest cut first.
pub fn plan<'a>(snapshots: &[&'a Snapshot], rule: &Rule, now: DateTime<Utc>) -> Vec<Verdict<'a>> {
    let mut sorted: Vec<&Snapshot> = snapshots.to_vec();
    sorted.sort_by(|one, other| (one.cut, &one.uid).cmp(&(other.cut, &other.uid)));
    let mut all: Vec<Judged<'a>> = sorted.into_iter().map(Judged::new).collect();
    let zone = match rule {
        Rule::Refused(problem) => {
            return all.iter().map(|judged| judged.keep(Why::Refused(problem.clone()))).collect();
        }
        Rule::Keep { zone, .. } | Rule::Nothing { zone } => *zone,
    };
    label(&mut all, zone);
    if let Rule::Keep { keep, .. } = rule {
        thin(&mut all, keep);
    }
    for judged in &mut all {
        judged.write_tiers(zone);
    }
    let day = Day { today: local(now, zone).date(), now, has_policy: matches!(rule, Rule::Keep { .. }) };
    let mut verdicts: Vec<_> = all.into_iter().map(|judged| judged.verdict(&day)).collect();
    spare_the_newest(&mut verdicts);
    verdicts
}

/// Each that is ready for the first time gets the tiers that no other ready one has.
fn label(all: &mut [Judged<'_>], zone: Tz) {
    let good = all.iter().filter(|judged| judged.snapshot.is_good());
    let mut taken: HashSet<Period> = good.flat_map(|judged| judged.snapshot.periods(zone)).collect();
    for judged in all.iter_mut().filter(|judged| judged.snapshot.counts()) {
        let (Some(cut), None) = (judged.snapshot.cut, judged.snapshot.get(Field::TiersAtBirth)) else { continue };
        let local = local(cut, zone);
        judged.is_new = true;
        for tier in Tier::ALL {
            judged.tiers[tier as usize] |= taken.insert(Period::at(tier, local));
        }
    }
}

/// The newest N of each tier keep it; the newest N of all are the last.
fn thin(all: &mut [Judged<'_>], keep: &Keep) {
    let mut left = Tier::ALL.map(|tier| keep.of(tier));
    let mut last = keep.last();
    for judged in all.iter_mut().rev().filter(|judged| judged.snapshot.counts()) {
        judged.is_last = last > 0;
        last = last.saturating_sub(1);
        for tier in Tier::ALL {
            if !judged.tiers[tier as usize] {
                continue;
            }
            match left[tier as usize].checked_sub(1) {
                Some(fewer) => left[tier as usize] = fewer,
                None => judged.tiers[tier as usize] = false,
            }
        }
    }
}

/// The newest that can be restored from stays, whatever the policy and whoever marked it: so the last one never goes.
fn spare_the_newest(verdicts: &mut [Verdict<'_>]) {
    let newest = verdicts.iter_mut().rev().find(|verdict| verdict.snapshot.is_good());
    if let Some(newest) = newest.filter(|newest| newest.fate == Fate::Sweep) {
        newest.fate = Fate::Keep;
        newest.why = Why::Newest;
    }
}

/// What the marks are judged by.
struct Day {
    today: NaiveDate,
    now: DateTime<Utc>,
    has_policy: bool,
}

impl Snapshot {
    /// Those that its labels name.
    fn periods(&self, zone: Tz) -> impl Iterator<Item = Period> {
        let cut = move || local(self.cut.unwrap_or_default(), zone);
        Tier::ALL.into_iter().filter_map(move |tier| Period::read_of(tier, self.get(Field::Tier(tier))?, cut))
    }
}

impl<'a> Judged<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let tiers = Tier::ALL.map(|tier| snapshot.get(Field::Tier(tier)).is_some());
        Self { snapshot, tiers, is_new: false, is_last: false, changes: Vec::new() }
    }

    fn held(&self) -> impl Iterator<Item = Tier> {
        Tier::ALL.into_iter().filter(|tier| self.tiers[*tier as usize])
    }

    fn set(&mut self, field: Field, value: Option<String>) {
        if self.snapshot.get(field) != value.as_deref() {
            self.changes.push((field, value));
        }
    }

    /// The labels of the tiers that it has won or lost; for one that is new, what it holds beside all others.
    fn write_tiers(&mut self, zone: Tz) {
        for tier in Tier::ALL {
            match (self.tiers[tier as usize], self.snapshot.get(Field::Tier(tier)), self.snapshot.cut) {
                (false, Some(_), _) => self.set(Field::Tier(tier), None),
                (true, None, Some(cut)) => self.set(Field::Tier(tier), Some(Period::at(tier, local(cut, zone)).to_string())),
                (true, ..) | (false, None, _) => {}
            }
        }
        if self.is_new {
            let born: Vec<_> = self.held().map(Tier::name).collect();
            self.set(Field::TiersAtBirth, Some(born.join(",")));
        }
    }

    fn keep(&self, why: Why) -> Verdict<'a> {
        Verdict { snapshot: self.snapshot, changes: Vec::new(), fate: Fate::Keep, why }
    }

    fn verdict(mut self, day: &Day) -> Verdict<'a> {
        let (fate, why) = self.judge(day);
        let changes = if fate == Fate::Sweep { Vec::new() } else { self.changes };
        Verdict { snapshot: self.snapshot, changes, fate, why }
    }

    fn judge(&mut self, day: &Day) -> (Fate, Why) {
        let snapshot = self.snapshot;
        if snapshot.deleting.is_some() {
            return (Fate::Keep, Why::Leaving);
        }
        if !snapshot.is_good() {
            return (Fate::Keep, Why::NotReady);
        }
        if snapshot.get(Field::DeleteAfter).is_none() && snapshot.get(Field::MarkedAt).is_some() {
            self.see_unmarked(day);
        }
        match (snapshot.retain, snapshot.get(Field::DeleteAfter)) {
            (Retain::Unknown, _) => (Fate::Keep, Why::UnknownRetain),
            (_, Some(mark)) => self.marked(mark, day),
            (Retain::Forever, None) => (Fate::Keep, Why::Forever),
            (Retain::Days, None) => (Fate::Keep, Why::Unlimited),
            (Retain::Tiers, None) => self.unmarked(day),
        }
    }

    /// One that is marked, by the planner, by a person, or from its birth.
    fn marked(&mut self, mark: &str, day: &Day) -> (Fate, Why) {
        let Some(date) = read_day(mark) else {
            return (Fate::Keep, Why::Malformed(mark.to_owned()));
        };
        // one that was taken off and set again waits its day again
        let set = self.snapshot.moment(Field::MarkedAt).filter(|_| self.snapshot.get(Field::UnmarkedAt).is_none());
        let Some(set) = set else {
            self.set(Field::MarkedAt, Some(day.now.to_rfc3339()));
            self.set(Field::UnmarkedAt, None);
            return (Fate::Marked, Why::Marked { day: date, not_before: after(day.now, WAIT) });
        };
        let not_before = after(set, WAIT);
        if date >= day.today || day.now < not_before {
            return (Fate::Marked, Why::Marked { day: date, not_before });
        }
        match &self.snapshot.in_use {
            _ if self.is_last => (Fate::Keep, Why::Last(true)),
            Some(what) => (Fate::Keep, Why::InUse(what.clone())),
            None => (Fate::Sweep, Why::Due(date)),
        }
    }

    /// Its mark was taken off. From then on it has its peace, and a mark that is set again is a new one.
    fn see_unmarked(&mut self, day: &Day) {
        if self.snapshot.moment(Field::UnmarkedAt).is_none() {
            self.set(Field::UnmarkedAt, Some(day.now.to_rfc3339()));
        }
    }

    /// One of the tiers without a mark: held, or to be marked.
    fn unmarked(&mut self, day: &Day) -> (Fate, Why) {
        let held: Vec<Tier> = self.held().collect();
        if !held.is_empty() {
            return (Fate::Keep, Why::Holds(held));
        }
        if self.is_last {
            return (Fate::Keep, Why::Last(false));
        }
        if !day.has_policy {
            return (Fate::Keep, Why::NoPolicy);
        }
        let was_marked = self.snapshot.get(Field::MarkedAt).is_some();
        let until = after(self.snapshot.moment(Field::UnmarkedAt).unwrap_or(day.now), PEACE);
        if was_marked && day.now < until {
            return (Fate::Keep, Why::Unmarked(until));
        }
        self.set(Field::DeleteAfter, Some(day.today.to_string()));
        self.set(Field::MarkedAt, Some(day.now.to_rfc3339()));
        self.set(Field::UnmarkedAt, None);
        (Fate::Marked, Why::NoTier)
    }
}

fn after(at: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    at.checked_add_signed(wait).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
