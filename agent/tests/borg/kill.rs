//! What is interrupted or killed, and that it goes on afterwards without anybody's help.

use super::world::{Begun, World, expect, succeeded};
use borgherd_api::Reason;
use borgherd_api::crd::RunPhase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// More than the connection lets through while a test runs.
fn slow(mut world: World) -> World {
    if world.server.is_some() {
        world.repository.rate_limit = Some(1500);
        let noise = Command::new("dd")
            .args(["if=/dev/urandom", "of=noise", "bs=1M", "count=60", "status=none"])
            .current_dir(&world.volume)
            .status();
        assert!(noise.unwrap().success());
    } else {
        // Reading nothing takes its time, too.
        let hole = Command::new("truncate").args(["-s", "500G", "hole"]).current_dir(&world.volume).status();
        assert!(hole.unwrap().success());
    }
    world
}

fn quick(world: &mut World) {
    world.repository.rate_limit = None;
    for big in ["noise", "hole"] {
        drop(fs::remove_file(world.volume.join(big)));
    }
}

async fn until_under_way<T>(begun: &Begun, then: impl FnOnce() -> T) -> T {
    begun.under_way().await;
    then()
}

#[tokio::test]
async fn a_cancelled_archive_leaves_a_checkpoint_that_is_no_restore_point() {
    let mut world = slow(World::ssh());
    let begun = world.begin();
    let (report, ()) = tokio::join!(begun.finish(&world, world.archive_operation()), until_under_way(&begun, || begun.cancel.cancel()));
    expect(&report, RunPhase::Interrupted, Some(Reason::Interrupted), &[]);
    assert_eq!(world.archives(), [format!("{}.checkpoint", world.archive_name())]);
    let list = world.list().await;
    succeeded(&list);
    assert_eq!(list.archives, []);
    quick(&mut world);
    succeeded(&world.archive().await);
}

#[tokio::test]
async fn a_cancelled_restore_and_one_that_never_began() {
    let mut world = World::new();
    let hole = Command::new("truncate").args(["-s", "3G", "hole"]).current_dir(&world.volume).status();
    assert!(hole.unwrap().success());
    succeeded(&world.archive().await);
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    let mut begun = world.begin();
    begun.launcher.volume = target;
    let operation = borgherd_api::crd::Operation::Restore(borgherd_api::crd::RestoreOptions { archive: world.archive_name() });
    let (report, ()) = tokio::join!(begun.finish(&world, operation.clone()), until_under_way(&begun, || begun.cancel.cancel()));
    expect(&report, RunPhase::Interrupted, Some(Reason::Interrupted), &[]);
    // The token is cancelled still.
    let report = begun.finish(&world, operation).await;
    expect(&report, RunPhase::Interrupted, Some(Reason::Interrupted), &[]);
    assert_eq!(report.borg_seconds.to_bits(), 0.0_f64.to_bits());
    world.deadline = chrono::Utc::now() - Duration::from_secs(1);
    expect(&world.list().await, RunPhase::Failed, Some(Reason::DeadlineExceeded), &[]);
}

#[tokio::test]
async fn a_deadline() {
    let mut world = slow(World::ssh());
    world.deadline = chrono::Utc::now() + Duration::from_secs(4);
    let begun = Instant::now();
    let report = world.archive().await;
    expect(&report, RunPhase::Failed, Some(Reason::DeadlineExceeded), &[&world.repository.location]);
    assert!(begun.elapsed() >= Duration::from_secs(3));
    world.deadline = chrono::Utc::now() + Duration::from_mins(30);
    quick(&mut world);
    succeeded(&world.archive().await);
}

/// Borg stands still for so many seconds when all of a new repository is there but the manifest; that it does so is told by a file.
fn stand_while_making(world: &mut World, seconds: u32) -> PathBuf {
    let stands = world.path("stands");
    world.change_borg(&format!(
        "import time, borg.archiver
write = borg.archiver.Manifest.write
def stand(manifest):
    open('{}', 'w').close()
    time.sleep({seconds})
    write(manifest)
borg.archiver.Manifest.write = stand",
        stands.display()
    ));
    stands
}

async fn until_it_stands<T>(stands: &Path, then: impl FnOnce() -> T) -> T {
    while !stands.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    then()
}

