//! Hooks that are more than a command: beside the snapshot, lasting until the thaw, scaling.

use super::quiesce::{application, bare, quiesce, settled, snapshots};
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{ActionResult, Backup, QuiescePhase, Release};
use borgherd_e2e::{App, Claim, DEADLINE, Running, World, test, until_polled};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::json;

async fn words(app: &Running) -> Result<Vec<String>> {
    Ok(app.sh("cat /tmp/log 2>/dev/null || true").await?.lines().map(str::to_owned).collect())
}

/// The Backup's applications are held still.
pub(super) async fn is_frozen(w: &World, name: &str) -> Result<()> {
    let api = w.api::<Backup>();
    let frozen = |b: &Backup| quiesce(b).is_ok_and(|q| q.phase == QuiescePhase::Frozen);
    until_polled("it is frozen", DEADLINE, async || Ok(frozen(&api.get(name).await?).then_some(()))).await
}

/// A hook whose pre does not end before the thaw, beside one that holds; `end` is how it ends.
fn beside(end: &str) -> String {
    let write = |word: &str| format!("echo {word} >>/tmp/log");
    format!(
        "- pre: {{in: pod/app, command: [sh, -c, '{}; until grep -q thaw /tmp/log; do sleep 0.1; done; sleep 1; {}; {end}'], timeout: 2m}}\n  \
           post: {{command: [sh, -c, '{}']}}\n  wait: false\n\
         - pre: {{in: pod/app, command: [sh, -c, '{}']}}\n  post: {{command: [sh, -c, '{}']}}\n",
        write("begun"),
        write("ended"),
        write("after"),
        write("freeze"),
        write("thaw")
    )
}

/// Nobody waits for the command beside the snapshot to begin; the thaw is before its end, its own post after that.
fn is_in_order(log: &[String]) -> Result<()> {
    let others: Vec<&String> = log.iter().filter(|word| *word != "begun").collect();
    ensure!(others == ["freeze", "thaw", "ended", "after"] && log.len() == 5, "{log:?}");
    Ok(())
}

#[test]
fn quiesce_a_command_beside_the_snapshot_is_awaited_before_it_counts() -> Result<()> {
    test("quiesce_a_command_beside_the_snapshot_is_awaited_before_it_counts", async |w: &World| {
        let app = application(w, &beside("true"), &[]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let volumes = w.backup_succeeded(&name).await?;
        let account = settled(w, &name).await?;
        ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "not quiesced: {volumes:#?}");
        let seen = volumes.iter().filter_map(|v| v.durations?.cut_visible).next_back().context("no time until the cut was visible")?;
        let held = account.released_at.zip(account.frozen_at).map(|(end, begin)| (end - begin).as_seconds_f64()).context("no freeze")?;
        ensure!(seen <= held, "the cut is told as visible after {seen} s, the application was held for {held} s");
        is_in_order(&words(&app).await?)
    })
}

#[test]
fn quiesce_a_command_beside_the_snapshot_that_fails_after_the_cut_voids_it_or_not() -> Result<()> {
    test("quiesce_a_command_beside_the_snapshot_that_fails_after_the_cut_voids_it_or_not", async |w: &World| {
        let app = application(w, &beside("exit 3"), &[]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let message = w.backup_failed(&name, Reason::HookFailed).await?;
        ensure!(message.contains("exit code 3"), "{message}");
        let quiesce = settled(w, &name).await?;
        ensure!(quiesce.release == Some(Release::Cut), "released for {:?}", quiesce.release);
        is_in_order(&words(&app).await?)?;
        until_polled("its snapshot is gone", DEADLINE, async || Ok((snapshots(w).await? == 0).then_some(()))).await?;
        let hooks = beside("exit 3").replace("wait: false", "wait: false\n  onError: Continue");
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(&hooks))]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let volumes = w.backup_succeeded(&name).await?;
        ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "what runs beside it holds nothing: {volumes:#?}");
        settled(w, &name).await?;
        Ok(())
    })
}

/// As in the reference, for the image of these tests.
const POSTGRES: &str = r#"
- pre:
    in: app=db
    timeout: 1m
    command:
      - sh
      - -c
      - |
        PGPASSWORD=$POSTGRES_PASSWORD exec psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -Xq -v ON_ERROR_STOP=1 \
          -c "SELECT pg_backup_start('borgherd', true)" -c '\echo ready' -f -
  post:
    command: ["SELECT pg_backup_stop();"]
  session: true
"#;
const CLIENT: &str = "PGPASSWORD=$POSTGRES_PASSWORD psql -U \"$POSTGRES_USER\" -d \"$POSTGRES_DB\" -XAtq -v ON_ERROR_STOP=1";

async fn sql(app: &Running, statement: &str) -> Result<String> {
    app.sh(&format!("{CLIENT} -c \"{statement}\"")).await
}

