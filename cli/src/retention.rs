//! `retention preview [PVC…]`: what becomes of each snapshot and archive and why, by the code that carries it out.

mod archives;

use crate::args;
use crate::errors::Failure;
use crate::instant::Here;
use crate::output::{self, Cell, Tone};
use crate::policy::{self, Inherited};
use crate::session::Session;
use archives::Held;
use borgherd_api::crd::Restore;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::names::ACKNOWLEDGE;
use borgherd_api::policy::Keep;
use borgherd_api::retention::{self, Fate, Restored, Rule, Said, Snapshot, Verdict};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Report {
    items: Vec<Item>,
    held: Vec<Held>,
}

/// One snapshot or archive.
#[derive(Debug, Serialize)]
struct Item {
    namespace: String,
    pvc: String,
    snapshot: Option<String>,
    archive: Option<String>,
    cut: Option<DateTime<Utc>>,
    fate: &'static str,
    why: String,
}

/// What is read of the cluster.
struct Seen {
    snapshots: Vec<Snapshot>,
    claims: Vec<PersistentVolumeClaim>,
    inherited: Inherited,
}

/// Runs `retention preview`.
pub(crate) async fn run(session: &Session, args: &args::Preview) -> Result<(), Failure> {
    let seen = Box::pin(observe(session, args)).await?;
    let mut report = Report { items: judge(&seen, args.keep, session.now()), held: Vec::new() };
    let mut failed = None;
    if args.archives || args.archive_keep.is_some() {
        let wanted = archives::wanted(&seen, session, args);
        if wanted.is_empty() {
            session.screen.warn("no PVC here has archive-keep, so no archive is pruned; --archive-keep POLICY tries one");
        }
        let found = archives::judge(session, args, &wanted).await?;
        report.items.extend(found.items);
        (report.held, failed) = (found.held, found.failed);
    }
    session.screen.show(&report, || render(&report, session, args))?;
    // What was found stands on stdout; that it is not all of it must not be missed.
    failed.map_or(Ok(()), Err)
}

async fn observe(session: &Session, args: &args::Preview) -> Result<Seen, Failure> {
    let namespace = (!args.all_namespaces).then_some(session.namespace.as_str());
    let (snapshots, claims, restores, inherited, prefix) = futures::try_join!(
        session.list::<VolumeSnapshot>(namespace),
        session.list::<PersistentVolumeClaim>(namespace),
        session.list::<Restore>(namespace),
        policy::inherited(session, namespace),
        policy::label_prefix(session),
    )?;
    let under_way: Restored = restores.iter().filter_map(retention::restored).collect();
    let mut snapshots: Vec<Snapshot> = snapshots.iter().filter_map(|found| Snapshot::under(&prefix, found)).collect();
    snapshots.retain(|snapshot| args.pvcs.is_empty() || args.pvcs.contains(&snapshot.pvc));
    for snapshot in &mut snapshots {
        snapshot.note_restores(&under_way);
    }
    Ok(Seen { snapshots, claims, inherited })
}

fn judge(seen: &Seen, keep: Option<Keep>, now: DateTime<Utc>) -> Vec<Item> {
    let said = |namespace: &str, pvc: &str| {
        let claim = seen.claims.iter().find(|claim| claim.namespace().as_deref() == Some(namespace) && claim.name_any() == pvc);
        claim.map_or(Said::Gone, |claim| Said::by(policy::judge(claim, None, &seen.inherited).policy))
    };
    let rule = |namespace: &str, pvc: &str, snapshots: &[&Snapshot]| {
        let rule = Rule::of(&said(namespace, pvc), snapshots);
        keep.map_or_else(|| rule.clone(), |keep| rule.keeping(keep))
    };
    let mut verdicts = retention::judge_by(&seen.snapshots, rule, now);
    for of_one in &mut verdicts {
        let namespace = of_one.first().map(|verdict| verdict.snapshot.namespace.as_str()).unwrap_or_default();
        let allowed = seen.inherited.namespaces.get(namespace).and_then(|found| found.get(ACKNOWLEDGE));
        retention::hold(of_one, allowed.map_or("", String::as_str));
    }
    verdicts.iter().flatten().map(item).collect()
}

fn item(verdict: &Verdict<'_>) -> Item {
    let snapshot = verdict.snapshot;
    Item {
        namespace: snapshot.namespace.clone(),
        pvc: snapshot.pvc.clone(),
        snapshot: Some(snapshot.name.clone()),
        archive: None,
        cut: snapshot.cut,
        fate: match verdict.fate {
            Fate::Keep => "keep",
            Fate::Marked => "marked",
            Fate::Held => "held",
            Fate::Sweep => "sweep",
        },
        why: verdict.why.to_string(),
    }
}

