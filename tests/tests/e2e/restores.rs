//! Restores: what is asked for comes back, and nothing else; what cannot be fails with its reason and leaves nothing.

use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Candidate, Restore, RestoreSource, RestoreTarget, SourceKind, VolumeStatus};
use borgherd_e2e::{App, Claim, DEADLINE, Running, Seen, World, test, until};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, ResourceQuota};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use serde_json::json;
use std::collections::BTreeSet;

fn source() -> RestoreSource {
    RestoreSource { pvc: "data".into(), ..RestoreSource::default() }
}

/// Writes `text` into the file and backs it up.
async fn state(w: &World, app: &Running, text: &str, archive: bool) -> Result<VolumeStatus> {
    app.sh(&format!("echo {text} >/data/file")).await?;
    let backup = w.backup_as(&["data"], archive).await?;
    let volumes = w.backup_succeeded(&backup).await?;
    volumes.into_iter().next().context("the Backup has no volume")
}

/// Three states: the first two archived, the newest only a snapshot.
async fn three_states(w: &World) -> Result<(Running, [VolumeStatus; 3])> {
    w.claim(Claim::new("data").size("20Mi")).await?;
    let app = w.app(App::new("app").mount("data", "/data")).await?;
    let one = state(w, &app, "one", true).await?;
    let two = state(w, &app, "two", true).await?;
    let three = state(w, &app, "three", false).await?;
    Ok((app, [one, two, three]))
}

fn listed(found: &[Candidate], states: &[VolumeStatus; 3]) -> Result<()> {
    let [one, two, three] = states;
    let snapshot = |v: &VolumeStatus| (SourceKind::Snapshot, v.snapshot.clone().unwrap_or_default());
    let archive = |v: &VolumeStatus| (SourceKind::Archive, v.archive.clone().unwrap_or_default());
    let wanted = [snapshot(three), snapshot(two), archive(two), snapshot(one), archive(one)];
    let found: Vec<_> = found.iter().map(|c| (c.kind, c.name.clone())).collect();
    ensure!(found == wanted, "newest first there should be {wanted:?}, but listed is {found:?}");
    Ok(())
}

/// What to ask for, the name of the PVC to make, and what must be in it.
fn wishes(states: &[VolumeStatus; 3]) -> Result<Vec<(RestoreSource, &'static str, &'static str)>> {
    let [one, two, _] = states;
    let cut = two.cut.context("the second state has no cut")?;
    let before = cut - std::time::Duration::from_secs(1);
    let (snapshot, archive) = (Some(SourceKind::Snapshot), Some(SourceKind::Archive));
    Ok(vec![
        (source(), "latest", "three"),
        (RestoreSource { from: archive, ..source() }, "latest-archive", "two"),
        (RestoreSource { name: one.snapshot.clone(), ..source() }, "snapshot-by-name", "one"),
        (RestoreSource { name: one.archive.clone(), from: archive, ..source() }, "archive-by-name", "one"),
        (RestoreSource { at: Some(cut), ..source() }, "at-the-cut", "two"),
        (RestoreSource { at: Some(before), from: snapshot, ..source() }, "before-the-cut", "one"),
        (RestoreSource { at: Some(before), from: archive, ..source() }, "archive-before-the-cut", "one"),
    ])
}

#[test]
fn latest_by_name_and_at_a_time_come_back_from_snapshots_and_archives() -> Result<()> {
    test("latest_by_name_and_at_a_time_come_back_from_snapshots_and_archives", async |w: &World| {
        let (app, states) = three_states(w).await?;
        listed(&w.candidates("data").await?, &states)?;
        let wishes = wishes(&states)?;
        let mut restores = Vec::new();
        for (source, target, _) in &wishes {
            restores.push(w.restore(source.clone(), target).await?);
        }
        let mut reader = App::new("reader");
        for (restore, (_, target, _)) in restores.iter().zip(&wishes) {
            w.restore_succeeded(restore).await.with_context(|| format!("into {target}"))?;
            reader = reader.mount(target, &format!("/{target}"));
        }
        let reader = w.app(reader).await?;
        for (_, target, wanted) in &wishes {
            let found = reader.sh(&format!("cat /{target}/file")).await?;
            ensure!(found == *wanted, "{target} should hold {wanted:?} and holds {found:?}");
        }
        of_a_deleted_volume(w, app).await
    })
}

