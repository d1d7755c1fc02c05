//! What the environment of a test run says: the one place that reads it.

use std::path::PathBuf;

/// Where the tests run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Namespace of the chart's release (`BORGHERD_NAMESPACE`).
    pub(crate) namespace: String,
    /// Namespace of clones and holders (`BORGHERD_VOLUMES_NAMESPACE`).
    pub(crate) volumes_namespace: String,
    /// Name of the Helm release (`BORGHERD_E2E_RELEASE`).
    pub(crate) release: String,
    /// Image of the applications (`BORGHERD_E2E_IMAGE`); absent: that of the agents.
    pub(crate) image: Option<String>,
    /// `hack/cluster/cluster`, when the cluster is the project's own (`BORGHERD_E2E_CLUSTER`).
    pub(crate) cluster: Option<PathBuf>,
    /// State folder of that cluster (`CLUSTER_STATE`).
    pub(crate) cluster_state: PathBuf,
    /// Namespaces stay after the test (`BORGHERD_E2E_KEEP`).
    pub(crate) keep: bool,
    /// Where programs are found (`PATH`).
    pub(crate) path: String,
    /// Root of the repository: the chart is there, dumps go to `target/log/e2e` below it.
    pub(crate) root: PathBuf,
}

impl Settings {
    /// Reads the environment.
    #[allow(clippy::disallowed_methods)] // the place where it is read
    pub(crate) fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), std::path::Path::to_path_buf);
        Self {
            namespace: var("BORGHERD_NAMESPACE").unwrap_or_else(|| "borgherd".into()),
            volumes_namespace: var("BORGHERD_VOLUMES_NAMESPACE").unwrap_or_else(|| "borgherd-volumes".into()),
            release: var("BORGHERD_E2E_RELEASE").unwrap_or_else(|| "borgherd".into()),
            image: var("BORGHERD_E2E_IMAGE"),
            cluster: var("BORGHERD_E2E_CLUSTER").map(PathBuf::from),
            cluster_state: var("CLUSTER_STATE").map_or_else(|| PathBuf::from("/var/lib/borgherd-cluster"), PathBuf::from),
            keep: var("BORGHERD_E2E_KEEP").is_some(),
            path: var("PATH").unwrap_or_default(),
            root,
        }
    }
}
