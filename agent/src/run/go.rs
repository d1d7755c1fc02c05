//! The reading of a live volume begins when the controller says so: by then applications are held still, and not before there is a slot.
//!
//! Invariant: borg begins with the archive named after the moment that was given, and only after the claim as running was written.

use borgherd_api::crd::{BorgRun, HostFolder, LiveOptions, Operation};
use borgherd_api::names::{self, GO};
use chrono::{DateTime, Utc};
use kube::ResourceExt;
use std::time::Duration;

/// The moment that the controller has given.
pub(super) fn given(run: &BorgRun) -> Option<DateTime<Utc>> {
    run.annotations().get(GO)?.parse().ok()
}

/// How long a run that is ready waits for it; `None`: it does not.
pub(super) fn patience(run: &BorgRun) -> Option<Duration> {
    live(run).map(|options| Duration::from_secs(u64::from(options.patience)))
}

/// The folder of the node that is read in place of the kubelet's mount.
pub(super) fn host_folder(run: &BorgRun) -> Option<&HostFolder> {
    live(run)?.host.as_ref()
}

/// Whether an application that starts waits until it has ended.
pub(super) fn is_held(run: &BorgRun) -> bool {
    live(run).is_some_and(|options| options.held)
}

fn live(run: &BorgRun) -> Option<&LiveOptions> {
    if let Operation::Archive(options) = &run.spec.operation { options.live.as_ref() } else { None }
}

/// The run as it is to be executed when it was let go at `at`.
pub(super) fn begun(mut run: BorgRun, at: DateTime<Utc>) -> BorgRun {
    let name = names::archive(&run.spec.subject.namespace, &run.spec.subject.pvc, at);
    if let Operation::Archive(options) = &mut run.spec.operation {
        options.name = name;
        options.cut = at;
    }
    run
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test")]
    use super::*;
    use crate::run::example::{at, run};

    #[test]
    fn the_archive_is_named_after_the_moment_given() {
        let mut live = run("r", "u");
        assert_eq!((patience(&live), given(&live)), (None, None));
        if let Operation::Archive(options) = &mut live.spec.operation {
            options.live = Some(LiveOptions { patience: 120, ..LiveOptions::default() });
        }
        live.annotations_mut().insert(GO.to_owned(), "2026-11-21T12:00:05+00:00".to_owned());
        assert_eq!(patience(&live), Some(Duration::from_mins(2)));
        assert_eq!(given(&live), Some(at("2026-11-21T12:00:05Z")));
        let Operation::Archive(options) = begun(live, at("2026-11-21T12:00:05Z")).spec.operation else { panic!("an archive") };
        assert_eq!((options.name.as_str(), options.cut), ("shop_db_2026-11-21T12-00-05Z", at("2026-11-21T12:00:05Z")));
    }
}
