//! Objects that this crate's tests begin with.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::missing_panics_doc, reason = "only tests use it")]

use crate::slot::{Identity, Slots};
use borgherd_api::crd::{ArchiveOptions, BorgRun, BorgRunSpec, Operation, Owner, RunRepository, RunVolume, Subject};
use chrono::{DateTime, Utc};
use std::path::Path;

/// A run to archive `shop/db` on node `n1`, as the controller writes it.
pub(crate) fn run(name: &str, uid: &str) -> BorgRun {
    let mut run = BorgRun::new(
        name,
        BorgRunSpec {
            node: "n1".to_owned(),
            subject: Subject { namespace: "shop".to_owned(), pvc: "db".to_owned() },
            owner: Owner::default(),
            repository: RunRepository {
                name: "nas".to_owned(),
                location: "/repositories/shop/db".to_owned(),
                secret_ref: "nas".to_owned(),
                may_init: true,
                ..RunRepository::default()
            },
            volume: Some(RunVolume { holder_uid: "holder".to_owned(), pv: "pv".to_owned() }),
            operation: Operation::Archive(ArchiveOptions { name: "shop_db_2026-11-21T10-00-00Z".to_owned(), ..ArchiveOptions::default() }),
            time_zone: "UTC".to_owned(),
            deadline: at("2026-11-22T10:00:00Z"),
        },
    );
    run.metadata.uid = Some(uid.to_owned());
    run.metadata.namespace = Some("borgherd".to_owned());
    run.metadata.resource_version = Some("1".to_owned());
    run.metadata.creation_timestamp = Some(serde_json::from_str("\"2026-11-21T10:00:00Z\"").unwrap());
    run
}

/// A time.
pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Who holds locks in tests.
pub(crate) fn identity() -> Identity {
    Identity { pid: std::process::id(), started: at("2026-11-21T09:00:00Z"), boot_id: "boot".to_owned(), clock: Utc::now }
}

/// `count` slots in `dir`.
pub(crate) fn slots(dir: &Path, count: usize) -> Slots {
    Slots::open(dir, count, identity(), rand::make_rng::<rand::rngs::StdRng>()).unwrap()
}
