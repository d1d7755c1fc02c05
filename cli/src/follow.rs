//! Following one object until it says what is waited for: a watch that outlives broken connections, with deadline and Ctrl-C.

use crate::errors::{self, Attempt, Failure};
use crate::session::{Readable, Session};
use futures::{Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt as _};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A controller that has not begun with an object for this long is busy or not there.
const QUIET: Duration = Duration::from_secs(15);

/// How following ended.
#[derive(Debug)]
pub(crate) enum End<K> {
    /// The object is as waited for.
    Reached(K),
    /// It was deleted meanwhile.
    Deleted,
    /// The time was up.
    TimedOut,
    /// Ctrl-C.
    Stopped,
}

/// Follows `object` until `reached`, for at most `limit`. Each state of it goes to `seen`.
pub(crate) async fn until<K>(
    session: &Session,
    object: &K,
    limit: Option<Duration>,
    mut seen: impl FnMut(&K),
    reached: impl Fn(&K) -> bool,
) -> Result<End<K>, Failure>
where
    K: Readable + Resource<Scope = NamespaceResourceScope>,
{
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let attempt = Attempt::new::<K>("watch", Some(&namespace), Some(&name));
    let mut states = pin!(watcher::watch_object(session.api::<K>(&namespace), &name).default_backoff());
    let mut deadline = pin!(at(limit));
    let mut stopped = pin!(session.stopped());
    loop {
        let state = tokio::select! {
            state = next(&mut states, &attempt) => state?,
            () = &mut deadline => return Ok(End::TimedOut),
            () = &mut stopped => return Ok(End::Stopped),
        };
        // One of the same name that was made later is another one.
        let Some(state) = state.filter(|s| s.uid() == object.uid()) else {
            return Ok(End::Deleted);
        };
        seen(&state);
        if reached(&state) {
            return Ok(End::Reached(state));
        }
    }
}

/// Like [`until`], and when nothing has `begun` after some seconds, says what to look at, once.
pub(crate) async fn to_the_end<K>(
    session: &Session,
    object: &K,
    limit: Option<Duration>,
    mut seen: impl FnMut(&K),
    begun: impl Fn(&K) -> bool,
    reached: impl Fn(&K) -> bool,
) -> Result<End<K>, Failure>
where
    K: Readable + Resource<Scope = NamespaceResourceScope>,
{
    let started = Instant::now();
    let quiet = limit.map_or(QUIET, |limit| limit.min(QUIET));
    let end = until(session, object, Some(quiet), &mut seen, |o| begun(o) || reached(o)).await?;
    match end {
        End::Reached(object) if reached(&object) => return Ok(End::Reached(object)),
        End::Deleted | End::Stopped => return Ok(end),
        End::TimedOut => session.screen.warn(&format!(
            "Borgherd has not begun with {} yet; is its controller running? `kubectl -n {} get pods`",
            object.name_any(),
            session.borgherd_namespace
        )),
        End::Reached(_) => {}
    }
    let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
    until(session, object, left, seen, reached).await
}

/// The next state (`None`: gone), over any number of errors that pass by themselves.
async fn next<K>(states: &mut (impl Stream<Item = watcher::Result<Option<K>>> + Unpin), attempt: &Attempt) -> Result<Option<K>, Failure> {
    loop {
        match states.next().await {
            Some(Ok(state)) => return Ok(state),
            Some(Err(error)) if errors::is_transient(&error) => {}
            Some(Err(error)) => return Err(errors::of_watch(attempt, &error)),
            None => return Ok(None),
        }
    }
}

async fn at(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep_until(Instant::now() + limit).await,
        None => std::future::pending().await,
    }
}
