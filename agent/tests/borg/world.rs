//! What every test here stands on: a volume, a node's state, a starter of borg without a sandbox, and borg itself for a look from outside.

use super::launcher::Launcher;
use super::server::Server;
use borgherd_agent::borg::{Job, Limits, Places, Report, execute, host_id};
use borgherd_agent::sandbox;
use borgherd_api::Reason;
use borgherd_api::crd::{
    ArchiveOptions, BorgRunSpec, CheckOptions, CompactOptions, Encryption, ListOptions, Operation, Progress, PruneOptions, RestoreOptions,
    RunPhase, RunRepository, Subject, VolumeFacts,
};
use borgherd_api::names;
use chrono::{DateTime, Utc};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) const PASSPHRASE: &str = "correct horse";
pub(crate) const CUT: &str = "2026-11-21T10:00:00Z";

/// The program under test; the sentence when it is missing says how to get it.
fn borg() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/borg/bin/borg");
    let borg = std::env::var_os("BORGHERD_TEST_BORG").map_or(default, PathBuf::from);
    assert!(borg.exists(), "{} is not there: run hack/borg, or set BORGHERD_TEST_BORG", borg.display());
    assert!(nix::unistd::Uid::effective().is_root(), "these tests need root: owners, capabilities and mounts are part of them");
    fs::canonicalize(borg).unwrap()
}

const NOTHING: Option<&str> = None;

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

pub(crate) struct World {
    /// Unmounted with the world; whatever happens to this process, other processes do not see them.
    mounts: Vec<Mounted>,
    pub(crate) root: TempDir,
    pub(crate) borg: PathBuf,
    pub(crate) server: Option<Server>,
    /// What is archived.
    pub(crate) volume: PathBuf,
    pub(crate) repository: RunRepository,
    /// Capabilities that are left to borg, by setpriv's names; absent: those of the sandbox.
    pub(crate) capabilities: Option<&'static str>,
    /// In the agent's own sandbox, not without one. Only for ssh repositories.
    pub(crate) sandboxed: bool,
    pub(crate) passphrase: String,
    pub(crate) limits: Limits,
    pub(crate) deadline: DateTime<Utc>,
    pub(crate) cut: DateTime<Utc>,
    pub(crate) backup_uid: String,
    pub(crate) exclude: Vec<String>,
    pub(crate) compression: Option<String>,
    /// Name of the PVC.
    pub(crate) pvc: &'static str,
    /// Name and boot of the node, by which its state and its host id are told from others'.
    pub(crate) node: &'static str,
    pub(crate) boot: &'static str,
}

