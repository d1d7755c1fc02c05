//! The seam between a run's life in the cluster and borg: all that is held and known when borg may begin.
//!
//! Invariant: an [`Order`] exists only with the repository's lock and a slot in hand.

use crate::sandbox::Secrets;
use crate::slot::{RepositoryLock, Slot};
use borgherd_api::crd::{BorgRun, BorgRunStatus, Progress};
use futures::future::BoxFuture;
use std::path::PathBuf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// A mount point.
    pub mount: PathBuf,
    /// Of a hostPath volume: the folder beneath it.
    pub beneath: Option<PathBuf>,
}

/// What is to be done, with everything that it needs.
#[derive(Debug)]
pub struct Order<'a> {
    /// The run.
    pub run: &'a BorgRun,
    /// Where its volume is in this process's eyes.
    pub volume: Option<Found>,
    /// The repository's credentials.
    pub secrets: Secrets,
    /// The repository's lock, for borg to inherit.
    pub lock: &'a RepositoryLock,
    /// The slot, for borg to inherit.
    pub slot: &'a Slot,
}

/// Executes orders.
pub trait Work: Send + Sync {
    /// Do it. The result has everything that execution decides: phase (final), reason, message, borg's seconds, progress, archive,
    /// repository, archives, log. When `cancel` fires it ends soon, after borg, as Interrupted or as whatever borg had become by then.
    fn work<'a>(&'a self, order: Order<'a>, progress: watch::Sender<Progress>, cancel: CancellationToken) -> BoxFuture<'a, BorgRunStatus>;

    /// Makes the order's repository if there is none and the run may, so that nobody has to be held still for that. The result has what
    /// execution decides, as that of `work`; all but `Succeeded` is the run's end.
    fn make_repository<'a>(&'a self, order: Order<'a>, cancel: CancellationToken) -> BoxFuture<'a, BorgRunStatus>;
}
