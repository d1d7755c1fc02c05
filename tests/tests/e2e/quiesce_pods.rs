//! Pods that are deleted, or whose containers are restarted, while hooks hold them: nothing is owed to a pod that is gone, and nobody else is told in its place.

use super::quiesce::{application, quiesce, settled, snapshots};
use super::quiesce_ways::{deployed, is_frozen};
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{ActionResult, Backup, QuiescePhase, QuiesceStatus, Release};
use borgherd_e2e::{App, Cluster, DEADLINE, Running, World, test, until_polled};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

/// How long the application's pod takes for a freeze and for a thaw, in seconds.
fn hooks(freeze: u32, thaw: u32) -> String {
    format!(
        "- pre: {{in: pod/app, command: [sh, -c, 'echo freeze >>/tmp/log; sleep {freeze}']}}\n  \
         post: {{command: [sh, -c, 'echo thaw >>/tmp/log; sleep {thaw}']}}\n"
    )
}

async fn log(app: &Running) -> Result<String> {
    app.sh("cat /tmp/log 2>/dev/null || true").await
}

/// The pod is deleted, and another of the same name started.
async fn replaced(w: &World, app: Running) -> Result<Running> {
    let uid = app.uid.clone();
    app.stop().await?;
    let next = w.app(App::new("app").mount("data", "/data")).await?;
    ensure!(next.uid != uid, "the pod is still the one before");
    Ok(next)
}

/// At its end: every post is void, and the new pod was neither frozen nor thawed.
async fn is_owed_nothing(w: &World, name: &str, next: &Running) -> Result<QuiesceStatus> {
    let account = settled(w, name).await?;
    ensure!(account.hooks.iter().flat_map(|h| &h.post).all(|p| p.result == Some(ActionResult::Void)), "{account:#?}");
    ensure!(log(next).await?.is_empty(), "the pod that came after was told: {}", log(next).await?);
    Ok(account)
}

#[test]
fn quiesce_a_pod_deleted_during_its_pre_hook_makes_no_snapshot() -> Result<()> {
    test("quiesce_a_pod_deleted_during_its_pre_hook_makes_no_snapshot", async |w: &World| {
        let app = application(w, &hooks(20, 0), &[]).await?;
        let name = w.backup_as(&["data"], false).await?;
        until_polled("the pre hook runs", DEADLINE, async || Ok((log(&app).await? == "freeze").then_some(()))).await?;
        let next = replaced(w, app).await?;
        w.backup_failed(&name, Reason::HookFailed).await?;
        is_owed_nothing(w, &name, &next).await?;
        ensure!(snapshots(w).await? == 0, "there is a snapshot");
        Ok(())
    })
}

#[test]
fn quiesce_a_pod_deleted_during_its_post_hook_costs_nothing() -> Result<()> {
    test("quiesce_a_pod_deleted_during_its_post_hook_costs_nothing", async |w: &World| {
        let app = application(w, &hooks(0, 20), &[]).await?;
        let name = w.backup_as(&["data"], false).await?;
        until_polled("the post hook runs", DEADLINE, async || Ok((log(&app).await? == "freeze\nthaw").then_some(()))).await?;
        let next = replaced(w, app).await?;
        let volumes = w.backup_succeeded(&name).await?;
        ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "not quiesced: {volumes:#?}");
        is_owed_nothing(w, &name, &next).await?;
        Ok(())
    })
}

