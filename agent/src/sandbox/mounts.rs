//! What borg sees of the file system: the image, read-only, and below [`ROOM`] what the plan names.
//!
//! Invariant: before borg starts, the table of mounts holds nothing but what [`is_of_the_image`] allows and what was mounted here; that is
//! checked, not assumed. All of it happens in a namespace of this process, so nobody else notices and the kernel undoes it.
//! Detaching and covering instead of a new root: that would need `CAP_SYS_CHROOT`, which the agent does without.

use super::{FILES, KNOWN_HOSTS, Plan, REPOSITORIES, SSH_PRIVATEKEY, STATE, SandboxError, VOLUME};
use crate::host::open_beneath;
use crate::mount_table::{self, Mount, is_mount_point};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Folder that holds all that borg is given. Every image has its parent, which is covered: the service account's token lies there too.
const ROOM: &str = "/run/borg";
const RUN: &str = "/run";
const TMP: &str = "/tmp";
const DEV: &str = "/dev";
const PROC: &str = "/proc";
/// Where `HOME` is.
pub(super) const HOME: &str = "/run/borg/home";
/// Mounts below these belong to the image or the machine's programs.
const PROGRAMS: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix"];
/// Where the new /dev and the repository wait for their places to be free.
const NEW_DEV: &str = "/run/dev";
const NEW_REPOSITORY: &str = "/run/repository";
/// Files that the kubelet mounts into a container and the resolver needs.
const NAMES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
/// Covered where they exist without being mounts: on a developer's machine they are plain folders.
const COVERED: [&str; 7] = ["/sys", "/host", "/var/tmp", "/var/lib/borgherd", "/var/lib/kubelet", "/var/lib/containers", REPOSITORIES];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Files and secrets of the plan, and what borg puts into its temporary folder, are held in memory.
const IN_MEMORY: &str = "size=64m,mode=0755";
const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Leaves this process with its own view of the file system, in which only what `plan` names is to be found.
/// `program` is the file that will be executed.
pub(super) fn isolate(plan: &Plan, program: &Path) -> Result<(), SandboxError> {
    // IPC too: shared memory and queues of other sandboxes of this container.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC).map_err(step("unshare namespaces"))?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).map_err(step("make all mounts private"))?;
    let sources = Sources::open(plan)?;
    let keep = |point: &Path| is_of_the_image(point, program);

    // Built at /tmp and moved to /run when that is bare: what is mounted below a covered folder could not be detached any more.
    in_memory(Path::new(TMP), PLAIN)?;
    furnish(plan, &sources)?;
    detach_all(|point| keep(point) || is_at(point, TMP) || is_at(point, PROC))?;
    move_mount(TMP, Path::new(RUN))?;
    detach_all(|point| keep(point) || is_at(point, RUN) || is_at(point, PROC))?;
    move_mount(NEW_DEV, Path::new(DEV))?;
    let mut ours = vec![RUN, DEV, PROC];
    ours.extend(cover_all(sources.repository.as_ref())?);
    freeze(keep)?;
    verify(|point| keep(point) || ours.iter().any(|own| is_at(point, own)))?;
    cover_processes()
}

const NOTHING: Option<&str> = None;

/// The folders of the plan, opened before anything is detached or covered.
struct Sources {
    volume: Option<(OwnedFd, bool)>,
    state: OwnedFd,
    repository: Option<Repository>,
}

struct Repository {
    path: PathBuf,
    folder: OwnedFd,
}

impl Sources {
    fn open(plan: &Plan) -> Result<Self, SandboxError> {
        let mounts = table()?;
        let volume = match &plan.volume {
            None => None,
            Some(volume) => {
                // This namespace is private: a mount point now stays one.
                if !is_mount_point(&mounts, &volume.source) {
                    return Err(SandboxError::new("find the volume", format!("{} is no mount point", volume.source.display())));
                }
                let mount = open_folder(&volume.source)?;
                let folder = match &volume.beneath {
                    None => mount,
                    Some(beneath) => {
                        open_beneath(mount, beneath).map_err(step(&format!("open {} beneath the mount", beneath.display())))?
                    }
                };
                Some((folder, volume.read_only))
            }
        };
        Ok(Self { volume, state: open_folder(&plan.state)?, repository: Repository::open(plan, &mounts)? })
    }
}

