//! Archives that are pruned, and repositories that are compacted.

use super::world::{World, expect, succeeded};
use borgherd_api::Reason;
use borgherd_api::crd::{CheckOptions, CheckResult, PruneOptions, PruneResult, RunPhase};
use borgherd_api::names;
use borgherd_api::policy::Keep;
use borgherd_api::retention::{Accepted, Archive, ArchiveRule, plan_archives};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

async fn archive_at(world: &mut World, pvc: &'static str, cut: &str) {
    (world.pvc, world.cut) = (pvc, at(cut));
    succeeded(&world.archive().await);
}

/// Times of the archives of a PVC, sorted.
fn times(world: &World, pvc: &str) -> Vec<String> {
    let prefix = names::archive_prefix("shop", pvc);
    let mut times: Vec<String> = world.archives().iter().filter_map(|name| Some(name.strip_prefix(&prefix)?.to_owned())).collect();
    times.sort();
    times
}

#[tokio::test]
async fn only_the_archives_of_one_pvc_go_whatever_others_are_called() {
    let mut world = World::ssh();
    for pvc in ["data", "data-db", "data.1"] {
        for cut in ["2026-11-01T10:00:00Z", "2026-11-02T10:00:00Z", "2026-11-03T10:00:00Z"] {
            fs::write(world.volume.join("file"), vec![cut.as_bytes()[9]; 300_000]).unwrap();
            archive_at(&mut world, pvc, cut).await;
        }
    }
    let folder = world.repository_folder().display().to_string();
    for name in ["shop_data_by-hand", "shop_data", "data_2026-11-01T10-00-00Z"] {
        world.tool(&["create", &format!("{folder}::{name}"), "."]);
    }
    world.know_the_repository();
    world.pvc = "data";
    let report = world.prune("last=1").await;
    succeeded(&report);
    let done = report.prune.unwrap();
    assert_eq!((done.deleted, done.kept), (2, 2), "two archives go; the newest and what is by hand stay");
    assert_eq!(report.repository_id, world.repository.expected_id);
    assert_eq!(times(&world, "data"), ["2026-11-03T10-00-00Z", "by-hand"]);
    for pvc in ["data-db", "data.1"] {
        assert_eq!(times(&world, pvc).len(), 3, "{pvc}");
    }
    assert!(world.archives().contains(&"shop_data".to_owned()) && world.archives().contains(&"data_2026-11-01T10-00-00Z".to_owned()));
    let again = world.prune("last=1").await;
    succeeded(&again);
    assert_eq!(again.prune, Some(PruneResult { kept: 2, ..PruneResult::default() }), "nothing is left to do");
    world.tool(&["check", &folder]);
}

#[tokio::test]
async fn an_archive_cut_at_half_past_eleven_counts_on_that_day_for_us_as_for_borg() {
    let mut world = World::new();
    // 22:30 UTC is 23:30 in Berlin, the zone of these tests.
    for cut in ["2026-11-19T11:00:00Z", "2026-11-20T11:00:00Z", "2026-11-20T22:30:00Z", "2026-11-20T23:30:00Z", "2026-11-21T12:00:00Z"] {
        archive_at(&mut world, "db", cut).await;
    }
    world.know_the_repository();
    let wanted = ["2026-11-20T22-30-00Z", "2026-11-21T12-00-00Z"];
    let folder = world.repository_folder().display().to_string();
    let dry = ["prune", "--dry-run", "--list", "--keep-daily=2", "--glob-archives=shop_db_*", &folder];
    let output = world.tool_command(&dry).env("TZ", "Europe/Berlin").output().unwrap();
    let kept = String::from_utf8(output.stderr).unwrap();
    let kept: Vec<&str> = kept.lines().filter(|line| line.starts_with("Keeping archive")).collect();
    assert!(kept.len() == 2 && wanted.iter().all(|time| kept.iter().any(|line| line.contains(time))), "{kept:?}");
    let report = world.prune("daily=2").await;
    succeeded(&report);
    assert_eq!(times(&world, "db"), wanted);
}

