//! The record that a repository has held an archive: a ConfigMap for each location, written after each success.
//!
//! Why: an unmounted NAS looks just like a new repository. With a record, a repository that is missing is `RepositoryVanished`
//! and never created again; another one in its place is `RepositoryReplaced`. A person who wants to begin anew deletes the record.

use borgherd_api::names::{self, CONTROLLER};
use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

/// What is known of a location.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Borg's id of the repository.
    pub id: Option<String>,
}

/// Reads the record of a location; `None`: nothing has been archived there.
pub async fn read(records: &Api<ConfigMap>, location: &str) -> Result<Option<Record>, kube::Error> {
    let found = records.get_opt(&names::repository_record(location)).await?;
    Ok(found.map(|map| Record { id: map.data.and_then(|mut d| d.remove("repositoryId")) }))
}

/// Writes that an archive was made at a location.
pub async fn write(records: &Api<ConfigMap>, location: &str, id: Option<&str>, cut: DateTime<Utc>) -> Result<(), kube::Error> {
    let name = names::repository_record(location);
    let mut data =
        serde_json::Map::from_iter([("location".to_owned(), json!(location)), ("lastArchive".to_owned(), json!(cut.to_rfc3339()))]);
    if let Some(id) = id {
        data.insert("repositoryId".to_owned(), json!(id));
    }
    let patch = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {names::COMPONENT: "repository-record"}},
        "data": data,
    });
    records.patch(&name, &PatchParams::apply(CONTROLLER).force(), &Patch::Apply(patch)).await.map(|_| ())
}
