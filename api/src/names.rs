//! Names, labels and annotations: every key Borgherd writes or reads, and every deterministic name.
//!
//! Invariant: the same inputs give the same name for ever, so that get-or-create finds what an earlier process made.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// API group of the custom resources and prefix of all annotations and labels.
pub const GROUP: &str = "borgherd.dev";
/// Field manager of the controller's server-side applies.
pub const CONTROLLER: &str = "borgherd-controller";
/// Field manager of the agent's server-side applies.
pub const AGENT: &str = "borgherd-agent";
/// Name of the leader's Lease.
pub const LEADER_LEASE: &str = "borgherd-controller";
/// Container of a holder pod, and of the mount inside it.
pub const HOLDER_CONTAINER: &str = "hold";

/// Label, `"true"`: made for one Backup or Restore, deleted at its end; skipped by policy, retention and rebind.
pub const TEMPORARY: &str = "borgherd.dev/temporary";
/// Label, `"true"`, on a twin: a second PersistentVolume of a storage that is the application's. Only the object is ever deleted.
pub const TWIN: &str = "borgherd.dev/twin";
/// Annotation on a twin: `namespace/name` of the application's PVC.
pub const TWIN_OF: &str = "borgherd.dev/twin-of";
/// Label on an application's snapshot while a Backup works on it: the value is the Backup's UID.
pub const IN_FLIGHT: &str = "borgherd.dev/in-flight";
/// Label: UID of the Backup or Restore that an object was made for.
pub const OWNER_UID: &str = "borgherd.dev/owner-uid";
/// Annotation: `Backup/<namespace>/<name>` or `Restore/<namespace>/<name>`.
pub const OWNER: &str = "borgherd.dev/owner";
/// Label: the PVC (bounded by [`label`]) that a snapshot, a clone or a run is of.
pub const PVC: &str = "borgherd.dev/pvc";
/// Annotation: the whole name of the PVC, where the label may be shortened.
pub const PVC_NAME: &str = "borgherd.dev/pvc-name";
/// Annotation: UID of the PVC a snapshot was taken of.
pub const PVC_UID: &str = "borgherd.dev/pvc-uid";
/// Label on snapshots: `scheduled` or `manual`.
pub const TYPE: &str = "borgherd.dev/type";
/// Annotation on snapshots and contents: the instant captured, RFC 3339; written once, every decision reads it.
pub const CUT: &str = "borgherd.dev/cut";
/// Annotation on snapshots: the scheduled time that they were taken for, RFC 3339.
pub const SCHEDULED_TIME: &str = "borgherd.dev/scheduled-time";
/// Annotation on a snapshot's content: the deletion policy it had before Borgherd set it to `Retain`.
pub const OWN_DELETION_POLICY: &str = "borgherd.dev/own-deletion-policy";
/// Annotation on snapshots: JSON of [`crate::crd::VolumeFacts`], what is needed to make the PVC again.
pub const VOLUME_FACTS: &str = "borgherd.dev/volume";
/// Annotation on snapshots until they are archived: JSON of the node affinity (a `NodeSelector`) of the volume they were cut from, if it has one.
pub const NODE_AFFINITY: &str = "borgherd.dev/node-affinity";
/// Annotation on snapshots: JSON of the policy that was in force for the PVC, from annotation without prefix to value, with the hooks used.
pub const POLICY: &str = "borgherd.dev/policy";
/// Label on snapshots: `tiers`, `days` or `forever`. Without it retention neither counts nor touches a snapshot.
pub const RETAIN: &str = "borgherd.dev/retain";
/// Label on snapshots: the first of an hour, `2026-11-21T10`.
pub const HOURLY: &str = "borgherd.dev/hourly";
/// Label on snapshots: the first of a day, `2026-11-21`.
pub const DAILY: &str = "borgherd.dev/daily";
/// Label on snapshots: the first of a week, `2026-W47`.
pub const WEEKLY: &str = "borgherd.dev/weekly";
/// Label on snapshots: the first of a month, `2026-11`.
pub const MONTHLY: &str = "borgherd.dev/monthly";
/// Label on snapshots: the first of a year, `2026`.
pub const YEARLY: &str = "borgherd.dev/yearly";
/// Label on snapshots, the mark: they may be swept after that day, `2026-11-21`.
pub const DELETE_AFTER: &str = "borgherd.dev/delete-after";
/// Annotation on snapshots: the tiers they had when they became ready, `hourly,daily`.
pub const TIERS_AT_BIRTH: &str = "borgherd.dev/tiers-at-birth";
/// Annotation on snapshots: when the mark was set, RFC 3339.
pub const MARKED_AT: &str = "borgherd.dev/marked-at";
/// Annotation on snapshots: when a mark was seen to have been taken off, RFC 3339.
pub const UNMARKED_AT: &str = "borgherd.dev/unmarked-at";
/// Label on a content that is to go with its snapshot: UID of that snapshot.
pub const SWEPT: &str = "borgherd.dev/swept";
/// Annotation on a namespace: tokens of held sweeps that a person has allowed, separated by commas.
pub const ACKNOWLEDGE: &str = "borgherd.dev/acknowledge-sweep";
/// Annotation on a PVC: what a person has accepted about its archives, tokens separated by commas.
pub const ACCEPT: &str = "borgherd.dev/accept";
/// Label on the Leases that agents renew: `"agent"`.
pub const COMPONENT: &str = "borgherd.dev/component";
/// Value of the label [`COMPONENT`] on BorgRuns that keep archives in order, and what their annotation [`OWNER`] begins with.
pub const MAINTENANCE: &str = "maintenance";
/// Annotation on an agent's Lease: how many slots its node has.
pub const SLOTS: &str = "borgherd.dev/slots";
/// Annotation on an agent's Lease: its version.
pub const VERSION: &str = "borgherd.dev/version";
/// Annotation on an agent's Lease: UID of the agent's pod.
pub const AGENT_POD_UID: &str = "borgherd.dev/pod-uid";
/// Annotation on an agent's Lease: name of the agent's pod.
pub const AGENT_POD: &str = "borgherd.dev/pod";

