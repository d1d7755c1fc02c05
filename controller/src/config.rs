//! What the chart decides: names, deadlines, limits. Read once at start, from flags or the environment.

use crate::repository::declared::{self, Declared};
use borgherd_api::retention::Prefix;
use borgherd_runtime::duration;
use clap::Parser;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Borgherd's controller: decides when volumes are backed up and leads each backup and restore to its end.
#[derive(Parser, Clone, Debug)]
#[command(version, about)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line are independent of each other")]
pub struct Config {
    /// Namespace of agents, secrets and runs.
    #[arg(long, env = "BORGHERD_NAMESPACE", default_value = "borgherd")]
    pub namespace: String,
    /// Namespace of clones and holders.
    #[arg(long, env = "BORGHERD_VOLUMES_NAMESPACE", default_value = "borgherd-volumes")]
    pub volumes_namespace: String,
    /// This process's name in the leader's Lease.
    #[arg(long, env = "POD_NAME", default_value = "borgherd-controller")]
    pub identity: String,
    /// Where /metrics, /livez and /readyz are served.
    #[arg(long, env = "BORGHERD_METRICS_ADDRESS", default_value = "0.0.0.0:9100")]
    pub metrics_address: SocketAddr,
    /// `text` or `json`.
    #[arg(long, env = "BORGHERD_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
    /// Policy of PVCs that do not say otherwise: a JSON object, annotation without prefix to value.
    #[arg(long, env = "BORGHERD_DEFAULTS", default_value = "{}", value_parser = parse_defaults)]
    pub defaults: Annotations,
    /// The Repositories that the chart declares: a JSON list of names with specs.
    #[arg(long, env = "BORGHERD_REPOSITORIES", default_value = "[]", value_parser = declared::parse)]
    pub repositories: Repositories,
    /// Image of the holder: the agent's.
    #[arg(long, env = "BORGHERD_HOLDER_IMAGE")]
    pub holder_image: String,
    /// Pull secrets of that image in the volumes' namespace, comma-separated.
    #[arg(long, env = "BORGHERD_HOLDER_PULL_SECRETS", default_value = "", value_delimiter = ',')]
    pub holder_pull_secrets: Vec<String>,
    /// Tolerations of holders: a JSON list.
    #[arg(long, env = "BORGHERD_HOLDER_TOLERATIONS", default_value = "[]", value_parser = parse_tolerations)]
    pub holder_tolerations: Tolerations,
    /// Folders of the nodes below which hostPath volumes may be read in place, comma-separated: those that the agents have, too.
    #[arg(long, env = "BORGHERD_LIVE_HOST_PATHS", default_value = "", value_delimiter = ',')]
    pub live_host_paths: Vec<String>,
    /// Which live volumes holders mount.
    #[command(flatten)]
    pub twins: Twins,
    /// Deadlines of the waits.
    #[command(flatten)]
    pub timeouts: Timeouts,
    /// Limits on what goes on at once.
    #[command(flatten)]
    pub limits: Limits,
    /// Set the content of Borgherd's snapshots to `Retain`, so that deleting a namespace deletes no backup.
    #[arg(long, env = "BORGHERD_RETAIN_CONTENT", default_value_t = true, action = clap::ArgAction::Set)]
    pub retain_content: bool,
    /// Ended Backups kept for each group, besides its newest success and failure.
    #[arg(long, env = "BORGHERD_HISTORY_COUNT", default_value_t = 10)]
    pub history_count: usize,
    /// Ended Backups and Restores older than this are deleted.
    #[arg(long, env = "BORGHERD_HISTORY_AGE", default_value = "3d", value_parser = duration::parse)]
    pub history_age: Duration,
    /// When snapshots are thinned out.
    #[command(flatten)]
    pub retention: Retention,
    /// How archives are kept in order.
    #[command(flatten)]
    pub maintenance: Maintenance,
    /// How often leftovers are looked for.
    #[arg(long, env = "BORGHERD_LEAK_INTERVAL", default_value = "5m", value_parser = duration::parse)]
    pub leak_interval: Duration,
}

/// Which live volumes a holder mounts, by a twin, where no pod uses them.
#[derive(clap::Args, Clone, Debug)]
pub struct Twins {
    /// Any at all.
    #[arg(long = "live-holders", env = "BORGHERD_LIVE_HOLDERS", default_value_t = true, action = clap::ArgAction::Set)]
    pub enabled: bool,
    /// CSI drivers that do something of their own when a PersistentVolume is deleted: theirs not; comma-separated.
    #[arg(long, env = "BORGHERD_LIVE_NOT_DRIVERS", default_value = "csi.vsphere.vmware.com", value_delimiter = ',')]
    pub live_not_drivers: Vec<String>,
    /// Folders of the nodes: local volumes directly in them; comma-separated.
    #[arg(long, env = "BORGHERD_LIVE_LOCAL_PATHS", default_value = "", value_delimiter = ',')]
    pub live_local_paths: Vec<String>,
}

