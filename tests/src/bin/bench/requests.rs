//! How many requests Borgherd sends to the API server for one backup: counted in the API server's own audit log.

use crate::figure::figure;
use anyhow::{Context, Result, ensure};
use borgherd_api::crd::Backup;
use borgherd_e2e::{App, Claim, DEADLINE, World, test, until_all};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// ServiceAccounts of controller and agents.
const ACCOUNTS: &str = "system:serviceaccount:borgherd:";

/// What follows a Backup's end (its snapshot's tiers, its identity on the content) has come by then.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// Backs up one small volume a second time, and another one by its schedule for the first time; counts both.
pub(crate) fn measure(audit_log: Option<&Path>) -> Result<()> {
    let path = audit_log.context("--audit-log is needed for requests")?;
    test("bench_requests", async |w: &World| {
        w.claim(Claim::new("data")).await?;
        w.claim(Claim::new("other")).await?;
        let app = w.app(App::new("app").mount("data", "/data").mount("other", "/other")).await?;
        app.sh("head -c 1000000 /dev/urandom >/data/file; cp /data/file /other").await?;
        let first = w.backup(&["data"]).await?;
        w.backup_succeeded(&first).await?;
        sleep(AFTERWARDS).await;

        let mut log = File::open(path).with_context(|| format!("audit log {}", path.display()))?;
        log.seek(SeekFrom::End(0))?;
        let second = w.backup(&["data"]).await?;
        w.backup_succeeded(&second).await?;
        sleep(AFTERWARDS).await;
        tell("one backup", "without Leases and standing watches; aim 40", &count(&mut log)?)?;

        w.annotate::<PersistentVolumeClaim>("other", &[("schedule", Some("* * * * *"))]).await?;
        let is_there = |all: &[Backup]| all.len() > 2;
        until_all(&w.api::<Backup>(), "", "the schedule has made a Backup", DEADLINE, is_there).await?;
        w.annotate::<PersistentVolumeClaim>("other", &[("schedule", None)]).await?;
        let scheduled = w.backups().await?.pop().context("seen and yet absent")?;
        w.backup_succeeded(&scheduled.name_any()).await?;
        sleep(AFTERWARDS).await;
        tell("a first scheduled backup, with tiers", "in a new repository; with the making of the Backup", &count(&mut log)?)
    })
}

fn tell(of: &str, compared: &str, counts: &BTreeMap<String, u32>) -> Result<()> {
    let total: u32 = counts.values().sum();
    ensure!(total > 0, "the audit log shows no request of Borgherd");
    figure(&format!("requests to the API server for {of}"), f64::from(total), "requests", compared);
    for (what, number) in counts {
        figure(&format!("requests: {what}"), f64::from(*number), "requests", "part of the above");
    }
    Ok(())
}

/// Requests of Borgherd from here to the end, by process, verb and resource. Leases are renewed whether there is a backup or not.
fn count(log: &mut File) -> Result<BTreeMap<String, u32>> {
    let mut counts = BTreeMap::new();
    for line in BufReader::new(log).lines() {
        let Ok(event) = serde_json::from_str::<Value>(&line?) else { continue };
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let user = text("/user/username");
        let Some(account) = user.strip_prefix(ACCOUNTS) else { continue };
        let (verb, resource, sub) = (text("/verb"), text("/objectRef/resource"), text("/objectRef/subresource"));
        if resource == "leases" || verb == "watch" || resource.is_empty() {
            continue;
        }
        let sub = if sub.is_empty() { sub } else { format!("/{sub}") };
        *counts.entry(format!("{account} {verb} {resource}{sub}")).or_default() += 1;
    }
    Ok(counts)
}