#[tokio::test]
async fn a_repository_that_is_being_made_is_made_to_its_end_when_the_run_is_ended() {
    for mut world in [World::new(), World::ssh()] {
        let real = world.borg.clone();
        let stands = stand_while_making(&mut world, 2);
        let begun = world.begin();
        let stop = until_it_stands(&stands, || begun.cancel.cancel());
        let (report, ()) = tokio::join!(begun.finish(&world, world.archive_operation()), stop);
        expect(&report, RunPhase::Interrupted, Some(Reason::Interrupted), &[]);
        world.borg = real;
        assert_eq!(world.archives(), [""; 0]);
        succeeded(&world.archive().await);
    }
}

#[tokio::test]
async fn a_repository_whose_making_was_killed_is_left_to_a_person_who_is_told() {
    let mut world = World::ssh();
    let real = world.borg.clone();
    let stands = stand_while_making(&mut world, 600);
    world.limits.interrupt = Duration::from_millis(300);
    let begun = world.begin();
    let stop = until_it_stands(&stands, || kill(Pid::from_raw(begun.pid()), Signal::SIGKILL).unwrap());
    let (report, ()) = tokio::join!(begun.finish(&world, world.archive_operation()), stop);
    expect(&report, RunPhase::Failed, Some(Reason::BorgKilled), &[]);
    world.borg = real;
    let config = || fs::read(world.repository_folder().join("config")).unwrap();
    let before = config();
    let report = world.archive().await;
    expect(&report, RunPhase::Failed, Some(Reason::RepositoryCorrupted), &["no manifest", "nothing was ever archived there, remove it"]);
    assert_eq!(config(), before);
    fs::remove_dir_all(world.repository_folder()).unwrap();
    succeeded(&world.archive().await);
}

#[tokio::test]
async fn a_borg_that_ignores_every_request_is_killed() {
    let mut world = slow(World::ssh());
    world.limits.interrupt = Duration::from_millis(300);
    world.limits.terminate = Duration::from_millis(300);
    let begun = world.begin();
    let stop = async {
        begun.under_way().await;
        // It can do nothing any more but die.
        kill(Pid::from_raw(begun.pid()), Signal::SIGSTOP).unwrap();
        begun.cancel.cancel();
    };
    let (report, ()) = tokio::join!(begun.finish(&world, world.archive_operation()), stop);
    expect(&report, RunPhase::Interrupted, Some(Reason::Interrupted), &[]);
    quick(&mut world);
    succeeded(&world.archive().await);
}

#[tokio::test]
async fn a_killed_borg_leaves_locks_and_the_next_one_does_not_mind() {
    for (next_boot, world) in [("boot-1", World::new()), ("boot-2", World::new()), ("boot-2", World::ssh())] {
        let mut world = slow(world);
        let begun = world.begin();
        let (report, ()) = tokio::join!(
            begun.finish(&world, world.archive_operation()),
            until_under_way(&begun, || kill(Pid::from_raw(begun.pid()), Signal::SIGKILL).unwrap())
        );
        expect(&report, RunPhase::Failed, Some(Reason::BorgKilled), &["memory"]);
        if world.server.is_none() {
            assert!(world.repository_folder().join("lock.exclusive").exists());
        }
        assert!(locks_in_cache(&world) > 0);
        world.boot = next_boot;
        quick(&mut world);
        succeeded(&world.archive().await);
        assert_eq!(locks_in_cache(&world), 0);
    }
}

fn locks_in_cache(world: &World) -> usize {
    let find = Command::new("find").arg(world.state().join("cache")).args(["-name", "lock.exclusive"]).output().unwrap();
    String::from_utf8(find.stdout).unwrap().lines().count()
}

#[tokio::test]
async fn a_server_that_is_killed() {
    let mut world = slow(World::ssh());
    let begun = world.begin();
    let server = world.server.as_ref().unwrap();
    let (report, ()) = tokio::join!(begun.finish(&world, world.archive_operation()), until_under_way(&begun, || server.kill_connections()));
    expect(&report, RunPhase::Failed, Some(Reason::ConnectionFailed), &[&world.repository.location]);
    quick(&mut world);
    succeeded(&world.archive().await);
}
