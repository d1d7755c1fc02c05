//! `borgherd` as a person sees it: what it prints, how it ends, and what the API server says to wrong objects.

use anyhow::{Context, Result, ensure};
use borgherd_api::crd::{Backup, Restore, RestoreSource};
use borgherd_e2e::{App, Claim, Output, World, test};
use kube::ResourceExt;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::path::Path;
use tokio::process::Command;

/// The output ended with `code`, and says each of `parts` (on standard output or error).
fn says(shown: &str, output: &Output, code: i32, parts: &[&str]) -> Result<()> {
    let all = format!("{}\n{}", output.text(), output.stderr);
    ensure!(output.code == code, "`borgherd {shown}` should end with {code}, and ended with {}:\n{all}", output.code);
    for part in parts {
        ensure!(all.contains(part), "`borgherd {shown}` should say {part:?}, and says:\n{all}");
    }
    Ok(())
}

async fn check(w: &World, line: &str, code: i32, parts: &[&str]) -> Result<Output> {
    let arguments: Vec<&str> = line.split(' ').collect();
    let output = w.cli(&arguments).await?;
    says(line, &output, code, parts)?;
    Ok(output)
}

fn json_of(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON: {}", output.text()))
}

async fn backs_up(w: &World) -> Result<()> {
    let first = check(w, "backup data --wait", 0, &["data: succeeded", "archive", "in in-cluster", "took"]).await?;
    ensure!(first.text().contains(&format!("{}_data_", w.namespace)), "no archive is named in:\n{}", first.text());
    let second = check(w, "backup data --wait --output json", 0, &[]).await?;
    let object: Backup = serde_json::from_value(json_of(&second)?).context("a Backup")?;
    let volumes = object.status.map(|s| s.volumes).unwrap_or_default();
    ensure!(volumes.len() == 1 && volumes[0].archive.is_some(), "printed without its end: {volumes:?}");
    let snapshot = check(w, "backup data --no-archive", 0, &["created"]).await?;
    ensure!(snapshot.stderr.is_empty() || !snapshot.stderr.contains("error"), "{}", snapshot.stderr);
    let all = w.backups().await?;
    w.backup_succeeded(&all.last().context("no Backup")?.name_any()).await?;
    Ok(())
}

async fn tells_the_state(w: &World) -> Result<()> {
    check(w, "status", 0, &["PVC", "STATE", "data", "ok", "0 3 * * *", "none", "off"]).await?;
    let block = ["ok", "0 3 * * *  (on the PVC)", "default Repository", "last success", "next backup", "03:00:00"];
    check(w, "status data", 0, &block).await?;
    let all = json_of(&check(w, "status --output json", 0, &[]).await?)?;
    let data = &all["items"][0];
    ensure!(data["pvc"] == "data" && data["policy"]["schedule"]["origin"] == "pvc", "{data:#}");
    ensure!(data["lastSuccess"]["outcome"] == "Succeeded" && data["nextBackup"].is_string(), "{data:#}");
    let everywhere = w.call(Command::new(w.cli_binary()?).args(["status", "--all-namespaces"])).await?;
    says("status -A", &everywhere, 0, &["NAMESPACE", &w.namespace])
}

async fn lists(w: &World) -> Result<String> {
    check(w, "list data", 0, &["CUT", "SNAPSHOT", "ARCHIVE", "FILES"]).await?;
    let yaml = check(w, "list data --output yaml", 0, &[]).await?;
    let list: Value = serde_yaml::from_slice(&yaml.stdout).context("list prints YAML")?;
    let items = list["items"].as_array().context("list has items")?;
    ensure!(items.len() == 3, "three backups were made, listed are {list:#}");
    ensure!(items[0]["archives"].as_array().is_none_or(Vec::is_empty), "the newest is a snapshot only: {:#}", items[0]);
    ensure!(items[2]["archives"][0]["files"] == 1, "the first archive has one file: {:#}", items[2]);
    let left: Vec<String> = w.api::<Restore>().list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
    ensure!(left.is_empty(), "listing has left Restores {left:?}");
    items[2]["archives"][0]["name"].as_str().map(str::to_owned).context("an archive has a name")
}

