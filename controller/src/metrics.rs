//! What Prometheus sees of the controller. Counters and histograms are kept here; series of PVCs are made from the world at each
//! scrape, so they vanish with their PVC and cost nothing in between.

use crate::admission::Admission;
use crate::world::World;
use borgherd_api::Reason;
use borgherd_api::crd::{ActionResult, BackupStatus, Outcome, RestorePhase, RestoreStatus, VolumeStatus};
use chrono::{DateTime, Utc};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    exponential_buckets, register_gauge_vec_with_registry, register_histogram_vec_with_registry, register_histogram_with_registry,
    register_int_counter_vec_with_registry, register_int_counter_with_registry, register_int_gauge_vec_with_registry,
    register_int_gauge_with_registry,
};
use std::sync::{Arc, PoisonError, RwLock};

/// Counters and histograms of what has happened.
#[derive(Clone)]
pub struct Metrics {
    backups: IntCounterVec,
    volumes: IntCounterVec,
    attempts_failed: IntCounterVec,
    restores: IntCounterVec,
    phases: HistogramVec,
    bytes: IntCounterVec,
    files: IntCounter,
    archive_size: Histogram,
    leaked: IntGauge,
    leaks_found: IntCounter,
    retention: IntCounterVec,
    retention_failures: IntCounterVec,
    retention_held: IntGauge,
    maintenance: IntCounterVec,
    archives_deleted: IntCounter,
    pruning_stopped: IntGaugeVec,
    frozen: IntGauge,
    damaged: IntGaugeVec,
    checked: GaugeVec,
    read: GaugeVec,
    parked: IntGaugeVec,
    leading: IntGauge,
    hooks: IntCounterVec,
    freezes: Histogram,
    debts: IntGauge,
}

/// Since when all of a Repository is checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckedSince {
    /// All segments.
    pub repository: Option<DateTime<Utc>>,
    /// The newest archive of each volume.
    pub data: Option<DateTime<Utc>>,
}

