//! The one signal by which everything in a process ends: SIGTERM from the kubelet, SIGINT from a person.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second SIGINT ends the process at once. Needs a tokio runtime.
///
/// Once this has returned, no such signal kills the process any more.
pub fn token() -> CancellationToken {
    let token = CancellationToken::new();
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => {
            tokio::spawn(watch(terminate, interrupt, token.clone()));
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "signals cannot be caught; this process will not end in order"),
    }
    token
}

async fn watch(mut terminate: Signal, mut interrupt: Signal, token: CancellationToken) {
    let signal = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal, "shutting down");
    token.cancel();
    if interrupt.recv().await.is_some() {
        tracing::warn!("interrupted again: ending at once");
        std::process::exit(130);
    }
}
