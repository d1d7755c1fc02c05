//! What a run of borg is given, and what it reports.

use borgherd_api::Reason;
use borgherd_api::crd::{ArchiveResult, BorgRunSpec, BorgRunStatus, CheckResult, FoundArchive, Judged, Progress, PruneResult, RunPhase};
use chrono::{DateTime, Utc};
use std::path::Path;
use std::time::Duration;

/// Tells the time.
pub type Clock<'a> = &'a (dyn Fn() -> DateTime<Utc> + Send + Sync);

/// One run to execute. The caller holds the repository's lock of this node for as long as [`super::execute`] runs: only that makes it
/// right to clear locks that a killed borg left.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What to do.
    pub spec: &'a BorgRunSpec,
    /// `BORG_HOST_ID`, from [`super::host_id`].
    pub host_id: &'a str,
    /// Where things are.
    pub places: Places<'a>,
    /// How long things may take.
    pub limits: Limits,
}

/// Where borg finds things, and where the agent finds borg's state.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// As borg sees it: the folder of this repository's caches on this node.
    pub state: &'a Path,
    /// The same folder as the agent sees it.
    pub state_here: &'a Path,
    /// As borg sees it: where [`super::Call::files`] are.
    pub files: &'a Path,
    /// As borg sees it: the SSH key.
    pub ssh_privatekey: &'a Path,
    /// As borg sees it: the known host keys.
    pub known_hosts: &'a Path,
}

/// How long things may take; the run's own deadline stands in its spec.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long to wait for the repository's lock when somebody else holds it.
    pub lock_patience: Duration,
    /// From SIGINT to SIGTERM: the time to write a checkpoint.
    pub interrupt: Duration,
    /// From SIGTERM to SIGKILL.
    pub terminate: Duration,
    /// SSH's `ConnectTimeout`.
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lock_patience: Duration::from_mins(10),
            interrupt: Duration::from_secs(20),
            terminate: Duration::from_secs(5),
            connect: Duration::from_secs(20),
        }
    }
}

/// What became of a run: all that its status needs to hear from borg.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// A final one.
    pub phase: RunPhase,
    /// Why, unless it succeeded.
    pub reason: Option<Reason>,
    /// The same in a sentence that says what to do.
    pub message: Option<String>,
    /// Of an archive operation that made or found its archive.
    pub archive: Option<ArchiveResult>,
    /// Id of the repository that was used, where borg said it.
    pub repository_id: Option<String>,
    /// Of a list operation, oldest first.
    pub archives: Vec<FoundArchive>,
    /// Of a list operation that was to judge.
    pub judged: Option<Judged>,
    /// Of a prune operation that was carried out.
    pub prune: Option<PruneResult>,
    /// Of a check that found no damage.
    pub check: Option<CheckResult>,
    /// The last lines of borg's log.
    pub log: Vec<String>,
    /// Seconds that borg took, all its calls together.
    pub borg_seconds: f64,
    /// How far it came, or the totals.
    pub progress: Progress,
}

impl Report {
    /// Puts the report into the status of its run; whose run it is and its times are the caller's.
    pub fn write_into(self, status: &mut BorgRunStatus) {
        // Whole, so that a new field is not forgotten.
        let Self { phase, reason, message, archive, repository_id, archives, judged, prune, check, log, borg_seconds, progress } = self;
        status.phase = phase;
        status.reason = reason;
        status.message = message;
        status.archive = archive;
        status.repository_id = repository_id;
        status.archives = archives;
        status.judged = judged;
        status.prune = prune;
        status.check = check;
        status.log = log;
        status.borg_seconds = Some(borg_seconds);
        status.progress = Some(progress);
    }
}
