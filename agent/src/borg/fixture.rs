//! A job for the tests of this folder.

use super::job::{Job, Limits, Places};
use borgherd_api::crd::{ArchiveOptions, BorgRunSpec, Encryption, ListOptions, Operation, Owner, RunRepository, Subject, VolumeFacts};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::path::Path;

/// 64 digits, as borg's ids.
pub(super) const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub(super) fn archive_options() -> ArchiveOptions {
    ArchiveOptions {
        name: "shop_db_2026-11-21T10-00-00Z".to_owned(),
        cut: DateTime::from_timestamp(1_795_255_200, 123_000_000).unwrap_or_default(),
        facts: VolumeFacts {
            cluster_uid: "c".to_owned(),
            backup_uid: "b".to_owned(),
            pvc_uid: "p".to_owned(),
            size: "1Gi".to_owned(),
            storage_class: Some("fast".to_owned()),
            access_modes: vec!["ReadWriteOnce".to_owned()],
            labels: BTreeMap::from([("app".to_owned(), "db".to_owned())]),
            snapshot: "s".to_owned(),
        },
        exclude: Vec::new(),
        compression: None,
        files_cache: None,
        live: None,
    }
}

pub(super) fn spec() -> BorgRunSpec {
    BorgRunSpec {
        node: "node-1".to_owned(),
        subject: Subject { namespace: "shop".to_owned(), pvc: "db".to_owned() },
        owner: Owner::default(),
        repository: RunRepository {
            name: "nas".to_owned(),
            location: "ssh://borg@nas/./backups/shop/db".to_owned(),
            secret_ref: "nas-secret".to_owned(),
            encryption: Encryption::default(),
            rate_limit: None,
            may_init: true,
            expected_id: None,
        },
        volume: None,
        operation: Operation::List(ListOptions::default()),
        time_zone: "Europe/Berlin".to_owned(),
        deadline: DateTime::<Utc>::MAX_UTC,
    }
}

pub(super) fn job(spec: &BorgRunSpec) -> Job<'_> {
    Job {
        spec,
        host_id: "node-1@boot@pid1",
        places: Places {
            state: Path::new("/run/borg/state"),
            state_here: Path::new("/var/lib/borgherd/state"),
            files: Path::new("/run/borg/files"),
            ssh_privatekey: Path::new("/run/borg/secrets/ssh key"),
            known_hosts: Path::new("/run/borg/secrets/known_hosts"),
        },
        limits: Limits::default(),
    }
}
