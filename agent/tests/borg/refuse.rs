//! Repositories that cannot be used: each for its own reason, in a sentence that says what to do, and nothing is written.

use super::server::{free_port, keygen};
use super::world::{PASSPHRASE, World, expect, succeeded};
use borgherd_api::Reason;
use borgherd_api::crd::RunPhase;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const FAILED: RunPhase = RunPhase::Failed;

#[tokio::test]
async fn a_wrong_passphrase() {
    let mut world = World::new();
    succeeded(&world.archive().await);
    world.cut += chrono::TimeDelta::hours(1);
    world.passphrase = "wrong".to_owned();
    let report = world.archive().await;
    expect(&report, FAILED, Some(Reason::PassphraseWrong), &["nas-secret", &world.repository.location]);
    world.passphrase = PASSPHRASE.to_owned();
    succeeded(&world.archive().await);
}

#[tokio::test]
async fn a_host_key_that_is_unknown_or_another() {
    let world = World::ssh();
    let known_hosts = world.server.as_ref().unwrap().known_hosts.clone();
    let right = fs::read_to_string(&known_hosts).unwrap();
    let other = keygen(world.root.path(), "other");
    let other = fs::read_to_string(other.with_extension("pub")).unwrap();
    let port = world.server.as_ref().unwrap().port;
    for wrong in [String::new(), format!("[127.0.0.1]:{port} {other}")] {
        fs::write(&known_hosts, wrong).unwrap();
        let report = world.archive().await;
        expect(&report, FAILED, Some(Reason::HostKeyUnknown), &["nas-secret", "known_hosts", &world.repository.location]);
    }
    fs::write(&known_hosts, right).unwrap();
    succeeded(&world.archive().await);
}

#[tokio::test]
async fn a_key_that_is_refused_or_is_none() {
    let world = World::ssh();
    let key = world.server.as_ref().unwrap().key.clone();
    let other = fs::read(keygen(world.root.path(), "other")).unwrap();
    for wrong in [other, b"no key".to_vec()] {
        fs::write(&key, wrong).unwrap();
        let report = world.archive().await;
        expect(&report, FAILED, Some(Reason::AuthenticationFailed), &["nas-secret", "ssh-privatekey", "Permission denied"]);
    }
}

#[tokio::test]
async fn a_path_that_the_server_does_not_allow() {
    let mut world = World::ssh();
    world.repository.location = format!("ssh://root@127.0.0.1:{}/var/elsewhere", world.server.as_ref().unwrap().port);
    let report = world.archive().await;
    expect(&report, FAILED, Some(Reason::AuthenticationFailed), &["/var/elsewhere", "not allowed"]);
}

#[tokio::test]
async fn a_server_that_is_down_or_has_no_borg_or_no_name() {
    let mut world = World::ssh();
    let ssh = world.path("sshd").join("authorized_keys");
    let right = fs::read_to_string(&ssh).unwrap();
    fs::write(&ssh, right.replace(&world.borg.display().to_string(), "/no/borg")).unwrap();
    let report = world.archive().await;
    expect(&report, FAILED, Some(Reason::ConnectionFailed), &["borg is installed there", &world.repository.location]);
    world.repository.location = format!("ssh://root@127.0.0.1:{}/./r", free_port());
    let report = world.archive().await;
    expect(&report, FAILED, Some(Reason::ConnectionFailed), &["Connection refused", &world.repository.location]);
    world.repository.location = "ssh://root@no-such-host.invalid/./r".to_owned();
    let report = world.archive().await;
    expect(&report, FAILED, Some(Reason::ConnectionFailed), &["no-such-host.invalid"]);
}

#[tokio::test]
async fn a_full_disk_of_the_repository_here_and_on_the_server() {
    for mut world in [World::new(), World::ssh()] {
        if world.server.is_none() {
            world.repository.location = world.path("small/repository").display().to_string();
        }
        let disk = world.server.as_ref().map_or(world.path("small"), |server| server.folder.clone());
        world.mount_tmpfs(&disk, "size=24m");
        succeeded(&world.archive().await);
        world.cut += chrono::TimeDelta::hours(1);
        let noise = Command::new("dd")
            .args(["if=/dev/urandom", "of=noise", "bs=1M", "count=40", "status=none"])
            .current_dir(&world.volume)
            .status();
        assert!(noise.unwrap().success());
        let report = world.archive().await;
        expect(&report, FAILED, Some(Reason::RepositoryFull), &[&world.repository.location]);
        assert_eq!(world.archives().len(), 1);
        // Space again, and it goes on without anybody's help.
        let more = Command::new("mount").args(["-o", "remount,size=200m"]).arg(&disk).status();
        assert!(more.unwrap().success());
        succeeded(&world.archive().await);
    }
}

#[tokio::test]
async fn a_repository_that_vanished_is_not_made_again() {
    for mut world in [World::new(), World::ssh()] {
        succeeded(&world.archive().await);
        world.cut += chrono::TimeDelta::hours(1);
        let id = world.repository_id();
        let folder = world.repository_folder();
        for (may_init, expected) in [(false, None), (true, Some(id.clone())), (false, Some(id))] {
            world.repository.may_init = may_init;
            world.repository.expected_id = expected;
            // An unmounted NAS: the folder of the mount point, with nothing in it; or not even that.
            for empty in [true, false] {
                drop(fs::remove_dir_all(&folder));
                if empty {
                    fs::create_dir(&folder).unwrap();
                }
                let report = world.archive().await;
                expect(&report, FAILED, Some(Reason::RepositoryVanished), &[&world.repository.location]);
                let left = fs::read_dir(&folder).map_or(0, Iterator::count);
                assert_eq!((folder.exists(), left), (empty, 0));
            }
        }
    }
}

