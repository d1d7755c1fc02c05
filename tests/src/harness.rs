//! Runs one test: locks, namespace, body, leak check, dump on failure, clean-up.
//!
//! Invariant: the namespace and what the test left in the storage are removed whether it passed or not, and an error of
//! the clean-up fails a test that passed.

use crate::world::World;
use crate::{dump, leak, settings::Settings};
use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::time::{Duration, Instant};

/// No test takes longer than this, whatever it waits for.
const TEST_DEADLINE: Duration = Duration::from_mins(15);

/// Runs a test beside others. `name` is that of the test function: namespace and dump are named by it.
pub fn test(name: &str, body: impl AsyncFnOnce(&World) -> Result<()>) -> Result<()> {
    run(name, false, body)
}

/// Runs a test while no other runs: for those that kill or reconfigure what all tests share.
pub fn exclusive(name: &str, body: impl AsyncFnOnce(&World) -> Result<()>) -> Result<()> {
    run(name, true, body)
}

fn run(name: &str, alone: bool, body: impl AsyncFnOnce(&World) -> Result<()>) -> Result<()> {
    let settings = Settings::from_env();
    let lock = lock(&settings, alone)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let began = Instant::now();
    let result = runtime.block_on(within(name, settings, body));
    eprintln!("{name} took {:.1} s", began.elapsed().as_secs_f64());
    drop(lock);
    result
}

/// Tests of several processes share the cluster, so the lock is a file: one for each cluster.
fn lock(settings: &Settings, alone: bool) -> Result<File> {
    let folder = settings.root.join("target");
    std::fs::create_dir_all(&folder)?;
    let cluster = settings.cluster_state.file_name().unwrap_or_default().to_string_lossy();
    let path = folder.join(format!("e2e-{cluster}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if alone {
        file.lock()?;
    } else {
        file.lock_shared()?;
    }
    Ok(file)
}

async fn within(name: &str, settings: Settings, body: impl AsyncFnOnce(&World) -> Result<()>) -> Result<()> {
    let keep = settings.keep;
    let world = World::create(name, settings).await?;
    let outcome = tokio::time::timeout(TEST_DEADLINE, body(&world))
        .await
        .unwrap_or_else(|_| Err(anyhow!("the test did not end within {TEST_DEADLINE:?}")));
    let outcome = match outcome {
        Ok(()) => leak::none(&world).await.context("the test itself passed"),
        Err(error) => Err(error),
    };
    if let Err(error) = &outcome {
        let folder = dump::write(&world, error).await;
        eprintln!("{name} failed; the state of its namespace and of Borgherd is in {}", folder.display());
    }
    if keep {
        return outcome;
    }
    let cleaned = leak::remove(&world).await.context("clean-up after the test");
    outcome.and(cleaned)
}
