//! Keeping a repository in order: archives that no tier holds are deleted, what nothing uses is freed.
//!
//! Invariants: nothing is deleted without the repository's id being the expected one, from anything but a complete listing, and by
//! anything but whole names. Borg lists only while nobody writes and deletes only while it holds the lock alone; so a checkpoint that was
//! listed is of a run that is dead.

use super::answer::{self, Archives, Usage};
use super::argv;
use super::execute::Execution;
use super::launch::Access;
use super::outcome::{self, Failure, Outcome, Work};
use super::reading::{Patterns, Rest};
use borgherd_api::Reason;
use borgherd_api::crd::{CheckOptions, CheckResult, CompactOptions, ListOptions, PruneOptions, PruneResult, RunPhase};
use borgherd_api::names;
use borgherd_api::retention::{Archive, ArchivePlan, Stop, foreign_token, prune_token};
use chrono::TimeDelta;
use std::fmt;

/// Archives that one call deletes: what is done is done when a later call fails, and a command line has bounds.
const AT_ONCE: usize = 50;

/// Most bytes of a list of an archive's items: some ten millions of them. Of more the rest is read in every piece.
const ITEMS_MAX: u64 = 1 << 30;

/// What borg says at the end of the last segment; else it says "finished partial segment check".
const CHECKED: &str = "finished segment check at segment";