/// The PVC is gone, and comes back under its own name, as large as it was.
async fn of_a_deleted_volume(w: &World, app: Running) -> Result<()> {
    let claims = w.api::<PersistentVolumeClaim>();
    let before = claims.get("data").await?;
    app.stop().await?;
    drop(claims.delete("data", &DeleteParams::default()).await?);
    until(&claims, "data", "is gone", DEADLINE, |c| c.is_none()).await?;
    let restore = w.restore(RestoreSource { from: Some(SourceKind::Archive), ..source() }, "data").await?;
    w.restore_succeeded(&restore).await?;
    let after = w.bound("data").await?;
    ensure!(after.uid() != before.uid(), "it was never gone");
    let asked = |c: &PersistentVolumeClaim| {
        let spec = c.spec.clone().unwrap_or_default();
        (spec.storage_class_name, spec.access_modes, spec.resources.and_then(|r| r.requests))
    };
    ensure!(asked(&before) == asked(&after), "it was {:?}, and came back as {:?}", asked(&before), asked(&after));
    let reader = w.app(App::new("reader-of-data").mount("data", "/data")).await?;
    let found = reader.sh("cat /data/file").await?;
    ensure!(found == "two", "the newest archive holds two, the PVC {found:?}");
    Ok(())
}

/// The default class under a name that no class has yet: who asks for it waits until there is one.
async fn late_class(w: &World) -> Result<StorageClass> {
    let all = w.api_all::<StorageClass>().list(&ListParams::default()).await?;
    let is_default = |c: &&StorageClass| c.annotations().get("storageclass.kubernetes.io/is-default-class").is_some_and(|v| v == "true");
    let mut class = all.iter().find(is_default).context("no default StorageClass")?.clone();
    class.metadata = ObjectMeta { name: Some(format!("{}-late", w.namespace)), ..ObjectMeta::default() };
    Ok(class)
}

#[test]
fn restores_of_the_latest_take_the_next_when_that_was_pruned_and_of_a_name_say_so() -> Result<()> {
    test("restores_of_the_latest_take_the_next_when_that_was_pruned_and_of_a_name_say_so", async |w: &World| {
        let (folder, location) = w.fresh_place("pruned").await?;
        let repository = w.repository("pruned", &location, "borgherd-server").await?;
        w.claim(Claim::new("data").size("20Mi").annotation("repository", &repository)).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        let (one, two) = (state(w, &app, "one", true).await?, state(w, &app, "two", true).await?);
        let (gone, class) = (two.archive.context("no archive")?, late_class(w).await?);
        let into = |pvc: &str| Some(RestoreTarget { pvc: pvc.into(), storage_class: class.metadata.name.clone(), size: None });
        let archive = RestoreSource { from: Some(SourceKind::Archive), ..source() };
        let latest = w.restore_as(archive.clone(), into("latest")).await?;
        let named = w.restore_as(RestoreSource { name: Some(gone.clone()), ..archive }, into("named")).await?;
        for restore in [&latest, &named] {
            let chosen = |r: &Restore| r.status.as_ref().is_some_and(|s| s.resolved.as_ref().is_some_and(|c| c.name == gone));
            until(&w.api::<Restore>(), restore, "it has chosen", DEADLINE, |r| r.is_some_and(chosen)).await?;
        }
        let passphrase = w.server_credentials().await?.remove("passphrase").context("no passphrase")?;
        let delete = format!(
            "export BORG_PASSPHRASE='{passphrase}' BORG_BASE_DIR=$(mktemp -d) BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
            borg delete '{folder}::{gone}'"
        );
        w.on_server(&delete).await?;
        drop(w.api_all::<StorageClass>().create(&PostParams::default(), &class).await?);
        let ended = after_pruning(w, &latest, &named, &one, &gone).await;
        drop(w.api_all::<StorageClass>().delete(&class.name_any(), &DeleteParams::default()).await?);
        ended
    })
}