impl Repository {
    /// `None` as well if there is nothing at the path and nothing is to be made there.
    fn open(plan: &Plan, mounts: &[Mount]) -> Result<Option<Self>, SandboxError> {
        let Some(path) = &plan.repository_path else { return Ok(None) };
        let refused = |why: &str| SandboxError::new("find the repository", format!("{} {why}", path.display()));
        let normal = path.components().skip(1).all(|part| matches!(part, std::path::Component::Normal(_)));
        if !normal || !path.starts_with(REPOSITORIES) || path == Path::new(REPOSITORIES) {
            return Err(refused("is no path below /repositories"));
        }
        if plan.create_repository_path {
            // Strictly below: /repositories itself is a folder of the image.
            let below = |mount: &&Mount| mount.point.starts_with(REPOSITORIES) && mount.point != Path::new(REPOSITORIES);
            if !mounts.iter().filter(below).any(|mount| path.starts_with(&mount.point)) {
                return Err(refused("is not on a mounted volume, so no repository is created there"));
            }
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|error| refused(&format!("cannot be created: {error}")))?;
        }
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(&error.to_string())),
        };
        if !real.starts_with(REPOSITORIES) {
            return Err(refused(&format!("leads out of /repositories, to {}", real.display())));
        }
        Ok(Some(Self { path: path.clone(), folder: open_folder(&real)? }))
    }
}

/// Fills the folder in memory that will be /run: the bound folders, the secrets, a home.
fn furnish(plan: &Plan, sources: &Sources) -> Result<(), SandboxError> {
    let here = |path: &str| PathBuf::from(path.replacen(RUN, TMP, 1));
    make_folder(&here(ROOM), 0o755)?;
    make_folder(&here(HOME), 0o700)?;
    if let Some((volume, read_only)) = &sources.volume {
        let read_only = if *read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        bind(volume, &here(VOLUME), read_only)?;
    }
    bind(&sources.state, &here(STATE), MsFlags::empty())?;
    if let Some(repository) = &sources.repository {
        bind(&repository.folder, &here(NEW_REPOSITORY), MsFlags::empty())?;
    }
    furnish_devices(&here(NEW_DEV))?;
    let Plan { secrets, files, .. } = plan;
    make_folder(&here(FILES), 0o700)?;
    for (name, content) in files {
        if !matches!(Path::new(name).file_name(), Some(only) if only == name.as_str()) {
            return Err(SandboxError::new(format!("write file {name:?}"), "it is no plain name"));
        }
        write_file(&here(FILES).join(name), content)?;
    }
    for (path, content) in [(SSH_PRIVATEKEY, &secrets.ssh_privatekey), (KNOWN_HOSTS, &secrets.known_hosts)] {
        let path = here(path);
        make_folder(path.parent().unwrap_or(Path::new(TMP)), 0o700)?;
        if let Some(content) = content {
            write_file(&path, content)?;
        }
    }
    Ok(())
}

/// Whether a mount point is part of what borg, ssh and the resolver run from, or above the program.
fn is_of_the_image(point: &Path, program: &Path) -> bool {
    let needed = |path: &str| is_at(point, path) || Path::new(path).starts_with(point);
    program.starts_with(point) || PROGRAMS.into_iter().any(needed) || NAMES.into_iter().any(|name| point == Path::new(name))
}

fn is_at(point: &Path, folder: &str) -> bool {
    point.starts_with(folder)
}

/// Detaches every mount that `keep` does not name, with all below it.
fn detach_all(keep: impl Fn(&Path) -> bool) -> Result<(), SandboxError> {
    let mut before = usize::MAX;
    loop {
        let mounts = table()?;
        let Some(gone) = mounts.iter().rfind(|mount| !keep(&mount.point)) else { return Ok(()) };
        if mounts.len() >= before {
            return Err(SandboxError::new("detach a mount", format!("{} stays", gone.point.display())));
        }
        before = mounts.len();
        let top = mounts.iter().filter(|mount| gone.point.starts_with(&mount.point) && !keep(&mount.point));
        let point = top.min_by_key(|mount| mount.point.components().count()).map_or(&gone.point, |mount| &mount.point);
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(step(&format!("detach {}", point.display())))?;
    }
}

/// Empty folders in memory over what is neither mounted nor borg's business. Returns what was mounted.
fn cover_all(repository: Option<&Repository>) -> Result<Vec<&'static str>, SandboxError> {
    in_memory(Path::new(TMP), PLAIN)?;
    let mut ours = vec![TMP];
    for folder in COVERED.into_iter().filter(|folder| Path::new(folder).is_dir()) {
        in_memory(Path::new(folder), PLAIN)?;
        if let (REPOSITORIES, Some(Repository { path, folder: _ })) = (folder, repository) {
            make_folder(path, 0o755)?;
            move_mount(NEW_REPOSITORY, path)?;
        }
        make_read_only(Path::new(folder), PLAIN)?;
        ours.push(folder);
    }
    Ok(ours)
}