/// Our verdicts are borg's own, where borg knows all that counts.
#[tokio::test]
async fn the_tiers_are_those_of_borg_prune() {
    let mut world = World::new();
    succeeded(&world.archive().await);
    world.know_the_repository();
    let folder = world.repository_folder().display().to_string();
    world.tool(&["delete", &format!("{folder}::{}", world.archive_name())]);
    // Around a year's end, a leap day and both changes of the clocks in Berlin.
    let mut cuts = Vec::new();
    for (begin, minutes, count) in [
        ("2023-12-28T20:10:00Z", 700, 14),
        ("2024-02-28T01:00:00Z", 1000, 5),
        ("2024-03-30T20:00:00Z", 47, 12),
        ("2024-10-26T22:00:00Z", 31, 14),
    ] {
        cuts.extend((0..count).map(|n| at(begin) + Duration::from_mins(minutes * n)));
    }
    for cut in &cuts {
        let name = format!("{folder}::{}", names::archive("shop", "db", *cut));
        world.tool(&["create", &format!("--timestamp={}", cut.format("%Y-%m-%dT%H:%M:%S+00:00")), &name, "file"]);
    }
    let archives: Vec<Archive> =
        cuts.iter().map(|cut| Archive { name: names::archive("shop", "db", *cut), cluster: Some("c".to_owned()) }).collect();
    let (none, unused) = (BTreeSet::new(), BTreeSet::new());
    let accepted = Accepted::parse("prune:2099-01-01T00-00-00Z");
    for numbers in [
        [1, 0, 0, 0, 0, 0],
        [0, 5, 0, 0, 0, 0],
        [0, 0, 3, 0, 0, 0],
        [2, 3, 4, 2, 2, 1],
        [0, 9, 2, 5, 0, 0],
        [0, 0, 0, 3, 9, 9],
        [1, 1, 1, 1, 1, 1],
    ] {
        let tiers = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];
        let policy: Vec<String> = tiers.iter().zip(numbers).map(|(tier, n)| format!("{tier}={n}")).collect();
        for zone in ["Europe/Berlin", "UTC", "America/New_York"] {
            let rule = ArchiveRule {
                keep: Keep::parse(&policy.join(",")).unwrap(),
                zone: zone.parse().unwrap(),
                cluster: "c",
                incomplete: &none,
                in_use: &unused,
                accepted: &accepted,
            };
            let mut ours: Vec<String> = plan_archives("shop", "db", &archives, &rule).deleted().into_iter().map(str::to_owned).collect();
            let mut arguments = vec!["prune".to_owned(), "--dry-run".to_owned(), "--list".to_owned()];
            arguments.extend(policy.iter().filter(|part| !part.ends_with("=0")).map(|part| format!("--keep-{part}")));
            arguments.extend(["--glob-archives=shop_db_*".to_owned(), folder.clone()]);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = world.tool_command(&arguments).env("TZ", zone).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let borgs = said.lines().filter(|line| line.starts_with("Would prune")).filter_map(|line| line.split_whitespace().nth(2));
            let mut borgs: Vec<String> = borgs.map(str::to_owned).collect();
            // the one that borg does not keep by these rules, and Borgherd always does
            borgs.retain(|name| *name != names::archive("shop", "db", *cuts.iter().max().unwrap()));
            ours.sort();
            borgs.sort();
            assert_eq!(ours, borgs, "{policy:?} {zone}: {said}");
        }
    }
}

