//! Prints one of the custom resource definitions as YAML, as the chart ships them: `--example crds -- backups`.

use borgherd_api::crd::{Backup, BorgRun, Repository, Restore};
use kube::CustomResourceExt;
use std::collections::BTreeMap;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let all = BTreeMap::from([
        ("backups", Backup::crd()),
        ("borgruns", BorgRun::crd()),
        ("repositories", Repository::crd()),
        ("restores", Restore::crd()),
    ]);
    let mut crd = all
        .get(wanted.as_str())
        .cloned()
        .ok_or_else(|| format!("which one? {}", all.keys().copied().collect::<Vec<_>>().join(", ")))?;
    // `helm uninstall` must not take every Backup and Restore with it.
    crd.metadata
        .annotations
        .get_or_insert_default()
        .insert("helm.sh/resource-policy".into(), "keep".into());
    print!("{}", serde_yaml::to_string(&crd)?);
    Ok(())
}