impl Metrics {
    /// Registers everything but the series of PVCs.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| register_int_counter_vec_with_registry!(name, help, labels, registry);
        let seconds = exponential_buckets(0.1, 2.0, 18)?;
        let sizes = exponential_buckets(1e5, 10.0, 9)?;
        Ok(Self {
            backups: counter("borgherd_backups_total", "Backups that ended, by phase.", &["phase"])?,
            volumes: counter("borgherd_volumes_total", "Volumes of Backups that ended, by outcome and reason.", &["outcome", "reason"])?,
            attempts_failed: counter("borgherd_attempts_failed_total", "Tries of a volume that failed, by reason.", &["reason"])?,
            restores: counter("borgherd_restores_total", "Restores that ended, by phase and reason.", &["phase", "reason"])?,
            phases: register_histogram_vec_with_registry!(
                HistogramOpts::new("borgherd_phase_seconds", "Seconds that a phase of one volume took.").buckets(seconds),
                &["phase"],
                registry
            )?,
            bytes: counter("borgherd_archived_bytes_total", "Bytes archived: original, compressed, deduplicated.", &["kind"])?,
            files: register_int_counter_with_registry!("borgherd_archived_files_total", "Files archived.", registry)?,
            archive_size: register_histogram_with_registry!(
                HistogramOpts::new("borgherd_archive_bytes", "Bytes of one archive's files.").buckets(sizes),
                registry
            )?,
            leaked: register_int_gauge_with_registry!(
                "borgherd_leaked_objects",
                "Leftovers of ended Backups and Restores at the last look.",
                registry
            )?,
            leaks_found: register_int_counter_with_registry!(
                "borgherd_leaked_objects_found_total",
                "Leftovers found and cleaned up since the start.",
                registry
            )?,
            retention: counter("borgherd_retention_snapshots_total", "Snapshots that were marked or swept.", &["action"])?,
            retention_failures: counter(
                "borgherd_retention_failures_total",
                "Snapshots that could not be marked or swept, each time it was tried.",
                &["reason"],
            )?,
            retention_held: register_int_gauge_with_registry!(
                "borgherd_retention_held",
                "Snapshots whose sweep waits until a person allows it.",
                registry
            )?,
            maintenance: counter(
                "borgherd_maintenance_total",
                "Runs that keep archives in order, by operation, result and reason.",
                &["operation", "result", "reason"],
            )?,
            archives_deleted: register_int_counter_with_registry!(
                "borgherd_archives_deleted_total",
                "Archives that were pruned, rests of dead runs included.",
                registry
            )?,
            pruning_stopped: register_int_gauge_vec_with_registry!(
                "borgherd_pruning_stopped",
                "1: the archives of the PVC were not pruned after its newest archive, by reason.",
                &["namespace", "pvc", "reason"],
                registry
            )?,
            frozen: register_int_gauge_with_registry!(
                "borgherd_frozen_contents",
                "VolumeSnapshotContents of Borgherd whose VolumeSnapshot is gone: `borgherd rebind --list` shows them.",
                registry
            )?,
            damaged: register_int_gauge_vec_with_registry!(
                "borgherd_repository_damaged",
                "Borg repositories of the Repository in which damage was found.",
                &["repository"],
                registry
            )?,
            checked: register_gauge_vec_with_registry!(
                "borgherd_repository_checked_timestamp_seconds",
                "When the last full check of segments of the Borg repository ended that was checked longest ago; its first archive where it never was.",
                &["repository"],
                registry
            )?,
            read: register_gauge_vec_with_registry!(
                "borgherd_repository_read_timestamp_seconds",
                "When the content of the newest archive of that volume was read that was read longest ago; its first archive where it never was.",
                &["repository"],
                registry
            )?,
            parked: register_int_gauge_vec_with_registry!(
                "borgherd_repository_parked",
                "1: the Repository cannot be reached; its runs wait, and one at a time tries.",
                &["repository"],
                registry
            )?,
            leading: register_int_gauge_with_registry!("borgherd_leading", "1 while this process is the active controller.", registry)?,
            hooks: counter("borgherd_hooks_total", "Hooks that ended, by kind (pre, post) and result.", &["kind", "result"])?,
            freezes: register_histogram_with_registry!(
                HistogramOpts::new("borgherd_freeze_seconds", "Begin of the last pre hooks until that of the first post hooks.")
                    .buckets(exponential_buckets(0.05, 2.0, 14)?),
                registry
            )?,
            debts: register_int_gauge_with_registry!(
                "borgherd_hook_debts",
                "Resumes that are owed to applications: each may be held still.",
                registry
            )?,
        })
    }

    /// This process leads now.
    pub fn leads(&self) {
        self.leading.set(1);
    }

    /// A hook's command has ended.
    pub fn hook_ended(&self, kind: &str, result: ActionResult) {
        self.hooks.with_label_values(&[kind, format!("{result:?}").as_str()]).inc();
    }

    /// Applications go on after so many seconds.
    pub fn freeze_ended(&self, window: Option<f64>) {
        if let Some(seconds) = window {
            self.freezes.observe(seconds);
        }
    }

    /// So many resumes are owed now.
    pub fn debts(&self, count: usize) {
        self.debts.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A volume is at its end.
    pub fn volume_ended(&self, volume: &VolumeStatus) {
        let outcome = volume.outcome.map(|o| format!("{o:?}")).unwrap_or_default();
        let reason = volume.reason.map(|r| r.to_string()).unwrap_or_default();
        self.volumes.with_label_values(&[outcome.as_str(), reason.as_str()]).inc();
        if let Some(d) = volume.durations {
            let phases = [
                ("cut_visible", d.cut_visible),
                ("cut_to_ready", d.cut_to_ready),
                ("admission", d.admission),
                ("clone", d.clone),
                ("slot_wait", d.slot_wait),
                ("borg", d.borg),
                ("clean", d.clean),
            ];
            for (phase, seconds) in phases {
                if let Some(seconds) = seconds {
                    self.phases.with_label_values(&[phase]).observe(seconds);
                }
            }
        }
        if let (Some(progress), Some(_), Some(Outcome::Succeeded | Outcome::Incomplete)) =
            (volume.progress, &volume.archive, volume.outcome)
        {
            self.files.inc_by(progress.files);
            self.bytes.with_label_values(&["original"]).inc_by(progress.bytes);
            self.bytes.with_label_values(&["compressed"]).inc_by(progress.compressed_bytes.unwrap_or(0));
            self.bytes.with_label_values(&["deduplicated"]).inc_by(progress.deduplicated_bytes.unwrap_or(0));
            #[allow(clippy::cast_precision_loss, reason = "a histogram's value")]
            self.archive_size.observe(progress.bytes as f64);
        }
    }

    /// One try of a volume has failed.
    pub fn attempt_failed(&self, volume: &VolumeStatus) {
        let reason = volume.reason.map(|r| r.to_string()).unwrap_or_default();
        self.attempts_failed.with_label_values(&[reason.as_str()]).inc();
    }

    /// A Backup is at its end.
    pub fn backup_ended(&self, status: &BackupStatus) {
        self.backups.with_label_values(&[format!("{:?}", status.phase).as_str()]).inc();
    }

    /// A Restore is at its end.
    pub fn restore_ended(&self, status: &RestoreStatus) {
        let reason = status.reason.filter(|_| status.phase == RestorePhase::Failed).map(|r| r.to_string()).unwrap_or_default();
        self.restores.with_label_values(&[format!("{:?}", status.phase).as_str(), reason.as_str()]).inc();
    }

    /// A snapshot was `marked` or `swept`.
    pub fn retention_did(&self, action: &str) {
        self.retention.with_label_values(&[action]).inc();
    }

    /// A snapshot could not be.
    pub fn retention_failed(&self, reason: &str) {
        self.retention_failures.with_label_values(&[reason]).inc();
    }

    /// So many wait for a person.
    pub fn retention_held(&self, waiting: usize) {
        self.retention_held.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// A run that keeps archives in order has ended, or was refused before it began.
    pub fn maintained(&self, operation: &str, result: &str, reason: Option<Reason>) {
        let reason = reason.map(|r| r.to_string()).unwrap_or_default();
        self.maintenance.with_label_values(&[operation, result, reason.as_str()]).inc();
    }

    /// So many archives were pruned.
    pub fn archives_deleted(&self, count: u32) {
        self.archives_deleted.inc_by(count.into());
    }

    /// Where archives are not pruned now, and why: namespace, PVC, reason.
    pub fn pruning_stopped<'a>(&self, all: impl Iterator<Item = (&'a str, &'a str, Reason)>) {
        self.pruning_stopped.reset();
        for (namespace, pvc, reason) in all {
            self.pruning_stopped.with_label_values(&[namespace, pvc, reason.to_string().as_str()]).set(1);
        }
    }

    /// So many contents have outlived their VolumeSnapshot.
    pub fn frozen(&self, count: usize) {
        self.frozen.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Of each Repository: its name, how many of its places are damaged, and since when it is checked.
    pub fn checked<'a>(&self, all: impl Iterator<Item = (&'a str, usize, CheckedSince)>) {
        self.damaged.reset();
        self.checked.reset();
        self.read.reset();
        for (repository, damaged, since) in all {
            self.damaged.with_label_values(&[repository]).set(i64::try_from(damaged).unwrap_or(i64::MAX));
            #[allow(clippy::cast_precision_loss, reason = "seconds since the epoch fit")]
            let seconds = |at: Option<DateTime<Utc>>| at.unwrap_or_default().timestamp() as f64;
            self.checked.with_label_values(&[repository]).set(seconds(since.repository));
            self.read.with_label_values(&[repository]).set(seconds(since.data));
        }
    }

    /// Names of the Repositories whose runs are parked.
    pub fn parked<'a>(&self, all: impl Iterator<Item = &'a str>) {
        self.parked.reset();
        for repository in all {
            self.parked.with_label_values(&[repository]).set(1);
        }
    }

    /// A look for leftovers found so many.
    pub fn leaks(&self, found: usize) {
        self.leaked.set(i64::try_from(found).unwrap_or(i64::MAX));
        self.leaks_found.inc_by(found as u64);
    }
}

