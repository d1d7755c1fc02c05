//! The BorgRun that an agent carries out: the one place where it is put together.
//!
//! Invariant: only an archive may make a new Borg repository, and only where no record says that one has held an archive.

use crate::context::Context;
use crate::error::{Doing, Error};
use crate::expose;
use crate::maintenance;
use crate::repository::{Chosen, record};
use borgherd_api::crd::{BorgRun, BorgRunSpec, CheckOptions, Operation, Owner, RunRepository, RunVolume, Subject};
use kube::api::Api;

/// What differs from run to run.
#[derive(Debug)]
pub struct Order<'a> {
    /// Its name: that of everything temporary of the volume, and the attempt.
    pub name: &'a str,
    /// The Backup or Restore that it is for.
    pub owner: &'a Owner,
    /// The PVC that is archived, or whose archives are read.
    pub pvc: &'a str,
    /// The node whose agent does it.
    pub node: String,
    /// Where to.
    pub chosen: &'a Chosen,
    /// What is read or filled; `None`: no volume.
    pub volume: Option<RunVolume>,
    /// What borg does.
    pub operation: Operation,
    /// Time zone of the archive's own times, by its IANA name.
    pub time_zone: &'a str,
}

/// Creates the run; one of that name that the same owner has already is left as it is.
pub async fn create(ctx: &Context, order: Order<'_>) -> Result<(), Error> {
    let namespace = &ctx.config.namespace;
    let location = &order.chosen.location;
    let known = record::read(&Api::namespaced(ctx.client.clone(), namespace), location).await.doing("reading the repository's record")?;
    let archives = matches!(order.operation, Operation::Archive(_));
    let is_maintenance = order.operation.is_maintenance();
    let (labels, annotations) = if is_maintenance { maintenance::marks(order.owner) } else { expose::marks(order.owner) };
    let reads_content =
        matches!(order.operation, Operation::Check(CheckOptions { verify_data: Some(_), .. } | CheckOptions { read: Some(_), .. }));
    let within = if is_maintenance && !reads_content { ctx.config.maintenance.timeout } else { ctx.config.timeouts.run };
    let mut run = BorgRun::new(
        order.name,
        BorgRunSpec {
            node: order.node,
            subject: Subject { namespace: order.owner.namespace.clone(), pvc: order.pvc.to_owned() },
            owner: order.owner.clone(),
            repository: RunRepository {
                name: order.chosen.name.clone(),
                location: location.clone(),
                secret_ref: order.chosen.spec.secret_ref.clone(),
                encryption: order.chosen.spec.encryption,
                // of what is uploaded
                rate_limit: order.chosen.spec.rate_limit.filter(|_| archives),
                may_init: archives && known.is_none(),
                expected_id: known.and_then(|r| r.id),
            },
            volume: order.volume,
            operation: order.operation,
            time_zone: order.time_zone.to_owned(),
            deadline: (ctx.clock)() + chrono::Duration::from_std(within).unwrap_or_default(),
        },
    );
    run.metadata.namespace = Some(namespace.clone());
    run.metadata.labels = Some(labels);
    run.metadata.annotations = Some(annotations);
    expose::get_or_create(&Api::namespaced(ctx.client.clone(), namespace), &run).await.doing("creating the BorgRun")
}

/// Looks for a run that the cache does not have. What is wrong, if somebody deleted it; an error, to look again, if it is there.
pub async fn deleted(ctx: &Context, name: &str) -> Result<String, Error> {
    let runs: Api<BorgRun> = Api::namespaced(ctx.client.clone(), &ctx.config.namespace);
    match runs.get_opt(name).await.doing("looking for the BorgRun")? {
        Some(_) => Err(Error::Missing(format!("BorgRun {name} is there, but not yet in the cache"))),
        None => Ok(format!("BorgRun {name} was deleted before it had ended")),
    }
}
