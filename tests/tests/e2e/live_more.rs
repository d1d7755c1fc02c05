//! Mode live with what else there is: pods that share a volume, hooks that last or scale, databases, files that cannot be read.

use crate::database::{DUMP, POSTGRES, filled};
use crate::live::{HOOKS, WRITER, one, restored, slow};
use crate::quiesce::settled;
use crate::quiesce_ways::{deployed, pods, replicas};
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Outcome, QuiescePhase, StepKind};
use borgherd_e2e::{App, Claim, DEADLINE, Running, World, test, until_polled};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde_json::json;

async fn log(app: &Running) -> Result<String> {
    app.sh("cat /tmp/log 2>/dev/null || true").await
}

/// Of each name, both counters are the same in what was read: nobody wrote meanwhile.
async fn is_of_one_moment(reader: &Running, names: &[&str]) -> Result<()> {
    for name in names {
        let read = reader.sh(&format!("cat /data/{name}one /data/{name}two")).await?;
        let (first, second) = read.split_once('\n').context("two lines")?;
        ensure!(first == second && !first.is_empty(), "read was {read} of {name:?}");
    }
    Ok(())
}

/// A pod that counts in two files of its own.
async fn writer(w: &World, name: &str, node: &str) -> Result<Running> {
    let script = WRITER.replace("/data/", &format!("/data/{name}-"));
    w.app(App::new(name).mount("data", "/data").script(&script).on(node)).await
}

#[test]
fn live_pods_that_share_a_volume_are_held_together_and_it_is_read_by_one_of_them() -> Result<()> {
    test("live_pods_that_share_a_volume_are_held_together_and_it_is_read_by_one_of_them", async |w: &World| {
        let nodes: Vec<String> = w.api_all::<Node>().list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
        let [here, there, ..] = nodes.as_slice() else {
            return w.skip("needs two nodes");
        };
        let hook = |pod: &str| HOOKS.replace("pod/app", &format!("pod/{pod}"));
        let both = format!("{}  parallel: true\n{}  parallel: true\n", hook("first"), hook("second"));
        let claim = Claim::new("data").mode("ReadWriteMany").annotation("mode", "live").annotation("hooks", &both);
        w.claim(claim).await?;
        let (first, second) = (writer(w, "first", here).await?, writer(w, "second", there).await?);
        second.sh("cat /data/first-one >/dev/null").await.context("the pods do not share the volume")?;
        let name = w.backup(&["data"]).await?;
        let volume = one(w, &name).await?;
        ensure!(volume.quiesced == Some(true) && volume.attempt == 1, "{volume:#?}");
        settled(w, &name).await?;
        for app in [&first, &second] {
            ensure!(log(app).await? == "freeze\nthaw", "{}: {}", app.name, log(app).await?);
        }
        let reader = restored(w).await?;
        is_of_one_moment(&reader, &["first-", "second-"]).await?;

        // where the pod that was read is gone, the other one is
        let was_read = volume.live.and_then(|live| live.pod).context("no pod is told")?;
        let (gone, stays) = if was_read == first.name { (first, second) } else { (second, first) };
        gone.stop().await?;
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(&hook(&stays.name)))]).await?;
        let name = w.backup(&["data"]).await?;
        let volume = one(w, &name).await?;
        ensure!(volume.live.as_ref().and_then(|live| live.pod_uid.as_ref()) == Some(&stays.uid), "{volume:#?}");
        ensure!(volume.node.as_ref() == Some(&stays.node) && volume.quiesced == Some(true), "{volume:#?}");
        Ok(())
    })
}

/// A session that holds the writer still until its input ends.
const SESSION: &str = "- pre: {in: pod/app, command: [sh, -c, 'touch /tmp/hold; until [ -e /tmp/held ]; do sleep 0.1; done; echo freeze >>/tmp/log; \
                       echo ready; cat >/dev/null; echo thaw >>/tmp/log; rm -f /tmp/hold /tmp/held']}\n  session: true\n";
/// One that ends by itself after some seconds.
const SHORT: &str = "- {pre: {in: pod/app, command: [sh, -c, 'echo ready; sleep 3']}, session: true}";

#[test]
fn live_a_session_lasts_until_all_is_read_and_one_that_ends_before_voids_it() -> Result<()> {
    test("live_a_session_lasts_until_all_is_read_and_one_that_ends_before_voids_it", async |w: &World| {
        slow(w, Some(SESSION)).await?;
        let app = w.app(App::new("app").mount("data", "/data").script(WRITER)).await?;
        app.sh("head -c 4000000 /dev/urandom >/data/noise").await?;
        let name = w.backup(&["data"]).await?;
        let volume = one(w, &name).await?;
        ensure!(volume.quiesced == Some(true) && volume.attempt == 1, "{volume:#?}");
        let account = settled(w, &name).await?;
        let held = account.released_at.zip(account.frozen_at).map(|(end, begin)| (end - begin).as_seconds_f64()).context("no freeze")?;
        ensure!(held > 2.0, "it was held for {held} s, but 4 MB take longer to read");
        ensure!(log(&app).await? == "freeze\nthaw", "{}", log(&app).await?);
        is_of_one_moment(&restored(w).await?, &[""]).await?;

        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(SHORT))]).await?;
        app.sh("head -c 8000000 /dev/urandom >/data/noise").await?;
        let name = w.backup(&["data"]).await?;
        let message = w.backup_failed(&name, Reason::HookFailed).await?;
        ensure!(message.contains("the session ended by itself") && !message.contains("snapshot"), "{message}");
        settled(w, &name).await.map(drop)
    })
}

