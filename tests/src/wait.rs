//! Waiting for conditions: by watching objects, with a deadline, and an error that says what was seen last.

use anyhow::{Context, Result, bail};
use futures::{StreamExt, pin_mut};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watch_object, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// What a single step of a test may take, unless it says otherwise. Generous: only broken things take as long.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Between two looks at what cannot be watched (files of a node, a scrape): a tenth of the time waited so far, within these.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Kubernetes objects that can be watched and shown.
pub trait Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + 'static> Object for K {}

fn shown<K: Serialize>(object: &K) -> String {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(|m| m.as_object_mut()) {
        metadata.remove("managedFields");
    }
    serde_yaml::to_string(&value).unwrap_or_default()
}

/// Watches the object `name` until `holds` says so of it (`None`: it is not there) and returns it.
/// `what` completes the sentence "waited for …".
pub async fn until<K: Object>(
    api: &Api<K>,
    name: &str,
    what: &str,
    deadline: Duration,
    mut holds: impl FnMut(Option<&K>) -> bool,
) -> Result<Option<K>> {
    let mut last: Option<K> = None;
    let mut trouble = None;
    let wait = async {
        let stream = watch_object(api.clone(), name).default_backoff();
        pin_mut!(stream);
        while let Some(seen) = stream.next().await {
            match seen {
                Ok(object) => last = object,
                Err(error) => {
                    trouble = Some(error.to_string());
                    continue;
                }
            }
            if holds(last.as_ref()) {
                return true;
            }
        }
        false
    };
    let met = tokio::time::timeout(deadline, wait).await.unwrap_or(false);
    if met {
        return Ok(last);
    }
    let kind = K::kind(&());
    let seen = last.as_ref().map_or_else(|| "it is not there".to_owned(), shown);
    bail!("waited {deadline:?} for {kind} {name}: {what}\nwatch error: {trouble:?}\nseen last:\n{seen}")
}

/// Watches all objects of `selector` (labels; empty: all) until `holds` says so of the whole set, and returns it.
pub async fn until_all<K: Object>(
    api: &Api<K>,
    selector: &str,
    what: &str,
    deadline: Duration,
    mut holds: impl FnMut(&[K]) -> bool,
) -> Result<Vec<K>> {
    let mut set: BTreeMap<String, K> = BTreeMap::new();
    let key = |o: &K| format!("{}/{}", o.namespace().unwrap_or_default(), o.name_any());
    let mut last = Vec::new();
    let wait = async {
        let stream = watcher(api.clone(), watcher::Config::default().labels(selector)).default_backoff();
        pin_mut!(stream);
        let mut complete = false;
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => {
                    set.clear();
                    complete = false;
                }
                Ok(Event::InitDone) => complete = true,
                Ok(Event::InitApply(o) | Event::Apply(o)) => drop(set.insert(key(&o), o)),
                Ok(Event::Delete(o)) => drop(set.remove(&key(&o))),
                Err(_) => continue,
            }
            last = set.values().cloned().collect();
            if complete && holds(&last) {
                return true;
            }
        }
        false
    };
    let met = tokio::time::timeout(deadline, wait).await.unwrap_or(false);
    if met {
        return Ok(last);
    }
    let seen: Vec<String> = last.iter().map(shown).collect();
    bail!("waited {deadline:?} for {} objects ({selector}): {what}\nseen last:\n{}", K::kind(&()), seen.join("---\n"))
}

/// Looks again and again until `look` gives something: for what has no watch, such as files of a node or metrics.
pub async fn until_polled<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let mut trouble = None;
    let wait = async {
        let since = Instant::now();
        loop {
            match look().await {
                Ok(Some(found)) => return found,
                Ok(None) => trouble = None,
                Err(error) => trouble = Some(error),
            }
            tokio::time::sleep((since.elapsed() / 10).clamp(LOOK.0, LOOK.1)).await;
        }
    };
    let waited = tokio::time::timeout(deadline, wait).await;
    match (waited, trouble) {
        (Ok(found), _) => Ok(found),
        (Err(_), Some(error)) => Err(error).with_context(|| format!("waited {deadline:?} for: {what}")),
        (Err(_), None) => bail!("waited {deadline:?} for: {what}"),
    }
}

/// Every state of the object `name` that a watch shows, up to the first of which `last` holds.
pub async fn states<K: Object>(api: &Api<K>, name: &str, deadline: Duration, mut last: impl FnMut(&K) -> bool) -> Result<Vec<K>> {
    let mut seen = Vec::new();
    until(api, name, "reached its end", deadline, |object| {
        seen.extend(object.cloned());
        object.is_some_and(&mut last)
    })
    .await?;
    Ok(seen)
}
