//! From the claim through the queue to borg; deletion and the agent's end.

use super::super::example::at;
use super::super::fake::Fault;
use super::*;

#[tokio::test]
async fn a_claim_that_another_agent_wins_is_left_to_it() {
    let fake = Fake::new(vec![bare("a")]);
    let other = agent("pod-2", "x");
    fake.fail([Fault::Before(Box::new(|state| {
        state.change("a", |run| *run = by(run.clone(), RunPhase::Running, agent("pod-2", "x")));
    }))]);
    let ours = start(&fake, Script::default());
    fake.until(|fake| fake.state().requests.iter().any(|request| request.starts_with("GET") && request.ends_with("/a"))).await;
    assert_eq!(ours.stop().await, 0, "borg was not started");
    assert_eq!(fake.status("a").agent, Some(other));
    assert!(fake.state().written.is_empty());
}

#[tokio::test]
async fn a_conflict_about_something_else_does_not_stop_a_claim() {
    let fake = Fake::new(vec![bare("a")]);
    fake.fail([Fault::Before(Box::new(|state| {
        state.change("a", |run| {
            run.labels_mut().insert("a".to_owned(), "b".to_owned());
        });
    }))]);
    let agent = start(&fake, Script::default());
    assert_eq!(agent.final_status("a").await.phase, RunPhase::Succeeded);
    assert_eq!(agent.stop().await, 1);
}

#[tokio::test]
async fn a_run_that_waits_says_for_what_and_holds_no_slot() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let waits = bare("a");
    let foreign = lock_in(&dir, &waits).await;
    let fake = Fake::new(vec![waits]);
    let agent = start_in(dir, &fake, Script::default());
    fake.until(|fake| fake.status("a").phase == RunPhase::Queued).await;
    assert!(fake.status("a").message.unwrap().contains("repository's lock"));
    assert_eq!(agent.ctx.metrics.queued.get(), 1);
    let mut other = bare("b");
    other.spec.repository.location = "/repositories/other".to_owned();
    fake.state().put(other);
    assert_eq!(agent.final_status("b").await.phase, RunPhase::Succeeded);
    drop(foreign);
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.message), (RunPhase::Succeeded, None));
    assert_eq!(agent.ctx.metrics.queued.get(), 0);
    agent.stop().await;
}

#[tokio::test]
async fn one_slot_serves_by_creation() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let runs = [("c", "10:02"), ("a", "10:01"), ("b", "10:00")].map(|(name, time)| {
        let mut run = bare(name);
        run.spec.repository.location = format!("/repositories/{name}");
        let created = format!("\"2026-11-21T{time}:00Z\"");
        run.metadata.creation_timestamp = Some(serde_json::from_str(&created).unwrap());
        run
    });
    let foreign = slots(&dir.path().join("own").join("slots"), 1);
    let slot = foreign.acquire("another program").await.unwrap();
    let fake = Fake::new(runs.to_vec());
    let agent = start_in(dir, &fake, Script::default());
    let queued = |fake: &Fake| ["a", "b", "c"].iter().all(|name| fake.status(name).phase == RunPhase::Queued);
    fake.until(queued).await;
    drop(slot);
    for name in ["a", "b", "c"] {
        assert_eq!(agent.final_status(name).await.phase, RunPhase::Succeeded);
    }
    assert_eq!(*agent.script.order.lock().unwrap(), ["b", "a", "c"]);
    agent.stop().await;
}

#[tokio::test]
async fn deleting_a_run_interrupts_it_and_writes_nothing_more() {
    let fake = Fake::new(vec![bare("a")]);
    let agent = start(&fake, Script { until_cancelled: true, ..Script::default() });
    fake.until(|fake| fake.status("a").progress.is_some()).await;
    let run = fake.run("a");
    fake.state().delete("a");
    // its task lets the lock go in the end
    let lock = agent.lock(&run).await;
    drop(lock);
    assert_eq!(agent.stop().await, 1);
    assert_eq!(phases(&fake), [RunPhase::Running]);
}

