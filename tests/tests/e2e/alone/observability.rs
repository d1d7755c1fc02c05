//! Metrics, as a real Prometheus reads them and a real Pushgateway is told.

use anyhow::{Context, Result, bail, ensure};
use borgherd_e2e::{App, Claim, DEADLINE, World, exclusive, until, until_polled};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// Where pods reach this machine, in the network of the project's own cluster.
const HERE: &str = "10.99.0.254";
const PROMETHEUS: &str = "127.0.0.1:19090";
const PUSHGATEWAY_PORT: u16 = 19091;

/// Debian's Prometheus does not ask Kubernetes, so what its annotations say of a pod is read here.
const SCRAPE: &str = "prometheus.io/scrape";

fn target(pod: &Pod) -> Option<Value> {
    let of = |key: &str| pod.annotations().get(key).cloned();
    let address = pod.status.as_ref()?.pod_ip.clone()?;
    let component = pod.labels().get("app.kubernetes.io/component")?;
    (of(SCRAPE)? == "true").then_some(())?;
    Some(json!({
        "targets": [format!("{address}:{}", of("prometheus.io/port")?)],
        "labels": { "component": component, "pod": pod.name_any(), "__metrics_path__": of("prometheus.io/path")? },
    }))
}

/// The pods of Borgherd's that want to be scraped, and the Pushgateway.
async fn configuration(w: &World) -> Result<Value> {
    let pods = w.api_own::<Pod>().list(&ListParams::default()).await?;
    let living = pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none());
    let targets: Vec<Value> = living.filter_map(target).collect();
    Ok(json!({
        "global": { "scrape_interval": "1s" },
        "scrape_configs": [
            { "job_name": "pods", "static_configs": targets },
            { "job_name": "pushed", "honor_labels": true, "static_configs": [{ "targets": [format!("127.0.0.1:{PUSHGATEWAY_PORT}")] }] },
        ],
    }))
}

/// Both programs; they end with the test.
struct Monitoring {
    _children: [Child; 2],
}

fn program(name: &str, arguments: &[String], log: &Path) -> Result<Child> {
    let log = std::fs::File::create(log)?;
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    command.spawn().with_context(|| format!("start {name} (hack/packages tests installs it)"))
}

impl Monitoring {
    async fn start(w: &World, folder: &Path) -> Result<Self> {
        std::fs::write(folder.join("prometheus.yaml"), serde_yaml::to_string(&configuration(w).await?)?)?;
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        // what Debian's keeps in a file by default would be there in the next run
        let gateway = [format!("--web.listen-address=0.0.0.0:{PUSHGATEWAY_PORT}"), "--persistence.file=".to_owned()];
        let prometheus = [
            format!("--config.file={}", path("prometheus.yaml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address={PROMETHEUS}"),
        ];
        let children = [
            program("prometheus-pushgateway", &gateway, &folder.join("pushgateway.log"))?,
            program("prometheus", &prometheus, &folder.join("prometheus.log"))?,
        ];
        let monitoring = Self { _children: children };
        until_polled("Prometheus answers", DEADLINE, async || query("up").await.map(Some)).await?;
        Ok(monitoring)
    }
}

/// A query of Prometheus: each series' labels and its newest value.
async fn query(text: &str) -> Result<Vec<(Value, f64)>> {
    let url = format!("http://{PROMETHEUS}");
    let asked = Command::new("promtool").args(["query", "instant", "-o", "json", &url, text]).output();
    let output = asked.await.context("promtool")?;
    ensure!(output.status.success(), "promtool query {text}: {}", String::from_utf8_lossy(&output.stderr));
    let series: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let one = |s: &Value| Some((s["metric"].clone(), s["value"][1].as_str()?.parse().ok()?));
    series.iter().map(|s| one(s).with_context(|| format!("a series: {s}"))).collect()
}

/// Waits until a query's answer fulfils `holds`; the error shows the last answer.
async fn answers(text: &str, what: &str, holds: impl Fn(&[(Value, f64)]) -> bool) -> Result<Vec<(Value, f64)>> {
    until_polled(&format!("Prometheus: {what}"), DEADLINE, async || {
        let found = query(text).await?;
        if holds(&found) { Ok(Some(found)) } else { bail!("{text} is {found:?}") }
    })
    .await
}

/// One series, of this value.
fn is(found: &[(Value, f64)], value: f64) -> bool {
    found.len() == 1 && found.iter().all(|(_, v)| (v - value).abs() < 0.5)
}

/// `promtool check metrics`: names, units and help texts as Prometheus wants them.
async fn is_well_formed(w: &World, pod: &str) -> Result<()> {
    let text = w.get_from(pod, "/metrics").await?;
    ensure!(text.contains("# HELP borgherd_"), "{pod} gives no metric of Borgherd:\n{text}");
    let mut check =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = check.stdin.take().context("no standard input")?;
    stdin.write_all(text.as_bytes()).await?;
    drop(stdin);
    let output = check.wait_with_output().await?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && said.is_empty(), "promtool check metrics of {pod}:\n{said}");
    Ok(())
}

