//! Mode live: volumes that are read in place, by the mount of their application's pod.

use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{Backup, Outcome, QuiescePhase, RestoreSource, RestoreTarget, SourceKind, VolumeStatus};
use borgherd_api::names;
use borgherd_e2e::{App, Claim, DEADLINE, Running, World, same, test, until_polled};
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

/// A hook that holds the writer [`WRITER`] still and says when.
pub(super) const HOOKS: &str = "- pre: {in: pod/app, command: [sh, -c, 'touch /tmp/hold; until [ -e /tmp/held ]; do sleep 0.1; done; echo freeze >>/tmp/log']}\n  \
                     post: {command: [sh, -c, 'echo thaw >>/tmp/log; rm -f /tmp/hold /tmp/held']}\n";

/// Counts in two files, one after the other: they are equal only where nobody writes.
pub(super) const WRITER: &str = "i=0; while :; do \
    if [ -e /tmp/hold ]; then touch /tmp/held; sleep 0.1; continue; fi; \
    i=$((i+1)); echo $i >/data/one; echo $i >/data/two; done";

/// Makes PVC `data` in mode live, to a repository that takes some 8 s for 8 MB.
pub(super) async fn slow(w: &World, hooks: Option<&str>) -> Result<String> {
    let claim = Claim::new("data");
    slow_of(w, if let Some(hooks) = hooks { claim.annotation("hooks", hooks) } else { claim }).await
}

/// The same for PVC `data` as it is asked for.
pub(super) async fn slow_of(w: &World, claim: Claim) -> Result<String> {
    let (folder, location) = w.fresh_place("slow").await?;
    let spec = json!({ "location": location, "secretRef": "borgherd-server", "rateLimit": 1000 });
    let repository = w.repository_with("slow", spec).await?;
    w.claim(claim.annotation("mode", "live").annotation("repository", &repository)).await?;
    Ok(folder)
}

/// What the command line of this test's borg has, and of no other's.
pub(super) fn own_borg(w: &World) -> String {
    format!("::{}", names::archive_prefix(&w.namespace, "data"))
}

pub(super) async fn one(w: &World, name: &str) -> Result<VolumeStatus> {
    w.backup_succeeded(name).await?.pop().context("the Backup has no volume")
}

/// Restores the newest archive of `data` and mounts it at `/data` of a pod.
pub(super) async fn restored(w: &World) -> Result<Running> {
    let classes = w.api_all::<StorageClass>().list(&ListParams::default()).await?;
    let default = |c: &&StorageClass| c.annotations().get("storageclass.kubernetes.io/is-default-class").is_some_and(|v| v == "true");
    let class = classes.iter().find(default).context("the cluster has no default StorageClass")?.name_any();
    let source = RestoreSource { pvc: "data".into(), from: Some(SourceKind::Archive), ..RestoreSource::default() };
    let target = RestoreTarget { pvc: "restored".into(), storage_class: Some(class), size: Some("1Gi".into()) };
    let restore = w.restore_as(source, Some(target)).await?;
    w.restore_succeeded(&restore).await?;
    w.app(App::new("reader").mount("restored", "/data")).await
}

async fn no_snapshot(w: &World) -> Result<()> {
    let snapshots = w.api::<VolumeSnapshot>().list(&ListParams::default()).await?.items.len();
    ensure!(snapshots == 0, "there are {snapshots} snapshots");
    Ok(())
}

/// It was read once, where its pod is, and its archive is named after the moment.
fn was_read_by(w: &World, volume: &VolumeStatus, app: &Running) -> Result<()> {
    let cut = volume.cut.context("no moment is told")?;
    ensure!(volume.archive == Some(names::archive(&w.namespace, "data", cut)), "{volume:#?}");
    ensure!(volume.node.as_ref() == Some(&app.node) && volume.attempt == 1 && volume.snapshot.is_none(), "{volume:#?}");
    let live = volume.live.clone().context("not told as live")?;
    ensure!(live.pod_uid.as_ref() == Some(&app.uid) && live.void.is_empty(), "{live:#?}");
    Ok(())
}