/// Sessions in which a backup has begun.
async fn sessions(app: &Running) -> Result<String> {
    sql(app, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_backup%'").await
}

#[test]
fn quiesce_a_postgres_session_lasts_until_the_cut_and_one_that_is_lost_makes_no_backup() -> Result<()> {
    test("quiesce_a_postgres_session_lasts_until_the_cut_and_one_that_is_lost_makes_no_backup", async |w: &World| {
        let (Some(cluster), Some(image)) = (w.cluster(), w.databases_image()) else {
            return w.skip("needs the project's own cluster and the image with databases");
        };
        w.claim(Claim::new("data").annotation("hooks", POSTGRES)).await?;
        let mut app = App::new("db").image(image).mount("data", "/data").script("exec start-postgres");
        for (name, value) in [("POSTGRES_USER", "zoe"), ("POSTGRES_PASSWORD", "p\"w#4 $x;"), ("POSTGRES_DB", "kiosk")] {
            app = app.env(name, value);
        }
        let app = w.app(app.ready_when(&format!("{CLIENT} -c 'SELECT 1'"))).await?;

        let name = w.backup_as(&["data"], false).await?;
        let volumes = w.backup_succeeded(&name).await?;
        let account = settled(w, &name).await?;
        ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "not quiesced: {volumes:#?}");
        let results: Vec<_> = account.hooks.iter().flat_map(|h| h.pre.iter().chain(&h.post)).map(|a| a.result).collect();
        ensure!(results == [Some(ActionResult::Succeeded); 2], "{account:#?}");
        // only the session that began a backup can end it, and is told its label then
        let told = account.hooks.iter().flat_map(|h| &h.post).filter_map(|a| a.output.clone()).collect::<String>();
        ensure!(told.contains("LABEL: borgherd"), "{told}");
        ensure!(sessions(&app).await? == "0", "{} sessions are left", sessions(&app).await?);

        let handle = w.volume_handle("data").await?;
        cluster.fail_for("CreateSnapshot", &handle, "not yet").await?;
        let name = w.backup_as(&["data"], false).await?;
        let lost = async {
            is_frozen(w, &name).await?;
            ensure!(sessions(&app).await? == "1", "{} sessions last", sessions(&app).await?);
            sql(
                &app,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_backup%' AND pid <> pg_backend_pid()",
            )
            .await
        };
        let lost = lost.await;
        cluster.mend_for("CreateSnapshot", &handle).await?;
        lost?;
        // psql notices when it is told to end the backup
        let message = w.backup_failed(&name, Reason::HookFailed).await?;
        ensure!(message.contains("may have let go before the cut"), "{message}");
        settled(w, &name).await?;
        until_polled("the snapshot is gone", DEADLINE, async || Ok((snapshots(w).await? == 1).then_some(()))).await?;

        // a session that never ends by itself holds nobody up
        let deaf = "- {pre: {in: app=db, command: [sh, -c, 'echo ready; exec sleep 4242']}, post: {timeout: 2s}, session: true}";
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(deaf))]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let message = w.backup_failed(&name, Reason::HookFailed).await?;
        ensure!(message.contains("killed after 2 s"), "{message}");
        settled(w, &name).await?;
        let left = app.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c '^sleep 4242' || true").await?;
        ensure!(left == "0", "the session's command still runs");
        let said = w.api::<Pod>().logs("db", &LogParams::default()).await?;
        ensure!(!said.contains("terminating any other active server processes"), "PostgreSQL was restarted: {said}");
        Ok(())
    })
}

#[test]
fn quiesce_a_session_lasts_until_the_cut_where_there_is_no_shell() -> Result<()> {
    test("quiesce_a_session_lasts_until_the_cut_where_there_is_no_shell", async |w: &World| {
        bare(w).await?;
        // bash by its path only: what looks for sh finds none
        let hooks = "- pre: {in: pod/bare, command: [/bin/bash, -c, 'echo almost; echo ready; /bin/cat >/tmp/told; /bin/sleep 1']}\n  \
                     post: {command: [unlock, it now]}\n  session: true\n";
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(hooks))]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let volumes = w.backup_succeeded(&name).await?;
        ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "not quiesced: {volumes:#?}");
        let account = settled(w, &name).await?;
        let results: Vec<_> = account.hooks.iter().flat_map(|h| h.pre.iter().chain(&h.post)).map(|a| (a.shell, a.result)).collect();
        ensure!(results == [(false, Some(ActionResult::Succeeded)); 2], "{account:#?}");
        let told = w.exec(&w.namespace, "bare", "app", &["/bin/cat", "/tmp/told"]).await?.ok("cat")?.text();
        ensure!(told.trim() == "unlock\nit now", "{told}");
        Ok(())
    })
}

