//! A fair queue in this process for any one of several lock files that other programs may hold too.
//!
//! Invariant: while somebody waits, every file has a thread that blocks in flock, so whichever file is let go first serves the first
//! in the queue at once; a thread that gets a lock when nobody waits any more closes it and ends.

use super::file::{self, Identity, SlotError};
use rand::Rng;
use rand::seq::SliceRandom;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use tokio::sync::oneshot;

/// The queue and its files.
#[derive(Debug)]
pub(super) struct LockQueue {
    inner: Arc<Inner>,
}

struct Inner {
    files: Vec<PathBuf>,
    identity: Identity,
    held: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    waiting: VecDeque<Waiter>,
    /// Per file: a thread blocks on it.
    watched: Vec<bool>,
    order: Box<dyn Rng + Send>,
    next_id: u64,
}

struct Waiter {
    id: u64,
    holder: String,
    answer: oneshot::Sender<Result<Held, SlotError>>,
}

impl LockQueue {
    pub(super) fn new(files: Vec<PathBuf>, identity: Identity, order: Box<dyn Rng + Send>) -> Self {
        let state = State { waiting: VecDeque::new(), watched: vec![false; files.len()], order, next_id: 0 };
        Self { inner: Arc::new(Inner { files, identity, held: AtomicUsize::new(0), state: Mutex::new(state) }) }
    }

    pub(super) fn held(&self) -> usize {
        self.inner.held.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> usize {
        self.inner.state().waiting.len()
    }

    pub(super) fn files(&self) -> usize {
        self.inner.files.len()
    }

    pub(super) async fn acquire(&self, holder: &str) -> Result<Held, SlotError> {
        let (place, answer) = {
            let mut state = self.inner.state();
            if state.waiting.is_empty()
                && let Some(held) = take_free(&self.inner, &mut state, holder)?
            {
                return Ok(held);
            }
            join(&self.inner, &mut state, holder)?
        };
        let held = answer.await.map_err(|_| SlotError::Abandoned)?;
        drop(place);
        held
    }
}

/// One of the files that nobody has, tried in a new order each time.
fn take_free(inner: &Arc<Inner>, state: &mut State, holder: &str) -> Result<Option<Held>, SlotError> {
    let mut order: Vec<usize> = (0..inner.files.len()).collect();
    order.shuffle(&mut state.order);
    for (index, path) in order.into_iter().filter_map(|index| Some((index, inner.files.get(index)?))) {
        if let Some(file) = file::try_lock(path)? {
            return Ok(Some(Held::new(inner, index, file, holder)));
        }
    }
    Ok(None)
}

/// Joins the end of the queue and sees to it that every file has its thread.
fn join(inner: &Arc<Inner>, state: &mut State, holder: &str) -> Result<(Place, oneshot::Receiver<Result<Held, SlotError>>), SlotError> {
    for (index, watched) in state.watched.iter_mut().enumerate().filter(|(_, watched)| !**watched) {
        let shared = Arc::clone(inner);
        thread::Builder::new().name(format!("lock-{}", index + 1)).spawn(move || watch(&shared, index)).map_err(SlotError::Thread)?;
        *watched = true;
    }
    let (answer, receiver) = oneshot::channel();
    let id = state.next_id;
    state.next_id += 1;
    state.waiting.push_back(Waiter { id, holder: holder.to_owned(), answer });
    let place = Place { inner: Arc::clone(inner), id };
    Ok((place, receiver))
}

/// What each file's thread does: blocks for the lock, serves the first in the queue, until nobody waits.
fn watch(inner: &Arc<Inner>, index: usize) {
    let Some(path) = inner.files.get(index) else { return };
    loop {
        let got = file::lock(path);
        let mut state = inner.state();
        serve(inner, &mut state, index, got);
        if state.waiting.is_empty() {
            if let Some(watched) = state.watched.get_mut(index) {
                *watched = false;
            }
            return;
        }
    }
}

/// Hands the lock, or the failure to get it, to the first who still waits; with nobody left the lock is closed.
fn serve(inner: &Arc<Inner>, state: &mut State, index: usize, got: Result<File, SlotError>) {
    let mut got = got;
    while let Some(Waiter { id: _, holder, answer }) = state.waiting.pop_front() {
        let refused = answer.send(got.map(|file| Held::new(inner, index, file, &holder)));
        got = match refused {
            Ok(()) => return,
            Err(Err(error)) => Err(error),
            Err(Ok(held)) => Ok(held.into_file()),
        };
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockQueue").field("files", &self.files).finish_non_exhaustive()
    }
}

/// A place in the queue, given up when the one who waits goes away.
struct Place {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.state().waiting.retain(|waiter| waiter.id != self.id);
    }
}

/// A lock that this process holds; closed, never unlocked.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    index: usize,
    _counted: Counted,
}

impl Held {
    fn new(inner: &Arc<Inner>, index: usize, file: File, holder: &str) -> Self {
        if let Err(error) = file::inscribe(&file, holder, &inner.identity) {
            tracing::warn!(%error, path = ?inner.files.get(index), "the lock is held, but who holds it could not be written into its file");
        }
        inner.held.fetch_add(1, Ordering::Relaxed);
        Self { file, index, _counted: Counted(Arc::clone(inner)) }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn into_file(self) -> File {
        self.file
    }
}

/// One in the number of held locks.
#[derive(Debug)]
struct Counted(Arc<Inner>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}