#[test]
fn live_a_csi_volume_is_archived_where_it_is_mounted_and_comes_back_as_it_was() -> Result<()> {
    test("live_a_csi_volume_is_archived_where_it_is_mounted_and_comes_back_as_it_was", async |w: &World| {
        w.claim(Claim::new("data").size("3Gi").annotation("mode", "live")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.make_awkward_tree("/data/tree").await?;
        let expected = app.fingerprint("/data").await?;
        let name = w.backup(&["data"]).await?;
        let volume = one(w, &name).await?;
        was_read_by(w, &volume, &app)?;
        ensure!(volume.message.is_none() && volume.quiesced.is_none(), "nothing changed and nothing was held: {volume:#?}");
        no_snapshot(w).await?;
        same(&expected, &app.fingerprint("/data").await?).context("the live volume was changed by reading it")?;
        same(&expected, &restored(w).await?.fingerprint("/data").await?)
    })
}

/// Makes a folder on a node, and a bound pair of PV and PVC `data` of it.
pub(super) async fn local(w: &World, node: &str, source: serde_json::Value) -> Result<String> {
    let pv = format!("{}-data", w.namespace);
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": pv },
        "spec": {
            "capacity": { "storage": "100Mi" }, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "", "claimRef": { "namespace": w.namespace, "name": "data" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }] },
            ] } },
        },
    });
    let mut volume = volume;
    for (key, value) in source.as_object().context("a volume source")? {
        volume["spec"][key] = value.clone();
    }
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data", "annotations": { "borgherd.dev/mode": "live" } },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": pv, "resources": { "requests": { "storage": "100Mi" } } },
    });
    let volumes = w.api_all::<PersistentVolume>();
    drop(volumes.delete(&pv, &DeleteParams::default()).await);
    drop(volumes.create(&PostParams::default(), &serde_json::from_value(volume)?).await?);
    drop(w.api::<PersistentVolumeClaim>().create(&PostParams::default(), &serde_json::from_value(claim)?).await?);
    w.bound("data").await?;
    Ok(pv)
}

/// The node that a pod comes to.
pub(super) async fn some_node(w: &World) -> Result<String> {
    let app = w.app(App::new("where")).await?;
    let node = app.node.clone();
    app.stop().await?;
    Ok(node)
}

#[test]
fn live_a_local_volume_is_archived_which_no_driver_could_snapshot() -> Result<()> {
    test("live_a_local_volume_is_archived_which_no_driver_could_snapshot", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let node = some_node(w).await?;
        let folder = format!("/var/lib/kubelet/{}", w.namespace);
        // what is mounted inside the volume is not part of it
        let made =
            format!("rm -rf {folder} && mkdir -p {folder}/inside && mount -t tmpfs e2e {folder}/inside && touch {folder}/inside/foreign");
        cluster.node(&node).sh(&made).await?;
        let pv = local(w, &node, json!({ "local": { "path": folder } })).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.make_awkward_tree("/data/tree").await?;
        let expected = app.fingerprint("/data/tree").await?;
        let name = w.backup(&["data"]).await?;
        let volume = one(w, &name).await?;
        was_read_by(w, &volume, &app)?;
        let reader = restored(w).await?;
        same(&expected, &reader.fingerprint("/data/tree").await?)?;
        let inside = reader.sh("ls /data /data/inside").await?;
        ensure!(inside == "/data:\ninside\ntree\n\n/data/inside:", "read was {inside}");
        app.stop().await?;
        drop(w.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await?);
        drop(w.api_all::<PersistentVolume>().delete(&pv, &DeleteParams::default()).await?);
        cluster.node(&node).sh(&format!("umount -l {folder}/inside && rm -rf {folder}")).await.map(drop)
    })
}

#[test]
fn live_what_cannot_be_read_in_place_is_refused_with_what_to_do() -> Result<()> {
    test("live_what_cannot_be_read_in_place_is_refused_with_what_to_do", async |w: &World| {
        w.claim(Claim::new("live").size("20Mi").annotation("mode", "live")).await?;
        w.claim(Claim::new("other").size("20Mi")).await?;
        w.app(App::new("app").mount("live", "/a").mount("other", "/b")).await?;
        let name = w.backup_as(&["live"], false).await?;
        let message = w.backup_failed(&name, Reason::Invalid).await?;
        ensure!(message.contains("with an archive"), "{message}");
        let name = w.backup(&["live", "other"]).await?;
        let status = w.backup_ended(&name).await?.status.unwrap_or_default();
        let outcomes: Vec<_> = status.volumes.iter().map(|v| (v.outcome, v.reason)).collect();
        ensure!(outcomes == [(Some(Outcome::Failed), Some(Reason::Invalid)), (Some(Outcome::Succeeded), None)], "{status:#?}");
        ensure!(status.message.is_some_and(|m| m.contains("of it alone")), "it should say what to do");
        let node = some_node(w).await?;
        let pv = local(w, &node, json!({ "hostPath": { "path": "/var/lib/kubelet/e2e-nowhere" } })).await?;
        let name = w.backup(&["data"]).await?;
        let message = w.backup_failed(&name, Reason::VolumeNotSupported).await?;
        ensure!(message.contains("hostPath"), "{message}");
        drop(w.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await?);
        drop(w.api_all::<PersistentVolume>().delete(&pv, &DeleteParams::default()).await?);
        Ok(())
    })
}

