//! SIGKILL of the controller before and after each write and each command of a freeze, by commands and by a session.
//!
//! As in `controller_kills` the turnstile stops it exactly there. What freezes and thaws writes that down itself, inside the pod.

use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{Backup, BackupPhase, Release};
use borgherd_api::names::DEBT_FINALIZER;
use borgherd_e2e::{App, Claim, Cluster, DEADLINE, Running, Turnstile, World, exclusive, until_polled};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};

const PROGRAM: &str = "/usr/local/bin/borgherd-controller";
const HOOKS: &str =
    "- pre: {in: pod/app, command: [sh, -c, 'echo freeze >>/tmp/log']}\n  post: {command: [sh, -c, 'echo thaw >>/tmp/log']}\n";

/// Its end is the controller's, if nothing else is.
const SESSION: &str =
    "- pre: {in: pod/app, command: [sh, -c, 'echo freeze >>/tmp/log; echo ready; cat; echo thaw >>/tmp/log']}\n  session: true\n";

/// Where it is killed.
struct Point {
    name: &'static str,
    /// What the turnstile refuses, one after the other; APP stands for the namespace. Killed at the last.
    refused: &'static [&'static [&'static str]],
    /// What the pod has written down by then.
    log: &'static [&'static str],
    then: Then,
}

/// What the next controller makes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The backup goes on to its end.
    GoesOn,
    /// It goes on, or the freeze has reached its limit while nobody led.
    GoesOnInTime,
    /// Nobody knows how the pre hook ended.
    Interrupted,
    /// The session ended with the controller, before the end of the freeze was claimed.
    Lost,
    /// There was no session yet, and nobody knows that.
    NotBegun,
}

const fn point(name: &'static str, refused: &'static [&'static [&'static str]], log: &'static [&'static str], then: Then) -> Point {
    Point { name, refused, log, then }
}

const POINTS: [Point; 12] = [
    point("debt not written", &[&["freeze planned"]], &[], Then::GoesOn),
    point("debt written, pre hook not claimed", &[&["freeze claimed"]], &[], Then::GoesOn),
    point(
        "pre hook claimed, not run",
        &[&["freeze claimed"], &["CONNECT pods APP", "freeze ended", "freeze Thawing"]],
        &[],
        Then::Interrupted,
    ),
    point("pre hook run, its end not written", &[&["freeze ended", "freeze Thawing"]], &["freeze"], Then::Interrupted),
    point("its end written, not held", &[&["freeze Frozen"]], &["freeze"], Then::GoesOn),
    point("held, no snapshot", &[&["CREATE volumesnapshots APP"]], &["freeze"], Then::GoesOnInTime),
    point("snapshot, not written", &[&["backups Cutting"]], &["freeze"], Then::GoesOnInTime),
    point("cut, end of the freeze not claimed", &[&["freeze Thawing"]], &["freeze"], Then::GoesOnInTime),
    point("end claimed, post hook not run", &[&["freeze Thawing"], &["CONNECT pods APP", "freeze paid"]], &["freeze"], Then::GoesOn),
    point("post hook run, its end not written", &[&["freeze paid"]], &["freeze", "thaw"], Then::GoesOn),
    point("paid, not said to be thawed", &[&["freeze Thawed"]], &["freeze", "thaw"], Then::GoesOn),
    point("thawed, cut not recorded", &[&["UPDATE volumesnapshots APP"]], &["freeze", "thaw"], Then::GoesOn),
];

const OF_SESSION: [Point; 7] = [
    point("session's debt written, not claimed", &[&["freeze claimed"]], &[], Then::GoesOn),
    point(
        "session claimed, not begun",
        &[&["freeze claimed"], &["CONNECT pods APP", "freeze ended", "freeze Thawing"]],
        &[],
        Then::NotBegun,
    ),
    point("session begun, not written", &[&["freeze ended", "freeze Thawing"]], &["freeze"], Then::Interrupted),
    point("session written, not held", &[&["freeze Frozen"]], &["freeze"], Then::Lost),
    point("session held, no snapshot", &[&["CREATE volumesnapshots APP"]], &["freeze"], Then::Lost),
    point("session held, snapshot not written", &[&["backups Cutting"]], &["freeze"], Then::Lost),
    point("session held, cut, end not claimed", &[&["freeze Thawing"]], &["freeze"], Then::Lost),
];

#[test]
fn quiesce_a_controller_killed_at_each_step_of_a_freeze_leaves_the_application_thawed() -> Result<()> {
    exclusive("quiesce_a_controller_killed_at_each_step_of_a_freeze_leaves_the_application_thawed", async |w: &World| {
        walk(w, HOOKS, &POINTS).await
    })
}

#[test]
fn quiesce_a_controller_killed_at_each_step_of_a_session_leaves_the_application_thawed() -> Result<()> {
    exclusive("quiesce_a_controller_killed_at_each_step_of_a_session_leaves_the_application_thawed", async |w: &World| {
        walk(w, SESSION, &OF_SESSION).await
    })
}