/// The series of PVCs and of the ledger, made at each scrape.
pub struct Series {
    world: Arc<RwLock<World>>,
    admission: Arc<Admission>,
    descs: Vec<Desc>,
}

struct Families {
    success: GaugeVec,
    interval: GaugeVec,
    invalid: IntGaugeVec,
    failing: IntGaugeVec,
    admission: IntGaugeVec,
}

impl Families {
    fn new() -> Result<Self, prometheus::Error> {
        let pvc = ["namespace", "pvc"];
        Ok(Self {
            success: GaugeVec::new(Opts::new("borgherd_last_success_timestamp_seconds", "Cut of the newest backup that succeeded."), &pvc)?,
            interval: GaugeVec::new(Opts::new("borgherd_expected_interval_seconds", "Longest expected time between two backups."), &pvc)?,
            invalid: IntGaugeVec::new(Opts::new("borgherd_policy_invalid", "1: not backed up, an annotation is invalid."), &pvc)?,
            failing: IntGaugeVec::new(
                Opts::new("borgherd_last_failure", "1: the newest backup failed, by reason."),
                &["namespace", "pvc", "reason"],
            )?,
            admission: IntGaugeVec::new(Opts::new("borgherd_archives", "Volumes on their way to or from Borg."), &["state"])?,
        })
    }