#[test]
fn live_a_hook_that_scales_away_the_pod_that_is_read_is_refused_and_one_of_another_is_not() -> Result<()> {
    test("live_a_hook_that_scales_away_the_pod_that_is_read_is_refused_and_one_of_another_is_not", async |w: &World| {
        deployed(w, "").await?;
        let before = pods(w).await?;
        w.annotate::<PersistentVolumeClaim>("data", &[("mode", Some("live"))]).await?;
        let name = w.backup(&["data"]).await?;
        let message = w.backup_failed(&name, Reason::Invalid).await?;
        ensure!(message.contains("scales deployment/shop") && message.contains(&before[0]), "{message}");
        ensure!(pods(w).await? == before && replicas(w).await? == 1, "it was scaled: {:?}", pods(w).await?);

        other(w).await?;
        let hooks = "- pre: {in: deployment/web, timeout: 1m}\n  scale: 0\n";
        w.annotate::<PersistentVolumeClaim>("data", &[("hooks", Some(hooks))]).await?;
        let name = w.backup(&["data"]).await?;
        let volume = one(w, &name).await?;
        ensure!(volume.quiesced == Some(true) && volume.attempt == 1, "{volume:#?}");
        let account = settled(w, &name).await?;
        let told: Vec<_> = account.hooks.iter().flat_map(|h| h.pre.iter().chain(&h.post)).filter_map(|a| a.output.clone()).collect();
        ensure!(told == ["scaled from 1 to 0", "scaled back to 1"], "{told:?}");
        ensure!(pods(w).await? == before, "its pod was replaced: {:?}", pods(w).await?);
        Ok(())
    })
}

/// A Deployment of one pod that has no volume.
async fn other(w: &World) -> Result<()> {
    let container =
        json!({ "name": "app", "image": w.image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "exec sleep infinity"] });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1, "containers": [container] },
            },
        },
    });
    let deployments = w.api::<Deployment>();
    drop(deployments.create(&PostParams::default(), &serde_json::from_value(deployment)?).await?);
    let ready = async || Ok((deployments.get("web").await?.status.and_then(|s| s.ready_replicas) == Some(1)).then_some(()));
    until_polled("the other Deployment is ready", DEADLINE, ready).await
}

#[test]
fn live_a_database_is_dumped_before_its_volume_is_read_in_place() -> Result<()> {
    test("live_a_database_is_dumped_before_its_volume_is_read_in_place", async |w: &World| {
        let Some(image) = w.databases_image() else {
            return w.skip("needs the image with databases");
        };
        filled(w, POSTGRES, image, &POSTGRES.preset("")).await?;
        w.annotate::<PersistentVolumeClaim>("data", &[("mode", Some("live"))]).await?;
        let name = w.backup(&["data"]).await?;
        let volume = one(w, &name).await?;
        ensure!(volume.attempt == 1 && volume.snapshot.is_none() && volume.live.is_some(), "{volume:#?}");
        let account = settled(w, &name).await?;
        let kinds: Vec<StepKind> = account.hooks.iter().map(|hook| hook.kind).collect();
        ensure!(kinds == [StepKind::Check, StepKind::Dump] && account.phase == QuiescePhase::Thawed, "{account:#?}");
        ensure!(account.frozen_at.is_none() && volume.quiesced.is_none(), "a dump holds nothing: {account:#?}");
        let dumped = account.hooks.iter().flat_map(|hook| &hook.pre).filter_map(|pre| pre.ended_at).max().context("no end is told")?;
        let read = volume.cut.context("no moment")?;
        ensure!(read >= dumped - chrono::TimeDelta::seconds(1), "read at {read}, dumped by {dumped}");
        let found = restored(w).await?.sh(&format!("gzip -dc {DUMP} | grep -c 'dump complete'")).await?;
        ensure!(found == "1", "the dump in the archive is not whole: {found}");
        Ok(())
    })
}

#[test]
fn live_a_file_that_cannot_be_read_leaves_an_incomplete_archive() -> Result<()> {
    test("live_a_file_that_cannot_be_read_leaves_an_incomplete_archive", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster: it damages a file below the file system");
        };
        w.claim(Claim::new("data").annotation("mode", "live")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("mkdir /data/folder && echo good >/data/folder/good && head -c 1000000 /dev/urandom >/data/folder/bad && sync").await?;
        cluster.damage(&w.volume_handle("data").await?, "folder/bad").await?;
        // what is in memory can be read all the same
        let pv = w.bound("data").await?.spec.and_then(|s| s.volume_name).context("no volume")?;
        let file = format!("/var/lib/kubelet/pods/{}/volumes/kubernetes.io~csi/{pv}/mount/folder/bad", app.uid);
        cluster.node(&app.node).sh(&format!("dd if={file} iflag=nocache count=0 status=none")).await?;
        let name = w.backup(&["data"]).await?;
        let status = w.backup_ended(&name).await?.status.unwrap_or_default();
        let volume = status.volumes.first().context("the Backup has no volume")?;
        ensure!((volume.outcome, volume.reason) == (Some(Outcome::Incomplete), Some(Reason::FilesUnreadable)), "{volume:#?}");
        let message = volume.message.clone().unwrap_or_default();
        ensure!(message.contains("folder/bad") && message.contains("Input/output error"), "{message}");
        let own = [("namespace", w.namespace.as_str()), ("pvc", "data")];
        let success = w.controller_metrics().await?.sum("borgherd_last_success_timestamp_seconds", &own);
        ensure!(success.is_none(), "an incomplete archive counts as a success of {success:?}");

        app.sh("rm /data/folder/bad && echo mended >/data/folder/bad").await?;
        let name = w.backup(&["data"]).await?;
        one(w, &name).await.map(drop)
    })
}
