//! The real [`Work`]: borg in the sandbox, which inherits the repository's lock and the slot.

use super::Folders;
use super::work::{Found, Order, Work};
use super::{cache, go};
use crate::borg::{self, Access, Call, Job, Launch, Limits, Places, Running};
use crate::sandbox::{self, Capabilities, Plan, SandboxVolume};
use borgherd_api::Reason;
use borgherd_api::crd::{BorgRunStatus, Progress, RunPhase};
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A borg that reads a live volume gets this long to end when it is asked to: the volume may have to go to another node.
const LET_GO: Duration = Duration::from_secs(5);
/// By a holder's mount: an application waits for its end, and what was read is read again through its pod.
const LET_GO_HELD: Duration = Duration::from_secs(1);
/// It waits no longer for a repository that somebody else has locked: applications are held still.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Runs borg in sandboxes.
#[derive(Debug)]
pub struct Sandboxed {
    /// This program, which becomes the sandbox.
    pub exe: PathBuf,
    /// Folders of the host.
    pub folders: Folders,
    /// `BORG_HOST_ID`.
    pub host_id: String,
    /// How long things may take.
    pub limits: Limits,
    /// Tells the time.
    pub now: fn() -> DateTime<Utc>,
}

impl Work for Sandboxed {
    fn work<'a>(&'a self, order: Order<'a>, progress: watch::Sender<Progress>, cancel: CancellationToken) -> BoxFuture<'a, BorgRunStatus> {
        Box::pin(self.execute(order, Some(progress), cancel))
    }

    fn make_repository<'a>(&'a self, order: Order<'a>, cancel: CancellationToken) -> BoxFuture<'a, BorgRunStatus> {
        Box::pin(self.execute(order, None, cancel))
    }
}

impl Sandboxed {
    /// Without `progress`: only the repository is made.
    async fn execute(&self, order: Order<'_>, progress: Option<watch::Sender<Progress>>, cancel: CancellationToken) -> BorgRunStatus {
        let spec = &order.run.spec;
        let state = match cache::prepare(&self.folders, &spec.repository.location, (self.now)()) {
            Ok(state) => state,
            Err(error) => return refused(&format!("The folder for borg's caches could not be made: {error}")),
        };
        let places = Places {
            state: Path::new(sandbox::STATE),
            state_here: &state,
            files: Path::new(sandbox::FILES),
            ssh_privatekey: Path::new(sandbox::SSH_PRIVATEKEY),
            known_hosts: Path::new(sandbox::KNOWN_HOSTS),
        };
        let limits = match go::patience(order.run) {
            Some(_) => live(self.limits, if go::is_held(order.run) { LET_GO_HELD } else { LET_GO }),
            None => self.limits,
        };
        let job = Job { spec, host_id: &self.host_id, places, limits };
        let launcher = Launcher { exe: &self.exe, state: &state, order: &order };
        let report = match progress {
            Some(progress) => borg::execute(job, &launcher, progress, cancel, &self.now).await,
            None => borg::make_repository(job, &launcher, cancel, &self.now).await,
        };
        let mut status = BorgRunStatus::default();
        report.write_into(&mut status);
        status
    }
}

/// The limits of a run that reads a live volume.
fn live(limits: Limits, let_go: Duration) -> Limits {
    Limits {
        lock_patience: limits.lock_patience.min(LOCK_PATIENCE),
        interrupt: limits.interrupt.min(let_go),
        terminate: limits.terminate.min(let_go),
        ..limits
    }
}

fn refused(message: &str) -> BorgRunStatus {
    BorgRunStatus {
        phase: RunPhase::Failed,
        reason: Some(Reason::SandboxFailed),
        message: Some(message.to_owned()),
        ..BorgRunStatus::default()
    }
}

/// Starts the calls of one order.
struct Launcher<'a> {
    exe: &'a Path,
    state: &'a Path,
    order: &'a Order<'a>,
}

impl Launch for Launcher<'_> {
    fn launch<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, io::Result<Running>> {
        Box::pin(async move {
            let inherit: Vec<OwnedFd> = vec![self.order.lock.try_clone()?, self.order.slot.try_clone()?];
            let plan = plan(self.order, self.state, call)?;
            let spawned = sandbox::spawn(self.exe, &plan, inherit).await;
            let mut sandbox = spawned.map_err(io::Error::other)?;
            let pipes = sandbox.take_stdout().zip(sandbox.take_stderr());
            let (stdout, stderr) = pipes.ok_or_else(|| io::Error::other("the sandbox has no pipes"))?;
            Ok(Running { stdout, stderr, process: Box::new(sandbox) })
        })
    }
}

/// The sandbox that `call` of `order` gets.
fn plan(order: &Order<'_>, state: &Path, call: &Call) -> io::Result<Plan> {
    let (capabilities, read_only) = match call.access {
        Access::Archive => (Capabilities::Archive, Some(true)),
        Access::Restore => (Capabilities::Restore, Some(false)),
        Access::Repository => (Capabilities::Repository, None),
    };
    let volume = match (read_only, &order.volume) {
        (None, _) => None,
        (Some(read_only), Some(Found { mount, beneath })) => {
            Some(SandboxVolume { source: mount.clone(), beneath: beneath.clone(), read_only })
        }
        (Some(_), None) => return Err(io::Error::other("the run has no volume, but its operation needs one")),
    };
    let location = Path::new(&order.run.spec.repository.location);
    Ok(Plan {
        volume,
        state: state.to_owned(),
        repository_path: location.is_absolute().then(|| location.to_owned()),
        create_repository_path: call.creates_repository,
        secrets: order.secrets.clone(),
        files: call.files.clone(),
        argv: std::iter::once("borg".to_owned()).chain(call.argv.iter().cloned()).collect(),
        env: call.env.clone(),
        capabilities,
    })
}
