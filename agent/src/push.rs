//! Tells a Prometheus Pushgateway the result of each run, one group for each namespace, PVC and operation.
//!
//! A success replaces its group (PUT); anything else only the figures it has (POST), so that the time of the last success and its sizes
//! stay until the next success. Only `http://`: the gateway is meant to stand inside the cluster. A push that fails changes nothing about
//! the run; it is logged and counted.
//!
//! Why not through the agent's own metrics: the agent cannot see when a PVC goes away, so it keeps no series of single PVCs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use borgherd_api::crd::{BorgRunSpec, BorgRunStatus, RunPhase};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use prometheus::{Encoder, Gauge, IntGauge, Opts, Registry, TextEncoder};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Of an error's body this much is read.
const ERROR_BYTES: usize = 2048;

/// Why something was not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The URL of the chart value cannot be used.
    #[error("Pushgateway URL {url:?}: {why}; write it as http://HOST[:PORT][/PATH]")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// No TCP connection.
    #[error("connecting to {address}: {error}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// The HTTP exchange broke.
    #[error("talking to the Pushgateway: {0}")]
    Http(#[from] hyper::Error),
    /// The gateway said no.
    #[error("the Pushgateway answers {status}: {body}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What it says.
        body: String,
    },
    /// Nothing came back.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The request could not be put together.
    #[error("building the request: {0}")]
    Request(#[from] hyper::http::Error),
    /// The figures could not be put together.
    #[error("encoding the metrics: {0}")]
    Encode(#[from] prometheus::Error),
}

/// A Pushgateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// `host:port` to connect to.
    address: String,
    /// For the Host header, as configured.
    authority: String,
    /// Path before `/metrics`, without a slash at its end.
    prefix: String,
}

impl Gateway {
    /// The gateway at `url`; an error names what is wrong with it.
    pub fn new(url: &str) -> Result<Self, PushError> {
        let refuse = |why: String| PushError::Url { url: url.to_owned(), why };
        let uri: Uri = url.parse().map_err(|error| refuse(format!("{error}")))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(refuse("https is not supported".to_owned())),
            Some(other) => return Err(refuse(format!("the scheme {other} is not supported"))),
            None => return Err(refuse("no scheme".to_owned())),
        }
        let authority = uri.authority().ok_or_else(|| refuse("no host".to_owned()))?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(refuse("only a host and a port can stand before the path".to_owned()));
        }
        if uri.query().is_some() {
            return Err(refuse("it has a query".to_owned()));
        }
        Ok(Self {
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Push the final `status` of a run. `ended` and `took` are in seconds, `ended` since 1970.
    pub async fn push(&self, spec: &BorgRunSpec, status: &BorgRunStatus, ended: f64, took: f64) -> Result<(), PushError> {
        let method = if status.phase == RunPhase::Succeeded { Method::PUT } else { Method::POST };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{}", self.prefix, group(spec)))
            .header(hyper::header::HOST, &self.authority)
            .header(hyper::header::CONTENT_TYPE, prometheus::TEXT_FORMAT)
            .body(Full::new(Bytes::from(figures(status, ended, took)?)))?;
        tokio::time::timeout(TIMEOUT, self.send(request)).await.map_err(|_| PushError::Timeout)?
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(), PushError> {
        let connect = TcpStream::connect(&self.address).await;
        let stream = connect.map_err(|error| PushError::Connect { address: self.address.clone(), error })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(());
            }
            let body = Limited::new(response.into_body(), ERROR_BYTES).collect().await;
            let body = body.map_or_else(|error| error.to_string(), |all| String::from_utf8_lossy(&all.to_bytes()).trim().to_owned());
            Err(PushError::Refused { status, body })
        };
        // the connection ends once the exchange has dropped its sender
        let (result, _closed) = tokio::join!(exchange, connection);
        result
    }
}

/// `archive`, `restore`, `list`, …: the label of a run's operation.
pub const fn operation(spec: &BorgRunSpec) -> &'static str {
    match spec.operation {
        borgherd_api::crd::Operation::Archive(_) => "archive",
        borgherd_api::crd::Operation::Restore(_) => "restore",
        borgherd_api::crd::Operation::List(_) => "list",
        borgherd_api::crd::Operation::Prune(_) => "prune",
        borgherd_api::crd::Operation::Compact(_) => "compact",
        borgherd_api::crd::Operation::Check(_) => "check",
    }
}

/// The path of a run's group.
fn group(spec: &BorgRunSpec) -> String {
    let mut path = String::from("/metrics/job/borgherd");
    let labels = [("namespace", spec.subject.namespace.as_str()), ("pvc", spec.subject.pvc.as_str()), ("operation", operation(spec))];
    for (label, value) in labels {
        let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        let written = if plain {
            write!(path, "/{label}/{value}")
        } else {
            // the gateway's form for what cannot stand in a path; a lone = is the empty value
            let encoded = if value.is_empty() { "=".to_owned() } else { URL_SAFE_NO_PAD.encode(value) };
            write!(path, "/{label}@base64/{encoded}")
        };
        debug_assert!(written.is_ok(), "writing to a String does not fail");
    }
    path
}