async fn after_pruning(w: &World, latest: &str, named: &str, left: &VolumeStatus, gone: &str) -> Result<()> {
    let message = w.restore_failed(named, Reason::ArchiveNotFound).await?;
    ensure!(message.contains(gone), "{message}");
    let status = w.restore_succeeded(latest).await?.status.unwrap_or_default();
    ensure!(status.resolved.map(|c| c.name) == left.archive, "it should have taken {:?}", left.archive);
    let reader = w.app(App::new("reader").mount("latest", "/data")).await?;
    let found = reader.sh("cat /data/file").await?;
    ensure!(found == "one", "the archive that is left holds one, the PVC {found:?}");
    Ok(())
}

/// Requests that cannot be met, with the reason and a part of the message.
fn unmeetable(state: &VolumeStatus) -> Result<Vec<(RestoreSource, Reason, &'static str)>> {
    let early = state.cut.context("no cut")? - std::time::Duration::from_mins(1);
    let elsewhere = RestoreSource { pvc: "elsewhere".into(), ..RestoreSource::default() };
    let archive = Some(SourceKind::Archive);
    Ok(vec![
        (elsewhere, Reason::NoMatch, "elsewhere"),
        (RestoreSource { name: Some("no-such-thing".into()), ..source() }, Reason::NoMatch, "no-such-thing"),
        (RestoreSource { name: state.snapshot.clone(), from: archive, ..source() }, Reason::NoMatch, "named"),
        (RestoreSource { at: Some(early), ..source() }, Reason::NoMatch, "at or before"),
        (
            RestoreSource { repository: Some("no-such-repository".into()), from: archive, ..source() },
            Reason::RepositoryNotFound,
            "no-such-repository",
        ),
    ])
}

async fn claims(w: &World) -> Result<BTreeSet<String>> {
    Ok(w.api::<PersistentVolumeClaim>().list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect())
}

/// Spoils the middle of the largest file of the repository, where the file's data is.
const SPOIL: &str = r#"f=$(find "$1" -path '*/data/*' -type f -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2)
dd if=/dev/zero of="$f" bs=1024 seek=$(($(stat -c %s "$f") / 2048)) count=8 conv=notrunc status=none"#;

#[test]
fn what_cannot_be_restored_says_why_and_leaves_nothing() -> Result<()> {
    test("what_cannot_be_restored_says_why_and_leaves_nothing", async |w: &World| {
        let (folder, location) = w.fresh_place("spoiled").await?;
        let secret = w.credentials("spoiled", &w.server_credentials().await?).await?;
        let repository = w.repository("spoiled", &location, &secret).await?;
        w.claim(Claim::new("data").size("20Mi").annotation("repository", &repository)).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("head -c 4000000 /dev/urandom >/data/noise").await?;
        let state = state(w, &app, "one", true).await?;
        let seen = Seen::of(w).await?;
        let (before, there) = (seen.now(), claims(w).await?);

        for (source, reason, part) in unmeetable(&state)? {
            let restore = w.restore(source.clone(), "never").await?;
            let message = w.restore_failed(&restore, reason).await.with_context(|| format!("{source:?}"))?;
            ensure!(message.contains(part), "{source:?}: the message does not name {part:?}: {message}");
        }
        let uid = w.api::<PersistentVolumeClaim>().get("data").await?.uid();
        let restore = w.restore(source(), "data").await?;
        let message = w.restore_failed(&restore, Reason::TargetExists).await?;
        ensure!(message.contains("data") && message.contains(&w.namespace), "the message names no PVC: {message}");
        ensure!(w.api::<PersistentVolumeClaim>().get("data").await?.uid() == uid, "the PVC that was there is another now");
        let text = app.sh("cat /data/file").await?;
        ensure!(text == "one", "the file of the PVC that was there holds {text:?}");

        w.on_server(&SPOIL.replace("\"$1\"", &folder)).await?;
        let target = RestoreTarget { pvc: "never".into(), storage_class: None, size: None };
        let restore = w.restore_as(RestoreSource { from: Some(SourceKind::Archive), ..source() }, Some(target)).await?;
        let failed = w.restore_ended(&restore).await?.status.unwrap_or_default();
        ensure!(
            matches!(failed.reason, Some(Reason::RepositoryCorrupted | Reason::FilesNotRestored)),
            "a spoiled archive was restored: {:?} {:?} {:?}",
            failed.phase,
            failed.reason,
            failed.message
        );
        ensure!(failed.volume.is_some(), "it failed before anything was extracted: {:?}", failed.message);
        let foreign = seen.foreign(&before, &["Restore"]);
        ensure!(foreign.is_empty(), "failed restores brought {foreign:?} into the namespace");
        let now = claims(w).await?;
        ensure!(now == there, "of the PVCs {there:?} there are now {now:?}");
        Ok(())
    })
}