/// How long each step may take before it fails with a reason of its own.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Timeouts {
    /// Snapshot created until its cut is visible.
    #[arg(long = "cut-timeout", env = "BORGHERD_CUT_TIMEOUT", default_value = "2m", value_parser = duration::parse)]
    pub cut: Duration,
    /// How long applications are held still for the cut; then they are resumed, cut or not.
    #[arg(long = "freeze-timeout", env = "BORGHERD_FREEZE_TIMEOUT", default_value = "1m", value_parser = duration::parse)]
    pub freeze: Duration,
    /// Cut until ready to use.
    #[arg(long = "ready-timeout", env = "BORGHERD_READY_TIMEOUT", default_value = "1h", value_parser = duration::parse)]
    pub ready: Duration,
    /// Admitted until the clone is bound.
    #[arg(long = "clone-timeout", env = "BORGHERD_CLONE_TIMEOUT", default_value = "10m", value_parser = duration::parse)]
    pub clone: Duration,
    /// Clone bound until its holder runs.
    #[arg(long = "holder-timeout", env = "BORGHERD_HOLDER_TIMEOUT", default_value = "10m", value_parser = duration::parse)]
    pub holder: Duration,
    /// Run created until it has a slot.
    #[arg(long = "queue-timeout", env = "BORGHERD_QUEUE_TIMEOUT", default_value = "24h", value_parser = duration::parse)]
    pub queue: Duration,
    /// A run altogether.
    #[arg(long = "run-timeout", env = "BORGHERD_RUN_TIMEOUT", default_value = "24h", value_parser = duration::parse)]
    pub run: Duration,
    /// Run ended until everything temporary is gone; after that it is reported as leaked and tried on.
    #[arg(long = "cleanup-timeout", env = "BORGHERD_CLEANUP_TIMEOUT", default_value = "10m", value_parser = duration::parse)]
    pub cleanup: Duration,
    /// Extracted until the target PVC is bound.
    #[arg(long = "handover-timeout", env = "BORGHERD_HANDOVER_TIMEOUT", default_value = "5m", value_parser = duration::parse)]
    pub handover: Duration,
}

/// How much may go on at once, and how often something is tried again.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Limits {
    /// Snapshots between creation and cut.
    #[arg(long, env = "BORGHERD_MAX_CUTS", default_value_t = 20)]
    pub max_cuts: usize,
    /// Clones of one StorageClass.
    #[arg(long, env = "BORGHERD_MAX_CLONES_PER_CLASS", default_value_t = 4)]
    pub max_clones_per_class: usize,
    /// Tries of one volume's archive, the first included.
    #[arg(long, env = "BORGHERD_ATTEMPTS", default_value_t = 3)]
    pub attempts: u32,
    /// Before the first retry of what may pass by itself; doubled for each further one.
    #[arg(long, env = "BORGHERD_RETRY_DELAY", default_value = "1m", value_parser = duration::parse)]
    pub retry_delay: Duration,
}

/// How snapshots are thinned out.
#[derive(clap::Args, Clone, Debug)]
pub struct Retention {
    /// How often all snapshots are looked at; what is due is deleted then.
    #[arg(long = "retention-interval", env = "BORGHERD_RETENTION_INTERVAL", default_value = "1h", value_parser = duration::parse)]
    pub interval: Duration,
    /// More deletions in one look than this wait until a person allows them.
    #[arg(long = "retention-max-deletions", env = "BORGHERD_RETENTION_MAX_DELETIONS", default_value_t = 500)]
    pub most: usize,
    /// Under which prefix the labels of snapshots stand: another one goes on with the snapshots of a program before Borgherd.
    #[arg(long = "retention-label-prefix", env = "BORGHERD_RETENTION_LABEL_PREFIX", default_value_t, value_parser = Prefix::parse)]
    pub label_prefix: Prefix,
}

/// How archives are kept in order.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Maintenance {
    /// One run of maintenance, during which nothing is archived into its repository.
    #[arg(long = "maintenance-timeout", env = "BORGHERD_MAINTENANCE_TIMEOUT", default_value = "1h", value_parser = duration::parse)]
    pub timeout: Duration,
    /// How often the segments of each repository are checked; 0s: never.
    #[arg(long, env = "BORGHERD_CHECK_INTERVAL", default_value = "7d", value_parser = duration::parse)]
    pub check_interval: Duration,
    /// How often the metadata of its archives is checked; 0s: never.
    #[arg(long, env = "BORGHERD_CHECK_ARCHIVES_INTERVAL", default_value = "30d", value_parser = duration::parse)]
    pub check_archives_interval: Duration,
    /// How often the content of the newest archive of each volume is read; 0s: never.
    #[arg(long, env = "BORGHERD_CHECK_DATA_INTERVAL", default_value = "30d", value_parser = duration::parse)]
    pub check_data_interval: Duration,
    /// A check of segments ends after this, and so does the reading of one archive; the next one goes on there.
    #[arg(long, env = "BORGHERD_CHECK_PIECE", default_value = "10m", value_parser = duration::parse)]
    pub check_piece: Duration,
    /// An archive with less than so many per cent of the files or bytes of the one before is suspect.
    #[arg(long, env = "BORGHERD_SUSPECT_LEFT", default_value_t = 50)]
    pub suspect_left: u64,
    /// An archive of which so many per cent are new is suspect; over 100: none is.
    #[arg(long, env = "BORGHERD_SUSPECT_NEW", default_value_t = 95)]
    pub suspect_new: u64,
}

/// What the chart declares; an alias, for clap would take a `Vec` for a flag that is given several times.
pub type Repositories = Vec<Declared>;
/// Annotations without their prefix.
pub type Annotations = BTreeMap<String, String>;
/// Tolerations as pods have them.
pub type Tolerations = Vec<k8s_openapi::api::core::v1::Toleration>;

fn parse_defaults(text: &str) -> Result<Annotations, String> {
    serde_json::from_str(text).map_err(|e| format!("not a JSON object of strings: {e}"))
}

fn parse_tolerations(text: &str) -> Result<Tolerations, String> {
    serde_json::from_str(text).map_err(|e| format!("not a JSON list of tolerations: {e}"))
}
