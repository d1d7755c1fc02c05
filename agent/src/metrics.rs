//! The agent's metrics: one list, with the help texts that document them.
//!
//! Invariant: every label is of a bounded set. No namespace, no PVC: the agent cannot see a PVC go away, so its series would stay for
//! ever. The controller, which can, has the series of single PVCs; what a single run did goes to the Pushgateway.

use borgherd_api::crd::{BorgRunSpec, BorgRunStatus, Progress, RunPhase};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// From a hand-over in milliseconds to a first archive of a day.
const SECONDS: [f64; 16] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 36_000.0, 86_400.0];

/// Which part of a run a duration is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From taking the run to having the repository's lock and a slot.
    SlotWait,
    /// All of borg's calls of the run.
    Borg,
}

impl Part {
    const fn label(self) -> &'static str {
        match self {
            Self::SlotWait => "slot_wait",
            Self::Borg => "borg",
        }
    }
}

/// Everything the agent counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    runs: IntCounterVec,
    seconds: HistogramVec,
    files: IntCounterVec,
    bytes: IntCounterVec,
    /// Slots of this node.
    pub slots: IntGauge,
    /// Slots that runs of this agent hold.
    pub slots_used: IntGauge,
    /// Runs that are taken and wait for a repository's lock or a slot.
    pub queued: IntGauge,
    /// Runs of dead agents found.
    pub lost_runs: IntCounter,
    /// Objects that could not be read as a BorgRun.
    pub invalid_runs: IntCounter,
    /// Renewals of the Lease that failed.
    pub lease_failures: IntCounter,
    /// Status writes that failed and were tried again.
    pub status_failures: IntCounter,
    /// Results that did not reach the Pushgateway.
    pub push_failures: IntCounter,
    /// Caches that were removed because their repository had no run for long.
    pub caches_removed: IntCounter,
}

