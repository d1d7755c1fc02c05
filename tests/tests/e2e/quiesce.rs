//! Hooks: applications are held still until the cut and no longer, and are always let go. Freezes and thaws are recorded in the pod.

use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{Backup, BackupPhase, QuiescePhase, QuiesceStatus, Release};
use borgherd_api::names::DEBT_FINALIZER;
use borgherd_e2e::{App, Claim, DEADLINE, Running, World, test, until_polled};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

/// A hook that writes down when it froze and when it thawed.
const RECORDED: &str = "- pre: {in: pod/app, command: [sh, -c, 'echo freeze $(date +%s%N) >>/tmp/log']}\n  \
                        post: {command: [sh, -c, 'echo thaw $(date +%s%N) >>/tmp/log']}\n";

/// An application with a volume `data` and hooks.
pub(super) async fn application(w: &World, hooks: &str, annotations: &[(&str, &str)]) -> Result<Running> {
    let mut claim = Claim::new("data").annotation("hooks", hooks);
    for (key, value) in annotations {
        claim = claim.annotation(key, value);
    }
    w.claim(claim).await?;
    w.app(App::new("app").mount("data", "/data")).await
}

/// What the pod has recorded: words and nanoseconds.
async fn log(app: &Running) -> Result<Vec<(String, u64)>> {
    let text = app.sh("cat /tmp/log 2>/dev/null || true").await?;
    let line = |line: &str| {
        let (word, at) = line.split_once(' ').context("a line of two words")?;
        Ok((word.to_owned(), at.parse()?))
    };
    text.lines().map(line).collect()
}

/// Nothing is frozen: a thaw follows the last freeze.
async fn is_thawed(app: &Running) -> Result<bool> {
    let log = log(app).await?;
    let last = |word: &str| log.iter().rposition(|(w, _)| w == word);
    Ok(last("thaw") > last("freeze"))
}

pub(super) fn quiesce(backup: &Backup) -> Result<QuiesceStatus> {
    backup.status.as_ref().and_then(|s| s.quiesce.clone()).context("the Backup has no account of its hooks")
}

/// Nothing is owed any more, and the Backup can go.
pub(super) async fn settled(w: &World, name: &str) -> Result<QuiesceStatus> {
    let backup = w.backup_ended(name).await?;
    let quiesce = quiesce(&backup)?;
    ensure!(quiesce.phase == QuiescePhase::Thawed && quiesce.debts() == 0, "at its end something is owed: {quiesce:#?}");
    let api = w.api::<Backup>();
    let free = async || Ok((!api.get(name).await?.finalizers().iter().any(|f| f == DEBT_FINALIZER)).then_some(()));
    until_polled("the finalizer is gone", DEADLINE, free).await?;
    Ok(quiesce)
}

pub(super) async fn snapshots(w: &World) -> Result<usize> {
    Ok(w.api::<VolumeSnapshot>().list(&ListParams::default()).await?.items.len())
}

#[test]
fn quiesce_an_application_is_held_until_the_cut_and_not_until_the_snapshot_is_ready() -> Result<()> {
    test("quiesce_an_application_is_held_until_the_cut_and_not_until_the_snapshot_is_ready", async |w: &World| {
        let app = application(w, RECORDED, &[("snapshot-class", "btrfs-slow")]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let volumes = w.backup_succeeded(&name).await?;
        let quiesce = settled(w, &name).await?;
        ensure!(quiesce.release == Some(Release::Cut), "released for {:?}", quiesce.release);
        ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "not quiesced: {volumes:#?}");
        let log = log(&app).await?;
        let [(freeze, frozen), (thaw, thawed)] = log.as_slice() else {
            anyhow::bail!("expected one freeze and one thaw: {log:?}");
        };
        ensure!((freeze.as_str(), thaw.as_str()) == ("freeze", "thaw"), "{log:?}");
        let window = thawed - frozen;
        ensure!(window < 8_000_000_000, "the application was held for {window} ns, as if until the snapshot was ready");
        let count = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c '[R]un as: sh' || true";
        until_polled("no process of a hook is left in the pod", DEADLINE, async || Ok((app.sh(count).await? == "0").then_some(()))).await?;
        Ok(())
    })
}

