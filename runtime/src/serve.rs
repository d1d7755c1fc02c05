//! The port for Prometheus and the kubelet: GET `/metrics`, `/livez`, `/readyz`.
//!
//! Invariant: no client holds one of the few places for longer than [`LIFETIME`], a silent one not longer than [`HEAD`], and none
//! holds the process back when it ends.

use crate::health::Health;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder, Registry, TextEncoder};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long a connection may be silent before and between requests. Prometheus connects anew after that.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may live, reading its answers slowly or asking again and again.
const LIFETIME: Duration = Duration::from_secs(30);
/// Connections at once. More wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// How long an answer that is under way may still take at the end.
const GRACE: Duration = Duration::from_secs(1);
/// After an error of `accept`, like no free file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// Why nothing is served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address is taken, or not this host's.
    #[error("cannot listen on {addr} for metrics and probes: {source}")]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Listens on `addr` and answers until `shutdown`. An error only if it cannot listen.
pub async fn serve(addr: SocketAddr, registry: Registry, health: Health, shutdown: CancellationToken) -> Result<(), ServeError> {
    let server = Server::bind(addr).await?;
    server.run(registry, health, shutdown).await;
    Ok(())
}

/// A port that is open but not yet answered.
#[derive(Debug)]
pub struct Server(TcpListener);

impl Server {
    /// Opens the port; port 0 takes any free one.
    pub async fn bind(addr: SocketAddr) -> Result<Self, ServeError> {
        let bound = TcpListener::bind(addr).await;
        bound.map(Self).map_err(|source| ServeError::Bind { addr, source })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until `shutdown`.
    pub async fn run(self, registry: Registry, health: Health, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let site = Site { registry, health };
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.0, &places) => accepted,
                () = shutdown.cancelled() => return,
            };
            match accepted {
                Some((stream, place)) => {
                    let (site, shutdown) = (site.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        converse(stream, site, shutdown).await;
                        drop(place);
                    });
                }
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// The next connection, when there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection for metrics or probes could not be accepted");
            None
        }
    }
}

/// One connection to its end, or until shortly after it must end.
async fn converse(stream: TcpStream, site: Site, shutdown: CancellationToken) {
    let service = hyper::service::service_fn(move |request| {
        let response = site.answer(&request, Instant::now());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until_end(&shutdown) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection for metrics or probes broke");
    }
}

/// Returns when a connection that begins now must end.
async fn until_end(shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(LIFETIME) => {}
    }
}

/// What is answered.
#[derive(Clone)]
struct Site {
    registry: Registry,
    health: Health,
}

impl Site {
    fn answer(&self, request: &Request<Incoming>, now: Instant) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/livez" => self.live(now),
            "/readyz" if self.health.is_ready() => plain(StatusCode::OK, "ready\n".to_owned()),
            "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n".to_owned()),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => with_type(StatusCode::OK, prometheus::TEXT_FORMAT, text),
            Err(error) => {
                tracing::error!(%error, "metrics could not be written");
                plain(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics could not be written: {error}\n"))
            }
        }
    }

    fn live(&self, now: Instant) -> Response<Full<Bytes>> {
        let silent = self.health.silent(now);
        if silent.is_empty() {
            return plain(StatusCode::OK, "alive\n".to_owned());
        }
        let lines = silent.iter().map(|silent| {
            let (age, max) = (silent.age.as_secs(), silent.max_age.as_secs());
            format!("{} is silent for {age} s, more than {max} s\n", silent.name)
        });
        let text: String = lines.collect();
        tracing::error!(silent = text.trim_end(), "not alive");
        plain(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text.into_bytes())
}

fn with_type(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