/// The run's figures in Prometheus' text format.
fn figures(status: &BorgRunStatus, ended: f64, took: f64) -> Result<Vec<u8>, PushError> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, value: f64| -> Result<(), PushError> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        Ok(registry.register(Box::new(gauge))?)
    };
    let count = |name: &str, help: &str, value: u64| -> Result<(), PushError> {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        Ok(registry.register(Box::new(gauge))?)
    };
    let reason = status.reason.map(|reason| reason.to_string()).unwrap_or_default();
    let outcome = Opts::new("borgherd_last_run_outcome", "Always 1; the labels say how the last run ended and why it failed.")
        .const_label("outcome", format!("{:?}", status.phase))
        .const_label("reason", reason);
    let outcome = Gauge::with_opts(outcome)?;
    outcome.set(1.0);
    registry.register(Box::new(outcome))?;
    gauge("borgherd_last_run_timestamp_seconds", "When the last run ended, in seconds since 1970.", ended)?;
    gauge("borgherd_last_run_duration_seconds", "How long the last run took from taking its slot to its end.", took)?;
    if status.phase == RunPhase::Succeeded {
        gauge("borgherd_last_run_success_timestamp_seconds", "When the last successful run ended, in seconds since 1970.", ended)?;
    }
    if let (Some(progress), RunPhase::Succeeded | RunPhase::Incomplete) = (status.progress, status.phase) {
        count("borgherd_last_run_files", "Files of the last run that made something.", progress.files)?;
        count("borgherd_last_run_original_bytes", "Bytes of those files.", progress.bytes)?;
        if let Some(bytes) = progress.compressed_bytes {
            count("borgherd_last_run_compressed_bytes", "The same after compression.", bytes)?;
        }
        if let Some(bytes) = progress.deduplicated_bytes {
            count("borgherd_last_run_deduplicated_bytes", "Of that, what was new to the repository.", bytes)?;
        }
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use borgherd_api::Reason;
    use borgherd_api::crd::Progress;

    #[test]
    fn urls_are_taken_apart_or_refused_by_name() {
        let gateway = Gateway::new("http://push.monitoring.svc/base/").unwrap();
        assert_eq!(gateway.address, "push.monitoring.svc:80");
        assert_eq!(gateway.prefix, "/base");
        assert_eq!(Gateway::new("http://[::1]:9091").unwrap().address, "[::1]:9091");
        for (url, why) in [
            ("https://push:9091", "https is not supported"),
            ("ftp://push", "the scheme ftp is not supported"),
            ("push:9091", "no scheme"),
            ("/metrics", "no scheme"),
            ("http://user:secret@push", "only a host and a port"),
            ("http://push/?a=b", "it has a query"),
            ("http://", ""),
            ("", ""),
        ] {
            let error = Gateway::new(url).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("http://HOST"), "{url}: {error}");
        }
    }

    #[test]
    fn groups_are_paths_the_gateway_reads() {
        let mut run = crate::run::example::run("r", "u");
        assert_eq!(group(&run.spec), "/metrics/job/borgherd/namespace/shop/pvc/db/operation/archive");
        run.spec.subject.pvc = "a/b".to_owned();
        run.spec.subject.namespace = String::new();
        assert_eq!(group(&run.spec), "/metrics/job/borgherd/namespace@base64/=/pvc@base64/YS9i/operation/archive");
    }

    #[test]
    fn a_failure_does_not_name_what_the_last_success_left() {
        let progress = Some(Progress { files: 3, bytes: 10, compressed_bytes: Some(5), deduplicated_bytes: Some(2), total_bytes: None });
        let status = |phase, reason| BorgRunStatus { phase, reason, progress, ..BorgRunStatus::default() };
        let text = |status: &BorgRunStatus| String::from_utf8(figures(status, 1000.5, 2.0).unwrap()).unwrap();
        let failed = text(&status(RunPhase::Failed, Some(Reason::PassphraseWrong)));
        assert!(failed.contains("borgherd_last_run_outcome{outcome=\"Failed\",reason=\"PassphraseWrong\"} 1\n"), "{failed}");
        assert!(!failed.contains("success_timestamp") && !failed.contains("_files"), "{failed}");
        let done = text(&status(RunPhase::Succeeded, None));
        for line in [
            "borgherd_last_run_success_timestamp_seconds 1000.5",
            "borgherd_last_run_files 3",
            "borgherd_last_run_original_bytes 10",
            "borgherd_last_run_compressed_bytes 5",
            "borgherd_last_run_deduplicated_bytes 2",
        ] {
            assert!(done.lines().any(|found| found == line), "{line} in {done}");
        }
    }
}