#[tokio::test]
async fn rests_of_dead_runs_go_and_what_lacks_files_evicts_nothing() {
    let mut world = World::new();
    archive_at(&mut world, "db", "2026-11-01T10:00:00Z").await;
    archive_at(&mut world, "db", "2026-11-01T20:00:00Z").await;
    let folder = world.repository_folder().display().to_string();
    for rest in ["2026-11-01T10-00-00Z.checkpoint", "2026-11-01T20-00-00Z.incomplete-0a1b2c3d", "2026-11-03T10-00-00Z.checkpoint"] {
        world.tool(&["create", &format!("{folder}::shop_db_{rest}"), "."]);
    }
    world.know_the_repository();
    let mut options = PruneOptions { keep: "daily=1".into(), cluster_uid: "cluster".into(), ..PruneOptions::default() };
    options.incomplete = vec![at("2026-11-01T20:00:00Z")];
    let report = world.prune_with(&options).await;
    expect(&report, RunPhase::Failed, Some(Reason::NewestIncomplete), &["lacks files"]);
    assert_eq!(world.archives().len(), 5, "nothing goes");
    options.incomplete = Vec::new();
    succeeded(&world.prune_with(&options).await);
    let left = ["2026-11-01T20-00-00Z", "2026-11-03T10-00-00Z.checkpoint"];
    assert_eq!(times(&world, "db"), left, "the rest that is newer than every archive may be of use yet");
}

#[tokio::test]
async fn what_is_shown_is_what_is_done() {
    let mut world = World::new();
    for cut in ["2026-11-01T10:00:00Z", "2026-11-01T20:00:00Z", "2026-11-02T10:00:00Z", "2026-11-03T10:00:00Z"] {
        archive_at(&mut world, "db", cut).await;
    }
    let folder = world.repository_folder().display().to_string();
    for other in ["shop_db_2026-11-02T10-00-00Z.checkpoint", "shop_db_by-hand", "shop_db2_2026-11-01T10-00-00Z"] {
        world.tool(&["create", &format!("{folder}::{other}"), "."]);
    }
    world.know_the_repository();
    let mut options = PruneOptions { keep: "daily=2".into(), cluster_uid: "another".into(), ..PruneOptions::default() };
    let all = world.archives();
    let judged = world.judge(&options).await;
    succeeded(&judged);
    assert!(judged.archives.is_empty() && judged.prune.is_none(), "{judged:?}");
    let held = judged.judged.unwrap();
    assert_eq!(held.reason, Some(Reason::ForeignArchives));
    assert!(held.message.unwrap().contains("borgherd accept -n shop db foreign:cluster"));
    options.cluster_uid = "cluster".into();
    let judged = world.judge(&options).await.judged.unwrap();
    assert_eq!((judged.reason, &judged.message, judged.left_out), (None, &None, 0));
    assert_eq!(world.archives(), all, "nothing is deleted");
    let why = |name: &str| judged.archives.iter().find(|v| v.name.ends_with(name)).map(|v| (v.goes, v.why.as_str()));
    assert_eq!(why("11-03T10-00-00Z"), Some((false, "daily")));
    assert_eq!(why("11-01T20-00-00Z"), Some((true, "no tier holds it")));
    assert_eq!(why("by-hand"), Some((false, "it is not Borgherd's")));
    assert_eq!(why(".checkpoint"), Some((true, "a run that died has left it")));
    let stays: Vec<&String> = judged.archives.iter().filter(|v| !v.goes).map(|v| &v.name).collect();
    succeeded(&world.prune_with(&options).await);
    let left: BTreeSet<String> = world.archives().into_iter().collect();
    assert_eq!(left.iter().filter(|name| name.starts_with("shop_db_")).collect::<Vec<_>>(), stays);
}

