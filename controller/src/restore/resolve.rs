//! Which snapshot or archive a Restore means: candidates from a live listing and a borg listing, and a pure choice among them.
//!
//! Invariant: what does not match ends as `NoMatch`; there is no falling back to something else.

use crate::backup::work::facts;
use crate::context::Context;
use crate::error::{Doing, Error};
use crate::repository::Unusable;
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{Backup, BorgRun, BorgRunStatus, Candidate, Progress, RestoreSource, RunPhase, SourceKind, VolumeFacts};
use borgherd_api::names::{CUT, PVC, PVC_NAME, label};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use std::collections::{BTreeMap, BTreeSet};

/// Something to restore from, with what is known of its volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// As the status shows it.
    pub candidate: Candidate,
    /// Size, class, modes; where Borgherd wrote them.
    pub facts: Option<VolumeFacts>,
}

/// The ready snapshots of a PVC.
pub async fn snapshots(ctx: &Context, namespace: &str, pvc: &str) -> Result<Vec<Found>, Error> {
    let api: Api<VolumeSnapshot> = Api::namespaced(ctx.client.clone(), namespace);
    let mut found: BTreeMap<String, VolumeSnapshot> = BTreeMap::new();
    // Those that Borgherd has made, and those that another program has.
    for key in BTreeSet::from([PVC.into(), ctx.config.retention.label_prefix.key(PVC)]) {
        let of_pvc = ListParams::default().labels(&format!("{key}={}", label(pvc)));
        let all = api.list(&of_pvc).await.doing("listing the VolumeSnapshots")?;
        let is_of = |s: &VolumeSnapshot| s.annotations().get(PVC_NAME).or_else(|| s.labels().get(&*key)).is_some_and(|of| of == pvc);
        found.extend(all.items.into_iter().filter(is_of).map(|s| (s.name_any(), s)));
    }
    Ok(found.values().filter_map(of_snapshot).collect())
}

fn of_snapshot(snapshot: &VolumeSnapshot) -> Option<Found> {
    let status = snapshot.status.as_ref().filter(|s| s.ready_to_use == Some(true))?;
    let cut = snapshot.annotations().get(CUT).and_then(|c| c.parse().ok()).or(status.creation_time)?;
    let facts = Some(facts(Some(snapshot))).filter(|f| !f.size.is_empty());
    let bytes = status.restore_size.as_deref().and_then(crate::expose::objects::bytes);
    Some(Found {
        candidate: Candidate {
            kind: SourceKind::Snapshot,
            name: snapshot.name_any(),
            cut,
            bytes,
            files: None,
            repository: None,
            doubtful: false,
        },
        facts,
    })
}

/// Why a list run that has failed found nothing.
pub(super) fn unlisted(status: &BorgRunStatus) -> Unusable {
    let message = format!("the archives could not be listed: {}", status.message.as_deref().unwrap_or_default());
    Unusable { reason: status.reason.unwrap_or(Reason::BorgFailed), message }
}

/// What a finished list run found. A repository that nobody has written to yet has no archives.
pub fn archives(run: &BorgRun) -> Result<Vec<Found>, Unusable> {
    let status = run.status.clone().unwrap_or_default();
    match (status.phase, status.reason) {
        (RunPhase::Succeeded, _) => {}
        (_, Some(Reason::RepositoryMissing)) => return Ok(vec![]),
        (_, _) => return Err(unlisted(&status)),
    }
    let repository = run.spec.repository.name.clone();
    Ok(status
        .archives
        .into_iter()
        .map(|a| Found {
            candidate: Candidate {
                kind: SourceKind::Archive,
                name: a.name,
                cut: a.cut,
                bytes: a.bytes,
                files: a.files,
                repository: Some(repository.clone()),
                doubtful: false,
            },
            facts: a.facts,
        })
        .collect())
}

/// Marks the archives whose cuts are in doubt.
pub fn with_doubts(mut found: Vec<Found>, doubtful: &BTreeSet<DateTime<Utc>>) -> Vec<Found> {
    for Found { candidate, .. } in &mut found {
        candidate.doubtful = doubtful.contains(&candidate.cut);
    }
    found
}

/// What the Backups of a namespace that are still there tell of their archives: totals by archive name. Borg's listing has none.
pub async fn sizes(ctx: &Context, namespace: &str) -> Result<BTreeMap<String, Progress>, Error> {
    let backups: Api<Backup> = Api::namespaced(ctx.client.clone(), namespace);
    let all = backups.list(&ListParams::default()).await.doing("listing the Backups")?;
    let volumes = all.items.into_iter().filter_map(|b| b.status).flat_map(|s| s.volumes);
    Ok(volumes.filter_map(|v| Some((v.archive?, v.progress?))).collect())
}

/// Fills in the sizes that are known.
pub fn with_sizes(mut found: Vec<Found>, sizes: &BTreeMap<String, Progress>) -> Vec<Found> {
    for Found { candidate, .. } in &mut found {
        if let Some(total) = sizes.get(&candidate.name) {
            candidate.bytes = candidate.bytes.or(Some(total.bytes));
            candidate.files = candidate.files.or(Some(total.files));
        }
    }
    found
}