#[tokio::test]
async fn a_run_that_is_gone_when_the_watch_begins_anew_is_interrupted_and_others_go_on() {
    let mut other = bare("b");
    other.spec.repository.location = "/repositories/other".to_owned();
    let fake = Fake::new(vec![bare("a")]);
    let agent = start(&fake, Script { until_cancelled: true, ..Script::default() });
    fake.until(|fake| fake.status("a").progress.is_some()).await;
    let run = fake.run("a");
    {
        let mut state = fake.state();
        state.forget_watches();
        state.delete("a");
        state.put(other);
    }
    drop(agent.lock(&run).await);
    fake.until(|fake| fake.status("b").phase == RunPhase::Running).await;
    assert_eq!(agent.stop().await, 2);
    assert_eq!(fake.status("b").phase, RunPhase::Interrupted);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_stops_nobody() {
    let fake = Fake::new(vec![bare("a")]);
    let strange = serde_json::json!({"metadata": {"name": "x", "uid": "uid-x"}, "spec": {"node": "n1", "operation": {"dance": {}}}});
    fake.state().strange.push(strange);
    let agent = start(&fake, Script::default());
    assert_eq!(agent.final_status("a").await.phase, RunPhase::Succeeded);
    assert_eq!(agent.ctx.metrics.invalid_runs.get(), 1);
    assert_eq!(agent.stop().await, 1);
}

#[tokio::test]
async fn an_agent_that_is_stopped_interrupts_and_says_so() {
    let fake = Fake::new(vec![bare("a"), bare("b")]);
    let agent = start(&fake, Script { until_cancelled: true, ..Script::default() });
    let one_runs_one_waits = |fake: &Fake| {
        let of = |phase| ["a", "b"].iter().filter(|name| fake.status(name).phase == phase).count();
        of(RunPhase::Running) == 1 && of(RunPhase::Queued) == 1
    };
    fake.until(one_runs_one_waits).await;
    assert_eq!(agent.stop().await, 1);
    for name in ["a", "b"] {
        let status = fake.status(name);
        assert_eq!((status.phase, status.reason), (RunPhase::Interrupted, Some(Reason::Interrupted)), "{name}");
        assert!(status.finished_at.is_some());
    }
}

#[tokio::test]
async fn what_is_missing_is_named_and_the_slot_is_free_again() {
    let mut no_secret = bare("a");
    no_secret.spec.repository.secret_ref = "other".to_owned();
    let mut no_key = bare("b");
    no_key.spec.repository.location = "ssh://borg@nas/./r".to_owned();
    let mut no_volume = run("c", "uid-c");
    no_volume.spec.deadline = at("2100-01-01T00:00:00Z");
    let fake = Fake::new(vec![no_secret, no_key, no_volume]);
    let agent = start(&fake, Script::default());
    for (name, reason, named) in [
        ("a", Reason::SecretNotFound, "Secret other"),
        ("b", Reason::SecretInvalid, "ssh-privatekey, known_hosts"),
        ("c", Reason::VolumeNotMounted, "pv"),
    ] {
        let status = agent.final_status(name).await;
        assert_eq!((status.phase, status.reason), (RunPhase::Failed, Some(reason)), "{name}");
        assert!(status.message.clone().unwrap().contains(named), "{name}: {:?}", status.message);
    }
    assert_eq!(agent.stop().await, 0);
}

/// A run of a live volume that is none, which waits for the controller's word.
fn live(name: &str) -> BorgRun {
    let mut run = bare(name);
    let mut archive = crate::run::example::run(name, "u").spec.operation;
    if let Operation::Archive(options) = &mut archive {
        options.live = Some(borgherd_api::crd::LiveOptions { patience: 60, ..Default::default() });
    }
    run.spec.operation = archive;
    run
}

#[tokio::test]
async fn a_live_run_is_ready_when_its_repository_is_made_and_not_before() {
    let fake = Fake::new(vec![live("a")]);
    let agent = start(&fake, Script::default());
    fake.until(|fake| fake.status("a").ready_at.is_some()).await;
    assert_eq!(*agent.script.order.lock().unwrap(), ["repository of a"]);
    fake.state().change("a", |run| {
        run.annotations_mut().insert(borgherd_api::names::GO.to_owned(), "2026-11-21T12:00:05+00:00".to_owned());
    });
    assert_eq!(agent.final_status("a").await.phase, RunPhase::Succeeded);
    assert_eq!(*agent.script.order.lock().unwrap(), ["repository of a", "a"]);
    assert_eq!(agent.stop().await, 1);
}

#[tokio::test]
async fn a_live_run_whose_repository_cannot_be_made_holds_nobody_still() {
    let fake = Fake::new(vec![live("a")]);
    let agent = start(&fake, Script { is_refused: true, ..Script::default() });
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.reason, status.ready_at), (RunPhase::Failed, Some(Reason::PassphraseWrong), None));
    assert_eq!(agent.stop().await, 0);
}
