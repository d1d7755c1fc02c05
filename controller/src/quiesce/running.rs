//! What this process runs in containers longer than a reconcile lasts: commands beside a snapshot, sessions.
//!
//! Invariant: nothing of it outlives the process. Whoever leads next finds none of it and takes it for lost.

use super::exec::{self, Ended};
use crate::backup::work::Work;
use crate::context::Context;
use borgherd_api::crd::{ActionStatus, Owner, QuiesceStatus};
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// By token.
#[derive(Default)]
pub struct Running(Mutex<HashMap<String, Entry>>);

struct Entry {
    /// Of a session: dropping or sending it ends its input.
    thaw: Option<oneshot::Sender<()>>,
    end: watch::Receiver<Option<Over>>,
}

/// The end of a command.
#[derive(Clone, Debug)]
pub(super) struct Over {
    /// It ended after it was asked to.
    pub asked: bool,
    /// Its end is not known: the connection broke.
    pub is_lost: bool,
    /// How.
    pub ended: Ended,
}

/// What is known of a command.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Another process began it.
    Unknown,
    Runs,
    Over(Over),
}

impl Running {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a command stands.
    pub(super) fn state(&self, token: &str) -> State {
        match self.entries().get(token).map(|entry| entry.end.borrow().clone()) {
            None => State::Unknown,
            Some(None) => State::Runs,
            Some(Some(over)) => State::Over(over),
        }
    }

    /// Ends a session's input and waits for its end, `limit` at most; `None`: unknown, or it has not ended.
    pub(super) async fn thaw(&self, token: &str, limit: Duration) -> Option<Over> {
        let mut end = {
            let mut entries = self.entries();
            let entry = entries.get_mut(token)?;
            if entry.thaw.take().is_some_and(|thaw| thaw.send(()).is_err()) {
                tracing::trace!(token, "a session is over already");
            }
            entry.end.clone()
        };
        timeout(limit, end.wait_for(Option::is_some)).await.ok()?.ok()?.clone()
    }

    /// A Backup is over.
    pub(super) fn forget(&self, quiesce: &QuiesceStatus) {
        let mut entries = self.entries();
        for action in quiesce.hooks.iter().flat_map(|hook| &hook.pre) {
            entries.remove(&action.token);
        }
    }

    fn put(&self, token: &str, thaw: Option<oneshot::Sender<()>>) -> watch::Sender<Option<Over>> {
        let (tell, end) = watch::channel(None);
        self.entries().insert(token.to_owned(), Entry { thaw, end });
        tell
    }
}

/// Makes a Backup look at what has ended.
#[derive(Clone)]
pub(super) struct Wake {
    sender: mpsc::UnboundedSender<ObjectRef<borgherd_api::crd::Backup>>,
    owner: Owner,
}

impl Wake {
    fn of(ctx: &Context, owner: &Owner) -> Self {
        Self { sender: ctx.touch.backups.clone(), owner: owner.clone() }
    }

    fn up(&self) {
        let sent = self.sender.send(ObjectRef::new(&self.owner.name).within(&self.owner.namespace)).is_ok();
        tracing::trace!(name = self.owner.name, sent, "a command has ended");
    }
}

/// Runs a command and waits for nothing.
pub(super) fn beside(work: &Work<'_>, action: ActionStatus, argv: Vec<String>) {
    let tell = work.ctx.running.put(&action.token, None);
    let (client, wake) = (work.ctx.client.clone(), Wake::of(work.ctx, &work.owner));
    drop(tokio::spawn(async move {
        let ended = exec::run(&client, &wake.owner.namespace, &action, &argv).await;
        tell.send_replace(Some(Over { asked: false, is_lost: false, ended }));
        wake.up();
    }));
}

/// Keeps a session that `lead` leads to its end, with what asks it for that.
pub(super) fn keep<F, L>(work: &Work<'_>, token: &str, lead: L)
where
    L: FnOnce(oneshot::Receiver<()>) -> F,
    F: Future<Output = Over> + Send + 'static,
{
    let (thaw, asked) = oneshot::channel();
    let tell = work.ctx.running.put(token, Some(thaw));
    let (wake, session) = (Wake::of(work.ctx, &work.owner), lead(asked));
    drop(tokio::spawn(async move {
        tell.send_replace(Some(session.await));
        wake.up();
    }));
}
