//! Slots with real lock files, threads and processes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

use borgherd_agent::slot::{Identity, Slot, Slots, repository_lock};
use chrono::{DateTime, Utc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// So long is waited for what must happen; nothing that must not happen is concluded from it.
const PATIENCE: Duration = Duration::from_secs(20);

fn at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn identity() -> Identity {
    Identity { pid: std::process::id(), started: at(), boot_id: "boot".to_owned(), clock: at }
}

fn slots(dir: &Path, count: usize) -> Slots {
    Slots::open(dir, count, identity(), StdRng::seed_from_u64(7)).unwrap()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

/// Another program that locks a slot's file with flock(1) until it is killed.
struct Foreigner(Child);

impl Foreigner {
    fn lock(file: &Path) -> Self {
        let mut child = Command::new("flock")
            .arg("--no-fork")
            .arg(file)
            .args(["sh", "-c", "echo locked; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said).unwrap();
        assert_eq!(said, "locked\n");
        Self(child)
    }
}

impl Drop for Foreigner {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn is_free(file: &Path) -> bool {
    Command::new("flock").arg("--nonblock").arg(file).arg("true").status().unwrap().success()
}

/// Until the kernel lists a process that blocks for the lock of what `file` is now.
async fn somebody_waits_for(file: &Path) {
    let inode = format!(":{} ", fs::metadata(file).unwrap().ino());
    let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_never_overlap_in_one_slot() {
    let dir = TempDir::new().unwrap();
    // Two agents, as during a rolling update: what excludes them is the file, not the process.
    let agents = [Arc::new(slots(dir.path(), 1)), Arc::new(slots(dir.path(), 1))];
    let (inside, most, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (slots, inside, most, done) = (agents[task % 2].clone(), inside.clone(), most.clone(), done.clone());
            tokio::spawn(async move {
                for _ in 0..25 {
                    let slot = slots.acquire("run").await.unwrap();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(slot);
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    assert_eq!((most.load(Ordering::SeqCst), done.load(Ordering::SeqCst)), (1, 400));
    assert_eq!((agents[0].in_use(), agents[0].waiting()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_at_once_as_there_are_slots_and_each_its_own() {
    let dir = TempDir::new().unwrap();
    let slots = slots(dir.path(), 3);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(soon(slots.acquire("run")).await.unwrap());
    }
    let mut numbers: Vec<usize> = held.iter().map(Slot::number).collect();
    numbers.sort_unstable();
    assert_eq!((numbers, slots.in_use(), slots.count()), (vec![1, 2, 3], 3, 3));
    let mut fourth = Box::pin(slots.acquire("fourth"));
    assert!(futures::poll!(fourth.as_mut()).is_pending());
    let freed = held.swap_remove(1);
    let number = freed.number();
    drop(freed);
    assert_eq!(soon(fourth).await.unwrap().number(), number, "whichever frees first serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_holder_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let slots = slots(dir.path(), 1);
    let foreigner = Foreigner::lock(&dir.path().join("1.lock"));
    let mut waiting = Box::pin(slots.acquire("run"));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    assert_eq!((slots.in_use(), slots.waiting()), (0, 1));
    drop(foreigner);
    let slot = soon(waiting).await.unwrap();
    assert!(!is_free(&dir.path().join("1.lock")), "now the foreigner would have to wait");
    drop(slot);
    assert!(is_free(&dir.path().join("1.lock")));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_slots_the_free_one_is_taken_at_once() {
    let dir = TempDir::new().unwrap();
    let slots = slots(dir.path(), 2);
    for (foreign, free) in [("1.lock", 2), ("2.lock", 1)] {
        let foreigner = Foreigner::lock(&dir.path().join(foreign));
        for _ in 0..20 {
            let mut acquire = Box::pin(slots.acquire("run"));
            let std::task::Poll::Ready(slot) = futures::poll!(acquire.as_mut()) else { panic!("it waited") };
            assert_eq!(slot.unwrap().number(), free);
        }
        drop(foreigner);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_slot_is_not_always_the_same() {
    let dir = TempDir::new().unwrap();
    let slots = slots(dir.path(), 4);
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..100 {
        first.insert(slots.acquire("run").await.unwrap().number());
    }
    assert_eq!(first.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_first_is_served_first() {
    let dir = TempDir::new().unwrap();
    let slots = Arc::new(slots(dir.path(), 1));
    let held = slots.acquire("first").await.unwrap();
    let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..50 {
        let (ours, sender) = (slots.clone(), sender.clone());
        let ahead = slots.waiting();
        tokio::spawn(async move {
            let slot = ours.acquire("run").await.unwrap();
            sender.send(number).unwrap();
            drop(slot);
        });
        while slots.waiting() == ahead {
            tokio::task::yield_now().await;
        }
    }
    drop(held);
    for number in 0..50 {
        assert_eq!(soon(order.recv()).await, Some(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_keeps_nobody_waiting_and_no_lock() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("1.lock");
    let slots = slots(dir.path(), 1);
    let foreigner = Foreigner::lock(&file);
    let mut gives_up = Box::pin(slots.acquire("gives up"));
    let mut waits = Box::pin(slots.acquire("waits"));
    assert!(futures::poll!(gives_up.as_mut()).is_pending() && futures::poll!(waits.as_mut()).is_pending());
    drop(gives_up);
    assert_eq!(slots.waiting(), 1);
    drop(foreigner);
    drop(soon(waits).await.unwrap());

    let foreigner = Foreigner::lock(&file);
    let mut last = Box::pin(slots.acquire("gives up too"));
    assert!(futures::poll!(last.as_mut()).is_pending());
    drop(last);
    drop(foreigner);
    // The thread that still blocks gets the lock now and must let go: a blocking flock gets through.
    let status = tokio::process::Command::new("flock").arg(&file).arg("true").status();
    assert!(soon(status).await.unwrap().success());
    assert_eq!((slots.in_use(), slots.waiting()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_that_a_child_has_keeps_the_slot() {
    let dir = TempDir::new().unwrap();
    let slots = slots(dir.path(), 1);
    let slot = slots.acquire("run").await.unwrap();
    let stdin = Stdio::from(slot.try_clone().unwrap());
    let mut child = Command::new("sleep").arg("1000").stdin(stdin).spawn().unwrap();
    drop(slot);
    assert_eq!(slots.in_use(), 0);
    assert!(!is_free(&dir.path().join("1.lock")));
    let mut next = Box::pin(slots.acquire("next"));
    assert!(futures::poll!(next.as_mut()).is_pending());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(soon(next).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_lock_file_does_not_make_two_slots_of_one() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("1.lock");
    let slots = slots(dir.path(), 1);
    let foreigner = Foreigner::lock(&file);
    let mut waiting = Box::pin(slots.acquire("run"));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    soon(somebody_waits_for(&file)).await;
    fs::remove_file(&file).unwrap();
    let second = Foreigner::lock(&file);
    drop(foreigner);
    // The waiting thread gets the lock of a file that is not there any more; it must queue for the new one.
    soon(somebody_waits_for(&file)).await;
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    drop(second);
    drop(soon(waiting).await.unwrap());
}

#[tokio::test]
async fn the_file_names_its_holder() {
    let dir = TempDir::new().unwrap();
    let slots = slots(dir.path(), 1);
    drop(slots.acquire("a-very-long-name-of-a-run-that-was-here-before").await.unwrap());
    let slot = slots.acquire("bh-0123-1").await.unwrap();
    let text = fs::read_to_string(dir.path().join("1.lock")).unwrap();
    let pid = std::process::id();
    let start = format!(
        "holder: bh-0123-1\nsince: 1970-01-01T00:00:00+00:00\npid: {pid}\npid started: 1970-01-01T00:00:00+00:00\nboot id: boot\n("
    );
    assert!(text.starts_with(&start), "{text}");
    drop(slot);
}

#[tokio::test]
async fn what_cannot_be_is_said() {
    let dir = TempDir::new().unwrap();
    let none = Slots::open(dir.path(), 0, identity(), StdRng::seed_from_u64(7)).unwrap_err();
    assert_eq!(none.to_string(), "the number of slots must be at least 1");
    let slots = slots(dir.path(), 1);
    fs::create_dir(dir.path().join("1.lock")).unwrap();
    let error = slots.acquire("run").await.unwrap_err().to_string();
    assert!(error.starts_with("cannot open ") && error.contains("1.lock") && error.contains("directory"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_repository_has_one_lock_whoever_asks() {
    let dir = TempDir::new().unwrap();
    let lock = |location: &'static str| {
        let dir = dir.path().to_owned();
        async move { repository_lock(&dir, location, "run", identity()).await }
    };
    let one = soon(lock("ssh://nas/./one")).await.unwrap();
    let other = soon(lock("ssh://nas/./other")).await.unwrap();
    let mut gives_up = Box::pin(lock("ssh://nas/./one"));
    let mut again = Box::pin(lock("ssh://nas/./one"));
    assert!(futures::poll!(gives_up.as_mut()).is_pending() && futures::poll!(again.as_mut()).is_pending());
    drop(gives_up);
    drop(other);
    let inherited = one.try_clone().unwrap();
    drop(one);
    assert!(futures::poll!(again.as_mut()).is_pending(), "a sandbox still has it");
    drop(inherited);
    soon(again).await.unwrap();
    let texts: Vec<String> = fs::read_dir(dir.path()).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(texts.len(), 2);
    assert!(texts.iter().any(|text| text.contains("holder: run ssh://nas/./other\n")), "{texts:?}");
}

/// Prints how long a slot takes from one run to the next; how long it may take is the benchmarks' business.
#[tokio::test(flavor = "multi_thread")]
async fn hand_over_latency() {
    let dir = TempDir::new().unwrap();
    let slots = Arc::new(slots(dir.path(), 1));
    let mut took = Vec::new();
    for _ in 0..1000 {
        let held = slots.acquire("one").await.unwrap();
        let next = tokio::spawn({
            let slots = slots.clone();
            async move { slots.acquire("next").await.map(|slot| (slot, Instant::now())).unwrap() }
        });
        while slots.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let released = Instant::now();
        drop(held);
        let (slot, got) = soon(next).await.unwrap();
        took.push(got - released);
        drop(slot);
    }
    took.sort_unstable();
    println!("slot hand-over: median {:?}, p99 {:?}, worst {:?}", took[500], took[990], took[999]);
    assert_eq!(took.len(), 1000);
}
