//! `borgherd-agent run`: what the chart tells the agent, by flags or by the environment.

use super::Folders;
use crate::borg::Limits;
use crate::push::Gateway;
use crate::slot;
use borgherd_runtime::duration;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the agent of a node is configured.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// The node it serves (downward API: spec.nodeName).
    #[arg(long, env = "BORGHERD_NODE")]
    pub node: String,
    /// Name of its own pod (downward API: metadata.name).
    #[arg(long, env = "BORGHERD_POD")]
    pub pod: String,
    /// UID of its own pod (downward API: metadata.uid).
    #[arg(long, env = "BORGHERD_POD_UID")]
    pub pod_uid: String,
    /// Borgherd's namespace: of runs, Secrets and Leases.
    #[arg(long, env = "BORGHERD_NAMESPACE")]
    pub namespace: String,
    /// How many runs may use borg at once on this node; 0: half of its CPUs, at least 1.
    #[arg(long, env = "BORGHERD_SLOTS", default_value_t = 0)]
    pub slots: usize,
    /// The kubelet's folder `pods`, mounted with propagation from the host.
    #[arg(long, env = "BORGHERD_PODS_DIR", default_value = "/host/pods")]
    pub pods_dir: PathBuf,
    /// Paths of the node below which hostPath volumes may be read in place, comma-separated; mounted at /host/live/0, /host/live/1 …
    #[arg(long, env = "BORGHERD_LIVE_HOST_PATHS", default_value = "", value_delimiter = ',')]
    pub live_host_paths: Vec<String>,
    /// The agent's folder on the host: locks and caches.
    #[arg(long, env = "BORGHERD_STATE_DIR", default_value = "/var/lib/borgherd")]
    pub state_dir: PathBuf,
    /// Where /metrics, /livez and /readyz are served.
    #[arg(long, env = "BORGHERD_METRICS_ADDRESS", default_value = "0.0.0.0:9100")]
    pub metrics_address: SocketAddr,
    /// Pushgateway that is told each run's result: `http://HOST[:PORT][/PATH]`; empty: none.
    #[arg(long, env = "BORGHERD_PUSHGATEWAY", default_value = "", value_parser = gateway)]
    pub pushgateway: Pushgateway,
    /// From SIGTERM until the process ends, running borgs first; less than the pod's termination grace period.
    #[arg(long, env = "BORGHERD_GRACE", default_value = "50s", value_parser = grace)]
    pub grace: Duration,
    /// How long a run waits for a repository that someone else has locked.
    #[arg(long, env = "BORGHERD_LOCK_PATIENCE", default_value = "10m", value_parser = duration::parse)]
    pub lock_patience: Duration,
    /// How long ssh tries to connect.
    #[arg(long, env = "BORGHERD_CONNECT_TIMEOUT", default_value = "20s", value_parser = duration::parse)]
    pub connect_timeout: Duration,
    /// How long a volume may take to appear in this container after its holder runs.
    #[arg(long, env = "BORGHERD_MOUNT_PATIENCE", default_value = "10s", value_parser = duration::parse)]
    pub mount_patience: Duration,
    /// Caches of a repository that had no run on this node for so long are removed; 0s: never.
    #[arg(long, env = "BORGHERD_CACHE_AGE", default_value = "30d", value_parser = duration::parse)]
    pub cache_age: Duration,
    /// GiB that the caches of all repositories may take on this node: those used longest ago go; 0: any.
    #[arg(long, env = "BORGHERD_CACHE_GIB", default_value_t = 20, value_parser = clap::value_parser!(u64).range(..=1 << 20))]
    pub cache_gib: u64,
    /// Log lines as text for people instead of JSON.
    #[arg(long, env = "BORGHERD_LOG_TEXT", default_value_t = false)]
    pub log_text: bool,
}

/// A Pushgateway or none. A type of its own, since clap takes an `Option` for a flag that may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushgateway(pub Option<Gateway>);

fn gateway(url: &str) -> Result<Pushgateway, String> {
    if url.is_empty() {
        return Ok(Pushgateway(None));
    }
    let gateway = Gateway::new(url).map_err(|error| error.to_string())?;
    Ok(Pushgateway(Some(gateway)))
}

/// Less would leave borg no time to write a checkpoint.
const LEAST_GRACE: Duration = Duration::from_secs(10);

fn grace(text: &str) -> Result<Duration, String> {
    let grace = duration::parse(text).map_err(|error| error.to_string())?;
    if grace < LEAST_GRACE {
        return Err(format!("must be at least {}", duration::format(LEAST_GRACE)));
    }
    Ok(grace)
}

impl Config {
    /// Folders of the host.
    pub fn folders(&self) -> Folders {
        Folders { pods: self.pods_dir.clone(), own: self.state_dir.clone() }
    }

    /// How many slots, on a machine of so many CPUs.
    pub const fn slot_count(&self, cpus: usize) -> usize {
        if self.slots == 0 { slot::default_count(cpus) } else { self.slots }
    }

    /// Borg's limits. Of the grace three fifths are for a checkpoint, one for borg's own end; the last is for killing it and reporting.
    pub fn limits(&self) -> Limits {
        Limits {
            lock_patience: self.lock_patience,
            interrupt: self.grace * 3 / 5,
            terminate: self.grace / 5,
            connect: self.connect_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        config: Config,
    }

    fn parse(more: &[&str]) -> Result<Config, String> {
        let always = ["agent", "--node=n", "--pod=p", "--pod-uid=u", "--namespace=borgherd"];
        Command::try_parse_from(always.iter().chain(more)).map(|command| command.config).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_work_and_borg_ends_within_the_grace() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.pushgateway, Pushgateway(None));
        assert_eq!(config.slot_count(8), 4);
        let limits = config.limits();
        assert!(limits.interrupt + limits.terminate <= config.grace * 4 / 5);
        assert_eq!(config.folders().state("x").parent(), Some(config.folders().states().as_path()));
    }

    #[test]
    fn values_are_taken() {
        let config = parse(&["--slots=3", "--pushgateway=http://push:9091", "--cache-age=1d", "--cache-gib=3"]).unwrap();
        assert_eq!(config.slot_count(8), 3);
        assert!(config.pushgateway.0.is_some());
        assert_eq!((config.cache_age, config.cache_gib), (Duration::from_hours(24), 3));
    }

    #[test]
    fn wrong_values_are_named() {
        for (argument, flag, why) in [
            ("--grace=3s", "--grace", "at least 10s"),
            ("--grace=soon", "--grace", "soon"),
            ("--pushgateway=https://push", "--pushgateway", "https is not supported"),
            ("--slots=many", "--slots", "many"),
            ("--metrics-address=9100", "--metrics-address", "9100"),
        ] {
            let error = parse(&[argument]).unwrap_err();
            assert!(error.contains(flag) && error.contains(why), "{argument}: {error}");
        }
    }
}
