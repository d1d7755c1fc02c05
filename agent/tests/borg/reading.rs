//! The content of an archive read in pieces: each goes on where the one before ended, and nothing is left out, whatever files are called.

use super::world::{World, expect, succeeded};
use borgherd_api::Reason;
use borgherd_api::crd::{CheckOptions, CheckResult, Encryption, RunPhase};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Names of files, and whether a file of patterns can name them.
const NAMES: [(&[u8], bool); 18] = [
    (b"plain", true),
    (b"#number", true),
    (b"pp:plain", true),
    (b"*", true),
    (b"[a]?{b}", true),
    (b" blank before", true),
    (b"it's", true),
    (b"sub/deep/file", true),
    (b"no-utf-8-?", true),
    (b"no-utf-8-\xff", false),
    (b"new\nline", false),
    (b"cr\rpp:plain", false),
    (b"trailing ", false),
    (b"trailing\xc2\xa0", false),
    (b"back\\slash", false),
    (b"both'\"", false),
    (b"sub/\x01", false),
    // has a link that cannot be named
    ("é".as_bytes(), false),
];

/// More files, so that there is something to read in pieces.
const FILLERS: usize = 15;

/// Stands at the head of a file's content, and nowhere else.
fn marker(n: usize) -> Vec<u8> {
    format!("this is the content of file {n}.").into_bytes()
}

/// Bytes of a file, by which it is found in a list.
fn size(n: usize) -> usize {
    1000 + n
}

/// Files of these names; their content stands in the repository as it is.
async fn archived(world: &mut World) {
    world.repository.encryption = Encryption::None;
    world.compression = Some("none".to_owned());
    fs::create_dir_all(world.volume.join("sub/deep")).unwrap();
    fs::remove_file(world.volume.join("file")).unwrap();
    for (n, (name, _)) in NAMES.iter().enumerate() {
        let mut content = marker(n);
        content.resize(size(n), b'.');
        fs::write(world.volume.join(OsStr::from_bytes(name)), content).unwrap();
    }
    for n in 0..FILLERS {
        fs::write(world.volume.join(format!("filler-{n}")), format!("filler {n}")).unwrap();
    }
    fs::hard_link(world.volume.join("plain"), world.volume.join("link")).unwrap();
    fs::hard_link(world.volume.join("é"), world.volume.join("li\nnk")).unwrap();
    succeeded(&world.archive().await);
    world.know_the_repository();
}

/// Where a file stands in the archive; of one with links, the first.
fn index(world: &World, n: usize) -> u64 {
    sizes(world).iter().zip(0..).find_map(|(one, index)| (*one == size(n)).then_some(index)).unwrap()
}

/// Of the archive's items, in its order.
fn sizes(world: &World) -> Vec<usize> {
    let archive = format!("{}::{}", world.repository_folder().display(), world.archive_name());
    let mut list = world.tool_command(&["list", "--format={size}{NL}", &archive]);
    let output = list.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|size| size.parse().unwrap()).collect()
}

/// Turns one bit of a file's content in the repository; twice, and it is as before.
fn flip(world: &World, n: usize) {
    let text = marker(n);
    for segment in fs::read_dir(world.repository_folder().join("data/0")).unwrap() {
        let path = segment.unwrap().path();
        let mut content = fs::read(&path).unwrap();
        if let Some(at) = content.windows(text.len()).position(|window| window == text) {
            content[at + text.len()] ^= 1;
            return fs::write(&path, content).unwrap();
        }
    }
    panic!("file {n} is in no segment");
}

