//! Making a repository, so that a making that died is in nobody's way.
//!
//! `borg init` is not done at once: killed between its steps it leaves a repository without a manifest, which no borg opens or makes again.
//! A file beside the caches is there while this node makes one. Found at the beginning it says that a making died here, for the caller
//! holds this node's lock of the repository. What it left is removed if borg, too, finds nothing at all in it.
//! Invariant: what this node did not begin, or what holds a single object, is never removed.

use super::argv;
use super::execute::{Execution, PAUSE};
use super::launch::Access;
use super::outcome::{self, Failure, Outcome, Work};
use borgherd_api::Reason;
use chrono::{DateTime, TimeDelta, Utc};
use std::fs;
use std::io;
use std::path::PathBuf;

/// How long to wait for somebody else who is making the repository.
const PATIENCE: TimeDelta = TimeDelta::seconds(15);
/// Borg's words for a repository in which there is no object (1.4.5, `ArchiveChecker.check`).
const NOTHING: &str = "Repository contains no apparent data at all";

impl Execution<'_> {
    /// Makes the repository, or lets somebody else have made it.
    pub(super) async fn init(&mut self, since: &mut Option<DateTime<Utc>>) -> Result<(), Failure> {
        if self.making().exists() {
            self.remove_beginning().await?;
        }
        self.written(fs::write(self.making(), ""))?;
        let mut call = self.call(Access::Repository, argv::init(&self.job.spec.repository));
        call.creates_repository = true;
        let (outcome, _) = self.run(&call, Work::Repository).await?;
        if outcome == Outcome::Done {
            return self.written(fs::remove_file(self.making()));
        }
        if !outcome::lost_the_race(&outcome) {
            return Err(self.failure(outcome));
        }
        self.written(fs::remove_file(self.making()))?;
        let failure = self.failure(outcome);
        self.others_init(since, failure).await
    }

    /// Somebody else is making the repository: waits a little, but not for ever, since a half-made one may be all there ever is.
    pub(super) async fn others_init(&mut self, since: &mut Option<DateTime<Utc>>, failure: Failure) -> Result<(), Failure> {
        let now = (self.stops.now)();
        if now - *since.get_or_insert(now) > PATIENCE {
            return Err(failure);
        }
        self.stops.pause(PAUSE).await;
        Ok(())
    }

    /// Removes a repository that this node has begun to make, if there is one and nothing is in it.
    async fn remove_beginning(&mut self) -> Result<(), Failure> {
        let repository = &self.job.spec.repository;
        let call = self.call(Access::Repository, argv::find_objects(repository));
        let (outcome, _) = self.run(&call, Work::Check).await?;
        let has_nothing = self.report.log.iter().any(|line| line.contains(NOTHING));
        if !has_nothing {
            return Ok(());
        }
        tracing::warn!(
            location = repository.location,
            ?outcome,
            "removing the beginning of a repository that this node made and did not end"
        );
        let call = self.call(Access::Repository, argv::remove_repository(repository));
        let (outcome, _) = self.run(&call, Work::Repository).await?;
        if outcome == Outcome::Done { Ok(()) } else { Err(self.failure(outcome)) }
    }

    fn making(&self) -> PathBuf {
        self.job.places.state_here.join("making")
    }

    fn written(&self, done: io::Result<()>) -> Result<(), Failure> {
        done.map_err(|error| outcome::failure(Reason::SandboxFailed, &self.target, &format!("{}: {error}", self.making().display())))
    }
}
