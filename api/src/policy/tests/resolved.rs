//! Each value, right and wrong.

use super::{ours, policy, wrong};
use crate::policy::{Annotations, ArchiveWhen, Keep, Mode, merge, resolve};
use crate::schedule::Schedule;
use chrono_tz::Tz;

#[test]
fn nothing_written_is_a_policy_without_a_schedule() {
    let policy = policy(&[]).unwrap();
    assert_eq!(policy.schedule, None);
    assert_eq!(policy.archive, ArchiveWhen::EveryBackup);
    assert_eq!(policy.time_zone, Tz::UTC);
    assert!(!policy.suspend && policy.exclude.is_empty() && policy.group.is_none());
}

#[test]
fn everything_written_arrives() {
    let policy = policy(&[
        ("schedule", "0 3 * * *"),
        ("archive-schedule", "@weekly"),
        ("time-zone", "America/New_York"),
        ("repository", "nas-1"),
        ("mode", "snapshot"),
        ("snapshot-class", "fast.example.com"),
        ("clone-class", "clones"),
        ("exclude", "sh:**/cache\n\n# not this\n  *.tmp  \npp:lost+found"),
        ("compression", "auto,zstd,6"),
        ("files-cache", "mtime,size"),
        ("suspend", "true"),
        ("archive-keep", "daily=7"),
        ("group", "shop"),
        ("hooks", "- pre: {in: pod/db-0, command: [sync]}"),
    ])
    .unwrap();
    assert_eq!(policy.schedule, Some(Schedule::parse("0 3 * * *", "shop", "db").unwrap()));
    assert_eq!(policy.archive, ArchiveWhen::At(Schedule::parse("@weekly", "shop", "db").unwrap()));
    assert_eq!(policy.time_zone, Tz::America__New_York);
    assert_eq!(policy.repository.as_deref(), Some("nas-1"));
    assert_eq!(policy.snapshot_class.as_deref(), Some("fast.example.com"));
    assert_eq!(policy.clone_class.as_deref(), Some("clones"));
    assert_eq!(policy.exclude, ["sh:**/cache", "*.tmp", "pp:lost+found"]);
    assert_eq!(policy.compression.as_deref(), Some("auto,zstd,6"));
    assert_eq!(policy.files_cache.as_deref(), Some("mtime,size"));
    assert!(policy.suspend);
    assert_eq!(policy.archive_keep, Keep::parse("daily=7").ok());
    assert_eq!(policy.group.as_deref(), Some("shop"));
    assert_eq!(policy.hooks.len(), 1);
}

#[test]
fn a_live_volume_is_always_archived() {
    for archive in ["", "@weekly"] {
        let policy = policy(&[("mode", "live"), ("archive-schedule", archive)]).unwrap();
        assert_eq!((policy.mode, policy.archive), (Mode::Live, ArchiveWhen::EveryBackup), "{archive:?}");
    }
}

#[test]
fn members_of_a_group_agree_on_h() {
    let annotations = ours(&[("schedule", "H H * * *"), ("archive-schedule", "H H * * H"), ("group", "all")]);
    let effective = merge(&annotations, &Annotations::new(), &Annotations::new());
    let [one, other] = ["db", "files"].map(|pvc| resolve("shop", pvc, &effective).unwrap());
    assert_eq!(one, other);
    assert_eq!(one.schedule, Some(Schedule::parse("H H * * *", "shop", "all").unwrap()));
    let alone = policy(&[("schedule", "H H * * *")]).unwrap();
    assert_eq!(alone.schedule, Some(Schedule::parse("H H * * *", "shop", "db").unwrap()));
}

#[test]
fn every_problem_is_told_not_only_the_first() {
    let problems = policy(&[
        ("schedule", "61 * * * *"),
        ("archive-schedule", "never"),
        ("time-zone", "Berlin"),
        ("repository", "My NAS"),
        ("mode", "lively"),
        ("snapshot-class", "-x"),
        ("clone-class", "x_y"),
        ("exclude", "zz:x"),
        ("compression", "zstd,99"),
        ("files-cache", "size,color"),
        ("suspend", "yes"),
        ("group", "A"),
        ("hooks", "["),
    ])
    .unwrap_err();
    let mut told: Vec<_> = problems.iter().map(|problem| problem.annotation.trim_start_matches("borgherd.dev/")).collect();
    told.sort_unstable();
    let all = "archive-schedule clone-class compression exclude files-cache group hooks mode repository schedule snapshot-class suspend time-zone";
    assert_eq!(told.join(" "), all);
}

#[test]
fn each_message_says_where_what_and_what_would_be_right() {
    for (key, value, words) in [
        ("schedule", "61 * * * *", "borgherd.dev/schedule on the PVC, value '61 * * * *': minute: 61 is not within 0-59"),
        ("archive-schedule", "never", "value 'never': has 1 field where five are wanted"),
        ("time-zone", "Mars/Olympus", "is no IANA time zone, like 'Europe/Berlin' or 'UTC'"),
        ("time-zone", "berlin", "did you mean Europe/Berlin?"),
        ("time-zone", "europe/berlin", "did you mean Europe/Berlin?"),
        ("time-zone", "Europe/Berln", "did you mean Europe/Berlin?"),
        ("time-zone", "New York", "did you mean America/New_York?"),
        ("time-zone", "UTC+2", "did you mean Etc/GMT-2?"),
        ("time-zone", "GMT-05:00", "did you mean Etc/GMT+5?"),
        ("time-zone", "+10", "did you mean Etc/GMT-10?"),
        ("repository", "My NAS", "is no name: up to 253 lowercase letters"),
        ("repository", "a..b", "is no name"),
        ("repository", "nas-", "is no name"),
        ("group", &"a".repeat(254), "is no name"),
        ("mode", "Snapshot", "must be 'snapshot' or 'live'"),
        ("suspend", "yes", "must be 'true' or 'false'"),
        (
            "hooks",
            "- pre: {in: job/x, command: [sync]}",
            "borgherd.dev/hooks on the PVC, value '- pre: {in: job/x, command: [sync]}': hook 1: pre: in:",
        ),
        ("suspend", "True", "must be 'true' or 'false'"),
    ] {
        let told = wrong(key, value);
        assert!(told.contains(words), "{key} {value}: {told}");
    }
}

#[test]
fn names_that_kubernetes_takes_are_taken() {
    for name in ["a", "1", "nas-1", "a.b", "csi-btrfs.example.com", &"a".repeat(253)] {
        assert_eq!(policy(&[("repository", name)]).unwrap().repository.as_deref(), Some(name));
    }
}
