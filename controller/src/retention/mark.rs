//! Writing what was judged: tiers and marks. Each write is for the version that was judged; a newer one is judged anew.

use crate::context::Context;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::names::CONTROLLER;
use borgherd_api::retention::{Fate, Field, Prefix, Verdict};
use futures::{StreamExt, stream};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};
use tracing::{debug, info, warn};

/// Writes at once.
const CONCURRENCY: usize = 8;

/// Writes all that has changed. What cannot be written is tried again at the next look.
pub(super) async fn all(ctx: &Context, verdicts: &[Vec<Verdict<'_>>]) {
    let changed = verdicts.iter().flatten().filter(|verdict| !verdict.changes.is_empty());
    stream::iter(changed).for_each_concurrent(CONCURRENCY, |verdict| one(ctx, verdict)).await;
}

async fn one(ctx: &Context, verdict: &Verdict<'_>) {
    let snapshot = verdict.snapshot;
    let api: Api<VolumeSnapshot> = Api::namespaced(ctx.client.clone(), &snapshot.namespace);
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    match api.patch(&snapshot.name, &params, &Patch::Merge(patch(verdict, &ctx.config.retention.label_prefix))).await {
        Ok(_) => told(ctx, verdict),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
            debug!(namespace = snapshot.namespace, name = snapshot.name, "changed since it was judged; it is judged again");
        }
        Err(error) => {
            ctx.metrics.retention_failed("Mark");
            warn!(namespace = snapshot.namespace, name = snapshot.name, %error, "could not mark a snapshot; trying again");
        }
    }
}

fn told(ctx: &Context, verdict: &Verdict<'_>) {
    let marked = verdict.changes.iter().any(|(field, value)| *field == Field::DeleteAfter && value.is_some());
    if verdict.fate == Fate::Marked && marked {
        let snapshot = verdict.snapshot;
        info!(namespace = snapshot.namespace, pvc = snapshot.pvc, name = snapshot.name, why = %verdict.why, "marked");
        ctx.metrics.retention_did("marked");
    }
}

/// Labels and annotations that change; UID and version make a later change by somebody else a conflict.
fn patch(verdict: &Verdict<'_>, prefix: &Prefix) -> Value {
    let (mut labels, mut annotations) = (Map::new(), Map::new());
    for (field, value) in &verdict.changes {
        if field.is_label() {
            labels.insert(prefix.key(field.key()).into_owned(), json!(value));
        } else {
            annotations.insert(field.key().to_owned(), json!(value));
        }
    }
    let snapshot = verdict.snapshot;
    json!({"metadata": {"uid": snapshot.uid, "resourceVersion": snapshot.version, "labels": labels, "annotations": annotations}})
}