#[tokio::test]
async fn nothing_is_deleted_where_it_is_not_certain_that_it_should_be() {
    let mut world = World::new();
    for day in 1..=6 {
        archive_at(&mut world, "db", &format!("2026-11-0{day}T10:00:00Z")).await;
    }
    let all = world.archives();
    let unknown = world.prune("last=1").await;
    expect(&unknown, RunPhase::Failed, Some(Reason::Invalid), &["names no id"]);
    world.know_the_repository();
    let id = world.repository.expected_id.clone();
    let mut options = PruneOptions { keep: "last=1".into(), cluster_uid: "cluster".into(), ..PruneOptions::default() };
    for keep in ["", "last=0", "daily=many", "daily"] {
        let refused = world.prune(keep).await;
        expect(&refused, RunPhase::Failed, Some(Reason::Invalid), &["archive-keep"]);
    }
    let held = world.prune_with(&options).await;
    expect(&held, RunPhase::Failed, Some(Reason::TooManyDeletions), &["5 of 6", "borgherd accept -n shop db prune:2026-11-05T10-00-00Z"]);
    options.cluster_uid = "another".into();
    let foreign = world.prune_with(&options).await;
    expect(&foreign, RunPhase::Failed, Some(Reason::ForeignArchives), &["borgherd accept -n shop db foreign:cluster"]);
    options.cluster_uid = "cluster".into();
    options.accepted = "prune:2026-11-05T10-00-00Z".into();
    world.repository.expected_id = Some("f".repeat(64));
    let replaced = world.prune_with(&options).await;
    expect(&replaced, RunPhase::Failed, Some(Reason::RepositoryReplaced), &["not the one that was there"]);
    expect(&world.compact().await, RunPhase::Failed, Some(Reason::RepositoryReplaced), &[]);
    assert_eq!(world.archives(), all, "all are there");
    world.repository.expected_id = id;
    succeeded(&world.prune_with(&options).await);
    assert_eq!(times(&world, "db"), ["2026-11-06T10-00-00Z"]);
    let folder = world.repository_folder();
    fs::rename(&folder, folder.with_extension("away")).unwrap();
    expect(&world.prune("last=1").await, RunPhase::Failed, Some(Reason::RepositoryVanished), &[]);
    assert!(!folder.exists(), "nothing is made in its place");
}

fn noise(world: &World, megabytes: u32) {
    let count = format!("count={megabytes}");
    let noise =
        Command::new("dd").args(["if=/dev/urandom", "of=noise", "bs=1M", &count, "status=none"]).current_dir(&world.volume).status();
    assert!(noise.unwrap().success());
}

