//! The order of things: which calls of borg make a run, and what they add up to.

use super::answer::{self, Archives, Created};
use super::call::{self, Stops};
use super::job::{Clock, Job, Report};
use super::launch::{Access, Call, Launch};
use super::message::Target;
use super::outcome::{self, Failure, Outcome, Work};
use super::record::{self, Record};
use super::state::{self, Guard};
use super::{argv, env, lock, transcript};
use borgherd_api::Reason;
use borgherd_api::crd::{ArchiveOptions, ArchiveResult, ListOptions, Operation, Progress, RestoreOptions, RunPhase};
use borgherd_api::names;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often progress is passed on.
const PROGRESS: TimeDelta = TimeDelta::seconds(1);
/// Most of an answer that is kept: a list of some 50,000 archives.
const ANSWER_MAX: u64 = 64 << 20;
/// How long a repository that somebody else is making may be half there.
const INIT_PATIENCE: TimeDelta = TimeDelta::seconds(15);
/// Between two looks at it, and between two tries for a lock.
const PAUSE: Duration = Duration::from_millis(300);

/// Executes the run. Always ends with a final phase, at the latest soon after the run's deadline or `cancel`.
pub async fn execute(
    job: Job<'_>,
    launch: &dyn Launch,
    progress: watch::Sender<Progress>,
    cancel: CancellationToken,
    now: Clock<'_>,
) -> Report {
    carry_out(Part::Operation, job, launch, progress, cancel, now).await
}

/// Makes the repository where the run may and there is none; else nothing. Ends as [`execute`] does.
pub async fn make_repository(job: Job<'_>, launch: &dyn Launch, cancel: CancellationToken, now: Clock<'_>) -> Report {
    carry_out(Part::Repository, job, launch, watch::Sender::new(Progress::default()), cancel, now).await
}

/// How much of a run.
#[derive(Clone, Copy)]
enum Part {
    Operation,
    Repository,
}

async fn carry_out(
    part: Part,
    job: Job<'_>,
    launch: &dyn Launch,
    progress: watch::Sender<Progress>,
    cancel: CancellationToken,
    now: Clock<'_>,
) -> Report {
    let target = target(&job);
    let guard = match Guard::new(job.spec.repository.expected_id.as_deref()) {
        Ok(guard) => guard,
        Err(error) => return report_of(outcome::failure(Reason::Invalid, &target, &error)),
    };
    if let Err(error) = state::prepare(&job.places, &guard).and_then(|()| lock::clear_cache(job.places.state_here).map(|_| ())) {
        let detail = format!("{}: {error}", job.places.state_here.display());
        return report_of(outcome::failure(Reason::SandboxFailed, &target, &detail));
    }
    let stops = Stops { cancel: &cancel, deadline: job.spec.deadline, now, limits: job.limits };
    let env = env::env(&job, &guard);
    let mut execution = Execution { job, target, guard, env, launch, progress: &progress, stops, report: Report::default(), items: 0 };
    let done = match part {
        Part::Operation => execution.operation().await,
        Part::Repository => execution.repository().await,
    };
    let mut report = execution.report;
    match done {
        Ok(phase) => report.phase = phase,
        Err(failure) => fail(&mut report, failure),
    }
    progress.send_replace(report.progress);
    report
}

fn report_of(failure: Failure) -> Report {
    let mut report = Report::default();
    fail(&mut report, failure);
    report
}

fn fail(report: &mut Report, failure: Failure) {
    let Failure { phase, reason, message } = failure;
    report.phase = phase;
    report.reason = Some(reason);
    report.message = Some(message);
}

fn target<'a>(job: &Job<'a>) -> Target<'a> {
    let repository = &job.spec.repository;
    Target {
        repository: &repository.name,
        location: &repository.location,
        secret: &repository.secret_ref,
        archive: match &job.spec.operation {
            Operation::Archive(options) => &options.name,
            Operation::Restore(options) => &options.archive,
            Operation::Check(options) => options.read.as_deref().unwrap_or_default(),
            Operation::List(_) | Operation::Prune(_) | Operation::Compact(_) => "",
        },
        expected: repository.expected_id.as_deref(),
        state: job.places.state.to_str().unwrap_or_default(),
    }
}

/// A run under way.
pub(super) struct Execution<'a> {
    pub(super) job: Job<'a>,
    pub(super) target: Target<'a>,
    pub(super) guard: Guard,
    env: BTreeMap<String, String>,
    launch: &'a dyn Launch,
    progress: &'a watch::Sender<Progress>,
    pub(super) stops: Stops<'a>,
    pub(super) report: Report,
    /// Items of an archive that the last borg has begun with, where it was to name them.
    pub(super) items: u64,
}

