//! Retention, carried out: observe → judge (`borgherd_api::retention`, pure) → mark → sweep → tell.
//!
//! After each backup the snapshots of its namespace are labelled and marked. Swept is only in a look at the whole cluster, at start and
//! on a timer, from complete live listings; every write names the version that was judged, so whatever a person or a Backup did in
//! between wins. What cannot be deleted is told, counted and tried again at the next look, and stops nothing else.

mod content;
mod mark;
mod observe;
mod sweep;
mod tell;

use crate::context::Context;
use crate::error::{Doing, Error};
use crate::world::World;
use borgherd_api::names::ACKNOWLEDGE;
use borgherd_api::retention::{self, Fate, Said, Snapshot, Verdict};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::Api;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tell::Memory;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

/// Backups that end together are looked at together.
const GATHER: Duration = Duration::from_secs(1);
/// A look that failed is tried again after this.
const AGAIN: Duration = Duration::from_mins(1);

/// Looks for as long as the process leads; `ended` names the namespaces in which a Backup has ended.
pub async fn run(ctx: Arc<Context>, mut ended: UnboundedReceiver<String>) {
    let mut memory = Memory::default();
    loop {
        let wait = match look(&ctx, &mut memory).await {
            Ok(()) => ctx.config.retention.interval,
            Err(error) => {
                warn!(%error, "could not look at all snapshots; trying again");
                AGAIN.min(ctx.config.retention.interval)
            }
        };
        let next = Instant::now() + wait;
        loop {
            match timeout_at(next, ended.recv()).await {
                Ok(Some(namespace)) => after_backups(&ctx, namespace, &mut ended).await,
                Ok(None) => return,
                Err(_) => break,
            }
        }
    }
}

/// Labels and marks where Backups have ended.
async fn after_backups(ctx: &Context, first: String, ended: &mut UnboundedReceiver<String>) {
    tokio::time::sleep(GATHER).await;
    let mut namespaces = HashSet::from([first]);
    while let Ok(more) = ended.try_recv() {
        namespaces.insert(more);
    }
    for namespace in namespaces {
        let marked = async {
            let snapshots = observe::snapshots(ctx, Some(&namespace)).await?;
            mark::all(ctx, &judge(ctx, &snapshots)).await;
            Ok::<_, Error>(())
        };
        if let Err(error) = marked.await {
            warn!(namespace, %error, "could not look at the snapshots of a namespace; the next look at all will");
        }
    }
}

/// One look at everything.
async fn look(ctx: &Context, memory: &mut Memory) -> Result<(), Error> {
    let snapshots = observe::snapshots(ctx, None).await?;
    let contents = content::all(&ctx.client).await?;
    let mut verdicts = judge(ctx, &snapshots);
    mark::all(ctx, &verdicts).await;
    let held = hold(ctx, &mut verdicts).await?;
    let mut told = tell::Tally::new(memory);
    for verdict in verdicts.iter().flatten() {
        told.verdict(ctx, verdict).await;
    }
    for hold in &held {
        told.hold(ctx, hold).await;
    }
    let going: Vec<&Snapshot> = verdicts.iter().flatten().filter(|verdict| verdict.fate == Fate::Sweep).map(|v| v.snapshot).collect();
    content::take_back(ctx, &contents, &going, &mut told).await;
    let swept = sweep::all(ctx, &going, &contents, &mut told).await;
    info!(snapshots = snapshots.len(), due = going.len(), swept, held = held.len(), "looked at all snapshots");
    Ok(())
}

/// The verdicts, PVC by PVC.
fn judge<'a>(ctx: &Context, snapshots: &'a [Snapshot]) -> Vec<Vec<Verdict<'a>>> {
    let world = ctx.world();
    retention::judge(snapshots, |namespace, pvc| said(&world, namespace, pvc), (ctx.clock)())
}

/// What is said about a PVC now.
fn said(world: &World, namespace: &str, pvc: &str) -> Said {
    let there = world.spaces.get(namespace).is_some_and(|space| space.claims.contains_key(pvc));
    if there { Said::by(world.policy(namespace, pvc)) } else { Said::Gone }
}

/// A sweep that waits, of a PVC or (`None`) over the cluster.
struct Held {
    pvc: Option<(String, String)>,
    hold: retention::Hold,
}

/// Holds what would delete too much and nobody has allowed. Tokens are read live.
async fn hold(ctx: &Context, verdicts: &mut [Vec<Verdict<'_>>]) -> Result<Vec<Held>, Error> {
    let mut tokens: BTreeMap<String, String> = BTreeMap::new();
    let mut held = Vec::new();
    for of_one in verdicts.iter_mut() {
        let Some(going) = of_one.iter().find(|verdict| verdict.fate == Fate::Sweep).map(|verdict| verdict.snapshot) else { continue };
        let (namespace, pvc) = (going.namespace.clone(), going.pvc.clone());
        if !tokens.contains_key(&namespace) {
            tokens.insert(namespace.clone(), allowed(ctx, &namespace).await?);
        }
        if let Some(hold) = retention::hold(of_one, tokens.get(&namespace).map_or("", String::as_str)) {
            held.push(Held { pvc: Some((namespace, pvc)), hold });
        }
    }
    let own = allowed(ctx, &ctx.config.namespace).await?;
    if let Some(hold) = retention::hold_all(verdicts, ctx.config.retention.most, &own) {
        held.push(Held { pvc: None, hold });
    }
    let waiting = verdicts.iter().flatten().filter(|verdict| verdict.fate == Fate::Held).count();
    ctx.metrics.retention_held(waiting);
    Ok(held)
}

/// The tokens that stand on a namespace.
async fn allowed(ctx: &Context, namespace: &str) -> Result<String, Error> {
    let namespaces: Api<Namespace> = Api::all(ctx.client.clone());
    let found = namespaces.get_metadata_opt(namespace).await.doing("reading the namespace's annotations")?;
    Ok(found.and_then(|found| found.annotations().get(ACKNOWLEDGE).cloned()).unwrap_or_default())
}
