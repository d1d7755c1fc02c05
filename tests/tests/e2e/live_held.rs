//! Mode live where no pod of the application uses the volume: a holder mounts it, through a twin of its PersistentVolume.

use crate::live::{one, restored, slow_of};
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{VolumePhase, VolumeStatus};
use borgherd_api::names;
use borgherd_e2e::{App, Claim, DEADLINE, World, same, test, until, until_polled};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

/// A PVC whose volume may be on several nodes: the test cluster's driver attaches nothing, so that one for a single node is not held.
pub(super) fn shared(name: &str) -> Claim {
    Claim::new(name).mode("ReadWriteMany")
}

/// What nothing that is done with a twin may change.
#[derive(Debug, PartialEq)]
pub(super) struct Source {
    uid: Option<String>,
    spec: serde_json::Value,
    labels: serde_json::Value,
    annotations: serde_json::Value,
    finalizers: Vec<String>,
    leaves: bool,
}

/// The PersistentVolume of PVC `data`.
pub(super) async fn source(w: &World) -> Result<Source> {
    let volume: PersistentVolume = w.api_all().get(&w.volume_of("data").await?).await?;
    Ok(Source {
        uid: volume.uid(),
        spec: serde_json::to_value(&volume.spec)?,
        labels: serde_json::to_value(volume.labels())?,
        annotations: serde_json::to_value(volume.annotations())?,
        finalizers: volume.finalizers().to_vec(),
        leaves: volume.metadata.deletion_timestamp.is_some(),
    })
}

/// Twins of this test's Backups.
pub(super) async fn twins(w: &World) -> Result<Vec<PersistentVolume>> {
    let all = w.api_all::<PersistentVolume>().list(&ListParams::default().labels(names::TWIN)).await?;
    let owner = format!("/{}/", w.namespace);
    Ok(all.into_iter().filter(|twin| twin.annotations().get(names::OWNER).is_some_and(|of| of.contains(&owner))).collect())
}

/// Every twin of the test is gone, soon; its storage is looked for when the test ends.
pub(super) async fn no_twin(w: &World) -> Result<()> {
    until_polled("no twin is left", DEADLINE, async || Ok(twins(w).await?.is_empty().then_some(()))).await
}

