//! What this process has done and its caches do not show yet, so that nothing is asked for twice.
//!
//! Only saves requests: whoever forgets, or asks again, meets the resourceVersion of a status or a name that is taken.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A watch shows what was asked for within this time; after it, it is asked for again.
pub const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Known {
    /// By UID: versions that a status written from here has replaced.
    replaced: HashMap<String, HashSet<String>>,
    /// What was asked for, and when.
    asked: HashMap<String, Instant>,
}

/// What the caches have yet to learn.
#[derive(Default)]
pub struct Echo(Mutex<Known>);

impl Echo {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A status was written in place of `version` of an object.
    pub fn wrote(&self, uid: &str, version: &str) {
        self.known().replaced.entry(uid.to_owned()).or_default().insert(version.to_owned());
    }

    /// Whether `version` is one that was replaced from here: then the cache is late, and its watch will tell. Else the cache has caught up.
    pub fn is_late(&self, uid: &str, version: &str) -> bool {
        let mut known = self.known();
        let late = known.replaced.get(uid).is_some_and(|versions| versions.contains(version));
        if !late {
            known.replaced.remove(uid);
        }
        late
    }

    /// Whether `what` may be asked for: nobody has within [`PATIENCE`].
    pub fn asks(&self, what: &str) -> bool {
        let asked = &mut self.known().asked;
        asked.retain(|_, at| at.elapsed() < PATIENCE);
        if asked.contains_key(what) {
            return false;
        }
        asked.insert(what.to_owned(), Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_version_is_late_until_another_is_seen() {
        let echo = Echo::default();
        assert!(!echo.is_late("a", "1"));
        echo.wrote("a", "1");
        echo.wrote("a", "2");
        assert!(echo.is_late("a", "1") && echo.is_late("a", "2") && !echo.is_late("b", "1"));
        assert!(!echo.is_late("a", "3"));
        assert!(echo.known().replaced.is_empty(), "what was caught up with is forgotten");
    }

    #[test]
    fn the_same_is_asked_for_once_at_a_time() {
        let echo = Echo::default();
        assert!(echo.asks("clone of a"));
        assert!(!echo.asks("clone of a"));
        assert!(echo.asks("clone of b"));
    }
}
