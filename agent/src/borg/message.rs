//! The sentences of a run's status: what happened, and what to do about it.

use super::outcome;
use super::transcript::cut;
use borgherd_api::{Reason, names};

/// Longest message that `BorgRun.status.message` takes.
const MAX: usize = 4096;
/// Longest quotation of borg in it.
const QUOTE_MAX: usize = 1024;

/// What a run is about, for its messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// Name of the Repository object.
    pub(super) repository: &'a str,
    /// Of the Borg repository.
    pub(super) location: &'a str,
    /// Name of the Secret.
    pub(super) secret: &'a str,
    /// Name of the archive, or what archives' names begin with.
    pub(super) archive: &'a str,
    /// The id that the repository must have.
    pub(super) expected: Option<&'a str>,
    /// The folder of borg's state, as borg names it.
    pub(super) state: &'a str,
}

impl Target<'_> {
    /// Over the network, not a folder of the node.
    pub(super) fn is_ssh(&self) -> bool {
        self.location.starts_with("ssh://")
    }

    /// The id of another repository than the expected one, for which borg could not make a security folder, if that is what it says: see
    /// [`super::state`].
    pub(super) fn refused_id<'m>(&self, message: &'m str) -> Option<&'m str> {
        let (_, after) = message.split_once("[Errno 13]")?.1.split_once(&format!("{}/security/", self.state))?;
        let id = after.split(|c: char| !c.is_ascii_hexdigit()).next()?;
        (id.len() == 64 && self.expected.is_some_and(|expected| expected != id)).then_some(id)
    }
}

/// The sentence for `reason`; `detail` is what borg, ssh or the system said, and may be empty.
pub(super) fn sentence(reason: Reason, target: &Target<'_>, detail: &str) -> String {
    let Target { repository, location, secret, archive, expected, state: _ } = *target;
    let record = names::repository_record(location);
    let text = match reason {
        Reason::ConnectionFailed => {
            format!("no connection to {location}: check that the server runs, that the agents reach it, and that borg is installed there")
        }
        Reason::HostKeyUnknown => format!(
            "the host key of {location} is not the one in known_hosts of Secret {secret}: compare the server's key (ssh-keyscan) and, \
             if it is right, put it there"
        ),
        Reason::AuthenticationFailed => {
            format!("the server of {location} refuses: allow the key ssh-privatekey of Secret {secret} there, with the right to this path")
        }
        Reason::PassphraseWrong => {
            format!("the passphrase in Secret {secret} is not that of the repository {location}: put the right one there")
        }
        Reason::RepositoryFull => {
            format!(
                "no space left for the repository {location}: free some there or enlarge it (Borg needs some even to delete archives and compact)"
            )
        }
        Reason::RepositoryVanished => format!(
            "there is no repository at {location}, where archives were: check that the storage is mounted there; if it is gone for good, \
             delete ConfigMap {record} in Borgherd's namespace to begin anew"
        ),
        Reason::RepositoryReplaced => format!(
            "the repository at {location} is not the one that was there{}: bring that one back, or delete ConfigMap {record} in \
             Borgherd's namespace to accept this one",
            expected.map_or_else(String::new, |id| format!(" ({id})"))
        ),
        Reason::RepositoryMissing => format!("there is no repository at {location}: check the location of Repository {repository}"),
        Reason::RepositoryCorrupted => {
            format!("the repository {location} is damaged: run borg check on it before anything else, and repair it or bring a copy back")
        }
        Reason::RepositoryLocked => {
            format!("the repository {location} is locked by somebody else: wait for it, or run borg break-lock if that one is dead")
        }
        Reason::ArchiveNameTaken => format!("an archive {archive} that is not of this Backup is in {location}: rename or delete it"),
        Reason::ArchiveNotFound => format!("there is no archive {archive} in {location}: list what there is"),
        Reason::ForeignArchives => format!(
            "{location} holds archives of the same name that another cluster has made, so none is pruned: if they are this cluster's now, \
             accept them; else give each cluster a place of its own, with {{cluster}} in the location"
        ),
        Reason::NewestIncomplete => {
            "the newest archive lacks files, so none is pruned: see to the files that could not be read, and back up again".to_owned()
        }
        Reason::NoGoodArchive => format!("no archive in {location} is known to be good, so none is pruned: back up again"),
        Reason::TooManyDeletions => {
            "pruning would delete more than half of the archives, so none is: look at archive-keep, then accept it".to_owned()
        }
        Reason::SuspectArchive => "the newest archive does not look like the one before".to_owned(),
        Reason::FilesUnreadable => {
            format!("the archive {archive} was made, but it lacks files that could not be read: see to them, and back up again")
        }
        Reason::FilesNotRestored => format!("not all of {archive} could be restored"),
        Reason::BorgKilled => "borg was killed: see whether the node or the agent's memory limit is too small".to_owned(),
        Reason::Interrupted => "borg was interrupted before it had finished: the agent was stopped or the run deleted".to_owned(),
        Reason::DeadlineExceeded => {
            format!("the run's deadline passed before borg had finished with {location}: raise timeouts.run in the chart")
        }
        Reason::SandboxFailed => "the sandbox for borg could not be set up".to_owned(),
        Reason::Invalid => "the run's specification is not valid".to_owned(),
        Reason::VolumeNotMounted => "the run has no volume".to_owned(),
        Reason::BorgFailed => format!("borg failed with the repository {location}; its last lines are in the log of the node's agent"),
        // Not borg's to give.
        Reason::PvcNotFound
        | Reason::VolumeNotSupported
        | Reason::NoMatch
        | Reason::TargetExists
        | Reason::TargetRefused
        | Reason::SnapshotClassNotFound
        | Reason::SnapshotFailed
        | Reason::SnapshotNotReady
        | Reason::SnapshotGone
        | Reason::HookFailed
        | Reason::HookMayStillRun
        | Reason::FreezeLimit
        | Reason::DumpFailed
        | Reason::CloneNotBound
        | Reason::HolderUnschedulable
        | Reason::HolderNotStarted
        | Reason::PodNotFound
        | Reason::PodGone
        | Reason::PodStarted
        | Reason::RepositoryNotFound
        | Reason::RepositoryAmbiguous
        | Reason::RepositoryNotAllowed
        | Reason::SecretNotFound
        | Reason::SecretInvalid
        | Reason::AgentNotFound
        | Reason::Superseded
        | Reason::WaitingForRepository
        | Reason::WaitingForCapacity
        | Reason::RepositoryParked => reason.to_string(),
    };
    let detail = cut(detail.trim(), QUOTE_MAX);
    cut(&if detail.is_empty() { text } else { format!("{text} ({detail})") }, MAX)
}

/// The first warnings and how many more there are.
pub(super) fn warnings(first: &[String], count: u64, code: i32) -> String {
    if first.is_empty() {
        return format!("borg ended with code {code} and said nothing");
    }
    let more = count.saturating_sub(u64::try_from(first.len()).unwrap_or(u64::MAX));
    let list = first.join("; ");
    if more == 0 { list } else { format!("{list}; and {more} more") }
}

/// Of a live volume: which files were written to while it was read.
pub(super) fn changes(warnings: &str) -> String {
    cut(&format!("files were changed or removed while they were read, and may be of different moments: {}", cut(warnings, QUOTE_MAX)), MAX)
}

/// How borg was killed.
pub(super) fn signal(signal: i32) -> String {
    if outcome::is_kill(signal) {
        "signal 9, by which the kernel ends a process when memory is short".to_owned()
    } else {
        format!("signal {signal}")
    }
}
