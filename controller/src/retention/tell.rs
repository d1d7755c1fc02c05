//! Telling people what they have to look at: an Event for each new wording, a count for each failure.

use super::content::Content;
use super::sweep::Poison;
use crate::context::Context;
use crate::error::Error;
use crate::events;
use borgherd_api::names::ACKNOWLEDGE;
use borgherd_api::retention::{Hold, Snapshot, Verdict, Why};
use k8s_openapi::api::core::v1::ObjectReference;
use std::collections::HashMap;
use tracing::warn;

/// A deletion that takes longer than this is held by something.
const STUCK: chrono::Duration = chrono::Duration::minutes(10);

/// A sweep that waits, of a PVC (namespace, name) or (`None`) over the cluster.
pub(super) struct Held {
    pub(super) pvc: Option<(String, String)>,
    pub(super) hold: Hold,
}

/// What was told at the last look, by kind, namespace, name and reason.
#[derive(Default)]
pub(super) struct Memory {
    told: HashMap<Key, String>,
}

type Key = (String, String, String, &'static str);

/// What is told at one look. What does not come up again is forgotten, and told again when it does.
pub(super) struct Tally<'a> {
    memory: &'a mut Memory,
    before: HashMap<Key, String>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(memory: &'a mut Memory) -> Self {
        let before = std::mem::take(&mut memory.told);
        Self { memory, before }
    }

    /// The look did not get to its end: what it would have told again is not forgotten.
    pub(super) fn break_off(&mut self) {
        for (key, note) in self.before.drain() {
            self.memory.told.entry(key).or_insert(note);
        }
    }

    async fn warn(&mut self, ctx: &Context, about: ObjectReference, reason: &'static str, note: String) {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let key = (part(&about.kind), part(&about.namespace), part(&about.name), reason);
        if self.memory.told.contains_key(&key) {
            return;
        }
        if self.before.get(&key) != Some(&note) {
            warn!(kind = key.0, namespace = key.1, name = key.2, reason, note, "retention");
            ctx.events.warning(&about, "Retain", reason, &note).await;
        }
        self.memory.told.insert(key, note);
    }

    /// What in a verdict a person should look at.
    pub(super) async fn verdict(&mut self, ctx: &Context, verdict: &Verdict<'_>) {
        let snapshot = verdict.snapshot;
        if let Some(since) = snapshot.deleting.filter(|since| *since + STUCK < (ctx.clock)()) {
            return self.poison(ctx, snapshot, &Poison::Stuck(since.to_rfc3339())).await;
        }
        if !verdict.why.is_warning() {
            return;
        }
        let (about, reason) = if matches!(verdict.why, Why::Refused(_)) {
            (claim(ctx, &snapshot.namespace, &snapshot.pvc), "RetentionRefused")
        } else {
            (of_snapshot(snapshot), "RetentionUnclear")
        };
        self.warn(ctx, about, reason, verdict.why.to_string()).await;
    }

    /// One that could not be deleted.
    pub(super) async fn poison(&mut self, ctx: &Context, snapshot: &Snapshot, poison: &Poison) {
        ctx.metrics.retention_failed(poison.reason());
        self.warn(ctx, of_snapshot(snapshot), "SweepFailed", format!("it could not be deleted: {poison}; it is tried again")).await;
    }

    /// One that could not be set back.
    pub(super) async fn content(&mut self, ctx: &Context, content: &Content, error: &Error) {
        ctx.metrics.retention_failed("Content");
        let about = ObjectReference {
            api_version: Some("snapshot.storage.k8s.io/v1".into()),
            kind: Some("VolumeSnapshotContent".into()),
            name: Some(content.name.clone()),
            uid: Some(content.uid.clone()),
            ..ObjectReference::default()
        };
        self.warn(ctx, about, "SweepFailed", format!("it should be kept, but is at Delete: {error}; it is tried again")).await;
    }

    /// A sweep that waits for a person.
    pub(super) async fn hold(&mut self, ctx: &Context, held: &Held) {
        let Held { pvc, hold } = held;
        let (about, namespace, what) = if let Some((namespace, pvc)) = pvc {
            let what = format!("a sweep would delete {} of the {} ready snapshots of PVC {pvc} that held a tier", hold.held, hold.of);
            (claim(ctx, namespace, pvc), namespace, what)
        } else {
            let namespace = &ctx.config.namespace;
            let what = format!("a sweep would delete {} snapshots, more than the {} of retention.maxDeletions", hold.held, hold.of);
            (of_namespace(namespace), namespace, what)
        };
        let how = format!("kubectl annotate --overwrite namespace {namespace} {ACKNOWLEDGE}={}", hold.token);
        self.warn(ctx, about, "SweepHeld", format!("{what}; it waits until you allow it: {how}")).await;
    }
}

fn claim(ctx: &Context, namespace: &str, pvc: &str) -> ObjectReference {
    let uid = ctx.world().spaces.get(namespace).and_then(|space| space.claims.get(pvc)).map(|claim| claim.uid.clone());
    events::pvc(namespace, pvc, uid.as_deref())
}

fn of_snapshot(snapshot: &Snapshot) -> ObjectReference {
    ObjectReference {
        api_version: Some("snapshot.storage.k8s.io/v1".into()),
        kind: Some("VolumeSnapshot".into()),
        namespace: Some(snapshot.namespace.clone()),
        name: Some(snapshot.name.clone()),
        uid: Some(snapshot.uid.clone()),
        ..ObjectReference::default()
    }
}

fn of_namespace(namespace: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Namespace".into()),
        namespace: Some(namespace.to_owned()),
        name: Some(namespace.to_owned()),
        ..ObjectReference::default()
    }
}
