//! Metrics of Borgherd's processes, read through the API server's proxy.

use crate::wait::{DEADLINE, until_polled};
use crate::world::World;
use anyhow::{Context, Result, bail};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::collections::BTreeMap;

/// Port of every process of Borgherd.
const PORT: u16 = 9100;

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// What one process, or several, expose.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// All samples, in their order.
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// Reads Prometheus' text format.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
        let samples = lines.map(|l| sample(l).with_context(|| format!("not a sample: {l}"))).collect::<Result<_>>()?;
        Ok(Self { samples })
    }

    /// Sum of a metric's samples that have all of `labels`; `None` when there is no such sample.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |s: &Sample| labels.iter().all(|(k, v)| s.labels.get(*k).is_some_and(|found| found == v));
        let values: Vec<f64> = self.samples.iter().filter(|s| s.name == name && has(s)).map(|s| s.value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)?),
    };
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// `a="b",c="d\"e"`
fn labels(mut rest: &str) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        found.insert(key.to_owned(), value);
        rest = after.get(end + 1..)?.trim_start_matches(',');
    }
    Some(found)
}

impl World {
    /// What a pod of Borgherd's answers at `path` of its port for metrics and health.
    pub async fn get_from(&self, pod: &str, path: &str) -> Result<String> {
        let namespace = self.own_namespace();
        let url = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy{path}");
        let request = Request::get(&url).body(Vec::new())?;
        self.client.request_text(request).await.with_context(|| format!("GET {url}"))
    }

    /// Metrics of the controller.
    pub async fn controller_metrics(&self) -> Result<Metrics> {
        self.metrics_of(self.controllers().await?).await
    }

    /// Metrics of all agents together.
    pub async fn agent_metrics(&self) -> Result<Metrics> {
        self.metrics_of(self.agents().await?).await
    }

    async fn metrics_of(&self, pods: Vec<Pod>) -> Result<Metrics> {
        let mut all = Metrics::default();
        for pod in pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()) {
            let text = self.get_from(&pod.name_any(), "/metrics").await?;
            all.samples.extend(Metrics::parse(&text)?.samples);
        }
        if all.samples.is_empty() {
            bail!("no pod gave a metric");
        }
        Ok(all)
    }

    /// Waits until a metric of the controller fulfils `holds`.
    pub async fn controller_metric(&self, name: &str, labels: &[(&str, &str)], holds: impl Fn(Option<f64>) -> bool) -> Result<()> {
        let what = format!("metric {name} {labels:?} of the controller");
        until_polled(&what, DEADLINE, async || Ok(holds(self.controller_metrics().await?.sum(name, labels)).then_some(()))).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn labels_may_hold_what_the_format_allows() {
        let text = "# HELP a b\na 1\nb{x=\"1\",y=\"q\\\"},=\\n\"} 2.5\nb{x=\"2\"} 1e3\n";
        let metrics = Metrics::parse(text).unwrap();
        assert_eq!(metrics.sum("a", &[]), Some(1.0));
        assert_eq!(metrics.sum("b", &[]), Some(1002.5));
        assert_eq!(metrics.sum("b", &[("y", "q\"},=\n")]), Some(2.5));
        assert_eq!(metrics.sum("b", &[("x", "3")]), None);
        assert!(Metrics::parse("a{x=1} 2").is_err());
    }
}