/// A /dev with five devices.
fn furnish_devices(dev: &Path) -> Result<(), SandboxError> {
    make_folder(dev, 0o755)?;
    // Without nodev, or the devices would be none.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    in_memory(dev, flags)?;
    for name in DEVICES {
        let device = Path::new(DEV).join(name);
        let place = dev.join(name);
        write_file(&place, "")?;
        mount(Some(&device), &place, NOTHING, MsFlags::MS_BIND, NOTHING).map_err(step(&format!("bind {}", device.display())))?;
    }
    make_read_only(dev, flags)
}

fn move_mount(from: &str, to: &Path) -> Result<(), SandboxError> {
    mount(Some(from), to, NOTHING, MsFlags::MS_MOVE, NOTHING).map_err(step(&format!("move {from} to {}", to.display())))
}

/// The image becomes read-only, as it is in the cluster anyway; so do the files that the kubelet mounts.
fn freeze(keep: impl Fn(&Path) -> bool) -> Result<(), SandboxError> {
    for mount in table()?.iter().filter(|mount| keep(&mount.point)) {
        let noexec = mount.options.iter().any(|option| option == "noexec");
        let noexec = if noexec { MsFlags::MS_NOEXEC } else { MsFlags::empty() };
        make_read_only(&mount.point, MsFlags::MS_NOSUID | MsFlags::MS_NODEV | noexec)?;
    }
    Ok(())
}

fn verify(allowed: impl Fn(&Path) -> bool) -> Result<(), SandboxError> {
    match table()?.into_iter().find(|mount| !allowed(&mount.point)) {
        Some(left) => Err(SandboxError::new("check the mounts", format!("{} is still there", left.point.display()))),
        None => Ok(()),
    }
}

/// An empty /proc, last: through the real one a process with `CAP_DAC_READ_SEARCH` reads the root and environment of others.
fn cover_processes() -> Result<(), SandboxError> {
    umount2(PROC, MntFlags::MNT_DETACH).map_err(step("detach /proc"))?;
    in_memory(Path::new(PROC), PLAIN)?;
    make_read_only(Path::new(PROC), PLAIN)
}

fn open_folder(path: &Path) -> Result<OwnedFd, SandboxError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    open(path, flags, Mode::empty()).map_err(step(&format!("open folder {}", path.display())))
}

/// Makes the folder `target` and binds the opened one there, without what is mounted below it.
fn bind(source: &OwnedFd, target: &Path, read_only: MsFlags) -> Result<(), SandboxError> {
    make_folder(target, 0o755)?;
    let what = format!("bind {}", target.display());
    mount(Some(&through(source)), target, NOTHING, MsFlags::MS_BIND, NOTHING).map_err(step(&what))?;
    remount(target, PLAIN | read_only)
}

fn through(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn in_memory(point: &Path, flags: MsFlags) -> Result<(), SandboxError> {
    mount(Some("borgherd"), point, Some("tmpfs"), flags, Some(IN_MEMORY)).map_err(step(&format!("mount a tmpfs on {}", point.display())))
}

fn make_read_only(point: &Path, flags: MsFlags) -> Result<(), SandboxError> {
    remount(point, flags | MsFlags::MS_RDONLY)
}

fn remount(point: &Path, flags: MsFlags) -> Result<(), SandboxError> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags;
    mount(NOTHING, point, NOTHING, flags, NOTHING).map_err(step(&format!("remount {}", point.display())))
}

fn make_folder(path: &Path, mode: u32) -> Result<(), SandboxError> {
    let result = DirBuilder::new().recursive(true).mode(mode).create(path);
    result.map_err(|error| SandboxError::new(format!("make folder {}", path.display()), error))
}

fn write_file(path: &Path, content: &str) -> Result<(), SandboxError> {
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|error| SandboxError::new(format!("write {}", path.display()), error))
}

fn table() -> Result<Vec<Mount>, SandboxError> {
    mount_table::read().map_err(|error| SandboxError::new("read the table of mounts", error))
}

fn step<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> SandboxError {
    move |error| SandboxError::new(what, error)
}
