//! One look at all snapshots, namespace by namespace: no more than one namespace's are ever in memory.
//!
//! What is to go is counted over the cluster first. Then each namespace that has some is listed and judged once more, and deleted is what
//! both times was judged to go.

use super::due::Due;
use super::tell::{Held, Memory, Tally};
use super::{content, judge, mark, observe, sweep};
use crate::context::Context;
use crate::error::{Doing, Error};
use borgherd_api::names::ACKNOWLEDGE;
use borgherd_api::retention::{self, Fate};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::Api;
use std::collections::BTreeSet;
use tracing::info;

/// Looks once.
pub(super) async fn all(ctx: &Context, memory: &mut Memory) -> Result<(), Error> {
    let mut told = Tally::new(memory);
    let looked = look(ctx, &mut told).await;
    if looked.is_err() {
        told.break_off();
    }
    looked
}

async fn look(ctx: &Context, told: &mut Tally<'_>) -> Result<(), Error> {
    let mut due = Due::new(&allowed(ctx, &ctx.config.namespace).await?);
    let namespaces: BTreeSet<String> = ctx.world().spaces.keys().cloned().collect();
    let mut seen = 0;
    for namespace in &namespaces {
        seen += look_at(ctx, namespace, &mut due, told).await?;
    }
    let contents = content::all(&ctx.client).await?;
    if let Some(hold) = due.hold(ctx.config.retention.most) {
        told.hold(ctx, &Held { pvc: None, hold }).await;
    }
    ctx.metrics.retention_held(due.held);
    content::take_back(ctx, &contents, &due, told).await;
    let swept = sweep::all(ctx, &due, &contents, told).await;
    info!(snapshots = seen, due = due.count(), swept, held = due.held, "looked at all snapshots");
    Ok(())
}

/// Judges and marks the snapshots of one namespace; how many there are.
async fn look_at(ctx: &Context, namespace: &str, due: &mut Due, told: &mut Tally<'_>) -> Result<usize, Error> {
    let snapshots = observe::snapshots(ctx, namespace).await?;
    let mut verdicts = judge(ctx, &snapshots);
    mark::all(ctx, &verdicts).await;
    let goes = verdicts.iter().flatten().any(|verdict| verdict.fate == Fate::Sweep);
    let tokens = if goes { allowed(ctx, namespace).await? } else { String::new() };
    for of_one in &mut verdicts {
        let pvc = of_one.first().map(|verdict| (namespace.to_owned(), verdict.snapshot.pvc.clone()));
        if let Some(hold) = retention::hold(of_one, &tokens) {
            told.hold(ctx, &Held { pvc, hold }).await;
        }
    }
    for verdict in verdicts.iter().flatten() {
        told.verdict(ctx, verdict).await;
        due.add(verdict);
    }
    Ok(snapshots.len())
}

/// The tokens that stand on a namespace, read live.
async fn allowed(ctx: &Context, namespace: &str) -> Result<String, Error> {
    let namespaces: Api<Namespace> = Api::all(ctx.client.clone());
    let found = namespaces.get_metadata_opt(namespace).await.doing("reading the namespace's annotations")?;
    Ok(found.and_then(|found| found.annotations().get(ACKNOWLEDGE).cloned()).unwrap_or_default())
}
