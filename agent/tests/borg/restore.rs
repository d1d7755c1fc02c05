//! What comes back.

use super::tree;
use super::world::{World, expect, succeeded};
use borgherd_api::Reason;
use borgherd_api::crd::RunPhase;
use std::fs;

#[tokio::test]
async fn every_awkward_thing_comes_back_identical() {
    comes_back_identical(World::ssh()).await;
}

#[tokio::test]
async fn every_awkward_thing_comes_back_identical_out_of_the_sandbox() {
    comes_back_identical(World::sandboxed()).await;
}

async fn comes_back_identical(mut world: World) {
    fs::remove_file(world.volume.join("file")).unwrap();
    tree::make(&world.volume);
    succeeded(&world.archive().await);
    let target = world.path("target");
    world.make_volume(&target);
    let report = world.restore(&target).await;
    succeeded(&report);
    assert_eq!(Some(report.progress.bytes), report.progress.total_bytes);
    assert!(report.progress.bytes > 1 << 30);
    let (was, is) = (tree::describe(&world.volume), tree::describe(&target));
    assert!(was.len() > 60, "{was:#?}");
    let lost: Vec<_> = was.iter().filter(|line| !is.contains(line)).collect();
    let new: Vec<_> = is.iter().filter(|line| !was.contains(line)).collect();
    assert_eq!((lost.len(), new.len()), (0, 0), "lost: {lost:#?}, new: {new:#?}");
    assert!(tree::blocks(&target.join("sparse")) < 20_000, "the sparse file takes {} blocks", tree::blocks(&target.join("sparse")));
}

#[tokio::test]
async fn an_archive_that_is_not_there() {
    let mut world = World::new();
    succeeded(&world.archive().await);
    world.cut += chrono::TimeDelta::hours(1);
    let name = world.archive_name();
    let report = world.restore(&world.path("")).await;
    expect(&report, RunPhase::Failed, Some(Reason::ArchiveNotFound), &[&name, &world.repository.location]);
}

#[tokio::test]
async fn what_cannot_be_written_fails_the_restore() {
    let world = World::new();
    fs::write(world.volume.join("other"), vec![1; 100]).unwrap();
    succeeded(&world.archive().await);
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    // A folder that is not empty is in the place of a file.
    fs::create_dir_all(target.join("other/inside")).unwrap();
    let report = world.restore(&target).await;
    expect(&report, RunPhase::Failed, Some(Reason::FilesNotRestored), &["other"]);
}

#[tokio::test]
async fn no_repository_is_not_made_by_a_restore_nor_by_a_list() {
    let mut world = World::new();
    let report = world.restore(&world.path("")).await;
    expect(&report, RunPhase::Failed, Some(Reason::RepositoryMissing), &[&world.repository.location, "Repository nas"]);
    let report = world.list().await;
    expect(&report, RunPhase::Failed, Some(Reason::RepositoryMissing), &[]);
    world.repository.expected_id = Some("ab".repeat(32));
    let report = world.restore(&world.path("")).await;
    expect(&report, RunPhase::Failed, Some(Reason::RepositoryVanished), &[&world.repository.location]);
    assert!(!world.repository_folder().exists());
}
