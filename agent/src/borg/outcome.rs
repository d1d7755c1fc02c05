//! What borg's end means: exit code, signals and messages to one outcome.
//!
//! Invariant: only exit code 0 is a success; what is not known is a failure that quotes borg.

use super::message::{self, Target};
use super::transcript::{Fault, Transcript, first_line};
use borgherd_api::Reason;
use borgherd_api::crd::RunPhase;

/// Why we ended borg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The run was deleted, or the agent ends.
    Cancelled,
    /// The run's deadline has passed.
    Deadline,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// `create`.
    Archive,
    /// `create` of a volume that may be written to meanwhile.
    Live,
    /// `extract`.
    Restore,
    /// Everything else.
    Repository,
    /// `check`, whose warnings are damage.
    Check,
}

/// Why a run ends without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) phase: RunPhase,
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// What one call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Borg did it.
    Done,
    /// `create` made the archive, without some files.
    Incomplete(Failure),
    /// There is no repository, or one that is not finished.
    Missing,
    /// Somebody else holds the lock; trying again may help.
    Locked,
    /// There is an archive of that name.
    ArchiveExists,
    /// There is a repository already, or something else is in its place.
    Occupied,
    /// It failed.
    Failed(Failure),
}

/// What one of borg's names for an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Missing,
    Locked,
    ArchiveExists,
    Occupied,
    NoConnection,
    Because(Reason),
}

/// First exit code that no borg has; signals begin at 128. The sandbox, and whatever else stands before borg, end with these.
const NO_BORG: i32 = 111;
const SIGKILL: i32 = 9;

/// What a call that ended so came to.
pub(super) fn judge(work: Work, exit: Exit, stop: Option<Stop>, said: &Transcript, target: &Target<'_>) -> Outcome {
    if exit == Exit::Code(0) {
        return Outcome::Done;
    }
    if let Some(stop) = stop {
        // what was read by then is not read again
        let is_damaged = work == Work::Check && stop == Stop::Deadline && said.warned_of_files();
        return if is_damaged { damaged(1, said, target) } else { Outcome::Failed(stopped(stop, target)) };
    }
    match exit {
        Exit::Signal(signal) => failed(Reason::BorgKilled, target, &message::signal(signal)),
        Exit::Code(code) if said.sandbox().is_some() || (NO_BORG..128).contains(&code) => {
            let detail = said.sandbox().or_else(|| said.last_line()).unwrap_or("it said nothing");
            failed(Reason::SandboxFailed, target, detail)
        }
        Exit::Code(code) if code >= 128 => failed(Reason::BorgKilled, target, &message::signal(code - 128)),
        Exit::Code(code @ (1 | 100..=110)) => warned(work, code, said, target),
        Exit::Code(code) => by_fault(code, said, target),
    }
}

/// Files of an archive that are not what they should be.
fn damaged(code: i32, said: &Transcript, target: &Target<'_>) -> Outcome {
    let (warnings, count) = said.warnings();
    failed(Reason::RepositoryCorrupted, target, &message::warnings(warnings, count, code))
}

/// Ended by us.
pub(super) fn stopped(stop: Stop, target: &Target<'_>) -> Failure {
    let (phase, reason) = match stop {
        Stop::Cancelled => (RunPhase::Interrupted, Reason::Interrupted),
        Stop::Deadline => (RunPhase::Failed, Reason::DeadlineExceeded),
    };
    Failure { phase, reason, message: message::sentence(reason, target, "") }
}

fn failed(reason: Reason, target: &Target<'_>, detail: &str) -> Outcome {
    Outcome::Failed(failure(reason, target, detail))
}

/// A failure for `reason`; `detail` is what borg or ssh said.
pub(super) fn failure(reason: Reason, target: &Target<'_>, detail: &str) -> Failure {
    Failure { phase: RunPhase::Failed, reason, message: message::sentence(reason, target, detail) }
}

/// Exit codes of warnings: 100 a file changed, 101 a pattern matched nothing, 102–107 a file could not be read or written, 108–110 a path
/// that leads out of the target was refused, 1 several of them. Every call that is not about files has done its work all the same.
fn warned(work: Work, code: i32, said: &Transcript, target: &Target<'_>) -> Outcome {
    if said.fault().is_some_and(|fault| fault.id.is_some()) {
        return by_fault(code, said, target);
    }
    let (warnings, count) = said.warnings();
    let detail = message::warnings(warnings, count, code);
    match work {
        Work::Live if only_changes(code, said) => Outcome::Done,
        Work::Archive | Work::Live => Outcome::Incomplete(Failure {
            phase: RunPhase::Incomplete,
            reason: Reason::FilesUnreadable,
            message: message::sentence(Reason::FilesUnreadable, target, &detail),
        }),
        Work::Restore => failed(Reason::FilesNotRestored, target, &detail),
        Work::Repository => Outcome::Done,
        Work::Check => match said.fault() {
            Some(fault) => failed(Reason::RepositoryCorrupted, target, first_line(&fault.message)),
            None => damaged(code, said, target),
        },
    }
}

/// Whether files have changed or vanished while they were read, and all else was read. Code 1 stands for warnings of several kinds.
fn only_changes(code: i32, said: &Transcript) -> bool {
    match code {
        100 | 107 => true,
        1 => said.only_changes(),
        _ => false,
    }
}

/// What is told of a live volume that was read.
pub(super) fn changes(said: &Transcript) -> Option<String> {
    let (warnings, count) = said.warnings();
    let told = || message::changes(&message::warnings(warnings, count, 1));
    (count > 0).then(told)
}

