//! Retention, carried out: observe → judge (`borgherd_api::retention`, pure) → mark → sweep → tell.
//!
//! After each backup the snapshots of its namespace are labelled and marked. Swept is only in a look at the whole cluster, at start and
//! on a timer, from complete live listings; every write names the version that was judged, so whatever a person or a Backup did in
//! between wins. What cannot be deleted is told, counted and tried again at the next look, and stops nothing else.

mod content;
mod due;
mod look;
mod mark;
mod observe;
mod sweep;
mod tell;

use crate::context::Context;
use crate::error::Error;
use crate::world::World;
use borgherd_api::retention::{self, Said, Snapshot, Verdict};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tell::Memory;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// Backups that end together are looked at together.
const GATHER: Duration = Duration::from_secs(1);
/// A look that failed is tried again after this.
const AGAIN: Duration = Duration::from_mins(1);

/// Looks for as long as the process leads; `ended` names the namespaces in which a Backup has ended.
pub async fn run(ctx: Arc<Context>, mut ended: UnboundedReceiver<String>) {
    let mut memory = Memory::default();
    loop {
        let wait = match look::all(&ctx, &mut memory).await {
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
            let snapshots = observe::snapshots(ctx, &namespace).await?;
            mark::all(ctx, &judge(ctx, &snapshots)).await;
            Ok::<_, Error>(())
        };
        if let Err(error) = marked.await {
            warn!(namespace, %error, "could not look at the snapshots of a namespace; the next look at all will");
        }
    }
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
