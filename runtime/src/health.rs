//! Liveness and readiness that mean something: every loop of the process says that it still turns.
//!
//! A loop that is stuck (a deadlock, a call without a deadline) falls silent; the probe then names it and the kubelet restarts the
//! container. Nothing outside of the process may count here: a server that is down is no reason to restart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Which loops were heard when, and whether the process is ready. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    beats: Mutex<BTreeMap<String, Beat>>,
    ready: AtomicBool,
}

#[derive(Debug)]
struct Beat {
    last: Instant,
    max_age: Duration,
}

/// A loop that has been silent for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// The loop's name.
    pub name: String,
    /// How long nothing was heard of it.
    pub age: Duration,
    /// How long it may be silent.
    pub max_age: Duration,
}

impl Health {
    /// Nothing watched, not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// The loop `name` is alive, and will say so again within `max_age`. The first call starts to watch it.
    pub fn beat(&self, name: &str, max_age: Duration) {
        let last = Instant::now();
        let mut beats = self.beats();
        if let Some(beat) = beats.get_mut(name) {
            *beat = Beat { last, max_age };
        } else {
            beats.insert(name.to_owned(), Beat { last, max_age });
        }
    }

    /// The loop `name` has ended on purpose and is no longer watched.
    pub fn retire(&self, name: &str) {
        self.beats().remove(name);
    }

    /// Whether the process does its work: `/readyz`.
    pub fn ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    /// What [`Health::ready`] was last told.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// The loops that are silent for too long at `now`.
    pub fn silent(&self, now: Instant) -> Vec<Silent> {
        let beats = self.beats();
        let late = beats.iter().map(|(name, beat)| Silent {
            name: name.clone(),
            age: now.saturating_duration_since(beat.last),
            max_age: beat.max_age,
        });
        late.filter(|late| late.age > late.max_age).collect()
    }

    /// A panic while the lock was held cannot have left half a beat.
    fn beats(&self) -> MutexGuard<'_, BTreeMap<String, Beat>> {
        self.0.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_loop_that_is_silent_and_no_other() {
        let health = Health::new();
        assert!(health.silent(Instant::now()).is_empty(), "nothing is watched yet");
        health.beat("quick", Duration::from_secs(10));
        health.beat("slow", Duration::from_secs(1000));
        let later = Instant::now() + Duration::from_mins(1);
        let silent = health.silent(later);
        assert_eq!(silent.iter().map(|silent| silent.name.as_str()).collect::<Vec<_>>(), ["quick"]);
        assert!(silent.iter().all(|silent| silent.age > Duration::from_secs(59) && silent.max_age == Duration::from_secs(10)));
        assert!(health.silent(Instant::now()).is_empty());
    }

    #[test]
    fn a_beat_ends_the_silence_and_may_change_the_limit() {
        let health = Health::new();
        health.beat("loop", Duration::from_secs(1));
        health.clone().beat("loop", Duration::from_secs(100));
        assert!(health.silent(Instant::now() + Duration::from_secs(50)).is_empty());
        assert_eq!(health.silent(Instant::now() + Duration::from_secs(150)).len(), 1);
        health.retire("loop");
        assert!(health.silent(Instant::now() + Duration::from_secs(150)).is_empty());
    }

    #[test]
    fn readiness_is_shared_by_clones_and_starts_false() {
        let health = Health::new();
        assert!(!health.is_ready());
        health.clone().ready(true);
        assert!(health.is_ready());
        health.ready(false);
        assert!(!health.is_ready());
    }
}
