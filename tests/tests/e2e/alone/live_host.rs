//! hostPath volumes, of which the kubelet makes no mount: read only where the chart allows it, through no link, and not empty.

use crate::live::{local, one, restored, some_node};
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_e2e::{App, Node, Running, World, exclusive, same};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::DeleteParams;
use serde_json::json;

/// On the node; only what is below it may be read.
const ALLOWED: &str = "/var/lib/kubelet/e2e-live";

#[test]
fn live_a_host_path_is_read_where_that_is_allowed_and_never_through_a_link() -> Result<()> {
    exclusive("live_a_host_path_is_read_where_that_is_allowed_and_never_through_a_link", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let name = some_node(w).await?;
        let node = cluster.node(&name);
        node.sh(&format!("rm -rf {ALLOWED} && mkdir -p {ALLOWED}/volume")).await?;
        let pv = local(w, &name, json!({ "hostPath": { "path": format!("{ALLOWED}/volume") } })).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        let values = format!("agent.liveHostPaths={{/var/lib/kubelet/e2e-none,{ALLOWED}}}");
        let outcome = w.release().with(&[&values], async || allowed(w, &node, &app).await).await;
        app.stop().await?;
        drop(w.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await?);
        drop(w.api_all::<PersistentVolume>().delete(&pv, &DeleteParams::default()).await?);
        node.sh(&format!("rm -rf {ALLOWED}")).await?;
        outcome
    })
}

async fn allowed(w: &World, node: &Node, app: &Running) -> Result<()> {
    let backup = w.backup(&["data"]).await?;
    let message = w.backup_failed(&backup, Reason::VolumeNotMounted).await?;
    ensure!(message.contains("is empty") && message.contains("borgherd accept"), "{message}");
    w.annotate::<PersistentVolumeClaim>("data", &[("accept", Some("empty"))]).await?;
    let backup = w.backup(&["data"]).await?;
    let files = one(w, &backup).await?.progress.map(|p| p.files);
    ensure!(files == Some(0), "an empty volume has {files:?} files");
    app.make_awkward_tree("/data/tree").await?;
    let expected = app.fingerprint("/data/tree").await?;
    let backup = w.backup(&["data"]).await?;
    let volume = one(w, &backup).await?;
    ensure!(volume.node.as_ref() == Some(&app.node), "read on {:?}", volume.node);
    same(&expected, &restored(w).await?.fingerprint("/data/tree").await?).context("restored")?;
    node.sh(&format!("cd {ALLOWED} && mv volume real && ln -s real volume")).await?;
    let backup = w.backup(&["data"]).await?;
    let message = w.backup_failed(&backup, Reason::VolumeNotSupported).await;
    node.sh(&format!("cd {ALLOWED} && rm volume && mv real volume")).await?;
    let message = message?;
    ensure!(message.contains("without following links"), "{message}");
    Ok(())
}
