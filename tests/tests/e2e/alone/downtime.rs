//! A cluster without a controller, with two, and with one whose leader was deleted: which Backups the schedules make.

use crate::schedules::{EVERY_MINUTE, MINUTES, clock, first_of};
use anyhow::{Context, Result, ensure};
use borgherd_api::names;
use borgherd_e2e::{App, Claim, DEADLINE, Running, World, exclusive, until, until_polled};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeMap;

pub(super) async fn scale(w: &World, replicas: i32) -> Result<()> {
    let deployments = w.api_own::<Deployment>();
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    drop(deployments.patch("borgherd-controller", &PatchParams::default(), &patch).await?);
    let what = format!("has {replicas} ready pods");
    let is_so = |d: Option<&Deployment>| {
        let status = d.and_then(|d| d.status.clone()).unwrap_or_default();
        status.replicas.unwrap_or(0) == replicas && status.ready_replicas.unwrap_or(0) == replicas
    };
    until(&deployments, "borgherd-controller", &what, DEADLINE, is_so).await?;
    until_polled("pods that were scaled away are gone", DEADLINE, async || {
        Ok((w.controllers().await?.len() == usize::try_from(replicas)?).then_some(()))
    })
    .await
}

fn holder(lease: Option<&Lease>) -> Option<String> {
    lease?.spec.as_ref()?.holder_identity.clone().filter(|h| !h.is_empty())
}

/// Waits until somebody leads who is none of `not`.
async fn leader(w: &World, not: Option<&str>) -> Result<String> {
    let what = format!("somebody leads, and not {not:?}");
    let leases = w.api_own::<Lease>();
    let lease = until(&leases, names::LEADER_LEASE, &what, MINUTES, |l| holder(l).is_some_and(|h| Some(h.as_str()) != not)).await?;
    holder(lease.as_ref()).context("seen and yet absent")
}

/// Minutes of the Backups that there are, with how often each.
async fn minutes(w: &World) -> Result<BTreeMap<i64, usize>> {
    let mut count = BTreeMap::new();
    for backup in w.backups().await? {
        let at = backup.spec.scheduled_time.context("a Backup without a scheduled time")?;
        *count.entry(at.timestamp() / 60).or_default() += 1;
    }
    Ok(count)
}

async fn caught_up(w: &World, app: &Running) -> Result<i64> {
    scale(w, 0).await?;
    w.annotate_namespace(&[EVERY_MINUTE]).await?;
    let down = clock(app).await? / 60;
    until_polled("a scheduled minute passes without a controller", MINUTES, async || Ok((clock(app).await? / 60 > down).then_some(())))
        .await?;
    ensure!(w.backups().await?.is_empty(), "somebody made a Backup while there was no controller");
    scale(w, 2).await?;
    first_of(w, "data").await?;
    let found = minutes(w).await?;
    ensure!(found.len() <= 2 && found.values().all(|n| *n == 1), "minutes and their Backups: {found:?}");
    let first = *found.keys().next().context("no Backup")?;
    ensure!(first > down, "it made up for minute {first}, before there was a schedule ({down})");
    Ok(first)
}

#[test]
fn downtime_is_made_up_for_once_and_a_standby_takes_over() -> Result<()> {
    exclusive("downtime_is_made_up_for_once_and_a_standby_takes_over", async |w: &World| {
        w.claim(Claim::new("data").size("20Mi")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        w.release()
            .with(&["controller.replicas=2"], async || {
                let first = caught_up(w, &app).await?;
                let leads = leader(w, None).await?;
                let standby: Vec<String> = w.controllers().await?.iter().map(ResourceExt::name_any).filter(|n| *n != leads).collect();
                ensure!(standby.len() == 1, "beside the leader {leads} there are {standby:?}");
                let leading = w.controller_metrics().await?.sum("borgherd_leading", &[]);
                ensure!(leading == Some(1.0), "borgherd_leading of all controllers is {leading:?} together");
                drop(w.api_own::<Pod>().delete(&leads, &DeleteParams::default().grace_period(0)).await?);
                // the standby, or the pod that the Deployment makes in place of the deleted one: whoever asks first
                leader(w, Some(&leads)).await?;
                until_polled("a Backup of a later minute", MINUTES, async || {
                    Ok(minutes(w).await?.keys().any(|m| *m > first).then_some(()))
                })
                .await?;
                w.annotate_namespace(&[("schedule", None)]).await?;
                let found = minutes(w).await?;
                ensure!(found.values().all(|n| *n == 1), "minutes and their Backups: {found:?}");
                for backup in w.backups().await? {
                    w.backup_succeeded(&backup.name_any()).await?;
                }
                Ok(())
            })
            .await
    })
}
