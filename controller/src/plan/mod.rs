//! From annotations to Backups: the feeds keep the world's facts, the planner decides namespace by namespace what is due.
//!
//! Nothing is polled: a namespace is planned again when something in it changed, or at its next scheduled time.

pub mod decide;
mod feed;

pub use feed::{Feeds, backups, restores, start};

use crate::context::Context;
use crate::events;
use crate::world::Decided;
use borgherd_api::crd::{Backup, BackupSpec, Trigger};
use chrono::{DateTime, Utc};
use decide::{Plan, Planned};
use kube::api::{Api, PostParams};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tracing::{info, warn};

/// Changes that come together are planned together.
const GATHER: Duration = Duration::from_millis(100);
/// A namespace whose Backup could not be created is planned again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// The clock may be set; nothing is slept through for longer.
const LONGEST: Duration = Duration::from_mins(1);

/// What the planner remembers between plans.
#[derive(Default)]
struct Memory {
    due: BTreeMap<DateTime<Utc>, HashSet<String>>,
    told: HashMap<(String, String, &'static str), String>,
}

/// Plans for as long as the process leads.
pub async fn run(ctx: Arc<Context>, mut dirty: UnboundedReceiver<String>, beat: impl Fn()) {
    let mut memory = Memory::default();
    let all: HashSet<String> = ctx.world().spaces.keys().cloned().collect();
    info!(namespaces = all.len(), pvcs = ctx.world().spaces.values().map(|s| s.claims.len()).sum::<usize>(), "planning");
    plan_all(&ctx, all, &mut memory).await;
    info!("all decided");
    loop {
        beat();
        let now = (ctx.clock)();
        let wait = memory.due.keys().next().map_or(LONGEST, |at| (*at - now).to_std().unwrap_or_default().min(LONGEST));
        let mut namespaces = HashSet::new();
        match timeout(wait, dirty.recv()).await {
            Ok(Some(namespace)) => {
                namespaces.insert(namespace);
                tokio::time::sleep(GATHER).await;
                while let Ok(more) = dirty.try_recv() {
                    namespaces.insert(more);
                }
            }
            Ok(None) => return,
            Err(_) => {}
        }
        let later = memory.due.split_off(&((ctx.clock)() + chrono::Duration::nanoseconds(1)));
        namespaces.extend(std::mem::replace(&mut memory.due, later).into_values().flatten());
        plan_all(&ctx, namespaces, &mut memory).await;
    }
}

async fn plan_all(ctx: &Context, namespaces: HashSet<String>, memory: &mut Memory) {
    for namespace in namespaces {
        let now = (ctx.clock)();
        let plan = {
            let world = ctx.world();
            let Some(space) = world.spaces.get(&namespace) else { continue };
            decide::decide(&namespace, space, &world.defaults, now)
        };
        let Plan { backups, next, decided } = plan;
        let mut next = next;
        for planned in backups {
            if let Err(error) = create(ctx, &namespace, planned).await {
                warn!(namespace, %error, "could not create a Backup; trying again");
                let again = now + chrono::Duration::from_std(AGAIN).unwrap_or_default();
                next = Some(next.map_or(again, |n| n.min(again)));
            }
        }
        tell_problems(ctx, &namespace, &decided, memory).await;
        remember(ctx, &namespace, decided);
        if let Some(at) = next {
            memory.due.entry(at).or_default().insert(namespace);
        }
    }
}

/// Creates a Backup; one of that name is the same one, made by another leader or before a crash.
async fn create(ctx: &Context, namespace: &str, planned: Planned) -> Result<(), kube::Error> {
    let Planned { name, volumes, archive, scheduled } = planned;
    let spec = BackupSpec { volumes, archive, trigger: Trigger::Scheduled, keep_days: None, scheduled_time: Some(scheduled), hooks: None };
    let mut backup = Backup::new(&name, spec);
    backup.metadata.namespace = Some(namespace.to_owned());
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), namespace);
    match api.create(&PostParams::default(), &backup).await {
        Ok(_) => info!(namespace, name, %scheduled, archive, "backup created"),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {}
        Err(error) => return Err(error),
    }
    ctx.world.write().unwrap_or_else(PoisonError::into_inner).put_backup(&backup);
    Ok(())
}

/// An Event for each new wording of a problem or warning, on the PVC that has it.
async fn tell_problems(ctx: &Context, namespace: &str, decided: &BTreeMap<String, Decided>, memory: &mut Memory) {
    let problems = decided.iter().filter_map(|(pvc, d)| Some((pvc, "Invalid", format!("not backed up: {}", d.problem.as_ref()?))));
    let warnings = decided.iter().filter_map(|(pvc, d)| Some((pvc, "Suspicious", d.warning.clone()?)));
    let now: HashMap<(String, String, &'static str), String> =
        problems.chain(warnings).map(|(pvc, reason, text)| ((namespace.to_owned(), pvc.clone(), reason), text)).collect();
    memory.told.retain(|key, _| key.0 != namespace || now.contains_key(key));
    for (key, text) in now {
        if memory.told.get(&key) == Some(&text) {
            continue;
        }
        let (_, pvc, reason) = &key;
        warn!(namespace, pvc, reason, text, "policy");
        let uid = ctx.world().spaces.get(namespace).and_then(|s| s.claims.get(pvc)).map(|c| c.uid.clone());
        ctx.events.warning(&events::pvc(namespace, pvc, uid.as_deref()), "Plan", reason, &text).await;
        memory.told.insert(key, text);
    }
}

/// The texts are in the Events; the metrics need only that there is a problem.
fn remember(ctx: &Context, namespace: &str, mut decided: BTreeMap<String, Decided>) {
    for entry in decided.values_mut() {
        entry.problem = entry.problem.take().map(|_| String::new());
        entry.warning = None;
    }
    let mut world = ctx.world.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(space) = world.spaces.get_mut(namespace) {
        space.decided = decided;
    }
}