/// Annotation on the BorgRun of a live volume: the moment from which on it may be read, RFC 3339; its archive is named after it.
pub const GO: &str = "borgherd.dev/go";

/// Finalizer of a Backup while an application may be held still for it.
pub const DEBT_FINALIZER: &str = "borgherd.dev/thaw";

/// Hex of the first `bytes` bytes of SHA-256 over the parts, each followed by NUL so that `a,bc` is not `ab,c`.
pub fn hash(parts: &[&str], bytes: usize) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part.as_bytes());
        sha.update([0]);
    }
    sha.finalize().iter().take(bytes).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// `text` cut to at most `max` bytes so that it is still part of a DNS label: no trailing `-` or `.`.
fn cut_name(text: &str, max: usize) -> String {
    let text: String = text.chars().map(|c| if c == '.' { '-' } else { c }).take(max).collect();
    text.trim_end_matches(['-', '.']).to_owned()
}

/// A label value for `name`: itself up to 63 characters, else prefix and hash. Rule: Kubernetes label values.
pub fn label(name: &str) -> String {
    if name.len() <= 63 {
        return name.to_owned();
    }
    format!("{}-{}", cut_name(name, 46), hash(&[name], 8))
}

/// What identifies a Backup besides its time: kind of its subject (`group` or `pvc`), where, which, and the PVCs' UIDs.
#[derive(Clone, Copy, Debug)]
pub struct BackupSubject<'a> {
    /// `group` or `pvc`.
    pub kind: &'a str,
    /// Namespace of the PVCs.
    pub namespace: &'a str,
    /// Name of the group or of the PVC.
    pub name: &'a str,
    /// UIDs of the PVCs, in the order of their names.
    pub uids: &'a [String],
}

/// Name of the Backup of a subject at a time: two leaders that decide the same make the same object. At most 62 characters.
pub fn backup(subject: BackupSubject<'_>, at: DateTime<Utc>) -> String {
    let BackupSubject { kind, namespace, name, uids } = subject;
    let mut parts = vec![kind, namespace, name];
    parts.extend(uids.iter().map(String::as_str));
    format!("{}-{}-{}", cut_name(name, 38), hash(&parts, 4), at.format("%Y%m%d%H%M%S"))
}