impl Execution<'_> {
    /// Deletes what no tier of the subject's policy holds.
    pub(super) async fn prune(&mut self, options: &PruneOptions) -> Result<RunPhase, Failure> {
        let rule = self.rule(options)?;
        self.expects_an_id()?;
        let archives = self.all_archives().await?;
        let plan = rule.plan(&self.job.spec.subject, &archives);
        if let Some(stop) = &plan.stop {
            return Err(self.stopped(stop));
        }
        let unused_bytes = self.delete(&plan).await?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let deleted = plan.deleted().len();
        let (unused_bytes, repository_bytes) = unused_bytes;
        self.report.prune =
            Some(PruneResult { kept: count(archives.len() - deleted), deleted: count(deleted), unused_bytes, repository_bytes });
        Ok(RunPhase::Succeeded)
    }

    /// Carries a plan out. Bytes that nothing uses any more, and that are used; both 0 where there was nothing to do.
    async fn delete(&mut self, plan: &ArchivePlan<'_>) -> Result<(u64, u64), Failure> {
        let names = plan.deleted();
        if names.is_empty() {
            return Ok((0, 0));
        }
        let before = self.used_bytes().await?;
        for (archive, why) in plan.verdicts.iter().filter(|(_, why)| why.deletes()) {
            tracing::info!(archive = archive.name, %why, "deleting an archive");
        }
        for names in names.chunks(AT_ONCE) {
            let [first, more @ ..] = names else { continue };
            let call = self.call(Access::Repository, argv::delete(&self.job.spec.repository, first, more));
            let (outcome, _) = self.run(&call, Work::Repository).await?;
            if outcome != Outcome::Done {
                return Err(self.failure(outcome));
            }
        }
        let after = self.used_bytes().await?;
        Ok((before.saturating_sub(after), after))
    }

    /// Frees what nothing uses.
    pub(super) async fn compact(&mut self, options: &CompactOptions) -> Result<RunPhase, Failure> {
        self.expects_an_id()?;
        self.meet().await?;
        let call = self.call(Access::Repository, argv::compact(&self.job.spec.repository, options));
        let (outcome, _) = self.run(&call, Work::Repository).await?;
        if outcome == Outcome::Done { Ok(RunPhase::Succeeded) } else { Err(self.failure(outcome)) }
    }

    /// Looks for damage; mends nothing.
    pub(super) async fn check(&mut self, options: &CheckOptions) -> Result<RunPhase, Failure> {
        self.expects_an_id()?;
        if let Some(archive) = &options.read {
            let id = self.meet_archive(archive).await?;
            let is_the_same = id.is_some() && id == options.archive_id;
            if options.after > 0 && !is_the_same {
                tracing::info!(archive, ?id, before = ?options.archive_id, "another archive has this name now; its reading begins anew");
            }
            let after = if is_the_same { options.after } else { 0 };
            return self.read((archive, id), after, options.max_seconds).await;
        }
        self.meet().await?;
        let call = self.call(Access::Repository, argv::check(&self.job.spec.repository, options));
        let (outcome, _) = self.run(&call, Work::Check).await?;
        if outcome != Outcome::Done {
            return Err(self.failure(outcome));
        }
        let came_to_the_end = || self.report.log.iter().any(|line| line.contains(CHECKED));
        self.report.check = Some(CheckResult { finished: options.archives || came_to_the_end(), ..CheckResult::default() });
        Ok(RunPhase::Succeeded)
    }

    /// Reads the content of an archive, but for its first `after` items, for so many seconds at most, beside the time it takes to find these. Borg
    /// ends at the first chunk that is not what it should be. Where the run's own time is over before the piece's, what was read counts, too.
    async fn read(&mut self, (archive, id): (&str, Option<String>), after: u64, seconds: Option<u32>) -> Result<RunPhase, Failure> {
        let rest = self.rest(archive, after).await?;
        let failed = |error: &dyn fmt::Display| outcome::failure(Reason::BorgFailed, &self.target, &format!("a file of patterns: {error}"));
        let before = rest.write(&self.job.places).map_err(|error| failed(&error))?;
        let argv = argv::read(&self.job.spec.repository, archive, before.as_ref().map(Patterns::file));
        let call = self.call(Access::Repository, argv);
        let of_the_run = self.stops.deadline;
        let enough = seconds.map(|seconds| (self.stops.now)() + TimeDelta::seconds(seconds.into()));
        self.stops.deadline = enough.map_or(of_the_run, |enough| enough.min(of_the_run));
        let done = self.run(&call, Work::Check).await;
        self.stops.deadline = of_the_run;
        let is_a_piece = seconds.is_some() && ((self.stops.now)() < of_the_run || self.items > 0);
        let is_enough = |failure: &Failure| failure.reason == Reason::DeadlineExceeded && is_a_piece;
        let position = match done {
            Ok((Outcome::Done, _)) => None,
            Ok((Outcome::Failed(failure), _)) | Err(failure) if is_enough(&failure) => Some(rest.position(self.items)),
            Ok((other, _)) => return Err(self.failure(other)),
            Err(failure) => return Err(failure),
        };
        self.report.check = Some(CheckResult { finished: position.is_none(), position: position.unwrap_or_default(), archive_id: id });
        Ok(RunPhase::Succeeded)
    }

    /// What is left of an archive after so many items.
    async fn rest(&mut self, archive: &str, after: u64) -> Result<Rest, Failure> {
        if after == 0 {
            return Ok(Rest::default());
        }
        let mut call = self.call(Access::Repository, argv::items(&self.job.spec.repository, archive));
        call.answer_max = ITEMS_MAX;
        let (outcome, listing) = self.run(&call, Work::Repository).await?;
        if outcome != Outcome::Done {
            return Err(self.failure(outcome));
        }
        let rest = tokio::task::spawn_blocking(move || Rest::of(&listing, after)).await;
        rest.map_err(|error| outcome::failure(Reason::BorgFailed, &self.target, &error.to_string()))
    }

    fn expects_an_id(&self) -> Result<(), Failure> {
        let missing = || outcome::failure(Reason::Invalid, &self.target, "it names no id of the repository");
        self.guard.expected().map(|_| ()).ok_or_else(missing)
    }

    /// Asks the repository for its id: `borg compact` reads no manifest, and so would not stop at another one.
    async fn meet(&mut self) -> Result<(), Failure> {
        let subject = &self.job.spec.subject;
        let prefix = names::archive_prefix(&subject.namespace, &subject.pvc);
        let newest = argv::list(&self.job.spec.repository, &prefix, &ListOptions { last: Some(1), judge: None });
        let answer: Archives = self.ask(&self.call(Access::Repository, newest)).await?;
        self.admit(&answer.repository.id)
    }

    /// As [`Self::meet`]; Borg's id of the archive of this name, if there is one. A name alone is not the same archive for long: a person may
    /// have made another one of it in its place, whose first items are others.
    async fn meet_archive(&mut self, archive: &str) -> Result<Option<String>, Failure> {
        let call = self.call(Access::Repository, argv::list_one(&self.job.spec.repository, archive));
        let answer: Archives = self.ask(&call).await?;
        self.admit(&answer.repository.id)?;
        Ok(answer.archives.into_iter().find(|found| found.name == archive).map(|found| found.id))
    }

    /// Everything whose name begins as the subject's archives do.
    pub(super) async fn all_archives(&mut self) -> Result<Vec<Archive>, Failure> {
        let subject = &self.job.spec.subject;
        let prefix = names::archive_prefix(&subject.namespace, &subject.pvc);
        let call = self.call(Access::Repository, argv::list_all(&self.job.spec.repository, &prefix));
        let answer: Archives = self.ask(&call).await?;
        self.admit(&answer.repository.id)?;
        let archive =
            |found: answer::Archive| Archive { cluster: answer::facts(&found.comment).map(|facts| facts.cluster_uid), name: found.name };
        Ok(answer.archives.into_iter().map(archive).collect())
    }

    async fn used_bytes(&mut self) -> Result<u64, Failure> {
        let call = self.call(Access::Repository, argv::repository_info(&self.job.spec.repository));
        let usage: Usage = self.ask(&call).await?;
        self.admit(&usage.repository.id)?;
        Ok(usage.cache.stats.unique_csize)
    }

    fn admit(&mut self, id: &str) -> Result<(), Failure> {
        if !self.guard.admits(id) {
            return Err(self.replaced(id, ""));
        }
        self.report.repository_id = Some(id.to_owned());
        Ok(())
    }

    /// Nothing is deleted; what a person can do about it.
    pub(super) fn stopped(&self, stop: &Stop) -> Failure {
        let (reason, detail) = match stop {
            Stop::Foreign(uids) => {
                let tokens: Vec<String> = uids.iter().map(|uid| foreign_token(uid)).collect();
                (Reason::ForeignArchives, self.accept(&tokens.join(",")))
            }
            Stop::NewestIncomplete(cut) => (Reason::NewestIncomplete, format!("cut at {}", cut.to_rfc3339())),
            Stop::NoneGood => (Reason::NoGoodArchive, String::new()),
            Stop::TooMany { deleted, of, until } => {
                (Reason::TooManyDeletions, format!("{deleted} of {of}; {}", self.accept(&prune_token(*until))))
            }
        };
        outcome::failure(reason, &self.target, &detail)
    }

    /// How a person says so.
    fn accept(&self, tokens: &str) -> String {
        let subject = &self.job.spec.subject;
        format!("borgherd accept -n {} {} {tokens}", subject.namespace, subject.pvc)
    }
}