impl World {
    /// With a path repository that does not exist and may be made.
    pub(crate) fn new() -> Self {
        let borg = borg();
        // From now on this thread, and what it starts, has mounts of its own.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).unwrap();
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "content").unwrap();
        let location = root.path().join("repository").display().to_string();
        Self {
            repository: RunRepository {
                name: "nas".to_owned(),
                location,
                secret_ref: "nas-secret".to_owned(),
                encryption: Encryption::RepokeyBlake2,
                rate_limit: None,
                may_init: true,
                expected_id: None,
            },
            mounts: Vec::new(),
            root,
            borg,
            server: None,
            volume,
            capabilities: None,
            sandboxed: false,
            passphrase: PASSPHRASE.to_owned(),
            limits: Limits {
                lock_patience: Duration::from_secs(4),
                interrupt: Duration::from_secs(30),
                terminate: Duration::from_secs(10),
                connect: Duration::from_secs(5),
            },
            deadline: Utc::now() + Duration::from_mins(30),
            cut: CUT.parse().unwrap(),
            backup_uid: "backup-1".to_owned(),
            exclude: Vec::new(),
            compression: None,
            pvc: "db",
            node: "node-1",
            boot: "boot-1",
        }
    }

    /// With an ssh repository.
    pub(crate) fn ssh() -> Self {
        let mut world = Self::new();
        let server = Server::start(world.root.path(), &world.borg);
        world.repository.location = server.location("deep/er/repository");
        world.server = Some(server);
        world
    }

    /// As [`Self::ssh`], in the agent's own sandbox.
    pub(crate) fn sandboxed() -> Self {
        let mut world = Self::ssh();
        world.sandboxed = true;
        let volume = world.volume.clone();
        world.make_volume(&volume);
        world
    }

    /// Makes `folder` something to archive or to restore into: for the sandbox it has to be a mount point.
    pub(crate) fn make_volume(&mut self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        if self.sandboxed {
            mount(Some(folder), folder, NOTHING, MsFlags::MS_BIND, NOTHING).unwrap();
            self.mounts.push(Mounted(folder.to_owned()));
        }
    }

    /// Mounts a tmpfs.
    pub(crate) fn mount_tmpfs(&mut self, folder: &Path, options: &str) {
        fs::create_dir_all(folder).unwrap();
        mount(NOTHING, folder, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        self.mounts.push(Mounted(folder.to_owned()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The folder of the repository on this machine.
    pub(crate) fn repository_folder(&self) -> PathBuf {
        match &self.server {
            Some(server) => server.folder.join("deep/er/repository"),
            None => PathBuf::from(&self.repository.location),
        }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path(&format!("state-{}", self.node))
    }

    pub(crate) fn archive_name(&self) -> String {
        names::archive("shop", self.pvc, self.cut)
    }

    pub(crate) fn facts(&self) -> VolumeFacts {
        VolumeFacts {
            cluster_uid: "cluster".to_owned(),
            backup_uid: self.backup_uid.clone(),
            pvc_uid: "pvc".to_owned(),
            size: "1Gi".to_owned(),
            storage_class: Some("fast".to_owned()),
            access_modes: vec!["ReadWriteOnce".to_owned()],
            labels: BTreeMap::from([("app".to_owned(), "{hostname} \"quoted\" ü".to_owned())]),
            snapshot: "snap".to_owned(),
        }
    }

    pub(crate) fn archive_operation(&self) -> Operation {
        Operation::Archive(ArchiveOptions {
            name: self.archive_name(),
            cut: self.cut,
            facts: self.facts(),
            exclude: self.exclude.clone(),
            compression: self.compression.clone(),
            files_cache: None,
            live: None,
        })
    }

    fn spec(&self, operation: Operation) -> BorgRunSpec {
        BorgRunSpec {
            node: self.node.to_owned(),
            subject: Subject { namespace: "shop".to_owned(), pvc: self.pvc.to_owned() },
            owner: borgherd_api::crd::Owner::default(),
            repository: self.repository.clone(),
            volume: None,
            operation,
            time_zone: "Europe/Berlin".to_owned(),
            deadline: self.deadline,
        }
    }

    pub(crate) async fn archive(&self) -> Report {
        self.begin().finish(self, self.archive_operation()).await
    }

    /// As [`Self::archive`], with the SSH key and known hosts of another world's server.
    pub(crate) async fn archive_with_key(&self, key: (PathBuf, PathBuf)) -> Report {
        let mut begun = self.begin();
        begun.key = key;
        begun.finish(self, self.archive_operation()).await
    }

    pub(crate) async fn restore(&self, target: &Path) -> Report {
        let mut begun = self.begin();
        target.clone_into(&mut begun.launcher.volume);
        begun.finish(self, Operation::Restore(RestoreOptions { archive: self.archive_name() })).await
    }

    pub(crate) async fn list(&self) -> Report {
        self.begin().finish(self, Operation::List(ListOptions::default())).await
    }

    /// Prunes by `keep`; the repository is known by its id now.
    pub(crate) async fn prune(&self, keep: &str) -> Report {
        self.prune_with(&PruneOptions { keep: keep.to_owned(), cluster_uid: "cluster".to_owned(), ..PruneOptions::default() }).await
    }

    /// What [`Self::prune_with`] would do.
    pub(crate) async fn judge(&self, options: &PruneOptions) -> Report {
        self.begin().finish(self, Operation::List(ListOptions { judge: Some(options.clone()), last: None })).await
    }

    pub(crate) async fn prune_with(&self, options: &PruneOptions) -> Report {
        self.begin().finish(self, Operation::Prune(options.clone())).await
    }

    pub(crate) async fn compact(&self) -> Report {
        self.begin().finish(self, Operation::Compact(CompactOptions::default())).await
    }

    pub(crate) async fn check(&self, options: CheckOptions) -> Report {
        self.begin().finish(self, Operation::Check(options)).await
    }

    /// From now on only the repository that is there now will do.
    pub(crate) fn know_the_repository(&mut self) {
        self.repository.may_init = false;
        self.repository.expected_id = Some(self.repository_id());
    }

    /// Borg from now on, with lines of Python before it begins.
    pub(crate) fn change_borg(&mut self, python: &str) {
        let interpreter = self.borg.with_file_name("python");
        let program = self.path("changed-borg");
        let script = format!("#!{}\nimport sys\n{python}\nfrom borg.archiver import main\nsys.exit(main())\n", interpreter.display());
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self.borg = program;
    }

    /// A run that can be watched and interrupted.
    pub(crate) fn begin(&self) -> Begun {
        let files = self.path("files");
        fs::create_dir_all(&files).unwrap();
        Begun {
            launcher: Launcher {
                borg: self.borg.clone(),
                volume: self.volume.clone(),
                state: self.state(),
                files,
                passphrase: self.passphrase.clone(),
                capabilities: self.capabilities,
                keys: self.sandboxed.then(|| self.server.as_ref().unwrap().keys()),
                pids: Mutex::new(Vec::new()),
            },
            key: self.server.as_ref().map_or_else(Default::default, |server| (server.key.clone(), server.known_hosts.clone())),
            progress: watch::channel(Progress::default()).0,
            cancel: CancellationToken::new(),
        }
    }

    /// Borg itself, as a person would use it; its output if it succeeds.
    pub(crate) fn tool(&self, args: &[&str]) -> String {
        let output = self.tool_command(args).output().unwrap();
        let Output { status, stdout, stderr } = &output;
        assert!(status.success(), "borg {args:?}: {status} {}", String::from_utf8_lossy(stderr));
        String::from_utf8(stdout.clone()).unwrap()
    }

    pub(crate) fn tool_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.borg);
        command
            .args(args)
            .current_dir(&self.volume)
            .env("BORG_PASSPHRASE", PASSPHRASE)
            .env("BORG_BASE_DIR", self.path("tool"))
            .env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes")
            .env("BORG_HOST_ID", "laptop@1");
        command
    }

    /// Names of all archives there are, by borg itself.
    pub(crate) fn archives(&self) -> Vec<String> {
        let folder = self.repository_folder().display().to_string();
        let listed = self.tool(&["list", "--consider-checkpoints", "--format={archive}{NL}", &folder]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The repository's id, from its own config.
    pub(crate) fn repository_id(&self) -> String {
        let config = fs::read_to_string(self.repository_folder().join("config")).unwrap();
        let id = config.lines().find_map(|line| line.strip_prefix("id = "));
        id.expect("an id in the repository's config").to_owned()
    }
}

/// A run that has not been executed yet.
pub(crate) struct Begun {
    pub(crate) launcher: Launcher,
    key: (PathBuf, PathBuf),
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) cancel: CancellationToken,
}

impl Begun {
    pub(crate) async fn finish(&self, world: &World, operation: Operation) -> Report {
        let state = world.state();
        let spec = world.spec(operation);
        let host_id = host_id(world.node, world.boot, "pid:[1]");
        let (key, known_hosts) = &self.key;
        let job = Job {
            spec: &spec,
            host_id: &host_id,
            places: if world.sandboxed {
                Places {
                    state: Path::new(sandbox::STATE),
                    state_here: &state,
                    files: Path::new(sandbox::FILES),
                    ssh_privatekey: Path::new(sandbox::SSH_PRIVATEKEY),
                    known_hosts: Path::new(sandbox::KNOWN_HOSTS),
                }
            } else {
                Places { state: &state, state_here: &state, files: &self.launcher.files, ssh_privatekey: key, known_hosts }
            },
            limits: world.limits,
        };
        execute(job, &self.launcher, self.progress.clone(), self.cancel.clone(), &Utc::now).await
    }

    /// Waits until borg has read something.
    pub(crate) async fn under_way(&self) {
        let mut progress = self.progress.subscribe();
        let begun = progress.wait_for(|progress| progress.bytes > 0);
        drop(tokio::time::timeout(Duration::from_mins(5), begun).await.expect("no progress").unwrap());
    }

    /// The borg that was started last.
    pub(crate) fn pid(&self) -> i32 {
        *self.launcher.pids.lock().unwrap().last().expect("a borg was started")
    }
}

/// Asserts phase and reason, and shows the whole report if they are others. The message must contain each of `says`.
#[track_caller]
pub(crate) fn expect(report: &Report, phase: RunPhase, reason: Option<Reason>, says: &[&str]) {
    assert_eq!((report.phase, report.reason), (phase, reason), "{report:#?}");
    let message = report.message.as_deref().unwrap_or_default();
    assert_eq!(message.is_empty(), reason.is_none(), "{report:#?}");
    for word in says {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(report.log.len() <= 20 && report.log.iter().all(|line| line.len() <= 1024));
}

#[track_caller]
pub(crate) fn succeeded(report: &Report) {
    expect(report, RunPhase::Succeeded, None, &[]);
}
