//! Archives that are made.

use super::world::{World, expect, succeeded};
use borgherd_api::Reason;
use borgherd_api::crd::RunPhase;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

#[tokio::test]
async fn the_first_makes_the_repository_the_second_finds_it_and_the_list_tells_all() {
    let mut world = World::ssh();
    let first = world.archive().await;
    succeeded(&first);
    let id = world.repository_id();
    assert_eq!(first.repository_id.as_ref(), Some(&id));
    let archive = first.archive.clone().unwrap();
    assert_eq!((archive.name, archive.existed), (world.archive_name(), false));
    assert_eq!((first.progress.files, first.progress.bytes), (1, 7));
    assert!(first.progress.deduplicated_bytes.is_some_and(|bytes| bytes > 0) && first.borg_seconds > 0.0);

    world.repository.may_init = false;
    world.repository.expected_id = Some(id.clone());
    let facts = world.facts();
    world.cut += chrono::TimeDelta::hours(1);
    let second = world.archive().await;
    succeeded(&second);
    assert_eq!(second.progress.deduplicated_bytes, Some(0));

    let list = world.list().await;
    succeeded(&list);
    assert_eq!(list.repository_id, Some(id));
    let found: Vec<_> = list.archives.iter().map(|archive| (archive.cut, archive.facts.clone())).collect();
    let first_cut = world.cut - chrono::TimeDelta::hours(1);
    assert_eq!(found, [(first_cut, Some(facts)), (world.cut, Some(world.facts()))]);
    // The repository itself knows the cut, in whatever zone it is asked.
    let folder = world.repository_folder().display().to_string();
    let times = world.tool_command(&["list", "--format={time:%Y-%m-%dT%H:%M:%S}{NL}", &folder]).env("TZ", "UTC").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&times.stdout).lines().next(), Some("2026-11-21T10:00:00"));
}

#[tokio::test]
async fn an_unchanged_file_is_not_read_again() {
    let mut world = World::new();
    fs::write(world.volume.join("big"), vec![7; 32 << 20]).unwrap();
    succeeded(&world.archive().await);
    world.cut += chrono::TimeDelta::hours(1);
    // Reading it would update its time of access, which relatime lets happen when it is older than the file's own times.
    Command::new("touch").args(["-a", "-d", "2001-01-01"]).arg(world.volume.join("big")).status().unwrap();
    succeeded(&world.archive().await);
    world.cut += chrono::TimeDelta::hours(1);
    let before = fs::metadata(world.volume.join("big")).unwrap().accessed().unwrap();
    let third = world.archive().await;
    succeeded(&third);
    assert_eq!(fs::metadata(world.volume.join("big")).unwrap().accessed().unwrap(), before);
    assert_eq!(third.progress.deduplicated_bytes, Some(0));
}

#[tokio::test]
async fn what_is_excluded_is_not_in_the_archive() {
    let mut world = World::new();
    for name in ["keep", "#odd", "-leading", "cache/x", "a b"] {
        let path = world.volume.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    world.exclude = ["#odd", "-leading", "cache/*", "  a b  ", "", "sh:**/never"].map(str::to_owned).into();
    succeeded(&world.archive().await);
    let archive = format!("{}::{}", world.repository.location, world.archive_name());
    let paths = world.tool(&["list", "--format={path}{NL}", &archive]);
    let mut paths: Vec<&str> = paths.lines().collect();
    paths.sort_unstable();
    assert_eq!(paths, [".", "cache", "file", "keep"]);
}

#[tokio::test]
async fn every_encryption_can_be_chosen_and_none_needs_no_answer() {
    use borgherd_api::crd::Encryption;
    for encryption in
        [Encryption::Repokey, Encryption::RepokeyBlake2, Encryption::Authenticated, Encryption::AuthenticatedBlake2, Encryption::None]
    {
        let mut world = World::new();
        world.repository.encryption = encryption;
        succeeded(&world.archive().await);
        world.repository.may_init = false;
        world.repository.expected_id = Some(world.repository_id());
        world.node = "node-2";
        world.cut += chrono::TimeDelta::hours(1);
        succeeded(&world.archive().await);
    }
}

#[tokio::test]
async fn a_success_whose_report_was_lost_is_a_success() {
    let world = World::new();
    let first = world.archive().await;
    succeeded(&first);
    let again = world.archive().await;
    succeeded(&again);
    let (first, again) = (first.archive.unwrap(), again.archive.unwrap());
    assert!(again.existed && !first.existed);
    assert_eq!(again.id, first.id);
    assert_eq!(world.archives(), [world.archive_name()]);
}

#[tokio::test]
async fn an_archive_that_nobody_knows_to_be_complete_is_made_once_more() {
    let mut world = World::new();
    let first = world.archive().await;
    succeeded(&first);
    // Another node, or the record lost with the agent.
    world.node = "node-2";
    let again = world.archive().await;
    succeeded(&again);
    assert!(!again.archive.unwrap().existed);
    let aside = format!("{}.incomplete-{}", world.archive_name(), first.archive.unwrap().id.get(..8).unwrap());
    let mut archives = world.archives();
    archives.sort();
    assert_eq!(archives, [world.archive_name(), aside]);
    assert_eq!(world.list().await.archives.len(), 1);
}

#[tokio::test]
async fn an_archive_that_lacks_a_file_is_incomplete_and_so_is_never_a_lost_success() {
    let mut world = World::new();
    let secret = world.volume.join("secret");
    fs::write(&secret, "secret").unwrap();
    chown(&secret, Some(1000), Some(1000)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    world.capabilities = Some("-all");
    let report = world.archive().await;
    expect(&report, RunPhase::Incomplete, Some(Reason::FilesUnreadable), &["secret", "Permission denied"]);
    assert!(report.archive.is_some() && report.repository_id.is_some());

    world.capabilities = None;
    let again = world.archive().await;
    succeeded(&again);
    assert!(!again.archive.unwrap().existed);
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    succeeded(&world.restore(&target).await);
    assert_eq!(fs::read_to_string(target.join("secret")).unwrap(), "secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_that_meet_in_a_new_repository_all_succeed() {
    let mut world = World::ssh();
    world.limits.lock_patience = std::time::Duration::from_mins(30);
    let location = world.repository.location.clone();
    let mut worlds = vec![world];
    for node in ["node-2", "node-3", "node-4"] {
        let mut other = World::new();
        other.node = node;
        other.repository.location = location.clone();
        other.limits = worlds[0].limits;
        worlds.push(other);
    }
    let server = worlds[0].server.take().unwrap();
    let cuts = worlds.iter_mut().zip(0..).map(|(world, hours)| {
        world.cut += chrono::TimeDelta::hours(hours);
        fs::write(world.volume.join("own"), world.node).unwrap();
        let key = (server.key.clone(), server.known_hosts.clone());
        let world = &*world;
        async move { world.archive_with_key(key).await }
    });
    let reports = futures::future::join_all(cuts).await;
    for report in &reports {
        succeeded(report);
        assert_eq!(report.repository_id, reports[0].repository_id);
    }
    worlds[0].server = Some(server);
    assert_eq!(worlds[0].archives().len(), 4);
}