#[test]
fn quiesce_a_failed_pre_hook_makes_no_snapshot_and_what_was_begun_is_resumed_in_reverse() -> Result<()> {
    test("quiesce_a_failed_pre_hook_makes_no_snapshot_and_what_was_begun_is_resumed_in_reverse", async |w: &World| {
        let one = |name: &str, then: &str| {
            format!(
                "- pre: {{in: pod/app, command: [sh, -c, 'echo freeze-{name} 0 >>/tmp/log; {then}']}}\n  \
                 post: {{command: [sh, -c, 'echo thaw-{name} 0 >>/tmp/log']}}\n"
            )
        };
        let hooks = one("a", "true") + &one("b", "echo PGPASSWORD=hunter2; exit 3") + &one("c", "true");
        let app = application(w, &hooks, &[]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let message = w.backup_failed(&name, Reason::HookFailed).await?;
        ensure!(message.contains("exit code 3"), "{message}");
        let quiesce = settled(w, &name).await?;
        ensure!(quiesce.release == Some(Release::HookFailed), "released for {:?}", quiesce.release);
        ensure!(!format!("{quiesce:?}").replace("echo PGPASSWORD=hunter2", "").contains("hunter2"), "a credential is shown: {quiesce:#?}");
        let words: Vec<String> = log(&app).await?.into_iter().map(|(word, _)| word).collect();
        ensure!(words == ["freeze-a", "freeze-b", "thaw-b", "thaw-a"], "{words:?}");
        ensure!(snapshots(w).await? == 0, "there is a snapshot");
        Ok(())
    })
}

#[test]
fn quiesce_a_command_that_takes_too_long_is_killed_in_the_container() -> Result<()> {
    test("quiesce_a_command_that_takes_too_long_is_killed_in_the_container", async |w: &World| {
        let hooks = "- pre: {in: 'app=app', command: [sh, -c, 'echo freeze 0 >>/tmp/log; exec sleep 4242'], timeout: 2s}\n  \
                     post: {command: [sh, -c, 'echo thaw 1 >>/tmp/log']}\n";
        let app = application(w, hooks, &[]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let message = w.backup_failed(&name, Reason::HookFailed).await?;
        ensure!(message.contains("killed after 2 s"), "{message}");
        settled(w, &name).await?;
        ensure!(is_thawed(&app).await?, "it is still frozen");
        let left = app.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c '^sleep 4242' || true").await?;
        ensure!(left == "0", "the command still runs: {left}");
        Ok(())
    })
}

#[test]
fn quiesce_a_deleted_backup_and_a_deleted_annotation_leave_nothing_frozen() -> Result<()> {
    test("quiesce_a_deleted_backup_and_a_deleted_annotation_leave_nothing_frozen", async |w: &World| {
        let hooks = RECORDED.replace(">>/tmp/log']}\n  post", ">>/tmp/log; sleep 3']}\n  post");
        ensure!(hooks != RECORDED, "the hook was to take long");
        let app = application(w, &hooks, &[]).await?;
        let name = w.backup_as(&["data"], false).await?;
        until_polled("it is frozen", DEADLINE, async || Ok((!log(&app).await?.is_empty()).then_some(()))).await?;
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", None)]).await?;
        drop(w.api::<Backup>().delete(&name, &DeleteParams::default()).await?);
        until_polled("the Backup is gone", DEADLINE, async || Ok(w.api::<Backup>().get_opt(&name).await?.is_none().then_some(()))).await?;
        ensure!(is_thawed(&app).await?, "the Backup is gone, and the application still frozen: {:?}", log(&app).await?);
        Ok(())
    })
}

#[test]
fn quiesce_a_pod_that_is_gone_is_owed_nothing() -> Result<()> {
    test("quiesce_a_pod_that_is_gone_is_owed_nothing", async |w: &World| {
        let hooks = "- pre: {in: pod/app, command: ['true']}\n  post: {command: ['false']}\n";
        let app = application(w, hooks, &[]).await?;
        let name = w.backup_as(&["data"], false).await?;
        let owed = |b: &Backup| quiesce(b).is_ok_and(|q| q.hooks.iter().flat_map(|h| &h.post).any(|p| p.attempts >= 2));
        let api = w.api::<Backup>();
        until_polled("its debt is tried again", DEADLINE, async || Ok(owed(&api.get(&name).await?).then_some(()))).await?;
        let phase = api.get(&name).await?.status.unwrap_or_default().phase;
        ensure!(!phase.is_final(), "{phase:?} while a resume is owed");
        app.stop().await?;
        w.backup_succeeded(&name).await?;
        settled(w, &name).await?;
        Ok(())
    })
}

/// A pod `bare` in which nobody finds a shell, with PVC `data`.
pub(super) async fn bare(w: &World) -> Result<()> {
    w.claim(Claim::new("data")).await?;
    // no shell for whoever looks for one: the search path leads nowhere
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "bare" },
        "spec": { "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false, "containers": [{
            "name": "app", "image": w.image, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sleep", "infinity"],
            "env": [{ "name": "PATH", "value": "/nowhere" }], "volumeMounts": [{ "name": "v", "mountPath": "/data" }],
        }], "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }] },
    });
    w.api::<Pod>().create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let ready = async || {
        let pod = w.api::<Pod>().get("bare").await?;
        let conditions = pod.status.and_then(|s| s.conditions).unwrap_or_default();
        Ok(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True").then_some(()))
    };
    until_polled("the pod is ready", DEADLINE, ready).await
}