/// Borg's id of the archive.
fn id(world: &World) -> String {
    let mut list = world.tool_command(&["list", "--format={id}", &world.repository_folder().display().to_string()]);
    let output = list.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn read(world: &World, after: u64) -> CheckOptions {
    let (read, archive_id) = (Some(world.archive_name()), Some(id(world)));
    CheckOptions { read, after, archive_id, max_seconds: Some(600), ..CheckOptions::default() }
}

fn patterns(world: &World) -> bool {
    world.state().join("read-before").exists()
}

const CORRUPTED: (RunPhase, Option<Reason>) = (RunPhase::Failed, Some(Reason::RepositoryCorrupted));

#[tokio::test]
async fn what_was_read_is_passed_over_and_what_cannot_be_named_is_read_again() {
    let mut world = World::sandboxed();
    archived(&mut world).await;
    let all = 1000;
    let (named, again): (Vec<usize>, Vec<usize>) = (0..NAMES.len()).partition(|n| NAMES[*n].1);
    for n in &named {
        flip(&world, *n);
    }
    let report = world.check(read(&world, all)).await;
    succeeded(&report);
    assert_eq!(report.check, Some(CheckResult { finished: true, position: 0, archive_id: Some(id(&world)) }));
    assert!(report.log.iter().all(|line| !line.contains("no-utf-8")), "names of files: {report:#?}");
    let next = index(&world, named[0]);
    let report = world.check(read(&world, next)).await;
    assert_eq!((report.phase, report.reason, &report.check), (CORRUPTED.0, CORRUPTED.1, &None), "the next is damaged: {report:#?}");
    for n in named {
        flip(&world, n);
    }
    for n in again {
        flip(&world, n);
        let report = world.check(read(&world, all)).await;
        assert_eq!((report.phase, report.reason), CORRUPTED, "{}: {report:#?}", NAMES[n].0.escape_ascii());
        assert!(!patterns(&world), "a file is left");
        flip(&world, n);
    }
}

#[tokio::test]
async fn another_archive_of_the_name_is_read_from_its_beginning() {
    let mut world = World::new();
    archived(&mut world).await;
    // read to the end
    let before = read(&world, sizes(&world).len() as u64);
    let (named, _) = NAMES.iter().enumerate().find(|(_, (_, can_be_named))| *can_be_named).unwrap();
    flip(&world, named);
    succeeded(&world.check(before.clone()).await);
    flip(&world, named);
    let archive = format!("{}::{}", world.repository_folder().display(), world.archive_name());
    let mut recreate = world.tool_command(&["recreate", "--exclude=*filler-1*", &archive]);
    let output = recreate.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_ne!(before.archive_id, Some(id(&world)));
    let report = world.check(before.clone()).await;
    succeeded(&report);
    assert_eq!(report.check, Some(CheckResult { finished: true, position: 0, archive_id: Some(id(&world)) }));
    flip(&world, named);
    for unknown in [before.archive_id.clone(), None] {
        let report = world.check(CheckOptions { archive_id: unknown, ..before.clone() }).await;
        assert_eq!((report.phase, report.reason), CORRUPTED, "{report:#?}");
    }
    succeeded(&world.check(read(&world, before.after)).await);
}

/// Begins to read; after so many items borg stands still, as if the next one were very large.
fn stand_still(world: &mut World, items: u64) {
    let stands = world.path("stands");
    world.change_borg(&format!(
        "import logging, time
items = 0
def stand(record):
    global items
    items += 1
    if items > {items}:
        open('{}', 'w').close()
        time.sleep(600)
    return True
logging.getLogger('borg.output.list').addFilter(stand)
",
        stands.display()
    ));
}

/// Reads to the end, or to what is damaged, in pieces of a few seconds. Where each ended, and how the last one did.
async fn in_pieces(world: &World) -> (Vec<u64>, (RunPhase, Option<Reason>)) {
    let (mut ends, mut after) = (Vec::new(), 0);
    for _ in 0..30 {
        let report = world.check(CheckOptions { max_seconds: Some(3), ..read(world, after) }).await;
        let last = (report.phase, report.reason);
        assert!(!patterns(world), "a file is left");
        match report.check {
            Some(CheckResult { finished: false, position, archive_id: Some(_) }) if last == (RunPhase::Succeeded, None) => {
                assert!(position >= after, "{report:#?}");
                after = position;
                ends.push(position);
            }
            Some(CheckResult { finished, .. }) => {
                assert!(finished, "{report:#?}");
                return (ends, last);
            }
            None => return (ends, last),
        }
    }
    panic!("it does not come to the end: {ends:?}");
}

#[tokio::test]
async fn an_archive_is_read_to_its_end_in_pieces_and_damage_is_found_in_the_last() {
    let mut world = World::new();
    archived(&mut world).await;
    let sizes = sizes(&world);
    let last = (0..NAMES.len()).max_by_key(|n| index(&world, *n)).unwrap();
    let again = NAMES.iter().filter(|(_, can_be_named)| !can_be_named).count() + 1;
    stand_still(&mut world, again as u64 + 3);
    let (ends, outcome) = in_pieces(&world).await;
    assert_eq!(outcome, (RunPhase::Succeeded, None));
    assert!(ends.len() >= 2 && ends.iter().all(|end| *end < sizes.len() as u64), "{ends:?} of {}", sizes.len());
    flip(&world, last);
    let (damaged, outcome) = in_pieces(&world).await;
    assert_eq!(outcome, CORRUPTED);
    assert!(!damaged.is_empty() && damaged.iter().all(|end| *end <= index(&world, last)), "{damaged:?}");
}

#[tokio::test]
async fn a_piece_that_meets_its_runs_deadline_says_what_it_has_read() {
    let mut world = World::new();
    archived(&mut world).await;
    stand_still(&mut world, 6);
    world.deadline = chrono::Utc::now() + Duration::from_secs(15);
    let report = world.check(read(&world, 0)).await;
    succeeded(&report);
    let read_before = |check: &CheckResult| !check.finished && (5..sizes(&world).len() as u64).contains(&check.position);
    assert!(report.check.as_ref().is_some_and(read_before), "{report:#?}");
    world.deadline = chrono::Utc::now() + Duration::from_secs(5);
    let report = world.check(CheckOptions { max_seconds: None, ..read(&world, 0) }).await;
    expect(&report, RunPhase::Failed, Some(Reason::DeadlineExceeded), &[]);
    assert_eq!(report.check, None, "no piece was asked for");
}

#[tokio::test]
async fn a_piece_that_comes_no_further_says_so_and_an_interrupted_one_nothing() {
    let mut world = World::new();
    archived(&mut world).await;
    stand_still(&mut world, 1);
    let begun = world.begin();
    let cancel = async {
        while !Path::new(&world.path("stands")).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.cancel.cancel();
    };
    let operation = borgherd_api::crd::Operation::Check(read(&world, 3));
    let (report, ()) = tokio::join!(begun.finish(&world, operation), cancel);
    expect(&report, RunPhase::Interrupted, Some(Reason::Interrupted), &[]);
    assert_eq!(report.check, None);
    assert!(!patterns(&world), "a file is left");
    let here = index(&world, 1);
    let report = world.check(CheckOptions { max_seconds: Some(0), ..read(&world, here) }).await;
    succeeded(&report);
    assert_eq!(report.check, Some(CheckResult { finished: false, position: here, archive_id: Some(id(&world)) }));
}