/// Name of the VolumeSnapshot of `pvc` for the Backup with `backup_uid`. At most 63 characters.
pub fn snapshot(pvc: &str, backup_uid: &str, at: DateTime<Utc>) -> String {
    format!("{}-{}-{}", cut_name(pvc, 38), hash(&[pvc, backup_uid], 4), at.format("%Y%m%d%H%M%S"))
}

/// The one name of content, snapshot, clone and holder that an owner (Backup, Restore) needs for a PVC.
pub fn temporary(owner_uid: &str, pvc: &str) -> String {
    format!("bh-{}", hash(&[owner_uid, pvc], 10))
}

/// Name of the BorgRun for the `attempt`th try, counted from 1.
pub fn run(temporary: &str, attempt: u32) -> String {
    format!("{temporary}-{attempt}")
}

/// Name of the BorgRun that keeps the archives of `pvc` in order after the Backup with `backup_uid`: `stage` is `prune`, `compact`, ….
pub fn maintenance(backup_uid: &str, pvc: &str, stage: &str, attempt: u32) -> String {
    format!("bh-{stage}-{}-{attempt}", hash(&[backup_uid, pvc, stage], 10))
}

/// `2026-11-21T10-00-00Z`: a time as it stands in archive names, where `:` would not do.
pub fn archive_time(cut: DateTime<Utc>) -> String {
    cut.format("%Y-%m-%dT%H-%M-%SZ").to_string()
}

/// What all archives of a PVC begin with, and of no other: neither name can contain `_`.
pub fn archive_prefix(namespace: &str, pvc: &str) -> String {
    format!("{namespace}_{pvc}_")
}

/// Name of the archive of `pvc` cut at `cut`.
pub fn archive(namespace: &str, pvc: &str, cut: DateTime<Utc>) -> String {
    format!("{}{}", archive_prefix(namespace, pvc), archive_time(cut))
}

/// The cut that an archive's name tells, if it is one of `namespace`'s and `pvc`'s.
pub fn cut_of_archive(namespace: &str, pvc: &str, archive: &str) -> Option<DateTime<Utc>> {
    let time = archive.strip_prefix(&archive_prefix(namespace, pvc))?;
    Some(chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H-%M-%SZ").ok()?.and_utc())
}

/// Name of the ConfigMap that records that the repository at `location` has held an archive.
pub fn repository_record(location: &str) -> String {
    format!("repository-{}", hash(&[location], 10))
}

/// The external provisioner's finalizer on a snapshot while a volume is made from it. (The snapshot controller's own, of nearly the same
/// name, is on every snapshot.)
pub const BEING_CLONED: &str = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection";

/// Name of the Lease that the agent of `node` renews.
pub fn agent_lease(node: &str) -> String {
    format!("agent-{node}")
}

/// The node whose agent's Lease is called `lease`.
pub fn node_of_agent(lease: &str) -> Option<&str> {
    lease.strip_prefix("agent-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> DateTime<Utc> {
        "2026-11-21T10:00:00Z".parse().unwrap_or_default()
    }

    #[test]
    fn names_fit_into_a_dns_label_whatever_the_pvc_is_called() {
        let long = format!("{}.{}", "a".repeat(37), "b".repeat(200));
        let uids = vec!["u".to_owned()];
        for name in [long.as_str(), "x", "data.example.org"] {
            let subject = BackupSubject { kind: "pvc", namespace: "ns", name, uids: &uids };
            for made in [backup(subject, at()), snapshot(name, "uid", at()), run(&temporary("uid", name), 12), label(name)] {
                assert!(made.len() <= 63, "{made} has {} characters", made.len());
                assert!(!made.starts_with('-') && !made.contains("--20"), "{made}");
            }
        }
    }

    #[test]
    fn parts_are_delimited_in_hashes() {
        assert_ne!(hash(&["a", "bc"], 8), hash(&["ab", "c"], 8));
    }

    #[test]
    fn an_archive_name_tells_its_cut_and_no_other_pvc_shares_its_prefix() {
        let name = archive("shop", "db", at());
        assert_eq!(name, "shop_db_2026-11-21T10-00-00Z");
        assert_eq!(cut_of_archive("shop", "db", &name), Some(at()));
        assert_eq!(cut_of_archive("shop", "db-2", &name), None);
        assert_eq!(cut_of_archive("shop", "db", "shop_db_2026-11-21T10-00-00Z.checkpoint"), None);
    }
}