async fn restores(w: &World, archive: &str) -> Result<()> {
    check(w, &format!("restore data --to new --name {archive} --wait"), 0, &["restored", "new", archive]).await?;
    let reader = w.app(App::new("reader").mount("new", "/data")).await?;
    let text = reader.sh("cat /data/file").await?;
    ensure!(text == "here", "restored was {text:?}");
    check(w, "restore data --to new", 2, &["new exists", "--to"]).await?;
    check(w, "restore data --to other --name no-such-archive --wait", 3, &["error:", "NoMatch", "no-such-archive"]).await?;
    check(w, "restore data --to other --at 30d", 3, &["error:", "NoMatch", "at or before"]).await?;
    check(w, "restore data --to other --at yesterdayish", 2, &["error:", "yesterdayish"]).await?;
    check(w, "restore data --to Other_one", 2, &["error:", "Other_one"]).await?;
    check(w, "restore elsewhere --to other --wait", 3, &["error:", "elsewhere"]).await?;
    Ok(())
}

async fn refuses(w: &World) -> Result<()> {
    check(w, "backup", 2, &["<PVC>"]).await?;
    check(w, "backup data --wait --timeout soon", 2, &["soon"]).await?;
    check(w, "backup nothing", 3, &["error: there is no PVC", "nothing", "kubectl"]).await?;
    check(w, "status nothing", 3, &["error: there is no PVC", "nothing"]).await?;
    check(w, "list elsewhere", 3, &["elsewhere"]).await?;
    check(w, "list data --repository nowhere", 1, &["nowhere", "RepositoryNotFound"]).await?;
    check(w, "backup none --wait", 1, &["error:", "RepositoryNotFound", "nowhere"]).await?;
    check(w, "restore data --to later --from archive --wait --timeout 1s", 5, &["has not ended within", "it goes on"]).await?;
    check(w, "completion bash", 0, &["complete -F", "borgherd"]).await.map(drop)
}

async fn other_people(w: &World, folder: &Path) -> Result<()> {
    let nobody = folder.join("nobody");
    w.kubeconfig_of_nobody("nobody", &nobody).await?;
    let hint = "kubectl auth can-i";
    let status = w.cli_with(&["status"], Some(&nobody)).await?;
    says("status (as nobody)", &status, 4, &["not allowed", hint])?;
    let backup = w.cli_with(&["backup", "data"], Some(&nobody)).await?;
    says("backup data (as nobody)", &backup, 4, &["not allowed", hint])?;
    let nowhere = folder.join("nowhere");
    let text = std::fs::read_to_string(&nobody)?;
    let mut config: Value = serde_yaml::from_str(&text)?;
    config["clusters"][0]["cluster"]["server"] = json!("https://127.0.0.1:1");
    std::fs::write(&nowhere, serde_yaml::to_string(&config)?)?;
    let status = w.cli_with(&["status"], Some(&nowhere)).await?;
    says("status (of a cluster that is down)", &status, 6, &["error: cannot", "--kubeconfig"])
}

/// kubectl finds its plugin by the name of the file.
async fn plugin(w: &World, folder: &Path) -> Result<()> {
    std::os::unix::fs::symlink(w.cli_binary()?, folder.join("kubectl-borgherd"))?;
    let path = format!("{}:{}", folder.display(), w.path());
    let output = w.call(Command::new("kubectl").args(["borgherd", "status", "-n", &w.namespace]).env("PATH", path)).await?;
    says("status (by kubectl)", &output, 0, &["STATE", "data"])
}

#[test]
fn the_command_line_shows_starts_lists_and_restores_and_tells_what_is_wrong() -> Result<()> {
    test("the_command_line_shows_starts_lists_and_restores_and_tells_what_is_wrong", async |w: &World| {
        w.claim(Claim::new("data").size("20Mi").annotation("schedule", "0 3 * * *")).await?;
        w.claim(Claim::new("none").size("20Mi").annotation("repository", "nowhere")).await?;
        let app = w.app(App::new("app").mount("data", "/data").mount("none", "/none")).await?;
        app.sh("echo here >/data/file").await?;
        backs_up(w).await?;
        tells_the_state(w).await?;
        let archive = lists(w).await?;
        restores(w, &archive).await?;
        refuses(w).await?;
        let folder = tempfile::tempdir()?;
        other_people(w, folder.path()).await?;
        plugin(w, folder.path()).await
    })
}

