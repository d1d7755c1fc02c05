//! Tests of retention.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archives;
mod held;
mod inherited;
mod judged;
mod periods;
mod properties;
mod scale;
mod year;

use super::{Fate, Field, Rule, Snapshot, Verdict, by_pvc, plan};
use crate::crd::snapshot::VolumeSnapshot;
use crate::policy::Keep;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::json;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn keep(text: &str, zone: Tz) -> Rule {
    Rule::Keep { keep: Keep::parse(text).unwrap(), zone }
}

/// A ready snapshot of the tiers, as the controller makes them.
fn object(pvc: &str, cut: DateTime<Utc>) -> VolumeSnapshot {
    let name = format!("{pvc}-{}", cut.format("%Y%m%d%H%M%S"));
    serde_json::from_value(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {
            "namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "1",
            "labels": {"borgherd.dev/pvc": pvc, "borgherd.dev/retain": "tiers"},
            "annotations": {"borgherd.dev/cut": cut.to_rfc3339()},
        },
        "spec": {"source": {"persistentVolumeClaimName": pvc}},
        "status": {"readyToUse": true, "boundVolumeSnapshotContentName": format!("content-{name}")},
    }))
    .unwrap()
}

fn snapshot(pvc: &str, cut: DateTime<Utc>) -> Snapshot {
    Snapshot::of(&object(pvc, cut)).unwrap()
}

/// Of one PVC.
fn judge<'a>(all: &'a [Snapshot], rule: &Rule, now: DateTime<Utc>) -> Vec<Verdict<'a>> {
    plan(&all.iter().collect::<Vec<_>>(), rule, now)
}

/// Carries a plan for all PVCs out; the names of what was swept.
fn carry_out(all: &mut Vec<Snapshot>, rule: &Rule, now: DateTime<Utc>) -> Vec<String> {
    let judged: Vec<_> = by_pvc(all).into_iter().flat_map(|one| plan(&one, rule, now)).collect();
    let due = judged.into_iter().filter(|verdict| verdict.fate == Fate::Sweep || !verdict.changes.is_empty());
    let done: Vec<_> = due.map(|verdict| (verdict.snapshot.uid.clone(), verdict.changes, verdict.fate)).collect();
    let mut swept = Vec::new();
    for (uid, changes, fate) in done {
        let place = all.iter().position(|snapshot| snapshot.uid == uid).unwrap();
        if fate == Fate::Sweep {
            swept.push(all.remove(place).name);
        } else {
            all[place].apply(changes);
        }
    }
    swept
}

fn set(snapshot: &mut Snapshot, field: Field, value: Option<&str>) {
    snapshot.apply([(field, value.map(str::to_owned))]);
}