#[test]
fn live_a_file_that_changes_while_it_is_read_is_told_and_is_no_failure() -> Result<()> {
    test("live_a_file_that_changes_while_it_is_read_is_told_and_is_no_failure", async |w: &World| {
        slow(w, None).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("head -c 4000000 /dev/urandom >/data/busy; echo calm >/data/calm; sync").await?;
        app.sh("(while :; do echo more >>/data/busy; sleep 0.05; done) >/dev/null 2>&1 & echo $! >/tmp/pid").await?;
        let name = w.backup(&["data"]).await?;
        let volume = one(w, &name).await?;
        app.sh("kill $(cat /tmp/pid)").await?;
        let message = volume.message.clone().unwrap_or_default();
        ensure!(message.contains("busy") && !message.contains("calm") && volume.reason.is_none(), "{volume:#?}");
        let told = async || {
            let events = w.api::<Event>().list(&ListParams::default()).await?;
            Ok(events.iter().any(|e| e.reason.as_deref() == Some("ChangedWhileRead")).then_some(()))
        };
        until_polled("an Event tells it", DEADLINE, told).await?;
        let text = restored(w).await?.sh("cat /data/calm; stat -c %s /data/busy").await?;
        let (calm, size) = text.split_once('\n').context("two lines")?;
        ensure!(calm == "calm" && size.parse::<u64>()? >= 4_000_000, "{text}");
        Ok(())
    })
}

#[test]
fn live_hooks_hold_for_the_whole_read() -> Result<()> {
    test("live_hooks_hold_for_the_whole_read", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        slow(w, Some(HOOKS)).await?;
        let app = w.app(App::new("app").mount("data", "/data").script(WRITER)).await?;
        app.sh("head -c 2000000 /dev/urandom >/data/noise").await?;
        let name = w.backup(&["data"]).await?;
        let (node, agent) = (cluster.node(&app.node), w.agent_on(&app.node).await?.uid().unwrap_or_default());
        let own = own_borg(w);
        let borg = node.process(&agent, &own).await?;
        node.kill(&agent, &own, "STOP").await?;
        let view = node.sh(&format!("grep ' /run/borg/volume ' /proc/{borg}/mountinfo")).await?;
        ensure!(view.lines().count() == 1 && view.contains(" ro,nosuid,nodev,noexec"), "borg sees {view}");
        let during = app.sh("cat /tmp/log; cat /data/one").await?;
        let api = w.api::<Backup>();
        let frozen = async || {
            let quiesce = api.get(&name).await?.status.and_then(|s| s.quiesce);
            Ok(quiesce.is_some_and(|q| q.phase == QuiescePhase::Frozen).then_some(()))
        };
        until_polled("it is frozen", DEADLINE, frozen).await?;
        let (held, at) = during.split_once('\n').context("it froze before borg began")?;
        ensure!(held == "freeze", "while it is read: {during}");
        node.kill(&agent, &own, "CONT").await?;
        let volume = one(w, &name).await?;
        ensure!(volume.quiesced == Some(true), "{volume:#?}");
        let quiesce = super::quiesce::settled(w, &name).await?;
        ensure!(quiesce.attempt == Some(1), "{quiesce:#?}");
        let log = app.sh("cat /tmp/log").await?;
        ensure!(log == "freeze\nthaw", "{log}");
        let goes_on = async || Ok((app.sh("cat /data/one").await?.parse::<u64>()? > at.parse::<u64>()?).then_some(()));
        until_polled("the writer goes on", DEADLINE, goes_on).await?;
        let read = restored(w).await?.sh("cat /data/one /data/two").await?;
        ensure!(read == format!("{at}\n{at}"), "at the freeze it was {at}, and read was {read}");
        ensure!(volume.message.is_none(), "something changed while it was held still: {volume:#?}");
        Ok(())
    })
}

/// Held still until it is told to go on.
const HELD: &str = "- pre: {in: pod/app, timeout: 2m, command: [sh, -c, 'touch /tmp/held; until [ -e /tmp/go ]; do sleep 0.1; done']}\n  \
                    post: {command: [sh, -c, 'echo thaw >>/tmp/log']}\n";

#[test]
fn live_a_new_repository_is_made_before_the_application_is_held_still() -> Result<()> {
    test("live_a_new_repository_is_made_before_the_application_is_held_still", async |w: &World| {
        let folder = slow(w, Some(HELD)).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("echo kept >/data/file").await?;
        let name = w.backup(&["data"]).await?;
        until_polled("it is held", DEADLINE, async || Ok((app.exec(&["test", "-e", "/tmp/held"]).await?.code == 0).then_some(()))).await?;
        // nobody has been let go to read yet
        let archives = w.archives_in(&folder).await.context("there is no repository yet")?;
        ensure!(archives.is_empty(), "found {archives:?}");
        app.sh("touch /tmp/go").await?;
        let volume = one(w, &name).await?;
        ensure!(volume.attempt == 1 && volume.quiesced == Some(true), "{volume:#?}");
        ensure!(w.archives_in(&folder).await? == [volume.archive.clone().context("no archive")?], "{volume:#?}");
        Ok(())
    })
}
