//! Slots: holding one of the node's lock files is the right to run borg there; and the lock of each repository, by the same means.
//!
//! Invariant: a slot is released only by closing all descriptors of its lock, never by unlocking, which would take it away from
//! a sandbox that has inherited it. So the slot is held as long as the borg in it lives, even if the agent is killed before it.

mod file;
mod queue;

pub use file::{Identity, SlotError};

use queue::{Held, LockQueue};
use rand::Rng;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How many slots a node with so many CPUs gets if the chart does not say: half, at least one.
pub const fn default_count(cpus: usize) -> usize {
    if cpus < 4 { 1 } else { cpus / 2 }
}

/// The slots of this node: `1.lock` to `N.lock` in one folder of the host, which other programs may lock too.
#[derive(Debug)]
pub struct Slots {
    queue: LockQueue,
}

impl Slots {
    /// Makes the folder if need be. `order` decides which of several free slots is tried first.
    pub fn open(dir: &Path, count: usize, identity: Identity, order: impl Rng + Send + 'static) -> Result<Self, SlotError> {
        if count == 0 {
            return Err(SlotError::NoSlots);
        }
        let files = (1..=count).map(|number| dir.join(format!("{number}.lock"))).collect();
        file::make_folder(dir)?;
        Ok(Self { queue: LockQueue::new(files, identity, Box::new(order)) })
    }

    /// Waits in the order of calls for the slot that is free first. `holder` is written into its file, for people.
    /// Dropping the future leaves the queue.
    pub async fn acquire(&self, holder: &str) -> Result<Slot, SlotError> {
        self.queue.acquire(holder).await.map(Slot)
    }

    /// How many slots this process holds.
    pub fn in_use(&self) -> usize {
        self.queue.held()
    }

    /// How many wait in this process.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// How many slots there are.
    pub fn count(&self) -> usize {
        self.queue.files()
    }
}

/// A slot that is held until this and all that has inherited its descriptor are gone.
#[derive(Debug)]
pub struct Slot(Held);

impl Slot {
    /// Which one, counted from 1 as in the name of its file.
    pub fn number(&self) -> usize {
        self.0.index() + 1
    }

    /// Its lock's descriptor.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.file().as_fd()
    }

    /// Another descriptor of the same lock, for a sandbox to inherit.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.descriptor().try_clone_to_owned()
    }
}

/// A repository's lock on this node, held until this and all that has inherited its descriptor are gone.
#[derive(Debug)]
pub struct RepositoryLock(Held);

impl RepositoryLock {
    /// Another descriptor of the same lock, for a sandbox to inherit.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.0.file().as_fd().try_clone_to_owned()
    }
}

/// Waits until nobody else on this node works with the repository at `location`. Take it before a slot, always in that order:
/// who waits for a repository should not keep a slot from others, and two orders would be a deadlock.
/// Dropping the future gives up.
pub async fn repository_lock(dir: &Path, location: &str, holder: &str, identity: Identity) -> Result<RepositoryLock, SlotError> {
    file::make_folder(dir)?;
    let name = borgherd_api::names::hash(&[location], 10);
    let files = vec![dir.join(format!("{name}.lock"))];
    let one = Box::new(OnlyOne);
    LockQueue::new(files, identity, one).acquire(&format!("{holder} {location}")).await.map(RepositoryLock)
}

/// Order of a single file: there is nothing to choose.
struct OnlyOne;

impl rand::TryRng for OnlyOne {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.fill(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::default_count;

    #[test]
    fn half_of_the_cpus_and_at_least_one() {
        for (cpus, slots) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (7, 3), (64, 32)] {
            assert_eq!(default_count(cpus), slots, "{cpus} CPUs");
        }
    }
}