impl Execution<'_> {
    async fn operation(&mut self) -> Result<RunPhase, Failure> {
        let job = self.job;
        match &job.spec.operation {
            Operation::Archive(options) => self.archive(options).await,
            Operation::Restore(options) => self.restore(options).await,
            Operation::List(ListOptions { judge: Some(options), last: _ }) => self.judge(options).await,
            Operation::List(options) => self.list(options).await,
            Operation::Prune(options) => self.prune(options).await,
            Operation::Compact(options) => self.compact(options).await,
            Operation::Check(options) => self.check(options).await,
        }
    }

    async fn repository(&mut self) -> Result<RunPhase, Failure> {
        if self.may_init() {
            self.init(&mut None).await?;
        }
        Ok(RunPhase::Succeeded)
    }

    async fn archive(&mut self, options: &ArchiveOptions) -> Result<RunPhase, Failure> {
        let mut half_there_since = None;
        // most likely there is none yet, and to be told so by `create` takes as long as to make it; before a live one it was made
        if self.may_init() && options.live.is_none() {
            self.init(&mut half_there_since).await?;
        }
        loop {
            let (outcome, stdout) = self.create(options).await?;
            match outcome {
                Outcome::Done => return self.archived(options, &stdout, None),
                Outcome::Incomplete(failure) => return self.archived(options, &stdout, Some(failure)),
                Outcome::ArchiveExists => {
                    if let Some(phase) = self.existing(options).await? {
                        return Ok(phase);
                    }
                }
                Outcome::Missing if self.may_init() => self.init(&mut half_there_since).await?,
                Outcome::Failed(failure) if failure.reason == Reason::RepositoryCorrupted && self.may_init() => {
                    self.others_init(&mut half_there_since, failure).await?;
                }
                Outcome::Missing | Outcome::Locked | Outcome::Occupied | Outcome::Failed(_) => return Err(self.failure(outcome)),
            }
        }
    }

    /// Nothing vouches for archives here.
    fn may_init(&self) -> bool {
        self.job.spec.repository.may_init && self.guard.expected().is_none()
    }

    async fn create(&mut self, options: &ArchiveOptions) -> Result<(Outcome, Vec<u8>), Failure> {
        let mut call = self.call(Access::Archive, argv::create(&self.job.spec.repository, options, self.job.places.files));
        if !options.exclude.is_empty() {
            call.files.insert(argv::EXCLUDE_FILE.to_owned(), argv::exclude_file(&options.exclude));
        }
        self.run(&call, if options.live.is_some() { Work::Live } else { Work::Archive }).await
    }

    /// The archive was made, with or without `lacks`.
    fn archived(&mut self, options: &ArchiveOptions, stdout: &[u8], lacks: Option<Failure>) -> Result<RunPhase, Failure> {
        let created: Created = answer::parse(stdout).map_err(|error| self.unreadable(&error))?;
        let Created { archive, repository } = created;
        if !self.guard.admits(&repository.id) {
            return Err(self.replaced(&repository.id, "; an archive was made in it before that was noticed"));
        }
        self.report.repository_id = Some(repository.id);
        if let Some(stats) = archive.stats {
            self.report.progress = transcript::progress(stats);
        }
        let complete = lacks.is_none();
        let record = Record { archive: options.name.clone(), id: archive.id.clone(), complete };
        // Without the record a lost report costs a second archive; the archive itself is there.
        if let Err(error) = record::write(self.job.places.state_here, &self.job.spec.subject, &record) {
            tracing::warn!(%error, archive = options.name, "cannot record the archive on this node");
        }
        self.report.archive = Some(ArchiveResult { name: archive.name, id: archive.id, existed: false });
        lacks.map_or(Ok(RunPhase::Succeeded), Err)
    }

    /// An archive of that name is there. If an earlier attempt of this Backup made it and it is known to be complete, that is the success
    /// whose report was lost. If it is not known to be, it steps aside, and the archive is made once more.
    async fn existing(&mut self, options: &ArchiveOptions) -> Result<Option<RunPhase>, Failure> {
        let repository = &self.job.spec.repository;
        let call = self.call(Access::Repository, argv::info(repository, &options.name));
        let answer: Archives = self.ask(&call).await?;
        self.report.repository_id = Some(answer.repository.id);
        let Some(archive) = answer.archives.into_iter().next() else {
            return Ok(None);
        };
        let made_by = answer::facts(&archive.comment).map(|facts| facts.backup_uid);
        if made_by.as_ref() != Some(&options.facts.backup_uid) {
            let detail = made_by.map_or_else(|| "Borgherd did not make it".to_owned(), |uid| format!("it is of Backup {uid}"));
            return Err(outcome::failure(Reason::ArchiveNameTaken, &self.target, &detail));
        }
        let record = record::read(self.job.places.state_here, &self.job.spec.subject);
        if record.is_some_and(|record| record.complete && record.id == archive.id) {
            if let Some(stats) = archive.stats {
                self.report.progress = transcript::progress(stats);
            }
            self.report.archive = Some(ArchiveResult { name: archive.name, id: archive.id, existed: true });
            return Ok(Some(RunPhase::Succeeded));
        }
        let aside = argv::aside(&options.name, &archive.id);
        let call = self.call(Access::Repository, argv::rename(repository, &options.name, &aside));
        let (outcome, _) = self.run(&call, Work::Repository).await?;
        if outcome == Outcome::Done { Ok(None) } else { Err(self.failure(outcome)) }
    }

    /// Makes the repository, or lets somebody else have made it.
    async fn init(&mut self, since: &mut Option<DateTime<Utc>>) -> Result<(), Failure> {
        let mut call = self.call(Access::Repository, argv::init(&self.job.spec.repository));
        call.creates_repository = true;
        let (outcome, _) = self.run(&call, Work::Repository).await?;
        if outcome == Outcome::Done {
            return Ok(());
        }
        if !outcome::lost_the_race(&outcome) {
            return Err(self.failure(outcome));
        }
        let failure = self.failure(outcome);
        self.others_init(since, failure).await
    }

    /// Somebody else is making the repository: waits a little, but not for ever, since a half-made one may be all there ever is.
    async fn others_init(&mut self, since: &mut Option<DateTime<Utc>>, failure: Failure) -> Result<(), Failure> {
        let now = (self.stops.now)();
        if now - *since.get_or_insert(now) > INIT_PATIENCE {
            return Err(if failure.reason == Reason::RepositoryCorrupted { outcome::half_made(failure) } else { failure });
        }
        self.stops.pause(PAUSE).await;
        Ok(())
    }

    async fn restore(&mut self, options: &RestoreOptions) -> Result<RunPhase, Failure> {
        let call = self.call(Access::Restore, argv::extract(&self.job.spec.repository, &options.archive));
        let (outcome, _) = self.run(&call, Work::Restore).await?;
        if outcome != Outcome::Done {
            return Err(self.failure(outcome));
        }
        let progress = &mut self.report.progress;
        progress.bytes = progress.total_bytes.unwrap_or(progress.bytes);
        self.restore_top(options).await;
        Ok(RunPhase::Succeeded)
    }

    /// The times of the volume's top folder. All files are there by now, so a failure is only told.
    async fn restore_top(&mut self, options: &RestoreOptions) {
        let call = self.call(Access::Restore, argv::extract_top(&self.job.spec.repository, &options.archive));
        let failure = match self.run(&call, Work::Repository).await {
            Ok((Outcome::Done, _)) => return,
            Ok((other, _)) => self.failure(other),
            Err(failure) => failure,
        };
        let line = format!("warning: the times of the volume's top folder were not restored: {}", failure.message);
        transcript::append(&mut self.report.log, vec![transcript::cut(&line, transcript::LINE_BYTES)]);
    }

    async fn list(&mut self, options: &ListOptions) -> Result<RunPhase, Failure> {
        let subject = &self.job.spec.subject;
        let prefix = names::archive_prefix(&subject.namespace, &subject.pvc);
        let call = self.call(Access::Repository, argv::list(&self.job.spec.repository, &prefix, options));
        let answer: Archives = self.ask(&call).await?;
        if !self.guard.admits(&answer.repository.id) {
            return Err(self.replaced(&answer.repository.id, ""));
        }
        self.report.repository_id = Some(answer.repository.id);
        self.report.archives = answer::found(answer.archives, &subject.namespace, &subject.pvc);
        Ok(RunPhase::Succeeded)
    }

    /// A call whose answer is wanted.
    pub(super) async fn ask<T: serde::de::DeserializeOwned>(&mut self, call: &Call) -> Result<T, Failure> {
        match self.run(call, Work::Repository).await? {
            (Outcome::Done, stdout) => answer::parse(&stdout).map_err(|error| self.unreadable(&error)),
            (other, _) => Err(self.failure(other)),
        }
    }

    /// Another repository than the expected one, which the guard has not kept borg from.
    pub(super) fn replaced(&self, found: &str, then: &str) -> Failure {
        outcome::failure(Reason::RepositoryReplaced, &self.target, &format!("found {found}{then}"))
    }

    fn unreadable(&self, error: &serde_json::Error) -> Failure {
        outcome::failure(Reason::BorgFailed, &self.target, &format!("its answer cannot be read: {error}"))
    }

    /// What is a failure where nothing else is to be made of it.
    pub(super) fn failure(&self, outcome: Outcome) -> Failure {
        let repository = &self.job.spec.repository;
        let archives_were_here =
            repository.expected_id.is_some() || matches!(self.job.spec.operation, Operation::Archive(_)) && !repository.may_init;
        let (reason, detail) = match outcome {
            Outcome::Failed(failure) | Outcome::Incomplete(failure) => return failure,
            Outcome::Missing if archives_were_here => (Reason::RepositoryVanished, ""),
            Outcome::Missing => (Reason::RepositoryMissing, ""),
            Outcome::Occupied => {
                (Reason::RepositoryMissing, "but there is something else, or the beginning of one: look at it and remove it")
            }
            Outcome::Locked => (Reason::RepositoryLocked, ""),
            Outcome::ArchiveExists => (Reason::ArchiveNameTaken, ""),
            Outcome::Done => (Reason::BorgFailed, "no answer"),
        };
        outcome::failure(reason, &self.target, detail)
    }

    pub(super) fn call(&self, access: Access, argv: Vec<String>) -> Call {
        Call { argv, env: self.env.clone(), files: BTreeMap::new(), access, answer_max: ANSWER_MAX, creates_repository: false }
    }

    /// Runs `call` until it got the locks it needs, in short steps: borg alone would look for a lock only once a minute.
    pub(super) async fn run(&mut self, call: &Call, work: Work) -> Result<(Outcome, Vec<u8>), Failure> {
        let begun = (self.stops.now)();
        let patience = TimeDelta::from_std(self.job.limits.lock_patience).unwrap_or(TimeDelta::MAX);
        loop {
            let holder = self.clear_repository_lock();
            let (outcome, stdout) = self.once(call, work).await?;
            if outcome != Outcome::Locked {
                return Ok((outcome, stdout));
            }
            if (self.stops.now)() - begun >= patience {
                let detail = holder.map_or_else(String::new, |holder| format!("held by {holder}"));
                return Err(outcome::failure(Reason::RepositoryLocked, &self.target, &detail));
            }
            self.stops.pause(PAUSE).await;
        }
    }

    /// Removes the lock of a path repository if a dead borg of this node left it; who holds it, else.
    fn clear_repository_lock(&self) -> Option<String> {
        let path = Path::new(&self.job.spec.repository.location);
        if !path.is_absolute() {
            return None;
        }
        match lock::clear_repository(path, self.job.host_id) {
            Ok(seen) => seen.someone_not_of(self.job.host_id).map(lock::Holder::describe),
            Err(error) => {
                tracing::warn!(%error, repository = %path.display(), "cannot look at the repository's lock");
                None
            }
        }
    }

    async fn once(&mut self, call: &Call, work: Work) -> Result<(Outcome, Vec<u8>), Failure> {
        self.items = 0;
        if let Some(stop) = self.stops.due() {
            return Err(outcome::stopped(stop, &self.target));
        }
        let mut last = None;
        let (now, sender) = (self.stops.now, self.progress);
        let mut on_progress = |progress: Progress| {
            let at = now();
            if last.is_none_or(|last| at - last >= PROGRESS) {
                last = Some(at);
                sender.send_replace(progress);
            }
        };
        let state_here = self.job.places.state_here;
        let forgotten = state::forget_ssh_log(state_here);
        forgotten.map_err(|error| outcome::failure(Reason::SandboxFailed, &self.target, &format!("{}: {error}", state_here.display())))?;
        let mut ended = call::run(call, work, self.launch, &self.stops, &mut on_progress)
            .await
            .map_err(|error| outcome::failure(Reason::SandboxFailed, &self.target, &error.to_string()))?;
        ended.said.take_ssh_log(&state::ssh_log(state_here));
        self.report.borg_seconds += ended.seconds;
        self.items = ended.said.items;
        if ended.said.progress != Progress::default() {
            self.report.progress = ended.said.progress;
        }
        let outcome = outcome::judge(work, ended.exit, ended.stop, &ended.said, &self.target);
        if work == Work::Live && outcome == Outcome::Done {
            self.report.message = outcome::changes(&ended.said);
        }
        transcript::append(&mut self.report.log, ended.said.into_tail());
        Ok((outcome, ended.stdout))
    }
}