#[tokio::test]
async fn a_repository_in_the_place_of_another_is_not_written_to() {
    for mut world in [World::new(), World::ssh(), World::sandboxed()] {
        succeeded(&world.archive().await);
        world.cut += chrono::TimeDelta::hours(1);
        world.repository.may_init = false;
        let id = world.repository_id();
        world.repository.expected_id = Some(id.clone());
        let folder = world.repository_folder();
        fs::rename(&folder, world.path("old")).unwrap();
        world.tool(&["init", "--encryption=repokey-blake2", &folder.display().to_string()]);
        let before = fingerprint(&folder);
        let report = world.archive().await;
        expect(&report, FAILED, Some(Reason::RepositoryReplaced), &[&id, &world.repository_id(), "nothing was written"]);
        assert_eq!(fingerprint(&folder), before);
        expect(&world.list().await, FAILED, Some(Reason::RepositoryReplaced), &[]);
        // The old one again: it goes on.
        fs::remove_dir_all(&folder).unwrap();
        fs::rename(world.path("old"), &folder).unwrap();
        succeeded(&world.archive().await);
    }
}

/// Names and contents of a repository's files, but for what every reader writes.
fn fingerprint(folder: &Path) -> String {
    let script = "find . -type f ! -name 'lock*' -print0 | sort -z | xargs -0 sha256sum";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn something_else_in_the_place_of_a_new_repository() {
    let mut world = World::new();
    fs::create_dir(&world.repository.location).unwrap();
    fs::write(world.path("repository/somebody-elses"), "x").unwrap();
    world.deadline = chrono::Utc::now() + Duration::from_mins(30);
    let report = world.archive().await;
    expect(&report, FAILED, Some(Reason::RepositoryMissing), &[&world.repository.location, "something else"]);
    assert!(world.path("repository/somebody-elses").exists());
}

#[tokio::test]
async fn a_damaged_repository() {
    let world = World::new();
    let noise =
        Command::new("dd").args(["if=/dev/urandom", "of=noise", "bs=1M", "count=4", "status=none"]).current_dir(&world.volume).status();
    assert!(noise.unwrap().success());
    succeeded(&world.archive().await);
    let segments = world.repository_folder().join("data/0");
    let largest =
        fs::read_dir(segments).unwrap().map(|entry| entry.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&largest, bytes).unwrap();
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    let report = world.restore(&target).await;
    expect(&report, FAILED, Some(Reason::RepositoryCorrupted), &[&world.repository.location, "borg check"]);
}

#[tokio::test]
async fn a_name_that_another_archive_has() {
    let mut world = World::new();
    succeeded(&world.archive().await);
    world.backup_uid = "backup-2".to_owned();
    let report = world.archive().await;
    expect(&report, FAILED, Some(Reason::ArchiveNameTaken), &[&world.archive_name(), "backup-1"]);
    world.cut += chrono::TimeDelta::hours(1);
    let by_hand = format!("{}::{}", world.repository.location, world.archive_name());
    world.tool(&["create", &by_hand, "file"]);
    let report = world.archive().await;
    expect(&report, FAILED, Some(Reason::ArchiveNameTaken), &[&world.archive_name()]);
    assert_eq!(world.archives().len(), 2);
}

#[tokio::test]
async fn a_lock_that_somebody_elses_holds() {
    for mut world in [World::new(), World::ssh()] {
        succeeded(&world.archive().await);
        world.cut += chrono::TimeDelta::hours(1);
        let folder = world.repository_folder().display().to_string();
        let held = world.path("held");
        let mut other = world
            .tool_command(&["with-lock", &folder, "sh", "-c", "touch \"$0\"; cat"])
            .arg(&held)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        while !held.exists() {
            tokio::task::yield_now().await;
        }
        let report = world.archive().await;
        let says: &[&str] = if world.server.is_none() { &["on laptop", &world.repository.location] } else { &[&world.repository.location] };
        expect(&report, FAILED, Some(Reason::RepositoryLocked), says);
        assert!(other.try_wait().unwrap().is_none(), "its lock was taken away");

        // It is waited for, and then taken at once.
        world.limits.lock_patience = Duration::from_mins(1);
        let run = world.archive();
        let free = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(other.stdin.take());
            other.wait().unwrap()
        };
        let (report, ended) = tokio::join!(run, free);
        succeeded(&report);
        assert!(ended.success());
    }
}

#[tokio::test]
async fn options_that_borg_does_not_know() {
    let mut world = World::new();
    world.compression = Some("brotli,3".to_owned());
    expect(&world.archive().await, FAILED, Some(Reason::Invalid), &["compression"]);
}

#[tokio::test]
async fn an_expected_id_that_is_none() {
    let mut world = World::new();
    world.repository.expected_id = Some("../../etc".to_owned());
    expect(&world.archive().await, FAILED, Some(Reason::Invalid), &["../../etc"]);
}
