//! `rebind --list`: the contents of Borgherd whose VolumeSnapshot is gone.

use crate::errors::Failure;
use crate::instant::Here;
use crate::output::{self, Cell, Tone};
use crate::session::Session;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::names::{CUT, PVC, PVC_NAME};
use borgherd_api::rebind;
use borgherd_api::retention::Prefix;
use chrono::{DateTime, Utc};
use kube::ResourceExt as _;
use serde::Serialize;
use std::collections::HashSet;

#[derive(Debug, Serialize)]
struct Report {
    items: Vec<Item>,
}

/// One content.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Item {
    content: String,
    /// Where its VolumeSnapshot was.
    namespace: Option<String>,
    pvc: Option<String>,
    /// What its VolumeSnapshot was called.
    snapshot: Option<String>,
    cut: Option<DateTime<Utc>>,
    /// What a volume of it needs.
    bytes: Option<i64>,
    /// Why it cannot be rebound.
    problem: Option<String>,
}

/// Shows all of the cluster.
pub(super) async fn run(session: &Session, prefix: &Prefix) -> Result<(), Failure> {
    // In this order: what is made in between is seen with its snapshot.
    let contents = session.list_global::<VolumeSnapshotContent>().await?;
    let snapshots = session.list::<VolumeSnapshot>(None).await?;
    let report = Report { items: frozen(&contents, &snapshots, prefix) };
    session.screen.show(&report, || render(&report.items, session.here(), session.screen.colours))
}

fn frozen(contents: &[VolumeSnapshotContent], snapshots: &[VolumeSnapshot], prefix: &Prefix) -> Vec<Item> {
    let there: HashSet<String> = snapshots.iter().filter_map(kube::ResourceExt::uid).collect();
    // Not bound yet: a pair that is just being made.
    let is_frozen =
        |content: &&VolumeSnapshotContent| content.spec.volume_snapshot_ref.uid.as_ref().is_some_and(|uid| !there.contains(uid));
    let mut found: Vec<_> = contents.iter().filter(|content| rebind::is_known(content, prefix)).filter(is_frozen).collect();
    // cuts have whole seconds; of those in the same one the storage knows which was first
    found.sort_by_key(|content| content.status.as_ref().and_then(|status| status.creation_time));
    let mut items: Vec<Item> = found.into_iter().map(|content| item(content, prefix)).collect();
    items.sort_by(|one, other| (&one.namespace, &one.pvc, one.cut).cmp(&(&other.namespace, &other.pvc, other.cut)));
    items
}

fn item(content: &VolumeSnapshotContent, prefix: &Prefix) -> Item {
    let of = content.spec.volume_snapshot_ref.clone();
    Item {
        content: content.name_any(),
        namespace: of.namespace,
        pvc: content.annotations().get(PVC_NAME).or_else(|| content.labels().get(&*prefix.key(PVC))).cloned(),
        snapshot: of.name,
        cut: content.annotations().get(CUT).and_then(|cut| cut.parse().ok()),
        bytes: content.status.as_ref().and_then(|status| status.restore_size),
        problem: rebind::unfit(content).map(|unfit| unfit.to_string()),
    }
}

fn render(items: &[Item], here: Here, colours: bool) -> String {
    if items.is_empty() {
        return "nothing to rebind: each VolumeSnapshotContent of Borgherd has its VolumeSnapshot\n".to_owned();
    }
    let row = |item: &Item| -> Vec<Cell> {
        vec![
            item.namespace.clone().unwrap_or_default().into(),
            item.pvc.clone().unwrap_or_default().into(),
            item.snapshot.clone().unwrap_or_default().into(),
            item.cut.map(|cut| here.local(cut)).unwrap_or_default().into(),
            item.bytes.and_then(|bytes| u64::try_from(bytes).ok()).map(output::bytes).unwrap_or_default().into(),
            item.content.clone().into(),
            item.problem.clone().map_or_else(|| "".into(), |problem| Cell::new(problem, Tone::Warn)),
        ]
    };
    let rows: Vec<Vec<Cell>> = items.iter().map(row).collect();
    output::table(&["NAMESPACE", "PVC", "SNAPSHOT", "CUT", "SIZE", "CONTENT", "PROBLEM"], &["SIZE"], &rows, colours)
}
