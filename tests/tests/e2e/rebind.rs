//! What outlives a namespace: the identity of its snapshots on their contents, and the way back.

use anyhow::{Context, Result, ensure};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, BackupSpec, RestoreSource, RestoreTarget, SourceKind, Trigger, VolumeStatus};
use borgherd_api::identity::Identity;
use borgherd_api::names::{CUT, DAILY, PVC, RETAIN, VOLUME_FACTS};
use borgherd_api::rebind;
use borgherd_api::retention::Prefix;
use borgherd_e2e::{App, Claim, DEADLINE, World, same, test, until, until_polled};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

/// A snapshot without archive; what its Backup says of it.
async fn snapshot(w: &World, trigger: Trigger) -> Result<VolumeStatus> {
    let spec = BackupSpec { volumes: vec!["data".into()], archive: false, trigger, keep_days: None, scheduled_time: None, hooks: None };
    let metadata = ObjectMeta { generate_name: Some("rebind-".into()), ..ObjectMeta::default() };
    let made = w.api::<Backup>().create(&PostParams::default(), &Backup { metadata, spec, status: None }).await?;
    w.backup_succeeded(&made.name_any()).await?.into_iter().next().context("no volume")
}

async fn content_of(w: &World, snapshot: &str) -> Result<String> {
    let found: VolumeSnapshot = w.api().get(snapshot).await?;
    found.status.and_then(|status| status.bound_volume_snapshot_content_name).context("bound to nothing")
}

/// Waits until the content says what its snapshot does, and gives that back.
async fn in_step(w: &World, snapshot: &str, content: &str, what: &str, is: impl Fn(&Identity) -> bool) -> Result<Identity> {
    let contents: Api<VolumeSnapshotContent> = w.api_all();
    until_polled(what, DEADLINE, async || {
        let on_snapshot = Identity::of(&w.api::<VolumeSnapshot>().get(snapshot).await?);
        let on_content = Identity::of(&contents.get(content).await?);
        Ok((on_snapshot == on_content && is(&on_content)).then_some(on_content))
    })
    .await
}

async fn label(w: &World, snapshot: &str, labels: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    drop(w.api::<VolumeSnapshot>().patch(snapshot, &PatchParams::default(), &patch).await?);
    Ok(())
}

/// Deletes the test's namespace with all that is in it, and makes an empty one of the same name.
async fn lose_namespace(w: &World) -> Result<()> {
    let namespaces: Api<Namespace> = w.api_all();
    let was = namespaces.get(&w.namespace).await?;
    drop(namespaces.delete(&w.namespace, &DeleteParams::default()).await?);
    until(&namespaces, &w.namespace, "the namespace is gone", DEADLINE, |n| n.is_none()).await?;
    let metadata = ObjectMeta { name: Some(w.namespace.clone()), labels: was.metadata.labels, ..ObjectMeta::default() };
    namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;
    let accounts: Api<ServiceAccount> = w.api();
    until(&accounts, "default", "pods can be created", DEADLINE, |a| a.is_some()).await?;
    Ok(())
}

/// Those of the test's namespace that can be rebound.
async fn frozen(w: &World) -> Result<Vec<Value>> {
    // of the whole cluster: it takes no namespace
    let mut command = tokio::process::Command::new(w.cli_binary()?);
    command.args(["rebind", "--list", "--output", "json"]);
    let said: Value = serde_json::from_slice(&w.call(&mut command).await?.ok("borgherd rebind --list")?.stdout)?;
    let mut items = said["items"].as_array().context("no items")?.clone();
    items.retain(|item| item["namespace"] == w.namespace);
    Ok(items)
}