impl Metrics {
    /// Registered in `registry`. An error means that a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = HistogramOpts::new(
            "borgherd_agent_run_seconds",
            "Duration of runs by part: slot_wait is from taking a run until it has the repository's lock and a slot, borg is borg itself.",
        )
        .buckets(SECONDS.to_vec());
        let metrics = Self {
            runs: IntCounterVec::new(
                Opts::new(
                    "borgherd_agent_runs_total",
                    "Runs that ended, by operation (archive, restore, list, prune, compact, check), outcome (Succeeded, Incomplete, Failed, Interrupted, Deleted) and reason (empty: none).",
                ),
                &["operation", "outcome", "reason"],
            )?,
            seconds: HistogramVec::new(buckets, &["part"])?,
            files: IntCounterVec::new(Opts::new("borgherd_agent_files_total", "Files that runs archived or restored."), &["operation"])?,
            bytes: IntCounterVec::new(
                Opts::new(
                    "borgherd_agent_bytes_total",
                    "Bytes that runs archived or restored: original, compressed, and deduplicated, which is what was new to the repository.",
                ),
                &["operation", "kind"],
            )?,
            slots: IntGauge::new("borgherd_agent_slots", "Slots of this node: how many runs may use borg at once.")?,
            slots_used: IntGauge::new(
                "borgherd_agent_slots_in_use",
                "Slots that runs of this agent hold; other programs of the host may hold more.",
            )?,
            queued: IntGauge::new("borgherd_agent_queue_length", "Runs that wait for a repository's lock or a slot.")?,
            lost_runs: IntCounter::new(
                "borgherd_agent_lost_runs_total",
                "Runs found that a dead agent of this node had been running; each is ended as Interrupted once its borg is proven dead.",
            )?,
            invalid_runs: IntCounter::new(
                "borgherd_agent_invalid_runs_total",
                "BorgRuns seen that could not be read; they are left alone.",
            )?,
            lease_failures: IntCounter::new("borgherd_agent_lease_failures_total", "Renewals of this agent's Lease that failed.")?,
            status_failures: IntCounter::new(
                "borgherd_agent_status_failures_total",
                "Writes of a BorgRun's status that failed and were tried again.",
            )?,
            push_failures: IntCounter::new("borgherd_agent_push_failures_total", "Results of runs that did not reach the Pushgateway.")?,
            caches_removed: IntCounter::new(
                "borgherd_agent_caches_removed_total",
                "Caches of repositories that had no run for long and were removed.",
            )?,
        };
        metrics.register_all(registry)?;
        Ok(metrics)
    }

    fn register_all(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let Self {
            runs,
            seconds,
            files,
            bytes,
            slots,
            slots_used,
            queued,
            lost_runs,
            invalid_runs,
            lease_failures,
            status_failures,
            push_failures,
            caches_removed,
        } = self;
        for vector in [runs, files, bytes] {
            registry.register(Box::new(vector.clone()))?;
        }
        registry.register(Box::new(seconds.clone()))?;
        for gauge in [slots, slots_used, queued] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for counter in [lost_runs, invalid_runs, lease_failures, status_failures, push_failures, caches_removed] {
            registry.register(Box::new(counter.clone()))?;
        }
        let version = Opts::new("borgherd_agent_info", "Always 1; the label says which version this is.");
        let info = IntGaugeVec::new(version, &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(info))
    }

    /// A part of a run took so long.
    pub fn took(&self, part: Part, seconds: f64) {
        self.seconds.with_label_values(&[part.label()]).observe(seconds);
    }

    /// A run ended with `status`.
    pub fn ended(&self, spec: &BorgRunSpec, status: &BorgRunStatus) {
        let reason = status.reason.map(|reason| reason.to_string()).unwrap_or_default();
        self.count(spec, &format!("{:?}", status.phase), &reason);
        if let Some(seconds) = status.borg_seconds {
            self.took(Part::Borg, seconds);
        }
        if let (Some(progress), RunPhase::Succeeded | RunPhase::Incomplete) = (status.progress, status.phase) {
            self.moved(crate::push::operation(spec), progress);
        }
    }

    /// A run was deleted while it waited or ran.
    pub fn deleted(&self, spec: &BorgRunSpec) {
        self.count(spec, "Deleted", "");
    }

    fn count(&self, spec: &BorgRunSpec, outcome: &str, reason: &str) {
        let operation = crate::push::operation(spec);
        self.runs.with_label_values(&[operation, outcome, reason]).inc();
    }

    fn moved(&self, operation: &str, progress: Progress) {
        let Progress { files, bytes, total_bytes: _, compressed_bytes, deduplicated_bytes } = progress;
        self.files.with_label_values(&[operation]).inc_by(files);
        for (kind, bytes) in [("original", Some(bytes)), ("compressed", compressed_bytes), ("deduplicated", deduplicated_bytes)] {
            if let Some(bytes) = bytes {
                self.bytes.with_label_values(&[operation, kind]).inc_by(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use borgherd_api::Reason;
    use prometheus::TextEncoder;

    #[test]
    fn what_ended_is_counted_once_with_bounded_labels() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let run = crate::run::example::run("r", "u");
        metrics.ended(
            &run.spec,
            &BorgRunStatus {
                phase: RunPhase::Succeeded,
                progress: Some(Progress { files: 2, bytes: 7, deduplicated_bytes: Some(3), ..Progress::default() }),
                borg_seconds: Some(0.3),
                ..BorgRunStatus::default()
            },
        );
        metrics
            .ended(&run.spec, &BorgRunStatus { phase: RunPhase::Failed, reason: Some(Reason::SecretNotFound), ..BorgRunStatus::default() });
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "borgherd_agent_runs_total{operation=\"archive\",outcome=\"Succeeded\",reason=\"\"} 1",
            "borgherd_agent_runs_total{operation=\"archive\",outcome=\"Failed\",reason=\"SecretNotFound\"} 1",
            "borgherd_agent_files_total{operation=\"archive\"} 2",
            "borgherd_agent_bytes_total{kind=\"deduplicated\",operation=\"archive\"} 3",
            "borgherd_agent_run_seconds_bucket{part=\"borg\",le=\"0.5\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("shop"), "no name of a namespace: {text}");
        assert!(Metrics::register(&registry).is_err(), "names are taken once");
    }
}