#[test]
fn live_without_a_pod_a_csi_volume_is_archived_by_a_holder_and_comes_back_as_it_was() -> Result<()> {
    test("live_without_a_pod_a_csi_volume_is_archived_by_a_holder_and_comes_back_as_it_was", async |w: &World| {
        w.claim(shared("data").size("3Gi").annotation("mode", "live")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.make_awkward_tree("/data/tree").await?;
        let expected = app.fingerprint("/data").await?;
        app.stop().await?;
        let before = source(w).await?;
        let name = w.backup(&["data"]).await?;
        let volume = one(w, &name).await?;
        let live = volume.live.clone().context("not told as live")?;
        ensure!(live.held && live.void.is_empty() && volume.attempt == 1 && volume.message.is_none(), "{volume:#?}");
        ensure!(volume.archive == Some(names::archive(&w.namespace, "data", volume.cut.context("no moment is told")?)), "{volume:#?}");
        no_twin(w).await?;
        let after = source(w).await?;
        ensure!(before == after, "the volume's own PersistentVolume was {before:#?}, and is {after:#?}");
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        same(&expected, &app.fingerprint("/data").await?).context("the volume was changed by reading it")?;
        same(&expected, &restored(w).await?.fingerprint("/data").await?)
    })
}

#[test]
fn live_without_a_pod_a_volume_that_a_second_mount_could_harm_is_told_and_read_once_a_pod_runs() -> Result<()> {
    test("live_without_a_pod_a_volume_that_a_second_mount_could_harm_is_told_and_read_once_a_pod_runs", async |w: &World| {
        for (mode, why) in
            [("ReadWriteOncePod", "ReadWriteOncePod is for one pod alone"), ("ReadWriteOnce", "driver btrfs.test attaches nothing")]
        {
            w.claim(Claim::new("data").mode(mode).annotation("mode", "live")).await?;
            let app = w.app(App::new("first").mount("data", "/data")).await?;
            app.sh("echo kept >/data/file").await?;
            app.stop().await?;
            let name = w.backup(&["data"]).await?;
            let waits = |v: &VolumeStatus| v.reason == Some(Reason::PodNotFound) && v.phase == VolumePhase::Waiting;
            let told = w.volume_until(&name, "data", "waits for a pod", waits).await?;
            let message = told.message.clone().unwrap_or_default();
            for part in ["no running pod has PVC data mounted", "start one", why] {
                ensure!(message.contains(part), "{told:#?}");
            }
            ensure!(twins(w).await?.is_empty(), "it has a twin");
            let app = w.app(App::new("app").mount("data", "/data")).await?;
            let volume = one(w, &name).await?;
            let live = volume.live.clone().context("not told as live")?;
            ensure!(!live.held && live.pod_uid.as_ref() == Some(&app.uid) && volume.attempt == 1, "{volume:#?}");
            app.stop().await?;
            drop(w.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await?);
            until(&w.api::<PersistentVolumeClaim>(), "data", "it is gone", DEADLINE, |claim| claim.is_none()).await?;
        }
        Ok(())
    })
}

/// Which is not waited for: what attaches the volume for it may do so by the twin.
#[test]
fn live_without_a_pod_the_twin_stays_while_a_pod_on_a_node_waits_for_the_volume() -> Result<()> {
    test("live_without_a_pod_the_twin_stays_while_a_pod_on_a_node_waits_for_the_volume", async |w: &World| {
        slow_of(w, shared("data")).await?;
        let app = w.app(App::new("first").mount("data", "/data")).await?;
        app.sh("head -c 20000000 /dev/urandom >/data/noise; sync").await?;
        app.stop().await?;
        let name = w.backup(&["data"]).await?;
        drop(w.volume_until(&name, "data", "is read", |v| v.phase == VolumePhase::Archiving).await?);
        // it gets a node, and waits there for an image that there is not
        let pod = json!({
            "metadata": { "name": "waits" },
            "spec": {
                "containers": [{ "name": "app", "image": "localhost/none:none", "imagePullPolicy": "Never", "volumeMounts": [{ "name": "v", "mountPath": "/data" }] }],
                "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }],
            },
        });
        drop(w.api::<Pod>().create(&PostParams::default(), &serde_json::from_value(pod)?).await?);
        let ended = |v: &VolumeStatus| v.reason == Some(Reason::PodStarted) && v.phase == VolumePhase::Cleaning;
        drop(w.volume_until(&name, "data", "the holder's part has ended", ended).await?);
        let pods: kube::Api<Pod> = w.api_volumes();
        let owner = format!("/{}/", w.namespace);
        until_polled("the holder is gone", DEADLINE, async || {
            let all = pods.list(&ListParams::default()).await?;
            let is_ours = |pod: &Pod| pod.annotations().get(names::OWNER).is_some_and(|of| of.contains(&owner));
            Ok((!all.iter().any(is_ours)).then_some(()))
        })
        .await?;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let left = twins(w).await?;
        ensure!(left.len() == 1 && left[0].metadata.deletion_timestamp.is_none(), "{left:#?}");
        drop(w.api::<Pod>().delete("waits", &DeleteParams::default().grace_period(0)).await?);
        let twin = left[0].uid();
        until_polled("its twin is gone", DEADLINE, async || Ok(twins(w).await?.iter().all(|another| another.uid() != twin).then_some(())))
            .await?;
        // the next try has one of its own
        let volume = one(w, &name).await?;
        ensure!(volume.attempt == 2, "{volume:#?}");
        no_twin(w).await
    })
}

#[test]
fn live_without_a_pod_that_runs_one_that_is_to_come_is_waited_for() -> Result<()> {
    test("live_without_a_pod_that_runs_one_that_is_to_come_is_waited_for", async |w: &World| {
        w.claim(shared("data").annotation("mode", "live")).await?;
        w.app(App::new("first").mount("data", "/data")).await?.stop().await?;
        // no node has it: it is Pending for good
        let pod = json!({
            "metadata": { "name": "waits" },
            "spec": {
                "nodeSelector": { "e2e/none": "none" },
                "containers": [{ "name": "app", "image": "x", "volumeMounts": [{ "name": "v", "mountPath": "/data" }] }],
                "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }],
            },
        });
        drop(w.api::<Pod>().create(&PostParams::default(), &serde_json::from_value(pod)?).await?);
        let name = w.backup(&["data"]).await?;
        let waits = |v: &VolumeStatus| v.reason == Some(Reason::PodNotFound) && v.phase == VolumePhase::Waiting;
        let told = w.volume_until(&name, "data", "waits for the pod", waits).await?;
        ensure!(told.message.as_ref().is_some_and(|m| m.contains("pod waits uses it")), "{told:#?}");
        drop(w.api::<Pod>().delete("waits", &DeleteParams::default().grace_period(0)).await?);
        let volume = one(w, &name).await?;
        ensure!(volume.live.as_ref().is_some_and(|live| live.held), "{volume:#?}");
        let claim: PersistentVolumeClaim = w.api().get("data").await?;
        ensure!(claim.metadata.deletion_timestamp.is_none(), "the PVC is being deleted");
        Ok(())
    })
}
