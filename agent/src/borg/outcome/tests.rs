//! Tables of ends and what they mean.
#![allow(clippy::panic, reason = "a test")]
use super::*;
use crate::borg::fixture;

const SSH: &str = "ssh://borg@nas/./r";
const PATH: &str = "/repositories/r";

fn target(location: &str) -> Target<'_> {
    Target {
        repository: "nas",
        location,
        secret: "nas-secret",
        archive: "shop_db_x",
        expected: Some(fixture::ID),
        state: "/run/borg/state",
    }
}

fn error(id: &str, message: &str) -> String {
    serde_json::json!({"type": "log_message", "levelname": "ERROR", "msgid": id, "message": message}).to_string()
}

fn warning(message: &str) -> String {
    serde_json::json!({"type": "log_message", "levelname": "WARNING", "msgid": "BackupPermissionError", "message": message}).to_string()
}

fn judged(work: Work, exit: Exit, stop: Option<Stop>, location: &str, lines: &[String]) -> Outcome {
    let mut said = Transcript::default();
    for line in lines {
        said.take(line);
    }
    judge(work, exit, stop, &said, &target(location))
}

/// The reason of a failure, of whatever phase.
fn reason(outcome: &Outcome) -> (RunPhase, Reason) {
    match outcome {
        Outcome::Failed(failure) | Outcome::Incomplete(failure) => (failure.phase, failure.reason),
        Outcome::Done | Outcome::Missing | Outcome::Locked | Outcome::ArchiveExists | Outcome::Occupied => panic!("{outcome:?}"),
    }
}

#[test]
fn borgs_names_for_errors() {
    let table = [
        (52, "PassphraseWrong", Reason::PassphraseWrong),
        (51, "NoPassphraseFailure", Reason::PassphraseWrong),
        (80, "ConnectionClosed", Reason::ConnectionFailed),
        (81, "ConnectionClosedWithHint", Reason::ConnectionFailed),
        (83, "PathNotAllowed", Reason::AuthenticationFailed),
        (14, "Repository.InsufficientFreeSpaceError", Reason::RepositoryFull),
        (20, "Repository.StorageQuotaExceeded", Reason::RepositoryFull),
        (90, "IntegrityError", Reason::RepositoryCorrupted),
        (12, "Repository.CheckNeeded", Reason::RepositoryCorrupted),
        (26, "NoManifestError", Reason::RepositoryCorrupted),
        (31, "Archive.DoesNotExist", Reason::ArchiveNotFound),
        (64, "Cache.RepositoryReplay", Reason::RepositoryReplaced),
        (2, "Error", Reason::BorgFailed),
        (2, "Exception", Reason::BorgFailed),
        (72, "LockFailed", Reason::BorgFailed),
    ];
    for (code, id, expected) in table {
        let outcome = judged(Work::Archive, Exit::Code(code), None, SSH, &[error(id, "words")]);
        assert_eq!(reason(&outcome), (RunPhase::Failed, expected), "{id}");
    }
    for (code, id, expected) in [
        (13, "Repository.DoesNotExist", Outcome::Missing),
        (15, "Repository.InvalidRepository", Outcome::Missing),
        (73, "LockTimeout", Outcome::Locked),
        (30, "Archive.AlreadyExists", Outcome::ArchiveExists),
        (10, "Repository.AlreadyExists", Outcome::Occupied),
    ] {
        assert_eq!(judged(Work::Archive, Exit::Code(code), None, SSH, &[error(id, "words")]), expected, "{id}");
    }
}

#[test]
fn warnings_mean_what_the_work_makes_of_them() {
    for code in [1, 100, 102, 103, 104, 105, 106, 107] {
        let lines = [warning("a: Permission denied"), warning("b: Permission denied")];
        let outcome = judged(Work::Archive, Exit::Code(code), None, SSH, &lines);
        assert_eq!(reason(&outcome), (RunPhase::Incomplete, Reason::FilesUnreadable), "{code}");
        let outcome = judged(Work::Restore, Exit::Code(code), None, SSH, &lines);
        assert_eq!(reason(&outcome), (RunPhase::Failed, Reason::FilesNotRestored), "{code}");
        assert_eq!(judged(Work::Repository, Exit::Code(code), None, SSH, &lines), Outcome::Done, "{code}");
        let outcome = judged(Work::Check, Exit::Code(code), None, SSH, &lines);
        assert_eq!(reason(&outcome), (RunPhase::Failed, Reason::RepositoryCorrupted), "{code}");
    }
}

