//! What is kept of a failed test: every object that matters as YAML, Events, and the logs of Borgherd's pods.

use crate::world::World;
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::crd::{Backup, BorgRun, Repository, Restore};
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the state to the test's folder below `target/log/e2e`, as far as it can be had; returns the folder.
pub(crate) async fn write(world: &World, error: &anyhow::Error) -> PathBuf {
    let folder = world.dump_folder();
    put(&folder, "error.txt", &format!("{error:?}\n"));
    objects(&folder, "backups.yaml", &world.api::<Backup>()).await;
    objects(&folder, "restores.yaml", &world.api::<Restore>()).await;
    objects(&folder, "pods.yaml", &world.api::<Pod>()).await;
    objects(&folder, "claims.yaml", &world.api::<PersistentVolumeClaim>()).await;
    objects(&folder, "snapshots.yaml", &world.api::<VolumeSnapshot>()).await;
    objects(&folder, "events.yaml", &world.api::<Event>()).await;
    objects(&folder, "volumes.yaml", &world.api_all::<PersistentVolume>()).await;
    objects(&folder, "contents.yaml", &world.api_all::<VolumeSnapshotContent>()).await;
    objects(&folder, "repositories.yaml", &world.api_all::<Repository>()).await;
    objects(&folder, "borgherd-runs.yaml", &world.api_own::<BorgRun>()).await;
    objects(&folder, "borgherd-pods.yaml", &world.api_own::<Pod>()).await;
    objects(&folder, "borgherd-events.yaml", &world.api_own::<Event>()).await;
    objects(&folder, "borgherd-volumes-pods.yaml", &world.api_volumes::<Pod>()).await;
    objects(&folder, "borgherd-volumes-claims.yaml", &world.api_volumes::<PersistentVolumeClaim>()).await;
    objects(&folder, "borgherd-volumes-snapshots.yaml", &world.api_volumes::<VolumeSnapshot>()).await;
    objects(&folder, "borgherd-volumes-events.yaml", &world.api_volumes::<Event>()).await;
    logs(&folder, &world.api_own::<Pod>()).await;
    logs(&folder, &world.api::<Pod>()).await;
    folder
}

fn put(folder: &Path, name: &str, text: &str) {
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(folder.join(name), text));
    if let Err(error) = written {
        eprintln!("cannot write {name} to {}: {error}", folder.display());
    }
}

async fn objects<K: crate::wait::Object>(folder: &Path, file: &str, api: &Api<K>) {
    let text = match api.list(&ListParams::default()).await {
        Ok(list) => list.items.into_iter().map(without_managed_fields).collect::<Vec<_>>().join("---\n"),
        Err(error) => format!("# {error}\n"),
    };
    put(folder, file, &text);
}

fn without_managed_fields<K: crate::wait::Object>(mut object: K) -> String {
    object.managed_fields_mut().clear();
    serde_yaml::to_string(&object).unwrap_or_else(|e| format!("# {e}\n"))
}

async fn logs(folder: &Path, api: &Api<Pod>) {
    let Ok(pods) = api.list(&ListParams::default()).await else {
        return;
    };
    for pod in &pods {
        let containers = pod.spec.as_ref().map(|s| s.containers.clone()).unwrap_or_default();
        for container in containers {
            for previous in [true, false] {
                log(folder, api, &pod.name_any(), &container.name, previous).await;
            }
        }
    }
}

async fn log(folder: &Path, api: &Api<Pod>, pod: &str, container: &str, previous: bool) {
    let params =
        LogParams { container: Some(container.to_owned()), previous, tail_lines: Some(5000), timestamps: true, ..LogParams::default() };
    let suffix = if previous { "-previous" } else { "" };
    if let Ok(text) = api.logs(pod, &params).await {
        put(folder, &format!("{pod}-{container}{suffix}.log"), &text);
    }
}