#[test]
fn quiesce_a_pod_deleted_while_its_session_lasts_makes_no_backup() -> Result<()> {
    test("quiesce_a_pod_deleted_while_its_session_lasts_makes_no_backup", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let session = "- {pre: {in: pod/app, command: [sh, -c, 'echo ready; cat']}, session: true}";
        let app = application(w, session, &[]).await?;
        let handle = w.volume_handle("data").await?;
        cluster.fail_for("CreateSnapshot", &handle, "not yet").await?;
        let name = w.backup_as(&["data"], false).await?;
        let api = w.api::<Backup>();
        let frozen = |b: &Backup| quiesce(b).is_ok_and(|q| q.phase == QuiescePhase::Frozen);
        let held = until_polled("it is frozen", DEADLINE, async || Ok(frozen(&api.get(&name).await?).then_some(()))).await;
        let next = replaced(w, app).await;
        let ended = w.backup_failed(&name, Reason::HookFailed).await;
        cluster.mend_for("CreateSnapshot", &handle).await?;
        held?;
        ended.context("a session that is lost while nothing is cut")?;
        let account = is_owed_nothing(w, &name, &next?).await?;
        ensure!(account.release == Some(Release::HookFailed), "released for {:?}", account.release);
        until_polled("its snapshot is gone", DEADLINE, async || Ok((snapshots(w).await? == 0).then_some(()))).await
    })
}

/// A backup whose snapshot is only cut after the application's container was restarted for the `count`th time.
async fn restarted(w: &World, cluster: &Cluster, app: &Running, count: i32) -> Result<String> {
    let handle = w.volume_handle("data").await?;
    cluster.fail_for("CreateSnapshot", &handle, "not yet").await?;
    let name = w.backup_as(&["data"], false).await?;
    let restart = async {
        is_frozen(w, &name).await?;
        cluster.node(&app.node).kill(&app.uid, "sleep infinity", "KILL").await?;
        let pods = w.api::<Pod>();
        let told = |pod: &Pod| pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).any(|c| c.restart_count == count);
        until_polled("its container was restarted", DEADLINE, async || Ok(told(&pods.get("app").await?).then_some(()))).await
    };
    let restart = restart.await;
    cluster.mend_for("CreateSnapshot", &handle).await?;
    restart.map(|()| name)
}

#[test]
fn quiesce_a_container_that_is_restarted_before_the_cut_was_not_held_still() -> Result<()> {
    test("quiesce_a_container_that_is_restarted_before_the_cut_was_not_held_still", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let app = application(w, &hooks(0, 0), &[]).await?;
        let name = restarted(w, &cluster, &app, 1).await?;
        let message = w.backup_failed(&name, Reason::HookFailed).await?;
        ensure!(message.contains("in pod app, container app: the container was restarted while it was held still"), "{message}");
        let account = settled(w, &name).await?;
        ensure!(account.release == Some(Release::HookFailed), "released for {:?}", account.release);
        until_polled("its snapshot is gone", DEADLINE, async || Ok((snapshots(w).await? == 0).then_some(()))).await?;
        ensure!(log(&app).await? == "thaw", "the new container was told: {}", log(&app).await?);

        let go_on = format!("{}  onError: Continue\n", hooks(0, 0));
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(&go_on))]).await?;
        let name = restarted(w, &cluster, &app, 2).await?;
        let volumes = w.backup_succeeded(&name).await?;
        ensure!(volumes.iter().all(|v| v.quiesced == Some(false)), "it counts as quiesced: {volumes:#?}");
        settled(w, &name).await.map(drop)
    })
}

#[test]
fn quiesce_a_pod_that_another_hook_scales_away_is_not_missed() -> Result<()> {
    test("quiesce_a_pod_that_another_hook_scales_away_is_not_missed", async |w: &World| {
        let hooks = "- pre: {in: deployment/shop, command: ['true']}\n  post: {command: ['true']}\n\
                     - pre: {in: deployment/shop, timeout: 1m}\n  scale: 0\n";
        deployed(w, "").await?;
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(hooks))]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let volumes = w.backup_succeeded(&name).await?;
        ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "not quiesced: {volumes:#?}");
        let account = settled(w, &name).await?;
        let posts: Vec<_> = account.hooks.iter().flat_map(|h| &h.post).map(|p| p.result).collect();
        ensure!(posts == [Some(ActionResult::Void), Some(ActionResult::Succeeded)], "{account:#?}");
        Ok(())
    })
}