async fn walk(w: &World, hooks: &str, points: &[Point]) -> Result<()> {
    let Some(cluster) = w.cluster() else {
        return w.skip("needs the project's own cluster");
    };
    w.claim(Claim::new("data").annotation("hooks", hooks)).await?;
    let app = w.app(App::new("app").mount("data", "/data")).await?;
    w.turnstile(async |turnstile: &Turnstile| {
        for point in points {
            let died = Box::pin(die_at(w, &cluster, turnstile, &app, hooks, point)).await;
            died.with_context(|| format!("at the point '{}'", point.name))?;
        }
        Ok(())
    })
    .await
}

async fn log(app: &Running) -> Result<Vec<String>> {
    Ok(app.sh("cat /tmp/log 2>/dev/null || true").await?.lines().map(str::to_owned).collect())
}

async fn snapshots(w: &World) -> Result<Vec<String>> {
    Ok(w.api::<VolumeSnapshot>().list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect())
}

/// Makes a Backup and lets its controller, in `pod`, come to a point: what is refused, one after the other. The Backup's name.
pub(super) async fn stand(w: &World, turnstile: &Turnstile<'_>, pod: &Pod, point: &str, refused: &[&[&str]]) -> Result<String> {
    let mut name = None;
    for (index, refused) in refused.iter().enumerate() {
        let sign = format!("{point} ({index})");
        let refused: Vec<String> = refused.iter().map(|what| what.replace("APP", &w.namespace)).collect();
        turnstile.close(&sign, &refused).await?;
        if name.is_none() {
            name = Some(w.backup_as(&["data"], false).await?);
        }
        let stands = async || Ok(turnstile.has_refused(&pod.name_any(), &sign).await?.then_some(()));
        until_polled(&format!("the controller is there: {refused:?}"), DEADLINE, stands).await?;
    }
    name.context("nothing is refused at this point")
}

/// A Backup of its own, whose controller is killed at `point`.
async fn die_at(w: &World, cluster: &Cluster, turnstile: &Turnstile<'_>, app: &Running, hooks: &str, point: &Point) -> Result<()> {
    app.sh("rm -f /tmp/log").await?;
    let before = snapshots(w).await?;
    let pod = w.controller().await?;
    let name = stand(w, turnstile, &pod, point.name, point.refused).await?;
    let node = cluster.node(pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).context("no node")?);
    let uid = pod.uid().unwrap_or_default();
    let killed = node.kill(&uid, PROGRAM, "KILL").await?;
    let written = log(app).await?;
    turnstile.open().await?;
    // a session has ended meanwhile
    let as_told = if hooks == SESSION { written.first().map(String::as_str) == point.log.first().copied() } else { written == point.log };
    ensure!(as_told, "when the controller was killed the pod had written {written:?}, it should have been {:?}", point.log);
    let back = async || Ok(node.pids(&uid, PROGRAM).await?.iter().any(|pid| !killed.contains(pid)).then_some(()));
    until_polled("the kubelet has started the controller again", DEADLINE, back).await?;

    w.backup_ended(&name).await?;
    let let_go = async || Ok(Some(w.api::<Backup>().get(&name).await?).filter(|b| !b.finalizers().iter().any(|f| f == DEBT_FINALIZER)));
    let backup = until_polled("the Backup is let go", DEADLINE, let_go).await?;
    let made = async || anyhow::Ok(snapshots(w).await?.into_iter().filter(|s| !before.contains(s)).collect::<Vec<_>>());
    if point.then == Then::Lost {
        until_polled("its snapshot is gone", DEADLINE, async || Ok(made().await?.is_empty().then_some(()))).await?;
    }
    let made = made().await?;
    is_expected(point, &backup, &made, &log(app).await?)?;
    drop(w.api::<Backup>().delete(&name, &DeleteParams::default()).await?);
    Ok(())
}

fn is_expected(point: &Point, backup: &Backup, made: &[String], log: &[String]) -> Result<()> {
    let status = backup.status.clone().unwrap_or_default();
    let quiesce = status.quiesce.clone().unwrap_or_default();
    let about = || format!("{made:?} were made, the pod wrote {log:?}, and {status:#?}");
    let last = |word: &str| log.iter().rposition(|w| w == word);
    let is_over = if point.then == Then::NotBegun { log.is_empty() } else { last("thaw") > last("freeze") };
    ensure!(is_over, "it is not thawed: {}", about());
    ensure!(log.iter().filter(|w| *w == "freeze").count() <= 1, "it was frozen twice: {}", about());
    ensure!(quiesce.debts() == 0, "something is owed: {}", about());
    let succeeded = status.phase == BackupPhase::Succeeded
        && status.volumes.iter().all(|v| v.quiesced == Some(true))
        && quiesce.release == Some(Release::Cut)
        && made.len() == 1;
    let failed = |reason| status.phase == BackupPhase::Failed && status.reason == Some(reason) && made.is_empty();
    let expected = match point.then {
        Then::GoesOn => succeeded,
        Then::GoesOnInTime => succeeded || failed(Reason::FreezeLimit),
        Then::Interrupted | Then::NotBegun => failed(Reason::Interrupted),
        Then::Lost => failed(Reason::HookFailed),
    };
    ensure!(expected, "{}", about());
    Ok(())
}