/// No further PVC of the volume's own class may be made in the namespace.
async fn no_more_claims(w: &World, class: &str) -> Result<()> {
    let hard = json!({ format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"): "1" });
    let quota = json!({"metadata": {"name": "full"}, "spec": {"hard": hard}});
    drop(w.api::<ResourceQuota>().create(&PostParams::default(), &serde_json::from_value(quota)?).await?);
    Ok(())
}

/// A restore that is done but for its PVC: its name, and that of the volume.
async fn refused(w: &World, target: &str) -> Result<(String, String)> {
    let restore = w.restore(RestoreSource { from: Some(SourceKind::Archive), ..source() }, target).await?;
    let is_refused = |r: Option<&Restore>| r.and_then(|r| r.status.as_ref()?.reason) == Some(Reason::TargetRefused);
    let seen = until(&w.api::<Restore>(), &restore, "tells that its PVC is refused", DEADLINE, is_refused).await?;
    let status = seen.and_then(|r| r.status).unwrap_or_default();
    let message = status.message.unwrap_or_default();
    ensure!(message.contains("quota"), "the message does not say what refuses it: {message}");
    Ok((restore, status.volume.context("the Restore names no volume")?))
}

#[test]
fn a_restore_whose_pvc_is_refused_keeps_the_volume_and_takes_it_along_when_it_ends_otherwise() -> Result<()> {
    test("a_restore_whose_pvc_is_refused_keeps_the_volume_and_takes_it_along_when_it_ends_otherwise", async |w: &World| {
        w.claim(Claim::new("data").size("20Mi")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        drop(state(w, &app, "one", true).await?);
        let class = w.bound("data").await?.spec.and_then(|s| s.storage_class_name).context("data has no class")?;
        no_more_claims(w, &class).await?;
        let ((deleted, of_deleted), (taken, of_taken), (kept, of_kept)) =
            tokio::try_join!(refused(w, "deleted"), refused(w, "taken"), refused(w, "kept"))?;
        let volumes = w.api_all::<PersistentVolume>();

        drop(w.api::<Restore>().delete(&deleted, &DeleteParams::default()).await?);
        until(&volumes, &of_deleted, "goes with its Restore", DEADLINE, |v| v.is_none()).await?;

        // of another class, so that the quota lets it be, and too large for the volume, which never is bound to it
        let own = json!({"metadata": {"name": "taken"}, "spec": {
            "storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Ti"}}}});
        let own = w.api::<PersistentVolumeClaim>().create(&PostParams::default(), &serde_json::from_value(own)?).await?;
        drop(w.restore_failed(&taken, Reason::TargetExists).await?);
        until(&volumes, &of_taken, "goes with its failed Restore", DEADLINE, |v| v.is_none()).await?;
        let after = w.api::<PersistentVolumeClaim>().get("taken").await?;
        ensure!(after.uid() == own.uid() && after.spec.and_then(|s| s.volume_name).is_none(), "the person's own PVC was touched");

        drop(w.api::<ResourceQuota>().delete("full", &DeleteParams::default()).await?);
        w.restore_succeeded(&kept).await?;
        ensure!(w.volume_of("kept").await? == of_kept, "another volume than the one that was restored");
        let reader = w.app(App::new("reader").mount("kept", "/data")).await?;
        let found = reader.sh("cat /data/file").await?;
        ensure!(found == "one", "the archive holds one, the PVC {found:?}");
        Ok(())
    })
}
