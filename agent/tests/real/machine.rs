//! A node for one test: a mount namespace of the test's thread with the kubelet's folders, and python as the "borg" that looks around.

use borgherd_agent::sandbox::{self, Capabilities, Plan, SandboxVolume, Secrets};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

/// So long is waited for what must happen; nothing that must not happen is concluded from it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";
pub(crate) const PYTHON: &str = "/usr/bin/python3";
const NOTHING: Option<&str> = None;

/// What every probe begins with. `call` is a system call by number: its result, or the name of its error.
const PRELUDE: &str = r"
import ctypes, errno, json, os, platform, signal, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
X86 = platform.machine() == 'x86_64'
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result
def attempt(what, *arguments, **named):
    try:
        what(*arguments, **named)
        return 'ok'
    except OSError as error:
        return errno.errorcode[error.errno]
def say(value):
    json.dump(value, sys.stdout)
";

pub(crate) struct Machine {
    dir: TempDir,
}

/// How a sandbox ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Machine {
    /// From now on this thread, and what it starts, has mounts of its own.
    pub(crate) fn new() -> Self {
        let unshared = unshare(CloneFlags::CLONE_NEWNS);
        assert_eq!(unshared, Ok(()), "these tests must run as root");
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).unwrap();
        let dir = TempDir::new().unwrap();
        mount(NOTHING, dir.path(), Some("tmpfs"), MsFlags::empty(), NOTHING).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.folder("pods")
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A mounted volume with a file that names it; all volumes are of one file system.
    pub(crate) fn volume(&self, holder: &str, pv: &str) -> PathBuf {
        let content = self.folder(&format!("storage/{pv}"));
        fs::write(content.join(format!("marker-of-{pv}")), pv).unwrap();
        let point = self.folder(&format!("pods/{holder}/volumes/kubernetes.io~csi/{pv}/mount"));
        self.bind(&content, &point);
        point
    }

    pub(crate) fn bind(&self, what: &Path, point: &Path) {
        assert!(point.starts_with(self.path()), "only its own");
        mount(Some(what), point, NOTHING, MsFlags::MS_BIND, NOTHING).unwrap();
    }

    pub(crate) fn mount_tmpfs(point: &Path) {
        mount(NOTHING, point, Some("tmpfs"), MsFlags::empty(), NOTHING).unwrap();
    }

    /// A sandbox for the repository alone, in which python runs `code`.
    pub(crate) fn plan(&self, code: &str) -> Plan {
        let state = self.folder("borgherd/state/own");
        fs::write(state.join("marker-of-state"), "").unwrap();
        Plan {
            volume: None,
            state,
            repository_path: None,
            create_repository_path: false,
            secrets: Secrets {
                passphrase: PASSPHRASE.to_owned(),
                ssh_privatekey: Some("the key\n".to_owned()),
                known_hosts: Some("the hosts\n".to_owned()),
            },
            files: BTreeMap::new(),
            argv: [PYTHON, "-I", "-c"].map(str::to_owned).into_iter().chain([format!("{PRELUDE}{code}")]).collect(),
            env: BTreeMap::new(),
            capabilities: Capabilities::Repository,
        }
    }

    pub(crate) fn archive(&self, volume: &Path, code: &str) -> Plan {
        let volume = SandboxVolume { source: volume.to_owned(), beneath: None, read_only: true };
        Plan { volume: Some(volume), capabilities: Capabilities::Archive, ..self.plan(code) }
    }

    pub(crate) fn restore(&self, volume: &Path, code: &str) -> Plan {
        let volume = SandboxVolume { source: volume.to_owned(), beneath: None, read_only: false };
        Plan { volume: Some(volume), capabilities: Capabilities::Restore, ..self.plan(code) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        umount2(self.dir.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// The agent's program.
pub(crate) fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_borgherd-agent"))
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

/// Runs a sandbox to its end.
pub(crate) async fn run(plan: &Plan) -> Ended {
    run_as(exe(), plan, Vec::new()).await
}

pub(crate) async fn run_as(exe: &Path, plan: &Plan, inherit: Vec<OwnedFd>) -> Ended {
    let sandbox = sandbox::spawn(exe, plan, inherit).await.unwrap();
    soon(end(sandbox)).await
}

pub(crate) async fn end(mut sandbox: sandbox::Sandbox) -> Ended {
    let (mut out, mut err) = (sandbox.take_stdout().unwrap(), sandbox.take_stderr().unwrap());
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let (read_out, read_err) = tokio::join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr));
    read_out.and(read_err).unwrap();
    let status = sandbox.wait().await.unwrap();
    Ended { status, stdout, stderr }
}

/// What the probe of a sandbox said.
pub(crate) async fn probe(plan: &Plan) -> Value {
    said(&run(plan).await)
}

pub(crate) fn said(ended: &Ended) -> Value {
    assert!(ended.status.success(), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// What the same code says as root without a sandbox: shows that it can do what the sandbox must prevent.
pub(crate) fn unconfined(code: &str) -> Value {
    let output = Command::new(PYTHON).args(["-I", "-c", &format!("{PRELUDE}{code}")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