/// Helm is content while one agent is still being replaced.
async fn agents_are_rolled_out(w: &World) -> Result<()> {
    let done = |set: Option<&DaemonSet>| {
        set.is_some_and(|set| {
            let status = set.status.clone().unwrap_or_default();
            let wanted = status.desired_number_scheduled;
            status.observed_generation == set.metadata.generation
                && (status.updated_number_scheduled, status.number_available) == (Some(wanted), Some(wanted))
        })
    };
    until(&w.api_own::<DaemonSet>(), "borgherd-agent", "every agent is of the new release", DEADLINE, done).await.map(drop)
}

async fn both_are_scraped(w: &World) -> Result<()> {
    let (agents, controllers) = (w.agents().await?, w.controllers().await?);
    let up = "up{job=\"pods\"} == 1";
    let scraped = answers(up, "controller and agents are up", |found| {
        let of = |component: &str| found.iter().filter(|(labels, _)| labels["component"] == component).count();
        of("agent") == agents.len() && of("controller") == controllers.len()
    });
    scraped.await?;
    for pod in agents.iter().chain(&controllers) {
        is_well_formed(w, &pod.name_any()).await?;
    }
    Ok(())
}

async fn series_of_the_volume(w: &World) -> Result<()> {
    let labels = format!("{{namespace=\"{}\",pvc=\"data\"}}", w.namespace);
    let one = |found: &[(Value, f64)]| found.len() == 1;
    let success = format!("time() - borgherd_last_success_timestamp_seconds{labels}");
    answers(&success, "the last success is minutes ago", |f| one(f) && (0.0..600.0).contains(&f[0].1)).await?;
    let interval = format!("borgherd_expected_interval_seconds{labels}");
    answers(&interval, "a day between backups", |f| is(f, 86400.0)).await?;
    answers("sum(borgherd_agent_slots_in_use)", "no slot is in use", |f| is(f, 0.0)).await?;
    answers("sum(borgherd_leading)", "one controller leads", |f| is(f, 1.0)).await?;
    answers("sum(borgherd_agent_runs_total{operation=\"archive\",outcome=\"Succeeded\"}) >= 1", "a run is counted", one).await?;
    let phases = "count(borgherd_phase_seconds_count{phase=~\"cut_to_ready|clone|slot_wait|borg\"} > 0)";
    answers(phases, "durations of four phases", |f| is(f, 4.0)).await.map(drop)
}

async fn run_was_pushed(w: &World) -> Result<()> {
    let labels = format!("{{job=\"borgherd\",namespace=\"{}\",pvc=\"data\",operation=\"archive\"}}", w.namespace);
    let one = |found: &[(Value, f64)]| found.len() == 1;
    for (name, value) in [("borgherd_last_run_files", 1.0), ("borgherd_last_run_original_bytes", 5.0)] {
        let what = format!("{name} was pushed as {value}");
        answers(&format!("{name}{labels}"), &what, |f| is(f, value)).await?;
    }
    let outcome = answers(&format!("borgherd_last_run_outcome{labels}"), "the outcome was pushed", one).await?;
    ensure!(outcome[0].0["outcome"] == "Succeeded", "the run was pushed as {}", outcome[0].0);
    answers("sum(borgherd_agent_push_failures_total)", "no push failed", |f| is(f, 0.0)).await.map(drop)
}

/// The PVC goes, and every series that names it.
async fn series_vanish(w: &World, app: borgherd_e2e::Running) -> Result<()> {
    app.stop().await?;
    let claims = w.api::<PersistentVolumeClaim>();
    drop(claims.delete("data", &DeleteParams::default()).await?);
    until(&claims, "data", "is gone", DEADLINE, |c| c.is_none()).await?;
    until_polled("no series of the controller names the PVC that is gone", DEADLINE, async || {
        let samples = w.controller_metrics().await?.samples;
        let left: Vec<_> = samples.into_iter().filter(|s| s.labels.get("namespace") == Some(&w.namespace)).collect();
        if left.is_empty() { Ok(Some(())) } else { bail!("there are {left:?}") }
    })
    .await?;
    let all = format!("{{job=\"pods\",namespace=\"{}\"}}", w.namespace);
    answers(&all, "no series of the PVC that is gone", <[_]>::is_empty).await.map(drop)
}

#[test]
fn prometheus_scrapes_both_and_a_pushgateway_receives_the_run() -> Result<()> {
    exclusive("prometheus_scrapes_both_and_a_pushgateway_receives_the_run", async |w: &World| {
        if w.cluster().is_none() {
            return w.skip("pods must reach programs of this machine: needs the project's own cluster");
        }
        let folder = tempfile::tempdir()?;
        w.claim(Claim::new("data").size("20Mi").annotation("schedule", "0 3 * * *")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.sh("printf 12345 >/data/file").await?;
        let url = format!("pushgateway.url=http://{HERE}:{PUSHGATEWAY_PORT}");
        w.release()
            .with(&[&url], async || {
                agents_are_rolled_out(w).await?;
                let _monitoring = Monitoring::start(w, folder.path()).await?;
                let backup = w.backup(&["data"]).await?;
                w.backup_succeeded(&backup).await?;
                both_are_scraped(w).await?;
                series_of_the_volume(w).await?;
                run_was_pushed(w).await?;
                series_vanish(w, app).await
            })
            .await
    })
}