    fn collectors(&self) -> [&dyn Collector; 5] {
        [&self.success, &self.interval, &self.invalid, &self.failing, &self.admission]
    }
}

impl Series {
    /// Over the world's facts.
    pub fn new(world: Arc<RwLock<World>>, admission: Arc<Admission>) -> Result<Self, prometheus::Error> {
        let descs = Families::new()?.collectors().iter().flat_map(|c| c.desc().into_iter().cloned()).collect();
        Ok(Self { world, admission, descs })
    }

    fn fill(&self, families: &Families) {
        let world = self.world.read().unwrap_or_else(PoisonError::into_inner);
        for (namespace, space) in &world.spaces {
            for (pvc, decided) in &space.decided {
                let at = [namespace.as_str(), pvc.as_str()];
                if let Some(interval) = decided.interval {
                    families.interval.with_label_values(&at).set(interval);
                }
                families.invalid.with_label_values(&at).set(i64::from(decided.problem.is_some()));
            }
            for (pvc, past) in space.past.iter().filter(|(pvc, _)| space.claims.contains_key(*pvc)) {
                let at = [namespace.as_str(), pvc.as_str()];
                if let Some(success) = past.success {
                    #[allow(clippy::cast_precision_loss, reason = "seconds since the epoch fit")]
                    families.success.with_label_values(&at).set(success.timestamp_millis() as f64 / 1e3);
                }
                if let Some((_, Outcome::Failed | Outcome::Incomplete, reason)) = past.last {
                    let reason = reason.map(|r| r.to_string()).unwrap_or_default();
                    families.failing.with_label_values(&[namespace, pvc, &reason]).set(1);
                }
            }
        }
        let (granted, waiting) = self.admission.counts();
        for (state, count) in [("admitted", granted), ("waiting", waiting)] {
            families.admission.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

impl Collector for Series {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(families) = Families::new() else { return vec![] };
        self.fill(&families);
        families.collectors().iter().flat_map(|c| c.collect()).collect()
    }
}
