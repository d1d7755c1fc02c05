//! What a reconcile cannot carry out, and whether that is worth a word.

use borgherd_runtime::refusal::words;

/// What could not be carried out; the reconcile is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("{doing}: {}", words(source))]
    Api {
        /// What was tried.
        doing: &'static str,
        /// What came back.
        source: kube::Error,
    },
    /// An object could not be built.
    #[error("building an object: {0}")]
    Build(#[from] serde_json::Error),
    /// What should be there by now is not.
    #[error("{0}")]
    Missing(String),
}

impl Error {
    /// Not worth a word: somebody else was faster, or a cache lags.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => status.code == 409,
            Self::Missing(_) => true,
            Self::Api { .. } | Self::Build(_) => false,
        }
    }
}

/// Says what was tried when a request fails.
pub trait Doing<T> {
    /// Adds `doing`.
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, kube::Error> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Api { doing, source })
    }
}
