//! What is said in the end, whatever became of answers and of agents.

use super::super::fake::Fault;
use super::*;

#[tokio::test]
async fn a_run_is_claimed_executed_and_reported_in_few_requests() {
    let fake = Fake::new(vec![bare("a")]);
    let agent = start(&fake, Script::default());
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.agent), (RunPhase::Succeeded, Some(me())));
    assert!(status.queued_at <= status.started_at && status.started_at <= status.finished_at);
    assert_eq!((status.borg_seconds, status.log), (Some(0.5), vec!["a line".to_owned()]));
    assert_eq!(agent.stop().await, 1);
    assert_eq!(phases(&fake), [RunPhase::Running, RunPhase::Succeeded]);
    let requests = fake.state().requests.clone();
    assert!(requests.len() <= 5, "list, watch, two writes, one Secret: {requests:?}");
}

#[tokio::test]
async fn answers_lost_at_every_write_change_nothing() {
    let fake = Fake::new(vec![bare("a")]);
    fake.fail([Fault::AnswerLost, Fault::AnswerLost, Fault::AnswerLost, Fault::Unavailable]);
    let agent = start(&fake, Script::default());
    assert_eq!(agent.final_status("a").await.phase, RunPhase::Succeeded);
    assert_eq!(agent.stop().await, 1, "once");
    assert_eq!(phases(&fake), [RunPhase::Running, RunPhase::Succeeded]);
}

#[tokio::test]
async fn a_success_is_reported_when_the_api_server_is_back() {
    let fake = Fake::new(vec![bare("a")]);
    let running = Fault::Before(Box::new(|_| {}));
    fake.fail([running, Fault::Unavailable, Fault::Unavailable, Fault::Unavailable]);
    let agent = start(&fake, Script::default());
    assert_eq!(agent.final_status("a").await.phase, RunPhase::Succeeded);
    assert_eq!(agent.stop().await, 1);
}

#[tokio::test]
async fn a_report_that_is_refused_arrives_without_its_details() {
    let fake = Fake::new(vec![bare("a")]);
    let agent = start(&fake, Script { until_cancelled: true, ..Script::default() });
    fake.until(|fake| fake.status("a").progress.is_some()).await;
    fake.fail([Fault::Invalid]);
    agent.ctx.stop.cancel();
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.log.len()), (RunPhase::Interrupted, 0));
    assert!(status.message.unwrap().contains("refused"));
    agent.stop().await;
}

#[tokio::test]
async fn what_a_dead_agent_ran_is_interrupted_only_when_its_lock_is_free() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let lost = by(bare("a"), RunPhase::Running, agent("pod-1", "before"));
    let borg = lock_in(&dir, &lost).await;
    let fake = Fake::new(vec![lost.clone()]);
    let agent = start_in(dir, &fake, Script::default());
    // the agent works on others meanwhile, so it has seen this one
    let mut other = bare("b");
    other.spec.repository.location = "/repositories/other".to_owned();
    fake.state().put(other);
    assert_eq!(agent.final_status("b").await.phase, RunPhase::Succeeded);
    assert_eq!(fake.status("a"), lost.status.clone().unwrap(), "untouched while its borg may live");
    drop(borg);
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.reason), (RunPhase::Interrupted, Some(Reason::Interrupted)));
    assert_eq!(agent.ctx.metrics.lost_runs.get(), 1);
    assert_eq!(agent.stop().await, 1, "only b");
}

#[tokio::test]
async fn a_success_that_an_ending_agent_still_reports_stays_a_success() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let before = by(bare("a"), RunPhase::Running, agent("pod-0", "before"));
    let ending = lock_in(&dir, &before).await;
    let fake = Fake::new(vec![before.clone()]);
    let agent = start_in(dir, &fake, Script::default());
    fake.until(|fake| fake.state().requests.len() >= 2).await;
    fake.state().change("a", |run| *run = by(run.clone(), RunPhase::Succeeded, self::agent("pod-0", "before")));
    drop(ending);
    fake.until(|fake| fake.state().requests.iter().any(|request| request.ends_with("/a"))).await;
    let again = agent.lock(&before).await;
    assert_eq!(fake.status("a").phase, RunPhase::Succeeded);
    assert_eq!(agent.ctx.metrics.lost_runs.get(), 0);
    drop(again);
    assert_eq!(agent.stop().await, 0);
}

#[tokio::test]
async fn what_a_dead_agent_had_only_queued_is_taken_over() {
    let fake = Fake::new(vec![by(bare("a"), RunPhase::Queued, agent("pod-1", "before"))]);
    let agent = start(&fake, Script::default());
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.agent), (RunPhase::Succeeded, Some(me())));
    assert_eq!(agent.stop().await, 1);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_said() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut run = bare("a");
    run.spec.deadline = Utc::now() + chrono::TimeDelta::milliseconds(400);
    let foreign = lock_in(&dir, &run).await;
    let fake = Fake::new(vec![run]);
    let agent = start_in(dir, &fake, Script::default());
    let status = agent.final_status("a").await;
    assert_eq!((status.phase, status.reason), (RunPhase::Failed, Some(Reason::DeadlineExceeded)));
    assert_eq!(agent.ctx.metrics.queued.get(), 0);
    drop(foreign);
    assert_eq!(agent.stop().await, 0);
}
