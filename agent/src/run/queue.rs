//! The order in which this agent's runs get the node's slots: by creation, whatever their claims and repositories' locks took.
//!
//! Invariant: of all runs that are ready to begin, only the oldest asks for a slot; the others ask when it has one. A run that waits for
//! its repository's lock is not in here yet, so it keeps nobody waiting and holds no slot: locks are taken in the one order repository,
//! then slot, and so cannot deadlock.

use crate::slot::{Slot, SlotError, Slots};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use tokio::sync::watch;

/// A run's place: by creation, then by name, so that it is the same on every look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the API server created the run.
    pub created: DateTime<Utc>,
    /// Its name.
    pub name: String,
    /// Its UID: two runs of one name (deleted and made again) may wait at once.
    pub uid: String,
}

/// The node's slots behind a queue by creation.
#[derive(Debug)]
pub struct Queue {
    slots: Slots,
    ready: watch::Sender<BTreeSet<Place>>,
}

impl Queue {
    /// In front of `slots`.
    pub fn new(slots: Slots) -> Self {
        Self { slots, ready: watch::Sender::new(BTreeSet::new()) }
    }

    /// The slots themselves.
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Waits for a slot. Dropping the future gives the place up.
    pub async fn slot(&self, place: Place, holder: &str) -> Result<Slot, SlotError> {
        let waiting = Waiting::enter(&self.ready, place);
        loop {
            waiting.until(true).await;
            tokio::select! {
                slot = self.slots.acquire(holder) => return slot,
                // an older one became ready meanwhile: it goes first
                () = waiting.until(false) => {}
            }
        }
    }
}

/// Being in the queue; left on drop.
struct Waiting<'a> {
    ready: &'a watch::Sender<BTreeSet<Place>>,
    place: Place,
}

impl<'a> Waiting<'a> {
    fn enter(ready: &'a watch::Sender<BTreeSet<Place>>, place: Place) -> Self {
        ready.send_modify(|places| {
            places.insert(place.clone());
        });
        Self { ready, place }
    }

    /// Until this is the first, or no longer is.
    async fn until(&self, first: bool) {
        let mut places = self.ready.subscribe();
        let changed = places.wait_for(|places| (places.first() == Some(&self.place)) == first).await;
        debug_assert!(changed.is_ok(), "the sender is borrowed here, so it lives");
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.ready.send_modify(|places| {
            places.remove(&self.place);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use crate::run::example;
    use std::sync::Arc;
    use tokio::sync::mpsc;

    fn place(second: i64, name: &str) -> Place {
        Place { created: DateTime::from_timestamp(second, 0).unwrap(), name: name.to_owned(), uid: format!("uid-{name}") }
    }

    #[tokio::test]
    async fn the_oldest_goes_first_whoever_asked_first() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Arc::new(Queue::new(example::slots(dir.path(), 1)));
        let held = queue.slot(place(0, "first"), "first").await.unwrap();
        let (sender, mut order) = mpsc::unbounded_channel();
        for (second, name) in [(30, "c"), (10, "a"), (20, "b")] {
            let (waiter, sender) = (Arc::clone(&queue), sender.clone());
            tokio::spawn(async move {
                let slot = waiter.slot(place(second, name), name).await.unwrap();
                sender.send(name).unwrap();
                drop(slot);
            });
            let mut ready = queue.ready.subscribe();
            ready.wait_for(|places| places.iter().any(|place| place.name == name)).await.unwrap();
        }
        drop(held);
        let mut got = Vec::new();
        for _ in 0..3 {
            got.push(order.recv().await.unwrap());
        }
        assert_eq!(got, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn who_gives_up_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::new(example::slots(dir.path(), 1));
        let held = queue.slot(place(0, "first"), "first").await.unwrap();
        {
            let mut waiter = std::pin::pin!(queue.slot(place(1, "impatient"), "impatient"));
            assert!(futures::poll!(waiter.as_mut()).is_pending());
            assert_eq!(queue.ready.borrow().len(), 1);
        }
        assert!(queue.ready.borrow().is_empty());
        drop(held);
        queue.slot(place(2, "next"), "next").await.unwrap();
    }
}