fn bytes(world: &World) -> u64 {
    let output = Command::new("du").args(["-sb", "data"]).current_dir(world.repository_folder()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn compacting_frees_what_pruning_left() {
    let mut world = World::ssh();
    for cut in ["2026-11-01T10:00:00Z", "2026-11-02T10:00:00Z"] {
        noise(&world, 20);
        archive_at(&mut world, "db", cut).await;
    }
    world.know_the_repository();
    let report = world.prune("last=1").await;
    succeeded(&report);
    let done = report.prune.unwrap();
    assert!(done.unused_bytes > 20 << 20 && done.repository_bytes > 20 << 20, "{done:?}");
    assert!(bytes(&world) > 40 << 20, "pruning alone frees nothing");
    succeeded(&world.compact().await);
    assert!(bytes(&world) < 25 << 20);
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    succeeded(&world.restore(&target).await);
    assert_eq!(fs::read(target.join("noise")).unwrap(), fs::read(world.volume.join("noise")).unwrap());
}

#[tokio::test]
async fn a_server_that_dies_during_compact_loses_nothing() {
    let mut world = World::ssh();
    for cut in ["2026-11-01T10:00:00Z", "2026-11-02T10:00:00Z", "2026-11-03T10:00:00Z"] {
        noise(&world, 120);
        archive_at(&mut world, "db", cut).await;
    }
    world.know_the_repository();
    succeeded(&world.prune("last=1").await);
    let before = bytes(&world);
    let kill = async {
        // it has begun when segments are written anew, or go
        let changed = async {
            while bytes(&world) == before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), changed).await.expect("compacting began");
        world.server.as_ref().unwrap().kill_connections();
    };
    let (report, ()) = tokio::join!(world.compact(), kill);
    expect(&report, RunPhase::Failed, Some(Reason::ConnectionFailed), &[]);
    let folder = world.repository_folder().display().to_string();
    // the server's borg serve ended with its connection, and its lock with it
    succeeded(&world.compact().await);
    assert!(bytes(&world) < 130 << 20);
    world.tool(&["check", "--verify-data", &folder]);
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    succeeded(&world.restore(&target).await);
    assert_eq!(fs::read(target.join("noise")).unwrap(), fs::read(world.volume.join("noise")).unwrap());
}

/// Turns one bit in the middle of the largest segment; twice, and it is as before.
fn flip(world: &World) {
    let find = "ls -S data/0/* | head -1";
    let output = Command::new("sh").args(["-c", find]).current_dir(world.repository_folder()).output().unwrap();
    let segment = world.repository_folder().join(String::from_utf8(output.stdout).unwrap().trim());
    let mut content = fs::read(&segment).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&segment, content).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_is_found_and_nothing_is_mended() {
    let mut world = World::ssh();
    noise(&world, 3);
    succeeded(&world.archive().await);
    world.know_the_repository();
    let segments = || CheckOptions { max_seconds: Some(600), ..CheckOptions::default() };
    let archives = || CheckOptions { archives: true, ..CheckOptions::default() };
    for options in [segments(), archives(), CheckOptions::default()] {
        let report = world.check(options).await;
        succeeded(&report);
        assert_eq!(report.check, Some(CheckResult { finished: true, ..CheckResult::default() }), "{report:#?}");
    }
    flip(&world);
    let before = bytes(&world);
    let report = world.check(segments()).await;
    expect(&report, RunPhase::Failed, Some(Reason::RepositoryCorrupted), &["is damaged", "segment"]);
    assert_eq!((report.check, bytes(&world)), (None, before));
    expect(&world.check(segments()).await, RunPhase::Failed, Some(Reason::RepositoryCorrupted), &[]);
    flip(&world);
    succeeded(&world.check(segments()).await);
    world.repository.expected_id = Some("f".repeat(64));
    expect(&world.check(segments()).await, RunPhase::Failed, Some(Reason::RepositoryReplaced), &[]);
}

#[tokio::test]
async fn the_content_of_an_archive_is_read_and_a_flipped_bit_found_in_it() {
    let mut world = World::ssh();
    noise(&world, 3);
    let made = world.archive().await;
    succeeded(&made);
    world.know_the_repository();
    let (name, id) = (world.archive_name(), made.archive.map(|archive| archive.id));
    let read = || CheckOptions { read: Some(name.clone()), max_seconds: Some(600), ..CheckOptions::default() };
    let whole = || CheckOptions { archives: true, verify_data: Some("today".into()), ..CheckOptions::default() };
    let before = bytes(&world);
    for (options, finished) in [(read(), true), (whole(), true), (CheckOptions { max_seconds: Some(0), ..read() }, false)] {
        let archive_id = options.read.as_ref().and(id.clone());
        let report = world.check(options).await;
        succeeded(&report);
        assert_eq!(report.check, Some(CheckResult { finished, position: 0, archive_id }), "{report:#?}");
    }
    assert_eq!(bytes(&world), before, "nothing is written");
    flip(&world);
    expect(&world.check(read()).await, RunPhase::Failed, Some(Reason::RepositoryCorrupted), &["is damaged"]);
    expect(&world.check(whole()).await, RunPhase::Failed, Some(Reason::RepositoryCorrupted), &["is damaged"]);
    flip(&world);
    succeeded(&world.check(read()).await);
    let gone = CheckOptions { read: Some("shop_db_2000-01-01T00-00-00Z".into()), ..CheckOptions::default() };
    expect(&world.check(gone).await, RunPhase::Failed, Some(Reason::ArchiveNotFound), &["shop_db_2000"]);
}