fn render(report: &Report, session: &Session, args: &args::Preview) -> String {
    let (archives, snapshots): (Vec<&Item>, Vec<&Item>) = report.items.iter().partition(|item| item.archive.is_some());
    let mut text = table("SNAPSHOT", &snapshots, session, args);
    if snapshots.is_empty() {
        text.push_str("no snapshot that retention looks at: they have the labels borgherd.dev/pvc and borgherd.dev/retain\n");
    }
    if !archives.is_empty() {
        text.push('\n');
        text.push_str(&table("ARCHIVE", &archives, session, args));
    }
    if !report.held.is_empty() {
        text.push('\n');
    }
    for held in &report.held {
        text.push_str(&output::printable(&held.to_string()));
        text.push('\n');
    }
    text
}

fn table(what: &str, items: &[&Item], session: &Session, args: &args::Preview) -> String {
    if items.is_empty() {
        return String::new();
    }
    let mut headings = vec!["PVC", what, "CUT", "FATE", "WHY"];
    if args.all_namespaces {
        headings.insert(0, "NAMESPACE");
    }
    let here = session.here();
    let rows: Vec<Vec<Cell>> = items.iter().map(|item| row(item, here, args.all_namespaces)).collect();
    output::table(&headings, &[], &rows, session.screen.colours)
}

fn row(item: &Item, here: Here, namespace: bool) -> Vec<Cell> {
    let tone = match item.fate {
        "sweep" | "prune" => Tone::Bad,
        "held" | "marked" => Tone::Warn,
        _ => Tone::Good,
    };
    let mut cells: Vec<Cell> = vec![
        item.pvc.clone().into(),
        item.snapshot.clone().or_else(|| item.archive.clone()).unwrap_or_default().into(),
        item.cut.map(|cut| here.local(cut)).unwrap_or_default().into(),
        Cell::new(item.fate, tone),
        item.why.clone().into(),
    ];
    if namespace {
        cells.insert(0, item.namespace.clone().into());
    }
    cells
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::testing::{Asked, Server, list, no, out};
    use serde_json::{Value, json};

    fn snapshot(pvc: &str, hour: u32, more: &Value) -> Value {
        let mut object = json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
            "metadata": {
                "name": format!("{pvc}-{hour}"), "namespace": "shop", "uid": format!("uid-{pvc}-{hour}"),
                "labels": {"borgherd.dev/pvc": pvc, "borgherd.dev/retain": "tiers"},
                "annotations": {"borgherd.dev/cut": format!("2026-11-21T{hour:02}:00:00Z"), "borgherd.dev/keep": "hourly=2"},
            },
            "spec": {"source": {"persistentVolumeClaimName": pvc}},
            "status": {"readyToUse": true},
        });
        for (key, value) in more.as_object().unwrap() {
            object["metadata"]["labels"][key] = value.clone();
        }
        object
    }

    /// `data` is there and keeps three hours; `gone` is not, and its newest snapshot says two.
    fn server() -> Server {
        Server::new(|asked: &Asked| match asked.what.rsplit('/').next().unwrap() {
            "volumesnapshots" => {
                let mut all: Vec<Value> = (6..10).flat_map(|hour| ["data", "gone"].map(|pvc| snapshot(pvc, hour, &json!({})))).collect();
                let mut foreign = snapshot("data", 1, &json!({}));
                foreign["metadata"]["labels"]["borgherd.dev/retain"].take();
                foreign["metadata"]["labels"] = json!({"borgherd.dev/pvc": "data"});
                all.push(foreign);
                list(&all)
            }
            "persistentvolumeclaims" => list(&[json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data", "namespace": "shop", "annotations": {"borgherd.dev/keep": "hourly=3"}},
            })]),
            "restores" => list(&[]),
            "shop" => crate::testing::found(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})),
            _ => no("configmaps", "borgherd-defaults"),
        })
    }

    fn fates(text: &str) -> Vec<(String, String)> {
        let lines = text.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        lines.map(|words| (words[1].clone(), words[4].clone())).collect()
    }

    async fn preview(keep: Option<&str>, pvcs: &[&str]) -> String {
        let server = server();
        let pvcs = pvcs.iter().map(|&pvc| pvc.to_owned()).collect();
        let keep = keep.map(|keep| Keep::parse(keep).unwrap());
        let (archives, archive_keep, timeout) = (false, None, std::time::Duration::from_secs(1));
        let args = args::Preview { pvcs, all_namespaces: false, keep, archives, archive_keep, timeout };
        run(&server.session, &args).await.unwrap();
        assert!(server.asked().iter().all(|asked| asked.starts_with("GET ")), "{:?}", server.asked());
        out()
    }

    #[tokio::test]
    async fn each_pvc_by_its_own_policy_and_a_person_may_try_another() {
        let marked = |text: &str| fates(text).into_iter().filter(|(_, fate)| fate == "marked").map(|(name, _)| name).collect::<Vec<_>>();
        let all = preview(None, &[]).await;
        assert_eq!(fates(&all).len(), 8, "{all}");
        assert_eq!(marked(&all), ["data-6", "gone-6", "gone-7"], "{all}");
        assert!(all.contains("no tier holds it any more") && all.contains("it is the hourly"), "{all}");
        assert_eq!(marked(&preview(Some("last=1"), &["data"]).await), ["data-6", "data-7", "data-8"]);
    }
}