#[test]
fn of_a_live_volume_changes_are_told_and_what_could_not_be_read_is_missing() {
    let line = |id: &str| serde_json::json!({"type": "log_message", "levelname": "WARNING", "msgid": id, "message": "a: x"}).to_string();
    let (changed, vanished, denied, failed) =
        (line("FileChangedWarning"), line("BackupFileNotFoundError"), line("BackupPermissionError"), line("BackupIOError"));
    for (code, lines, is_done) in [
        (100, vec![changed.clone()], true),
        (107, vec![vanished.clone()], true),
        (1, vec![changed.clone(), vanished.clone()], true),
        (1, vec![changed.clone(), denied.clone()], false),
        (1, vec![changed.clone(), warning("unknown")], false),
        (1, vec![], false),
        (103, vec![line("BackupRaceConditionError")], false),
        (105, vec![denied], false),
        (106, vec![failed], false),
    ] {
        let outcome = judged(Work::Live, Exit::Code(code), None, SSH, &lines);
        assert_eq!(outcome == Outcome::Done, is_done, "{code} {lines:?}");
        assert!(is_done || reason(&outcome) == (RunPhase::Incomplete, Reason::FilesUnreadable), "{code} {lines:?}");
        assert_ne!(judged(Work::Archive, Exit::Code(code), None, SSH, &lines), Outcome::Done, "of a snapshot it is no success");
    }
    let mut said = Transcript::default();
    assert_eq!(changes(&said), None);
    said.take(&changed);
    assert!(changes(&said).is_some_and(|told| told.contains("a: x")));
}

#[test]
fn a_success_is_one_even_if_we_meant_to_stop_it() {
    assert_eq!(judged(Work::Archive, Exit::Code(0), Some(Stop::Cancelled), SSH, &[]), Outcome::Done);
    for (stop, expected) in
        [(Stop::Cancelled, (RunPhase::Interrupted, Reason::Interrupted)), (Stop::Deadline, (RunPhase::Failed, Reason::DeadlineExceeded))]
    {
        for exit in [Exit::Code(2), Exit::Code(143), Exit::Signal(9)] {
            assert_eq!(reason(&judged(Work::Archive, exit, Some(stop), SSH, &[])), expected);
        }
    }
}