fn by_fault(code: i32, said: &Transcript, target: &Target<'_>) -> Outcome {
    let Some(fault) = said.fault() else {
        let detail = said.last_line().map_or_else(|| format!("exit code {code}"), str::to_owned);
        // Python's argparse, which borg's command line goes through.
        let reason = if detail.contains(": error: ") { Reason::Invalid } else { Reason::BorgFailed };
        return failed(reason, target, &detail);
    };
    let detail = first_line(&fault.message);
    if let Some(found) = target.refused_id(&fault.message) {
        return failed(Reason::RepositoryReplaced, target, &format!("found {found}; nothing was written to it"));
    }
    if let Some(reason) = by_words(fault, said, target) {
        return failed(reason, target, said.os_error().unwrap_or(detail));
    }
    match fault.id.as_deref().and_then(meaning) {
        Some(Meaning::Missing) => Outcome::Missing,
        Some(Meaning::Locked) => Outcome::Locked,
        Some(Meaning::ArchiveExists) => Outcome::ArchiveExists,
        Some(Meaning::Occupied) => Outcome::Occupied,
        Some(Meaning::NoConnection) => {
            let reason = said.complaint().unwrap_or(Reason::ConnectionFailed);
            failed(reason, target, said.quote().unwrap_or(detail))
        }
        Some(Meaning::Because(reason)) => failed(reason, target, detail),
        None => failed(Reason::BorgFailed, target, said.os_error().unwrap_or(detail)),
    }
}

/// Errors of the operating system, which borg passes on as they are.
fn by_words(fault: &Fault, said: &Transcript, target: &Target<'_>) -> Option<Reason> {
    // Of an ssh repository an error of this side's disk is about the cache: not the repository's.
    let here = fault.message.contains(target.state) || target.is_ssh() && fault.id.as_deref() == Some("Exception");
    let full = said.mentions("[Errno 28]") || said.mentions("[Errno 122]");
    if full {
        return Some(if here { Reason::BorgFailed } else { Reason::RepositoryFull });
    }
    // The pipe to ssh broke while borg wrote to it.
    (here && (said.mentions("BrokenPipeError") || said.mentions("[Errno 32]"))).then_some(Reason::ConnectionFailed)
}

/// Borg's names for its errors (class names of borg 1.4, as `msgid`).
fn meaning(id: &str) -> Option<Meaning> {
    use Meaning::{ArchiveExists, Because, Locked, Missing, NoConnection, Occupied};
    Some(match id {
        "Repository.DoesNotExist" | "Repository.InvalidRepository" | "Repository.ParentPathDoesNotExist" => Missing,
        "Repository.AlreadyExists" | "Repository.PathAlreadyExists" | "FileExistsError" => Occupied,
        "Archive.AlreadyExists" => ArchiveExists,
        "LockTimeout" | "LockError" | "LockErrorT" | "NotLocked" | "NotMyLock" => Locked,
        "ConnectionClosed" | "ConnectionClosedWithHint" | "ConnectionBrokenWithHint" | "UnexpectedRPCDataFormatFromServer" => NoConnection,
        "Archive.DoesNotExist" => Because(Reason::ArchiveNotFound),
        "PathNotAllowed" | "Repository.PathPermissionDenied" => Because(Reason::AuthenticationFailed),
        "PassphraseWrong" | "NoPassphraseFailure" | "PasscommandFailure" | "PasswordRetriesExceeded" => Because(Reason::PassphraseWrong),
        "Repository.InsufficientFreeSpaceError" | "Repository.StorageQuotaExceeded" => Because(Reason::RepositoryFull),
        "Cache.RepositoryAccessAborted"
        | "Cache.RepositoryReplay"
        | "Cache.RepositoryIDNotUnique"
        | "Cache.EncryptionMethodMismatch"
        | "Cache.CacheInitAbortedError" => Because(Reason::RepositoryReplaced),
        "IntegrityError"
        | "DecompressionError"
        | "FileIntegrityError"
        | "Repository.CheckNeeded"
        | "Repository.ObjectNotFound"
        | "Repository.InvalidRepositoryConfig"
        | "Repository.AtticRepository"
        | "NoManifestError"
        | "MandatoryFeatureUnsupported"
        | "RepoKeyNotFoundError"
        | "KeyfileInvalidError"
        | "KeyfileMismatchError"
        | "KeyfileNotFoundError"
        | "RepoIdMismatch"
        | "UnsupportedManifestError"
        | "UnknownKeyType"
        | "UnsupportedPayloadError"
        | "TAMInvalid"
        | "TAMRequiredError"
        | "TAMUnsupportedSuiteError"
        | "ArchiveTAMInvalid"
        | "ArchiveTAMRequiredError" => Because(Reason::RepositoryCorrupted),
        _ => return None,
    })
}

/// Of `init`, when others may be at it: only what another try cannot mend is a failure.
pub(super) fn lost_the_race(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Done | Outcome::Occupied | Outcome::Locked | Outcome::Missing => true,
        Outcome::Incomplete(_) | Outcome::ArchiveExists => false,
        // Half of another's init was in the way.
        Outcome::Failed(failure) => failure.reason == Reason::RepositoryCorrupted || failure.message.contains("[Errno 17]"),
    }
}

/// Of a repository that should have been made, and cannot be used. A making that was killed leaves such a one, too.
pub(super) fn half_made(mut failure: Failure) -> Failure {
    failure.message += "; if its making was only interrupted and nothing was ever archived there, remove it: the next backup makes it";
    failure
}

/// Whether the kernel may have done it: out of memory ends by SIGKILL.
pub(super) fn is_kill(signal: i32) -> bool {
    signal == SIGKILL
}

#[cfg(test)]
mod tests;
