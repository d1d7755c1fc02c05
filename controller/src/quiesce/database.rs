//! Which databases a Backup dumps: those whose file lies on one of its PVCs. Nothing is run here.

use super::find::Finder;
use borgherd_api::database::{Preset, Presets};
use borgherd_api::hooks::resolve::Dumped;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tracing::info;

/// The presets of several PVCs, each once; with whether it stood on none of them.
pub(super) fn merge(all: Vec<Presets>) -> Vec<(Preset, bool)> {
    let mut merged: Vec<(Preset, bool)> = Vec::new();
    for Presets { list, inherited } in all {
        for preset in list {
            match merged.iter_mut().find(|(other, _)| *other == preset) {
                Some((_, all_inherited)) => *all_inherited &= inherited,
                None => merged.push((preset, inherited)),
            }
        }
    }
    merged
}

/// The containers in which databases of a Backup of `pvcs` are dumped; the message is for people.
pub(super) async fn place(finder: &mut Finder<'_>, presets: Vec<(Preset, bool)>, pvcs: &[&str]) -> Result<Vec<Dumped>, String> {
    let mut dumped = Vec::with_capacity(presets.len());
    for (preset, inherited) in presets {
        let Preset { place, file, container, .. } = &preset;
        let pods = finder.ready(place).await?;
        let pod = pods.first().ok_or_else(|| format!("{place} has no pod"))?;
        let at = finder.at(pod, container.as_deref()).await?;
        let here = || format!("file {file} in pod {}, container {}", at.pod, at.container);
        match home(pod, &at.container, file) {
            None => return Err(format!("{} is on no PVC, so no snapshot would hold it; choose a path below a mounted PVC", here())),
            Some(pvc) if pvcs.contains(&pvc.as_str()) => {}
            Some(pvc) if inherited => {
                info!(file, pvc, "the database's dump is on a PVC of another backup");
                continue;
            }
            Some(pvc) => return Err(format!("{} is on PVC {pvc}, which this backup does not hold; annotate that one", here())),
        }
        if !at.shell {
            return Err(format!("pod {}, container {} has no sh, which a dump needs", at.pod, at.container));
        }
        dumped.push(Dumped { preset, at });
    }
    Ok(dumped)
}

/// The PVC that a file of a container lies on.
fn home(pod: &Pod, container: &str, file: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mounts = spec.containers.iter().find(|c| c.name == container)?.volume_mounts.iter().flatten();
    let is_below = |path: &str| file.strip_prefix(path.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'));
    let mount = mounts.filter(|mount| is_below(&mount.mount_path)).max_by_key(|mount| mount.mount_path.trim_end_matches('/').len())?;
    let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name)?;
    let claimed = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
    // rule: the PVC of a generic ephemeral volume is named after pod and volume
    claimed.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name_any(), volume.name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;
    use borgherd_api::database::parse;
    use serde_json::json;

    #[test]
    fn a_file_is_on_the_pvc_of_the_nearest_mount() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "db-0" },
            "spec": {
                "containers": [
                    { "name": "db", "volumeMounts": [
                        { "name": "data", "mountPath": "/var/lib/db" }, { "name": "tmp", "mountPath": "/var/lib/db/tmp" },
                        { "name": "own", "mountPath": "/own/" },
                    ] },
                    { "name": "other" },
                ],
                "volumes": [
                    { "name": "data", "persistentVolumeClaim": { "claimName": "data-db-0" } }, { "name": "tmp", "emptyDir": {} },
                    { "name": "own", "ephemeral": {} },
                ],
            },
        }))
        .unwrap();
        for (container, file, pvc) in [
            ("db", "/var/lib/db/dump.sql.gz", Some("data-db-0")),
            ("db", "/var/lib/db/a/dump.sql.gz", Some("data-db-0")),
            ("db", "/var/lib/db/tmp/dump.sql.gz", None),
            ("db", "/var/lib/db2/dump.sql.gz", None),
            ("db", "/dump.sql.gz", None),
            ("db", "/own/dump.sql.gz", Some("db-0-own")),
            ("other", "/var/lib/db/dump.sql.gz", None),
        ] {
            assert_eq!(home(&pod, container, file).as_deref(), pvc, "{container} {file}");
        }
    }

    #[test]
    fn what_several_pvcs_say_counts_once_and_as_own_where_one_says_it_itself() {
        let list = parse("- postgres: {in: pod/db, file: /a/x.gz}\n- mysql: {in: pod/db, file: /a/y.gz}").unwrap();
        let inherited = Presets { list: list.clone(), inherited: true };
        let own = Presets { list: list.into_iter().take(1).collect(), inherited: false };
        let merged = merge(vec![inherited.clone(), own, inherited]);
        let told: Vec<_> = merged.iter().map(|(preset, inherited)| (preset.file.as_str(), *inherited)).collect();
        assert_eq!(told, [("/a/x.gz", false), ("/a/y.gz", true)]);
    }
}
