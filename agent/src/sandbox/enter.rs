//! The sandbox's own side, in order: read the plan, give everything up, become borg.
//!
//! Invariant: a process of a single thread does all this, since namespaces, capabilities and filters are those of a thread. It asks for no signal at its
//! parent's death: the kernel sends that at the death of the *thread* that started it, which a runtime ends when it likes. In a container
//! the agent's death ends all of it anyway, and elsewhere borg keeps its slot until it is done.

use super::plan::Order;
use super::{Capabilities, Plan, SandboxError, VOLUME};
use super::{descriptors, filter, mounts, privileges};
use nix::sys::stat::{Mode, umask};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io::Read;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes borg as the plan on `stdin` says. Returns only if that failed.
pub fn enter(mut stdin: impl Read) -> Result<Infallible, SandboxError> {
    let mut order = Vec::new();
    let read = stdin.read_to_end(&mut order);
    read.map_err(|error| SandboxError::new("read the plan", error))?;
    let Order { plan, inherited } = serde_json::from_slice(&order).map_err(|error| SandboxError::new("read the plan", error))?;
    drop(order);
    check(&plan)?;
    let env = environment(&plan);
    let program = find(&plan, env.get("PATH").map_or(PATH, String::as_str))?;

    descriptors::keep_only(inherited)?;
    privileges::limit()?;
    mounts::isolate(&plan, &program)?;
    let passphrase = descriptors::passphrase(&plan.secrets.passphrase)?;
    umask(Mode::from_bits_truncate(0o077));
    privileges::reduce(plan.capabilities)?;
    filter::install(std::process::id())?;
    Err(execute(&plan, &program, env, passphrase))
}

/// What could never be right.
fn check(plan: &Plan) -> Result<(), SandboxError> {
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count);
    match threads {
        Ok(1) => {}
        Ok(more) => return Err(SandboxError::new("check the plan", format!("{more} threads; it must be one"))),
        Err(error) => return Err(SandboxError::new("count threads", error)),
    }
    let writable = plan.volume.as_ref().map(|volume| !volume.read_only);
    match (plan.capabilities, writable) {
        (Capabilities::Archive, Some(false)) | (Capabilities::Restore, Some(true)) | (Capabilities::Repository, None) => Ok(()),
        (kind, _) => Err(SandboxError::new(
            "check the plan",
            format!("{kind:?} needs its volume: read-only to archive, writable to restore, none for the repository alone"),
        )),
    }
}

/// The plan's environment over a few defaults. Nothing is taken from the agent's.
fn environment(plan: &Plan) -> BTreeMap<String, String> {
    let defaults = [("PATH", PATH), ("HOME", mounts::HOME), ("TMPDIR", "/tmp"), ("LC_ALL", "C.UTF-8")];
    let mut env: BTreeMap<String, String> = defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    env.extend(plan.env.clone());
    env
}

/// The file of `argv[0]`, real, so that the mounts it lies on can be kept.
fn find(plan: &Plan, path: &str) -> Result<PathBuf, SandboxError> {
    let name = plan.argv.first().map_or("", String::as_str);
    let found = if name.contains('/') {
        Some(PathBuf::from(name))
    } else {
        let places = path.split(':').map(|folder| Path::new(folder).join(name));
        places.into_iter().find(|file| !name.is_empty() && file.is_file())
    };
    let failed = |error: &dyn std::fmt::Display| SandboxError::new(format!("find program {name:?}"), error);
    let found = found.ok_or_else(|| failed(&"there is none in PATH"))?;
    // Its folder only: the name by which a program is called may be what it goes by.
    let folder = found.parent().unwrap_or(Path::new("/")).canonicalize().map_err(|error| failed(&error))?;
    Ok(folder.join(found.file_name().unwrap_or_default()))
}

fn execute(plan: &Plan, program: &Path, env: BTreeMap<String, String>, passphrase: RawFd) -> SandboxError {
    let folder = if plan.volume.is_some() { VOLUME } else { mounts::HOME };
    let error = Command::new(program)
        .args(plan.argv.iter().skip(1))
        .env_clear()
        .envs(env)
        .env("BORG_PASSPHRASE_FD", passphrase.to_string())
        .current_dir(folder)
        .exec();
    SandboxError::new(format!("execute {}", program.display()), error)
}