/// A Deployment of one pod on PVC `data`, which has a hook that scales it.
pub(super) async fn deployed(w: &World, more: &str) -> Result<()> {
    let hooks = format!("- pre: {{in: deployment/shop, timeout: 1m}}\n  scale: 0\n{more}");
    w.claim(Claim::new("data").annotation("hooks", &hooks)).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "shop" },
        "spec": {
            "replicas": 1, "strategy": { "type": "Recreate" }, "selector": { "matchLabels": { "app": "shop" } },
            "template": {
                "metadata": { "labels": { "app": "shop" } },
                "spec": {
                    "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "app", "image": w.image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "exec sleep infinity"],
                        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
                    }],
                    "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
                },
            },
        },
    });
    w.api::<Deployment>().create(&PostParams::default(), &serde_json::from_value(deployment)?).await?;
    is_back(w, 1).await
}

pub(super) async fn replicas(w: &World) -> Result<i32> {
    w.api::<Deployment>().get("shop").await?.spec.and_then(|s| s.replicas).context("no number of replicas")
}

/// It has `count` replicas, all of them ready.
async fn is_back(w: &World, count: i32) -> Result<()> {
    let ready = async || {
        let deployment = w.api::<Deployment>().get("shop").await?;
        let status = deployment.status.unwrap_or_default();
        Ok((replicas(w).await? == count && status.ready_replicas.unwrap_or_default() == count).then_some(()))
    };
    until_polled(&format!("it has {count} replicas that are ready"), DEADLINE, ready).await
}

/// Names of its pods in which something runs.
pub(super) async fn pods(w: &World) -> Result<Vec<String>> {
    let pods = w.api::<Pod>().list(&ListParams::default().labels("app=shop").fields("status.phase=Running")).await?;
    Ok(pods.iter().map(ResourceExt::name_any).collect())
}

#[test]
fn quiesce_a_deployment_is_scaled_for_the_cut_and_back_to_what_it_was() -> Result<()> {
    test("quiesce_a_deployment_is_scaled_for_the_cut_and_back_to_what_it_was", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        deployed(w, "").await?;
        let before = pods(w).await?;
        let handle = w.volume_handle("data").await?;
        cluster.fail_for("CreateSnapshot", &handle, "not yet").await?;
        let name = w.backup_as(&["data"], false).await?;
        let held = is_frozen(w, &name).await;
        let seen = (replicas(w).await?, pods(w).await?);
        cluster.mend_for("CreateSnapshot", &handle).await?;
        held?;
        ensure!(seen == (0, vec![]), "while it was frozen: {seen:?}");
        let volumes = w.backup_succeeded(&name).await?;
        ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "not quiesced: {volumes:#?}");
        let account = settled(w, &name).await?;
        let told: Vec<_> = account.hooks.iter().flat_map(|h| h.pre.iter().chain(&h.post)).filter_map(|a| a.output.clone()).collect();
        ensure!(told == ["scaled from 1 to 0", "scaled back to 1"], "{told:?}");
        is_back(w, 1).await?;
        ensure!(pods(w).await? != before, "the pod is still the one before");

        // a deleted Backup owes it, too
        cluster.fail_for("CreateSnapshot", &handle, "not yet").await?;
        let name = w.backup_as(&["data"], false).await?;
        let held = is_frozen(w, &name).await;
        drop(w.api::<Backup>().delete(&name, &DeleteParams::default()).await?);
        let back = is_back(w, 1).await;
        cluster.mend_for("CreateSnapshot", &handle).await?;
        held?;
        back
    })
}

#[test]
fn quiesce_what_somebody_else_scales_meanwhile_is_left_at_that() -> Result<()> {
    test("quiesce_what_somebody_else_scales_meanwhile_is_left_at_that", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        deployed(w, "").await?;
        let handle = w.volume_handle("data").await?;
        cluster.fail_for("CreateSnapshot", &handle, "not yet").await?;
        let name = w.backup_as(&["data"], false).await?;
        let held = is_frozen(w, &name).await;
        let patch = Patch::Merge(json!({ "spec": { "replicas": 2 } }));
        drop(w.api::<Deployment>().patch("shop", &PatchParams::default(), &patch).await?);
        cluster.mend_for("CreateSnapshot", &handle).await?;
        held?;
        let message = w.backup_failed(&name, Reason::HookFailed).await?;
        ensure!(message.contains("somebody has scaled it from 0 to 2"), "{message}");
        let account = settled(w, &name).await?;
        ensure!(account.hooks.iter().flat_map(|h| &h.post).all(|p| p.result == Some(ActionResult::Void)), "{account:#?}");
        ensure!(replicas(w).await? == 2, "it was scaled to {}", replicas(w).await?);
        let told = async || {
            let events = w.api::<Event>().list(&ListParams::default()).await?;
            Ok(events.items.into_iter().find(|e| e.reason.as_deref() == Some("NotScaledBack")).and_then(|e| e.message))
        };
        let note = until_polled("an Event tells it", DEADLINE, told).await?;
        ensure!(note.contains("left at that and not set to 1"), "{note}");
        until_polled("its snapshot is gone", DEADLINE, async || Ok((snapshots(w).await? == 0).then_some(()))).await
    })
}
