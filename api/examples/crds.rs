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
    let mut crd =
        all.get(wanted.as_str()).cloned().ok_or_else(|| format!("which one? {}", all.keys().copied().collect::<Vec<_>>().join(", ")))?;
    // `helm uninstall` must not take every Backup and Restore with it.
    crd.metadata.annotations.get_or_insert_default().insert("helm.sh/resource-policy".into(), "keep".into());
    let mut crd = serde_json::to_value(crd)?;
    drop_unsigned_formats(&mut crd);
    print!("{}", serde_yaml::to_string(&crd)?);
    Ok(())
}

/// Kubernetes knows no unsigned formats and warns of each at every install; `minimum: 0` is there and says the same.
fn drop_unsigned_formats(node: &mut serde_json::Value) {
    match node {
        serde_json::Value::Object(fields) => {
            let unsigned = |format: &serde_json::Value| format.as_str().is_some_and(|name| name.starts_with("uint"));
            if fields.get("format").is_some_and(unsigned) {
                fields.remove("format");
            }
            fields.values_mut().for_each(drop_unsigned_formats);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_unsigned_formats),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::String(_) => {}
    }
}
