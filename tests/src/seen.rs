//! Everything that was ever in a namespace: watched, not looked at in the end.

use crate::wait::DEADLINE;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kube::api::DynamicObject;
use kube::discovery::{Scope, verbs};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Discovery, ResourceExt};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// Kubernetes' own account of things.
const EVENT: &str = "Event";
/// The kinds that any API server has.
const KINDS: usize = 20;

/// Every object of every kind that was ever seen in a namespace, as `Kind/name`.
pub struct Seen {
    objects: Arc<Mutex<BTreeSet<String>>>,
    watches: JoinSet<()>,
}

impl Seen {
    /// Watches every kind that the API server knows; returns when each watch has begun.
    pub async fn of(w: &World) -> Result<Self> {
        let mut seen = Self { objects: Arc::default(), watches: JoinSet::new() };
        let mut begun = Vec::new();
        for group in Discovery::new(w.client.clone()).run().await?.groups() {
            for (kind, capabilities) in group.recommended_resources() {
                if capabilities.scope != Scope::Namespaced || !capabilities.supports_operation(verbs::WATCH) {
                    continue;
                }
                let api: Api<DynamicObject> = Api::namespaced_with(w.client.clone(), &w.namespace, &kind);
                let (done, waits) = tokio::sync::oneshot::channel();
                begun.push(waits);
                seen.watch(api, kind.kind, done);
            }
        }
        ensure!(begun.len() > KINDS, "the API server has {} namespaced kinds only", begun.len());
        for waits in begun {
            tokio::time::timeout(DEADLINE, waits).await.context("a watch does not begin")??;
        }
        Ok(seen)
    }

    fn watch(&mut self, api: Api<DynamicObject>, kind: String, done: tokio::sync::oneshot::Sender<()>) {
        let objects = Arc::clone(&self.objects);
        self.watches.spawn(async move {
            let mut done = Some(done);
            let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                        let name = format!("{kind}/{}", object.name_any());
                        objects.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
                    }
                    Ok(Event::InitDone) => drop(done.take().map(|done| done.send(()))),
                    Ok(Event::Init) | Err(_) => {}
                }
            }
        });
    }

    /// What came after `before` and is of no kind in `allowed`.
    pub fn foreign(&self, before: &BTreeSet<String>, allowed: &[&str]) -> Vec<String> {
        let now = self.now();
        let fine = |o: &&String| o.split_once('/').is_some_and(|(kind, _)| kind == EVENT || allowed.contains(&kind));
        now.difference(before).filter(|o| !fine(o)).cloned().collect()
    }

    /// All that was seen until now.
    pub fn now(&self) -> BTreeSet<String> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