#[test]
fn rebind_brings_back_the_snapshots_of_a_deleted_namespace() -> Result<()> {
    test("rebind_brings_back_the_snapshots_of_a_deleted_namespace", async |w: &World| {
        w.claim(Claim::new("data").size("3Gi").annotation("keep", "daily=7")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.make_awkward_tree("/data/tree").await?;
        let (tree, first) = (app.fingerprint("/data/tree").await?, snapshot(w, Trigger::Scheduled).await?);
        app.sh("echo later >/data/later && sync").await?;
        let second = snapshot(w, Trigger::Manual).await?;
        app.sh("echo last >/data/last && sync").await?;
        let third = snapshot(w, Trigger::Manual).await?.snapshot.context("no snapshot")?;
        let names = [first.snapshot.clone().context("no snapshot")?, second.snapshot.context("no snapshot")?];
        let contents = [content_of(w, &names[0]).await?, content_of(w, &names[1]).await?];
        let elsewhere = content_of(w, &third).await?;

        // additions, changes, removals
        let has = |key: &'static str| move |i: &Identity| i.labels.contains_key(key);
        in_step(w, &names[0], &contents[0], "the content carries the tiers", has(DAILY)).await?;
        label(w, &names[0], json!({"borgherd.dev/mine": "one", "theirs": "one"})).await?;
        in_step(w, &names[0], &contents[0], "a label is added", has("borgherd.dev/mine")).await?;
        label(w, &names[0], json!({"borgherd.dev/mine": "two"})).await?;
        let two = |i: &Identity| i.labels.get("borgherd.dev/mine").is_some_and(|v| v == "two");
        in_step(w, &names[0], &contents[0], "it is changed", two).await?;
        label(w, &names[0], json!({"borgherd.dev/mine": null})).await?;
        let kept = in_step(w, &names[0], &contents[0], "it is taken off", |i| !has("borgherd.dev/mine")(i)).await?;
        let api: Api<VolumeSnapshotContent> = w.api_all();
        ensure!(!api.get(&contents[0]).await?.labels().contains_key("theirs"), "a foreign label was carried");
        for key in [CUT, VOLUME_FACTS, "borgherd.dev/policy", "borgherd.dev/keep"] {
            ensure!(kept.annotations.contains_key(key), "the content has no annotation {key}: {kept:?}");
        }
        ensure!(kept.labels.get(PVC).is_some_and(|pvc| pvc == "data"), "{kept:?}");
        in_step(w, &names[1], &contents[1], "the content carries the second, too", has(RETAIN)).await?;
        in_step(w, &third, &elsewhere, "and the third", has(RETAIN)).await?;
        ensure!(frozen(w).await?.is_empty(), "there is nothing to rebind yet");

        lose_namespace(w).await?;
        let left = frozen(w).await?;
        let found: Vec<_> = left.iter().map(|item| item["content"].as_str().unwrap_or_default()).collect();
        let lost = [&contents[..], std::slice::from_ref(&elsewhere)].concat();
        ensure!(found == lost, "the list has {found:?}, and should have {lost:?}");
        ensure!(left.iter().all(|item| item["pvc"] == "data" && item["problem"].is_null()), "{left:#?}");
        w.controller_metric("borgherd_frozen_contents", &[], |v| v.is_some_and(|v| v >= 2.0)).await?;
        ensure!(Identity::of(&api.get(&contents[0]).await?) == kept, "the content has changed with its snapshot gone");

        // who was interrupted, with one of the pair made or both, calls it again
        for (content, both) in contents.iter().zip([false, true]) {
            let (half, other) =
                rebind::pair(&api.get(content).await?, &w.namespace, &Prefix::default()).map_err(|unfit| anyhow::anyhow!("{unfit}"))?;
            drop(api.create(&PostParams::default(), &half).await?);
            if both {
                drop(w.api::<VolumeSnapshot>().create(&PostParams::default(), &other).await?);
            }
            w.cli(&["rebind", content]).await?.ok("borgherd rebind")?;
        }
        let back: VolumeSnapshot = w.api().get(&names[0]).await?;
        ensure!(Identity::of(&back).labels == kept.labels, "{:?} became {:?}", kept.labels, back.labels());
        ensure!(Identity::of(&back).annotations.get(CUT) == kept.annotations.get(CUT), "its age is another");
        for (name, old) in names.iter().zip(&contents) {
            let new = api.get(&content_of(w, name).await?).await?;
            ensure!(new.name_any() != *old && new.spec.deletion_policy == "Retain", "{new:#?}");
            until(&api, old, "the old content is gone", DEADLINE, |c| c.is_none()).await?;
        }
        ensure!(w.cli(&["rebind", &contents[0]]).await?.code == 3, "there is nothing left to rebind");
        let new = content_of(w, &names[0]).await?;
        let bound = w.cli(&["rebind", &new]).await?;
        ensure!(bound.code == 2 && bound.stderr.contains("which is there"), "{bound:?}");

        // and everything is in it
        for (name, target, later) in [(&names[0], "one", false), (&names[1], "two", true)] {
            let source = RestoreSource {
                pvc: "data".into(),
                from: Some(SourceKind::Snapshot),
                name: Some(name.clone()),
                ..RestoreSource::default()
            };
            let restore = w.restore(source, target).await?;
            w.restore_succeeded(&restore).await?;
            let app = w.app(App::new(target).mount(target, "/data")).await?;
            same(&tree, &app.fingerprint("/data/tree").await?)?;
            ensure!((app.exec(&["test", "-e", "/data/later"]).await?.code == 0) == later, "{target} is of the wrong moment");
            app.stop().await?;
        }
        Box::pin(into_another_namespace(w, &elsewhere, &third, &tree)).await
    })
}

/// Under its own name, with nothing in the namespace where it was; and what was cut is in it.
async fn into_another_namespace(w: &World, content: &str, snapshot: &str, tree: &str) -> Result<()> {
    let other = w.second().await?;
    other.cli(&["rebind", content]).await?.ok("borgherd rebind -n")?;
    ensure!(w.api::<VolumeSnapshot>().get_opt(snapshot).await?.is_none(), "it is in the namespace where it was, too");
    let target = RestoreTarget { pvc: "three".into(), storage_class: None, size: None };
    let restore = other.restore_as(RestoreSource { pvc: "data".into(), ..RestoreSource::default() }, Some(target)).await?;
    let chosen = other.restore_succeeded(&restore).await?.status.and_then(|status| status.resolved).context("nothing was chosen")?;
    ensure!((chosen.kind, chosen.name.as_str()) == (SourceKind::Snapshot, snapshot), "{chosen:?}");
    let app = other.app(App::new("three").mount("three", "/data")).await?;
    same(tree, &app.fingerprint("/data/tree").await?)?;
    ensure!(app.sh("cat /data/last").await? == "last", "it is of the wrong moment");
    app.stop().await?;
    other.leave().await
}