#[test]
fn quiesce_works_in_a_pod_without_a_shell() -> Result<()> {
    test("quiesce_works_in_a_pod_without_a_shell", async |w: &World| {
        bare(w).await?;
        let hooks = "- pre: {in: pods/bare, command: [/bin/touch, /tmp/frozen]}\n  post: {command: [/bin/rm, /tmp/frozen]}\n";
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(hooks))]).await?;
        let name = w.backup_as(&["data"], false).await?;
        w.backup_succeeded(&name).await?;
        let quiesce = settled(w, &name).await?;
        let shells: Vec<bool> = quiesce.hooks.iter().flat_map(|h| h.pre.iter().chain(&h.post)).map(|a| a.shell).collect();
        ensure!(shells == [false, false], "taken for containers with a shell: {shells:?}");
        let slow = "- pre: {in: pod/bare, command: [/bin/sleep, '30'], timeout: 1s}\n";
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(slow))]).await?;
        let name = w.backup_as(&["data"], false).await?;
        w.backup_failed(&name, Reason::HookMayStillRun).await?;
        Ok(())
    })
}

#[test]
fn quiesce_what_is_not_cut_in_time_is_resumed_first_and_then_deleted() -> Result<()> {
    test("quiesce_what_is_not_cut_in_time_is_resumed_first_and_then_deleted", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let app = application(w, RECORDED, &[]).await?;
        let handle = w.volume_handle("data").await?;
        cluster.fail_for("CreateSnapshot", &handle, "no space").await?;
        let name = w.backup_as(&["data"], false).await?;
        let ended = w.backup_ended(&name).await;
        cluster.mend_for("CreateSnapshot", &handle).await?;
        let status = ended?.status.unwrap_or_default();
        ensure!((status.phase, status.reason) == (BackupPhase::Failed, Some(Reason::FreezeLimit)), "{status:#?}");
        settled(w, &name).await?;
        ensure!(is_thawed(&app).await?, "it is still frozen");
        let none = async || Ok((snapshots(w).await? == 0).then_some(()));
        until_polled("the snapshot that was not cut is gone", DEADLINE, none).await?;
        Ok(())
    })
}

#[test]
fn quiesce_twenty_groups_at_once_do_not_wait_for_each_other() -> Result<()> {
    test("quiesce_twenty_groups_at_once_do_not_wait_for_each_other", async |w: &World| {
        let names: Vec<String> = (0..20).map(|i| format!("data-{i}")).collect();
        let mut app = App::new("app");
        for name in &names {
            // the first is not held before all others are resumed: whoever waited for it would never be
            let wait = if name == "data-0" { "until [ $(cat /tmp/data-* | grep -c thaw) -ge 19 ]; do sleep 1; done; " } else { "" };
            let hooks = format!(
                "- pre: {{in: pod/app, command: [sh, -c, '{wait}echo freeze >>/tmp/{name}'], timeout: 3m}}\n  \
                 post: {{command: [sh, -c, 'echo thaw >>/tmp/{name}']}}\n"
            );
            w.claim(Claim::new(name).annotation("hooks", &hooks)).await?;
            app = app.mount(name, &format!("/{name}"));
        }
        let app = w.app(app).await?;
        let mut backups = Vec::new();
        for name in &names {
            backups.push(w.backup_as(&[name], false).await?);
        }
        for (name, backup) in names.iter().zip(&backups) {
            w.backup_succeeded(backup).await?;
            let quiesce = settled(w, backup).await?;
            ensure!(quiesce.release == Some(Release::Cut), "{name} was released for {:?}", quiesce.release);
            let log = app.sh(&format!("cat /tmp/{name}")).await?;
            ensure!(log == "freeze\nthaw", "{name}: {log}");
        }
        Ok(())
    })
}

#[test]
fn quiesce_a_late_cut_is_kept_as_not_quiesced_where_hooks_may_fail() -> Result<()> {
    test("quiesce_a_late_cut_is_kept_as_not_quiesced_where_hooks_may_fail", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let app = application(w, &(RECORDED.to_owned() + "  onError: Continue\n"), &[]).await?;
        let handle = w.volume_handle("data").await?;
        cluster.fail_for("CreateSnapshot", &handle, "no space").await?;
        let name = w.backup_as(&["data"], false).await?;
        let api = w.api::<Backup>();
        let released = |b: &Backup| quiesce(b).is_ok_and(|q| q.release.is_some());
        let seen = until_polled("the limit has come", DEADLINE, async || Ok(released(&api.get(&name).await?).then_some(()))).await;
        cluster.mend_for("CreateSnapshot", &handle).await?;
        seen?;
        let volumes = w.backup_succeeded(&name).await?;
        let quiesce = settled(w, &name).await?;
        ensure!(quiesce.release == Some(Release::FreezeLimit), "released for {:?}", quiesce.release);
        ensure!(volumes.iter().all(|v| v.quiesced == Some(false)), "told as quiesced: {volumes:#?}");
        ensure!(is_thawed(&app).await? && snapshots(w).await? == 1, "{} snapshots", snapshots(w).await?);
        Ok(())
    })
}