/// Kind, spec, and what the refusal must say: the field and what would be right.
fn wrong() -> Vec<(&'static str, Value, &'static [&'static str])> {
    vec![
        ("Backup", json!({ "volumes": [] }), &["spec.volumes", "at least 1"]),
        ("Backup", json!({}), &["spec.volumes", "Required"]),
        ("Backup", json!({ "volumes": ["a"], "trigger": "Now" }), &["spec.trigger", "Manual", "Scheduled"]),
        ("Backup", json!({ "volumes": "a" }), &["spec.volumes", "array"]),
        ("Backup", json!({ "volumes": ["a"], "volume": "b" }), &["spec.volume"]),
        ("Restore", json!({ "source": { "pvc": "a" } }), &["either target or preview"]),
        ("Restore", json!({ "source": { "pvc": "a" }, "preview": true, "target": { "pvc": "b" } }), &["either target or preview"]),
        (
            "Restore",
            json!({ "source": { "pvc": "a", "name": "x", "at": "2026-11-21T10:00:00Z" }, "preview": true }),
            &["name or at, not both"],
        ),
        ("Restore", json!({ "source": { "pvc": "a", "at": "yesterday" }, "preview": true }), &["spec.source.at", "date-time"]),
        ("Restore", json!({ "source": { "pvc": "a", "from": "Tape" }, "preview": true }), &["spec.source.from", "Snapshot", "Archive"]),
        ("Restore", json!({ "source": {}, "preview": true }), &["spec.source.pvc", "Required"]),
        ("Repository", json!({ "location": "user@host:repo", "secretRef": "s" }), &["spec.location", "ssh:// or /repositories/"]),
        ("Repository", json!({ "location": "/repositories/../etc", "secretRef": "s" }), &["spec.location", "'..'"]),
        ("Repository", json!({ "location": "ssh://h/./r" }), &["spec.secretRef", "Required"]),
        (
            "Repository",
            json!({ "location": "ssh://h/./r", "secretRef": "s", "encryption": "rot13" }),
            &["spec.encryption", "repokey-blake2"],
        ),
        (
            "Repository",
            json!({ "location": "ssh://h/./r", "secretRef": "s", "maxConcurrent": 0 }),
            &["spec.maxConcurrent", "greater than or equal to 1"],
        ),
    ]
}

fn api_of(w: &World, kind: &str) -> kube::Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("borgherd.dev", "v1alpha1", kind));
    if kind == "Repository" {
        let plural = ApiResource { plural: "repositories".into(), ..resource };
        return kube::Api::all_with(w.client.clone(), &plural);
    }
    kube::Api::namespaced_with(w.client.clone(), &w.namespace, &resource)
}

/// What the API server says to an object, as kubectl sends it: fields that are unknown are refused, too.
async fn refusal(w: &World, kind: &str, name: &str, spec: &Value) -> Result<Option<String>> {
    let object = json!({ "apiVersion": "borgherd.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let url = match kind {
        "Repository" => "/apis/borgherd.dev/v1alpha1/repositories".to_owned(),
        other => format!("/apis/borgherd.dev/v1alpha1/namespaces/{}/{}s", w.namespace, other.to_lowercase()),
    };
    let request = http::Request::post(format!("{url}?dryRun=All&fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&object)?)?;
    match w.client.request::<Value>(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn the_api_server_refuses_wrong_objects_and_says_what_would_be_right() -> Result<()> {
    test("the_api_server_refuses_wrong_objects_and_says_what_would_be_right", async |w: &World| {
        for (kind, spec, parts) in wrong() {
            let message = refusal(w, kind, "wrong", &spec).await?.with_context(|| format!("{kind} was taken: {spec}"))?;
            for part in parts {
                ensure!(message.contains(part), "the refusal of {kind} {spec} should say {part:?}: {message}");
            }
        }
        for (kind, spec) in [
            ("Backup", json!({ "volumes": ["a"] })),
            ("Restore", json!({ "source": { "pvc": "a" }, "target": { "pvc": "b" } })),
            ("Repository", json!({ "location": "ssh://h/./r", "secretRef": "s" })),
        ] {
            let refused = refusal(w, kind, "right", &spec).await?;
            ensure!(refused.is_none(), "{kind} {spec} was refused: {refused:?}");
        }
        specs_do_not_change(w).await
    })
}

/// What a Backup or a Restore is to do is said once.
async fn specs_do_not_change(w: &World) -> Result<()> {
    let backup = w.backup(&["not-there"]).await?;
    let restore = w.restore_as(RestoreSource { pvc: "not-there".into(), ..Default::default() }, None).await?;
    for (kind, name, spec, part) in [
        ("Backup", &backup, json!({ "volumes": ["other"] }), "make a new Backup"),
        ("Restore", &restore, json!({ "source": { "pvc": "other" } }), "make a new Restore"),
    ] {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let changed = api_of(w, kind).patch(name, &PatchParams::default(), &patch).await;
        let error = changed.err().with_context(|| format!("the spec of a {kind} could be changed"))?.to_string();
        ensure!(error.contains(part), "{error}");
    }
    w.backup_ended(&backup).await?;
    w.restore_ended(&restore).await.map(drop)
}