#[test]
fn kills_sandboxes_and_what_nobody_knows() {
    for (exit, lines, expected) in [
        (Exit::Signal(9), vec![], Reason::BorgKilled),
        (Exit::Code(137), vec![], Reason::BorgKilled),
        (Exit::Code(143), vec![error("Signal.SIGTERM", "Received SIGTERM")], Reason::BorgKilled),
        (Exit::Code(125), vec![r#"{"borgherd_sandbox_failed":{"step":"s","error":"e"}}"#.to_owned()], Reason::SandboxFailed),
        (Exit::Code(127), vec!["setpriv: borg: not found".to_owned()], Reason::SandboxFailed),
        (Exit::Code(2), vec![], Reason::BorgFailed),
        (Exit::Code(2), vec!["borg create: error: argument -C/--compression: Invalid".to_owned()], Reason::Invalid),
        (Exit::Code(77), vec!["strange".to_owned()], Reason::BorgFailed),
    ] {
        assert_eq!(reason(&judged(Work::Archive, exit, None, SSH, &lines)), (RunPhase::Failed, expected), "{exit:?}");
    }
}

#[test]
fn whose_disk_is_full() {
    let trace = |text: &str| serde_json::json!({"type": "log_message", "levelname": "ERROR", "message": text}).to_string();
    let full = "Traceback\n  File x\nOSError: [Errno 28] No space left on device";
    let local = [error("Exception", "Local Exception"), trace(full)];
    let remote = [error("OSError", full)];
    for (location, lines, expected) in [
        (SSH, remote.as_slice(), Reason::RepositoryFull),
        (PATH, &local, Reason::RepositoryFull),
        (SSH, &local, Reason::BorgFailed),
        (
            PATH,
            &[error("LockFailed", "Failed to create/acquire the lock /run/borg/state/cache/x/lock.exclusive ([Errno 28] No space)")],
            Reason::BorgFailed,
        ),
        (
            PATH,
            &[error("LockFailed", "Failed to create/acquire the lock /repositories/r/lock.exclusive ([Errno 28] No space)")],
            Reason::RepositoryFull,
        ),
    ] {
        let outcome = judged(Work::Archive, Exit::Code(2), None, location, lines);
        assert_eq!(reason(&outcome).1, expected, "{location} {lines:?}");
    }
}

#[test]
fn a_repository_that_the_guard_stopped_at_is_another_one() {
    let other = "f".repeat(64);
    for (path, expected) in [
        (format!("/run/borg/state/security/{other}"), Reason::RepositoryReplaced),
        (format!("/run/borg/state/security/{}/location", fixture::ID), Reason::BorgFailed),
        ("/run/borg/state/cache/x".to_owned(), Reason::BorgFailed),
    ] {
        let line = error("Error", &format!("Error: [Errno 13] Permission denied: '{path}'"));
        assert_eq!(reason(&judged(Work::Archive, Exit::Code(2), None, PATH, &[line])).1, expected, "{path}");
    }
}

#[test]
fn ssh_tells_why_there_is_no_connection() {
    for (log, expected) in [
        ("Host key verification failed.\r\n", Reason::HostKeyUnknown),
        ("root@nas: Permission denied (publickey).\r\n", Reason::AuthenticationFailed),
        ("ssh: connect to host nas port 22: Connection refused\r\n", Reason::ConnectionFailed),
        ("", Reason::ConnectionFailed),
    ] {
        let mut said = Transcript::default();
        said.take(&error("ConnectionClosedWithHint", "Connection closed by remote host. Is borg working on the server?"));
        said.take_ssh_log(log);
        let outcome = judge(Work::Archive, Exit::Code(81), None, &said, &target(SSH));
        assert_eq!(reason(&outcome).1, expected, "{log}");
    }
}

#[test]
fn every_sentence() {
    let reasons = [
        Reason::ConnectionFailed,
        Reason::HostKeyUnknown,
        Reason::AuthenticationFailed,
        Reason::PassphraseWrong,
        Reason::RepositoryFull,
        Reason::RepositoryVanished,
        Reason::RepositoryReplaced,
        Reason::RepositoryMissing,
        Reason::RepositoryCorrupted,
        Reason::RepositoryLocked,
        Reason::ArchiveNameTaken,
        Reason::ArchiveNotFound,
        Reason::FilesUnreadable,
        Reason::FilesNotRestored,
        Reason::BorgKilled,
        Reason::BorgFailed,
        Reason::Interrupted,
        Reason::DeadlineExceeded,
        Reason::SandboxFailed,
    ];
    let sentences: Vec<String> = reasons.iter().map(|&reason| message::sentence(reason, &target(SSH), "said")).collect();
    insta::assert_debug_snapshot!(sentences);
}

#[test]
fn a_damaged_file_is_told_also_when_the_time_for_reading_is_over() {
    let ended = error("Signal.SIGTERM", "Received SIGTERM");
    let lines = [warning("a: File has damaged (all-zero) chunks."), ended.clone()];
    let outcome = |work, stop, lines: &[String]| reason(&judged(work, Exit::Code(143), Some(stop), SSH, lines));
    assert_eq!(outcome(Work::Check, Stop::Deadline, &lines), (RunPhase::Failed, Reason::RepositoryCorrupted));
    assert_eq!(outcome(Work::Check, Stop::Deadline, &[ended]), (RunPhase::Failed, Reason::DeadlineExceeded));
    assert_eq!(outcome(Work::Check, Stop::Cancelled, &lines), (RunPhase::Interrupted, Reason::Interrupted), "it is read again");
    assert_eq!(outcome(Work::Restore, Stop::Deadline, &lines), (RunPhase::Failed, Reason::DeadlineExceeded));
}
