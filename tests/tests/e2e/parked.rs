//! A Repository that cannot be reached: after some failures its runs wait, one at a time tries, and all go on when it is back.

use crate::failures::server;
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Backup, BorgRun, Repository, RepositoryStatus, VolumePhase};
use borgherd_e2e::{App, Claim, DEADLINE, World, test, until, until_all};
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

const PVCS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// On a server that nobody has started: one run at once, a place for each PVC.
async fn repository(w: &World) -> Result<String> {
    server::prepare(w).await?;
    let name = server::repository(w, "parked").await?;
    let spec = w.api_all::<Repository>().get(&name).await?.spec;
    let location = format!("{}/{{pvc}}", spec.location);
    w.repository_with("parked", json!({ "location": location, "secretRef": spec.secret_ref, "maxConcurrent": 1 })).await
}

async fn becomes(w: &World, repository: &str, what: &str, is: impl Fn(&RepositoryStatus) -> bool) -> Result<()> {
    let holds = |r: Option<&Repository>| r.and_then(|r| r.status.as_ref()).is_some_and(&is);
    until(&w.api_all::<Repository>(), repository, what, DEADLINE, holds).await.map(drop)
}

async fn told(w: &World, repository: &str, reason: &str) -> Result<()> {
    let is = |e: &Event| e.involved_object.name.as_deref() == Some(repository) && e.reason.as_deref() == Some(reason);
    until_all(&w.api_all::<Event>(), "", &format!("an Event {reason}"), DEADLINE, |all| all.iter().any(is)).await.map(drop)
}

#[test]
fn maintenance_parks_a_repository_that_cannot_be_reached_until_it_is_back() -> Result<()> {
    test("maintenance_parks_a_repository_that_cannot_be_reached_until_it_is_back", async |w: &World| {
        let repository = repository(w).await?;
        let mut app = App::new("app");
        for pvc in PVCS {
            w.claim(Claim::new(pvc).size("20Mi").annotation("repository", &repository)).await?;
            app = app.mount(pvc, &format!("/{pvc}"));
        }
        w.app(app).await?.sh("for d in a b c d e; do echo $d >/$d/file; done").await?;
        let mut backups = Vec::new();
        for pvc in PVCS {
            backups.push(w.backup(&[pvc]).await?);
        }
        let is_parked = |s: &RepositoryStatus| !s.ready && s.parked_since.is_some() && s.reason == Some(Reason::ConnectionFailed);
        becomes(w, &repository, "its runs are parked", is_parked).await?;
        let metric = [("repository", repository.as_str())];
        w.controller_metric("borgherd_repository_parked", &metric, |v| v == Some(1.0)).await?;
        told(w, &repository, "RepositoryParked").await?;

        // whoever waits says why; the one that has tried least goes on in any case
        let of = |b: &Backup| b.status.iter().flat_map(|s| &s.volumes).next().cloned();
        let waits = |b: &Backup| of(b).is_some_and(|v| v.phase == VolumePhase::Waiting && v.reason == Some(Reason::RepositoryParked));
        let all = until_all(&w.api::<Backup>(), "", "one waits", DEADLINE, |all| all.iter().any(waits)).await?;
        let waiting = all.iter().filter(|b| waits(b)).min_by_key(|b| of(b).map(|v| v.attempt)).context("seen and yet absent")?;
        let message = of(waiting).and_then(|v| v.message).unwrap_or_default();
        ensure!(message.contains("one at a time tries"), "{message}");
        let runs = w.api_own::<BorgRun>().list(&ListParams::default()).await?.items;
        let lives = |run: &&BorgRun| run.spec.repository.name == repository && !run.status.as_ref().is_some_and(|s| s.phase.is_final());
        ensure!(runs.iter().filter(lives).count() <= 1, "more than one tries");

        server::start(w, "64Mi").await?;
        becomes(w, &repository, "it is ready again", |s| s.ready && s.reason.is_none() && s.parked_since.is_none()).await?;
        w.backup_succeeded(&waiting.name_any()).await?;
        told(w, &repository, "RepositoryResumed").await?;
        w.controller_metric("borgherd_repository_parked", &metric, |v| v.is_none()).await?;
        for backup in &backups {
            w.backup_ended(backup).await?;
        }
        Ok(())
    })
}
