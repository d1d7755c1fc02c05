//! One table for all failures: what a Backup of a PVC must end with, and where that must be seen.

use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{Backup, BackupPhase, BorgRun, Outcome, VolumeStatus};
use borgherd_api::{Reason, names};
use borgherd_e2e::{Metrics, World, until_polled};
use futures::future::try_join_all;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Everything is freed before a Backup says that it is over; what is told by Event and metric follows at once.
const SOON: Duration = Duration::from_secs(20);

/// What one PVC's Backup must end with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// The PVC.
    pub(crate) pvc: &'static str,
    /// In status, Event and metrics.
    pub(crate) reason: Reason,
    /// Failed, or Incomplete with an archive.
    pub(crate) outcome: Outcome,
    /// How often it was tried: 1 where trying again does not help.
    pub(crate) tries: u32,
    /// Words of the message: what is wrong, by name, and what to do.
    pub(crate) says: &'static [&'static str],
}

impl Case {
    /// Fails at the first try.
    pub(crate) const fn of(pvc: &'static str, reason: Reason, says: &'static [&'static str]) -> Self {
        Self { pvc, reason, outcome: Outcome::Failed, tries: 1, says }
    }
}

/// A Backup that has failed as it should.
pub(crate) struct Failed {
    /// Its case.
    pub(crate) case: Case,
    /// Its one volume at the end.
    pub(crate) volume: VolumeStatus,
    backup: Backup,
}

impl Failed {
    /// What a person reads.
    pub(crate) fn message(&self) -> &str {
        self.volume.message.as_deref().unwrap_or_default()
    }
}

/// Backs up the PVC of every case at once, and `healthy` beside them. Each fails as its case says, is told of where people look, and holds
/// nothing afterwards; `healthy` succeeds; and nobody sees a secret.
pub(crate) async fn all_fail(w: &World, cases: &[Case], healthy: &str) -> Result<Vec<Failed>> {
    all_fail_while(w, cases, healthy, async |_| Ok(())).await
}

/// The same; `meanwhile` is given the names of the Backups, in the order of the cases.
pub(crate) async fn all_fail_while(
    w: &World,
    cases: &[Case],
    healthy: &str,
    meanwhile: impl AsyncFnOnce(Vec<String>) -> Result<()>,
) -> Result<Vec<Failed>> {
    let before = w.controller_metrics().await?;
    let spy = Spy::start(w);
    let backups: Vec<String> = try_join_all(cases.iter().map(|c| async { w.backup(&[c.pvc]).await })).await?;
    let beside = w.backup(&[healthy]).await?;
    let ended = try_join_all(backups.iter().zip(cases).map(|(name, case)| ended(w, name, *case)));
    let goes_on = async { w.backup_succeeded(&beside).await.with_context(|| format!("{healthy}, beside the failures")) };
    let (failed, _, ()) = futures::try_join!(ended, goes_on, meanwhile(backups.clone()))?;
    says_what_to_do(&failed)?;
    for one in &failed {
        told_by_events(w, one).await?;
    }
    counted(w, &before, cases).await?;
    nothing_is_held(w, &failed).await?;
    nobody_sees_a_secret(w, &failed, spy.seen()).await?;
    Ok(failed)
}

/// Backups of these PVCs succeed: what stood in the way is gone.
pub(crate) async fn all_succeed(w: &World, pvcs: &[&str]) -> Result<()> {
    let one = async |pvc: &str| {
        let backup = w.backup(&[pvc]).await?;
        w.backup_succeeded(&backup).await.with_context(|| format!("PVC {pvc}"))
    };
    try_join_all(pvcs.iter().map(|pvc| one(pvc))).await.map(drop)
}

async fn ended(w: &World, name: &str, case: Case) -> Result<Failed> {
    let Case { pvc, reason, outcome, tries, says: _ } = case;
    let backup = w.backup_ended(name).await?;
    let status = backup.status.clone().unwrap_or_default();
    let volume = status.volumes.first().cloned().unwrap_or_default();
    let shown = format!("{pvc}: Backup {name}: {status:#?}");
    ensure!(status.phase == BackupPhase::Failed && status.reason == Some(reason), "expected Failed with {reason}\n{shown}");
    ensure!(volume.reason == Some(reason) && volume.outcome == Some(outcome), "expected {outcome:?} with {reason}\n{shown}");
    ensure!(volume.archive.is_some() == (outcome == Outcome::Incomplete), "an archive is named only where there is one\n{shown}");
    ensure!(volume.attempt.max(1) == tries, "expected {tries} tries\n{shown}");
    let message = volume.message.clone().unwrap_or_default();
    eprintln!("{reason}: {message}");
    let total = status.message.unwrap_or_default();
    ensure!(total.contains(&message) && total.contains(pvc), "the Backup's own message is another: {total}");
    Ok(Failed { case, volume, backup })
}

/// All messages at once: who changes one wants to see them all.
fn says_what_to_do(failed: &[Failed]) -> Result<()> {
    let missing = |f: &Failed| -> Vec<String> {
        let lacking = f.case.says.iter().filter(|words| !f.message().contains(**words));
        lacking.map(|words| format!("{}: not {words:?} in: {}", f.case.pvc, f.message())).collect()
    };
    let all: Vec<String> = failed.iter().flat_map(missing).collect();
    ensure!(all.is_empty(), "messages do not say what they should\n{}", all.join("\n"));
    Ok(())
}

/// A Warning with the reason, on the Backup and on the PVC, that says the same.
async fn told_by_events(w: &World, failed: &Failed) -> Result<()> {
    let reason = failed.case.reason.to_string();
    let start: String = failed.message().chars().take(800).collect();
    for (kind, name) in [("Backup", failed.backup.name_any()), ("PersistentVolumeClaim", failed.case.pvc.to_owned())] {
        let about = ListParams::default().fields(&format!("involvedObject.kind={kind},involvedObject.name={name}"));
        let told = |e: &Event| {
            // without the UID kubectl describe does not show it
            let says = e.message.as_ref().is_some_and(|m| m.contains(&start)) && e.involved_object.uid.is_some();
            e.reason.as_ref() == Some(&reason) && e.type_.as_deref() == Some("Warning") && says
        };
        let what = format!("a Warning {reason} on {kind} {name} that says: {start}");
        until_polled(&what, SOON, async || {
            let events = w.api::<Event>().list(&about).await?;
            Ok(events.iter().any(told).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Each failure counts in the controller's metrics, and the PVC's own series names it.
async fn counted(w: &World, before: &Metrics, cases: &[Case]) -> Result<()> {
    for case in cases {
        let reason = case.reason.to_string();
        let same: Vec<&Case> = cases.iter().filter(|c| c.reason == case.reason).collect();
        let expected = |name: &str, labels: &[(&str, &str)], more: usize| {
            let at_least = before.sum(name, labels).unwrap_or(0.0) + f64::from(u32::try_from(more).unwrap_or(u32::MAX));
            move |now: Option<f64>| now.is_some_and(|now| now >= at_least)
        };
        let outcome = format!("{:?}", case.outcome);
        let by_outcome: &[(&str, &str)] = &[("outcome", &outcome), ("reason", &reason)];
        let by_reason: &[(&str, &str)] = &[("reason", &reason)];
        let tries = same.iter().map(|c| c.tries as usize).sum();
        let (volumes, attempts) = ("borgherd_volumes_total", "borgherd_attempts_failed_total");
        w.controller_metric(volumes, by_outcome, expected(volumes, by_outcome, same.len())).await?;
        w.controller_metric(attempts, by_reason, expected(attempts, by_reason, tries)).await?;
        let own: &[(&str, &str)] = &[("namespace", &w.namespace), ("pvc", case.pvc), ("reason", &reason)];
        w.controller_metric("borgherd_last_failure", own, |now| now == Some(1.0)).await?;
    }
    Ok(())
}

/// Prints who holds the slots of a node.
const SLOTS: &str = "for f in /var/lib/borgherd/slots/*.lock; do [ ! -e $f ] || flock --nonblock $f true || cat $f; done";

/// Nothing temporary is left, and no slot is held by a run of these Backups.
async fn nothing_is_held(w: &World, failed: &[Failed]) -> Result<()> {
    let left = w.leaks().await?;
    ensure!(left.is_empty(), "the Backups are over, but there are still {left:?}");
    let Some(cluster) = w.cluster() else { return Ok(()) };
    let nodes: BTreeSet<String> = w.agents().await?.into_iter().filter_map(|p| p.spec?.node_name).collect();
    for node in nodes {
        let holders = cluster.node(&node).sh(SLOTS).await?;
        for one in failed {
            let run = names::temporary(&one.backup.uid().unwrap_or_default(), one.case.pvc);
            ensure!(!holders.contains(&run), "{}: a slot of {node} is still held by\n{holders}", one.case.pvc);
        }
    }
    Ok(())
}

/// Every BorgRun of the test's Backups, as it was seen at any time.
struct Spy {
    seen: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Spy {
    fn start(w: &World) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (into, api, namespace) = (Arc::clone(&seen), w.api_own::<BorgRun>(), w.namespace.clone());
        let task = tokio::spawn(async move {
            let runs = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
            pin_mut!(runs);
            while let Some(run) = runs.next().await {
                let ours = run.ok().filter(|r: &BorgRun| r.spec.owner.namespace == namespace);
                let text = ours.and_then(|r| serde_json::to_string(&r).ok());
                into.lock().unwrap_or_else(PoisonError::into_inner).extend(text);
            }
        });
        Self { seen, task }
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Neither Backups, BorgRuns, Events nor logs of Borgherd's processes show a part of a Secret.
async fn nobody_sees_a_secret(w: &World, failed: &[Failed], runs: String) -> Result<()> {
    let ran = failed.iter().any(|f| f.volume.attempt > 0 && f.volume.node.is_some());
    ensure!(!ran || !runs.is_empty(), "no BorgRun was seen at all");
    let mut places = vec![("BorgRuns", runs)];
    let backups: Vec<&Backup> = failed.iter().map(|f| &f.backup).collect();
    places.push(("Backups", serde_json::to_string(&backups)?));
    places.push(("Events", serde_json::to_string(&w.api::<Event>().list(&ListParams::default()).await?.items)?));
    for pod in w.agents().await?.into_iter().chain(w.controllers().await?) {
        let log = w.api_own::<Pod>().logs(&pod.name_any(), &LogParams::default()).await?;
        places.push(("a log", log));
    }
    for secret in secrets(w).await? {
        for (place, text) in &places {
            // the secret itself is not for the output of a test either
            ensure!(!text.contains(&secret), "a secret of {} bytes stands in {place}", secret.len());
        }
    }
    Ok(())
}

/// Passphrases and lines of private keys in Borgherd's namespace.
async fn secrets(w: &World) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for secret in w.api_own::<Secret>().list(&ListParams::default()).await? {
        for (key, value) in secret.data.unwrap_or_default() {
            if !["passphrase", "ssh-privatekey", "ssh-host-key"].contains(&key.as_str()) {
                continue;
            }
            let text = String::from_utf8_lossy(&value.0).into_owned();
            found.extend(text.lines().map(str::trim).filter(|l| l.len() > 8 && !l.starts_with("-----")).map(str::to_owned));
        }
    }
    ensure!(!found.is_empty(), "there are no secrets at all in {}", w.own_namespace());
    Ok(found)
}