/// Newest first; a snapshot before an archive of the same cut, since it restores faster.
pub fn newest_first(found: &mut [Found]) {
    found.sort_by(|a, b| b.candidate.cut.cmp(&a.candidate.cut).then(a.candidate.kind.cmp(&b.candidate.kind)));
}

/// The one that is meant. What is in doubt must be named.
pub fn choose(source: &RestoreSource, mut found: Vec<Found>) -> Result<Found, Unusable> {
    newest_first(&mut found);
    let kind = |f: &Found| source.from.is_none_or(|k| f.candidate.kind == k);
    let name = |f: &Found| source.name.as_deref().is_none_or(|n| f.candidate.name == n);
    let at = |f: &Found| source.at.is_none_or(|at| f.candidate.cut <= at);
    let will_do = |f: &Found| source.name.is_some() || !f.candidate.doubtful;
    let there = found.iter().filter(|f| kind(f)).count();
    let what = match source.from {
        Some(SourceKind::Snapshot) => "snapshot",
        Some(SourceKind::Archive) => "archive",
        None => "snapshot or archive",
    };
    let asked = match (&source.name, source.at) {
        (Some(name), _) => format!(" named {name}"),
        (None, Some(at)) => format!(" cut at or before {}", at.to_rfc3339()),
        (None, None) => String::new(),
    };
    let oldest = found.iter().rev().find(|f| kind(f)).map(|f| f.candidate.cut);
    found.into_iter().find(|f| kind(f) && name(f) && at(f) && will_do(f)).ok_or_else(|| Unusable {
        reason: Reason::NoMatch,
        message: match oldest {
            Some(oldest) => format!("no {what} of PVC {}{asked}; there are {there}, the oldest of {}", source.pvc, oldest.to_rfc3339()),
            None => format!("there is no {what} of PVC {}", source.pvc),
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn found(kind: SourceKind, name: &str, cut: &str) -> Found {
        Found {
            candidate: Candidate {
                kind,
                name: name.into(),
                cut: cut.parse().unwrap(),
                bytes: None,
                files: None,
                repository: None,
                doubtful: false,
            },
            facts: None,
        }
    }

    fn all() -> Vec<Found> {
        vec![
            found(SourceKind::Archive, "a1", "2026-11-19T00:00:00Z"),
            found(SourceKind::Archive, "a2", "2026-11-20T00:00:00Z"),
            found(SourceKind::Snapshot, "s2", "2026-11-20T00:00:00Z"),
            found(SourceKind::Snapshot, "s3", "2026-11-21T00:00:00Z"),
        ]
    }

    #[test]
    fn the_choice_is_the_newest_that_fits() {
        let source = RestoreSource { pvc: "db".into(), ..RestoreSource::default() };
        let at = |t: &str| Some(t.parse().unwrap());
        let cases = [
            (source.clone(), "s3"),
            (RestoreSource { from: Some(SourceKind::Archive), ..source.clone() }, "a2"),
            (RestoreSource { at: at("2026-11-20T12:00:00Z"), ..source.clone() }, "s2"),
            (RestoreSource { at: at("2026-11-20T00:00:00Z"), from: Some(SourceKind::Archive), ..source.clone() }, "a2"),
            (RestoreSource { at: at("2026-11-19T23:59:59Z"), ..source.clone() }, "a1"),
            (RestoreSource { name: Some("a1".into()), ..source }, "a1"),
        ];
        for (source, expected) in cases {
            assert_eq!(choose(&source, all()).unwrap().candidate.name, expected, "{source:?}");
        }
    }

    #[test]
    fn what_is_in_doubt_is_chosen_by_its_name_alone() {
        let doubtful = BTreeSet::from(["2026-11-20T00:00:00Z".parse().unwrap()]);
        let archives = |found: Vec<Found>| found.into_iter().filter(|f| f.candidate.kind == SourceKind::Archive).collect();
        let all = with_doubts(archives(all()), &doubtful);
        let source = RestoreSource { pvc: "db".into(), ..RestoreSource::default() };
        assert_eq!(choose(&source, all.clone()).unwrap().candidate.name, "a1");
        assert_eq!(choose(&RestoreSource { name: Some("a2".into()), ..source }, all).unwrap().candidate.name, "a2");
    }

    #[test]
    fn what_does_not_match_is_an_error_that_says_what_there_is() {
        let source = RestoreSource { pvc: "db".into(), name: Some("x".into()), ..RestoreSource::default() };
        let error = choose(&source, all()).unwrap_err();
        assert_eq!(error.reason, Reason::NoMatch);
        assert!(error.message.contains("named x") && error.message.contains("there are 4"), "{}", error.message);
        assert!(choose(&source, vec![]).unwrap_err().message.contains("there is no snapshot or archive of PVC db"));
    }
}
