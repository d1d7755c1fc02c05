//! What is to be seen from inside a sandbox, and that it leaves no trace outside.

use crate::machine::{Machine, PASSPHRASE, end, exe, probe, run, run_as, said, soon, unconfined};
use borgherd_agent::sandbox::{self, REPOSITORIES};
use nix::unistd::mkfifo;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Every file whose name begins with `marker-of`, wherever a volume, a state or a secret could be.
const FIND: &str = r"
found = []
for top in ['/run', '/tmp', '/var', '/dev', '/proc', '/sys', '/mnt', '/srv', '/media', '/boot', '/etc', '/host', '/repositories']:
    for folder, folders, files in os.walk(top):
        found += [os.path.join(folder, f) for f in files if f.startswith('marker-of')]
say(sorted(found))
";

#[tokio::test]
async fn only_the_one_volume_and_the_state_are_there() {
    let machine = Machine::new();
    let volume = machine.volume("uid-1", "pvc-1");
    machine.volume("uid-2", "pvc-2");
    fs::write(machine.folder("borgherd/state/other").join("marker-of-another-state"), "").unwrap();
    fs::write(machine.folder("below").join("marker-of-a-mount-below-the-volume"), "").unwrap();
    fs::create_dir(volume.join("below")).unwrap();
    machine.bind(&machine.path().join("below"), &volume.join("below"));
    // As in the agent's pod: a token below a mount, and the same volumes a second time below /host.
    Machine::mount_tmpfs(Path::new("/run"));
    fs::create_dir_all("/run/secrets/kubernetes.io/serviceaccount").unwrap();
    Machine::mount_tmpfs(Path::new("/run/secrets/kubernetes.io/serviceaccount"));
    fs::write("/run/secrets/kubernetes.io/serviceaccount/marker-of-token", "").unwrap();

    let outside = unconfined(FIND);
    for hidden in ["pvc-2", "another-state", "below-the-volume", "token"] {
        assert!(outside.to_string().contains(hidden), "{outside}");
    }
    let before = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let inside = probe(&machine.archive(&volume, FIND)).await;
    assert_eq!(inside, json!(["/run/borg/state/marker-of-state", "/run/borg/volume/marker-of-pvc-1"]));
    assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap(), before, "nothing has changed outside");
    let paths = json!([volume, machine.path(), "/host", "/var/lib/borgherd", "/var/lib/kubelet"]);
    let code = format!(
        "say([[p, os.listdir(p) if os.path.isdir(p) else None] for p in {paths} + ['/proc', '/sys', '/tmp', '/var/tmp', '/dev', '/run/borg']])"
    );
    let seen = probe(&machine.archive(&volume, &code)).await;
    for (path, content) in seen.as_array().unwrap().iter().map(|entry| (entry[0].as_str().unwrap(), &entry[1])) {
        let mut names: Vec<&str> = content.as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
        names.sort_unstable();
        match path {
            "/dev" => assert_eq!(names, ["full", "null", "random", "urandom", "zero"]),
            "/run/borg" => assert_eq!(names, ["files", "home", "secrets", "state", "volume"]),
            _ => assert!(names.is_empty(), "{path}: {names:?}"),
        }
    }
}

#[tokio::test]
async fn an_archive_cannot_write_to_its_volume_and_to_nothing_but_its_state() {
    let machine = Machine::new();
    let volume = machine.volume("uid-1", "pvc-1");
    let code = r"
say({
    'cwd': os.getcwd(),
    'create': attempt(open, 'new', 'w'),
    'change': attempt(open, 'marker-of-pvc-1', 'a'),
    'remove': attempt(os.unlink, 'marker-of-pvc-1'),
    'chmod': attempt(os.chmod, 'marker-of-pvc-1', 0o777),
    'etc': attempt(open, '/etc/new', 'w'),
    'usr': attempt(os.mkdir, '/usr/new'),
    'proc': attempt(os.mkdir, '/proc/new'),
    'dev': attempt(os.mkdir, '/dev/new'),
    'state': attempt(open, '/run/borg/state/written', 'w'),
    'tmp': attempt(open, '/tmp/new', 'w'),
    'null': attempt(open, '/dev/null', 'w'),
})";
    let seen = probe(&machine.archive(&volume, code)).await;
    assert_eq!(
        seen,
        json!({
            "cwd": "/run/borg/volume", "create": "EROFS", "change": "EROFS", "remove": "EROFS", "chmod": "EROFS", "etc": "EROFS",
            "usr": "EROFS", "proc": "EROFS", "dev": "EROFS", "state": "ok", "tmp": "ok", "null": "ok",
        })
    );
    assert!(machine.path().join("borgherd/state/own/written").is_file());
    assert!(!volume.join("new").exists());
    fs::write(volume.join("new"), "outside it stays writable").unwrap();
}

#[tokio::test]
async fn an_archive_reads_what_belongs_to_anybody() {
    let machine = Machine::new();
    let volume = machine.volume("uid-1", "pvc-1");
    fs::create_dir(volume.join("private")).unwrap();
    fs::write(volume.join("private/file"), "content").unwrap();
    fs::set_permissions(volume.join("private/file"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(volume.join("private"), fs::Permissions::from_mode(0o000)).unwrap();
    chown(volume.join("private/file"), Some(1234), Some(1234)).unwrap();
    chown(volume.join("private"), Some(5678), Some(5678)).unwrap();
    let read = |path: &str| format!("say([open('{path}').read() if os.access('{path}', os.R_OK) else None])");
    assert_eq!(probe(&machine.archive(&volume, &read("private/file"))).await, json!(["content"]));

    let mut alone = machine.plan(&read("/run/borg/state/file"));
    alone.state = volume.join("private");
    assert_eq!(probe(&alone).await, json!([null]), "work on the repository alone may not");
}

#[tokio::test]
async fn a_restore_writes_files_of_every_owner_mode_and_kind() {
    let machine = Machine::new();
    let volume = machine.volume("uid-1", "pvc-1");
    let code = r"
os.mkdir('folder', 0o700)
os.chown('folder', 1000, 2000)
open('folder/file', 'w').close()
os.chown('folder/file', 1234, 5678)
os.setxattr('folder/file', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))
os.chmod('folder/file', 0o6755)
os.chmod('folder', 0o2750)
os.utime('folder/file', ns=(1, 2))
os.mkfifo('pipe')
os.mknod('device', 0o600 | stat.S_IFCHR, os.makedev(1, 3))
os.symlink('nowhere', 'link')
os.lchown('link', 7, 8)
say(attempt(open, 'device', 'w'))
";
    assert_eq!(probe(&machine.restore(&volume, code)).await, json!("EACCES"), "a device of a volume is no device here");
    let look = |name: &str| fs::symlink_metadata(volume.join(name)).unwrap();
    let file = look("folder/file");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.mtime_nsec()), (1234, 5678, 0o6755, 2));
    assert_eq!((look("folder").uid(), look("folder").gid(), look("folder").mode() & 0o7777), (1000, 2000, 0o2750));
    assert_eq!((look("link").uid(), look("link").gid()), (7, 8));
    assert_eq!(look("device").rdev(), nix::sys::stat::makedev(1, 3));
    let code = format!("say(os.getxattr('{}/folder/file', 'security.capability').hex())", volume.display());
    assert_eq!(unconfined(&code), json!("0100000200040000000000000000000000000000"));
}

#[tokio::test]
async fn secrets_are_files_only_root_reads_and_the_passphrase_comes_by_a_pipe() {
    let machine = Machine::new();
    let mut plan = machine.plan(
        r"
fd = int(os.environ['BORG_PASSPHRASE_FD'])
say({
    'passphrase': os.read(fd, 9999).decode(), 'again': os.read(fd, 9999).decode(), 'pipe': stat.S_ISFIFO(os.fstat(fd).st_mode),
    'stdin': sys.stdin.read(),
    'environ': dict(os.environ),
    'files': {f: [oct(os.stat(f).st_mode), open(f).read()] for f in
        ['/run/borg/secrets/ssh-privatekey', '/run/borg/secrets/known_hosts', '/run/borg/files/exclude']},
})",
    );
    plan.files.insert("exclude".to_owned(), "*.tmp\n".to_owned());
    plan.env.insert("TZ".to_owned(), "Europe/Berlin".to_owned());
    let seen = probe(&plan).await;
    assert_eq!(
        (&seen["passphrase"], &seen["again"], &seen["pipe"], &seen["stdin"]),
        (&json!(PASSPHRASE), &json!(""), &json!(true), &json!(""))
    );
    assert_eq!(
        seen["files"],
        json!({
            "/run/borg/secrets/ssh-privatekey": ["0o100600", "the key\n"],
            "/run/borg/secrets/known_hosts": ["0o100600", "the hosts\n"],
            "/run/borg/files/exclude": ["0o100600", "*.tmp\n"],
        })
    );
    let environ: Vec<&str> = seen["environ"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(environ, ["BORG_PASSPHRASE_FD", "HOME", "LC_ALL", "PATH", "TMPDIR", "TZ"], "nothing of the agent's");
}

/// Seen from outside, where /proc is whole, while the sandbox runs.
#[tokio::test]
async fn no_secret_is_in_arguments_or_environment_and_no_oom_score_is_lowered() {
    let machine = Machine::new();
    let plan = machine.plan("open('/run/borg/state/started', 'w').close(); open('/run/borg/state/end').close(); say(0)");
    for fifo in ["started", "end"] {
        mkfifo(&plan.state.join(fifo), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    // The kubelet gives a container such a score, and lowering it would take a capability that the agent does not have.
    let scored = machine.path().join("scored");
    fs::write(&scored, format!("#!/bin/sh\necho 900 > /proc/self/oom_score_adj\nexec {} \"$@\"\n", exe().display())).unwrap();
    fs::set_permissions(&scored, fs::Permissions::from_mode(0o755)).unwrap();
    let sandbox = sandbox::spawn(&scored, &plan, Vec::new()).await.unwrap();
    soon(tokio::fs::read(plan.state.join("started"))).await.unwrap();
    let pid = sandbox.pid().unwrap();
    for file in ["cmdline", "environ"] {
        let text = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned();
        assert!(text.contains("/usr/bin"), "{file}: {text}");
        for secret in [PASSPHRASE, "the key", "the hosts"] {
            assert!(!text.contains(secret), "{file} has {secret:?}");
        }
    }
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "900\n");
    soon(tokio::fs::write(plan.state.join("end"), "")).await.unwrap();
    assert!(soon(end(sandbox)).await.status.success());
}

#[tokio::test]
async fn descriptors_are_the_locks_and_the_passphrase() {
    let machine = Machine::new();
    let lock = fs::File::create(machine.path().join("lock")).unwrap();
    let plan = machine.plan(
        r"
open_now = []
for fd in range(2000):
    try: open_now.append([fd, os.fstat(fd).st_ino])
    except OSError: pass
say([open_now, int(os.environ['BORG_PASSPHRASE_FD'])])",
    );
    // Whatever else is open and inheritable when the sandbox starts does not reach borg.
    let leaky = machine.path().join("leaky");
    fs::write(&leaky, format!("#!/bin/sh\nexec 5</etc/passwd 7</etc/passwd 9</\nexec {} \"$@\"\n", exe().display())).unwrap();
    fs::set_permissions(&leaky, fs::Permissions::from_mode(0o755)).unwrap();
    let inherit = vec![lock.try_clone().unwrap().into(), lock.try_clone().unwrap().into()];
    let seen = said(&run_as(&leaky, &plan, inherit).await);
    let inode = lock.metadata().unwrap().ino();
    let numbers: Vec<u64> = seen[0].as_array().unwrap().iter().filter_map(|entry| entry[0].as_u64()).collect();
    assert_eq!((numbers, &seen[1]), (vec![0, 1, 2, 3, 4, 5], &json!(5)));
    assert_eq!((&seen[0][3][1], &seen[0][4][1]), (&json!(inode), &json!(inode)));
}

/// A folder below /repositories, made for one test if the machine has none.
struct Repositories(bool);

impl Repositories {
    fn new() -> Self {
        let made = fs::create_dir(REPOSITORIES).is_ok();
        Machine::mount_tmpfs(Path::new(REPOSITORIES));
        Self(made)
    }
}

impl Drop for Repositories {
    fn drop(&mut self) {
        nix::mount::umount2(REPOSITORIES, nix::mount::MntFlags::MNT_DETACH).unwrap();
        if self.0 {
            fs::remove_dir(REPOSITORIES).unwrap();
        }
    }
}

#[tokio::test]
async fn a_repository_that_is_a_folder_is_at_its_own_path_and_no_other_is() {
    let machine = Machine::new();
    let _repositories = Repositories::new();
    fs::create_dir_all("/repositories/nas/ns/other").unwrap();
    Machine::mount_tmpfs(Path::new("/repositories/nas"));
    fs::create_dir_all("/repositories/nas/ns/other").unwrap();
    let at = |path: &str, create: bool| {
        let mut plan = machine.plan(&format!(
            "say([attempt(open, '{path}/file', 'a'), [folder for folder, _, _ in os.walk('/repositories')], attempt(os.mkdir, '/repositories/new')])"
        ));
        plan.repository_path = Some(PathBuf::from(path));
        plan.create_repository_path = create;
        plan
    };
    let path = "/repositories/nas/ns/data";
    let missing = probe(&at(path, false)).await;
    assert_eq!(missing, json!(["ENOENT", ["/repositories"], "EROFS"]), "nothing is made up");
    assert!(!Path::new(path).exists());

    let all = json!(["ok", ["/repositories", "/repositories/nas", "/repositories/nas/ns", path], "EROFS"]);
    assert_eq!(probe(&at(path, true)).await, all);
    assert_eq!(probe(&at(path, false)).await, all);
    assert!(Path::new(path).join("file").is_file(), "it is the real one");
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);

    let refused = async |path: &str, create: bool| {
        let ended = run(&at(path, create)).await;
        assert_eq!(ended.status.code(), Some(125), "{ended:?}");
        sandbox::failure(&ended.stderr).unwrap().to_string()
    };
    for path in ["/repositories", "/etc", "/repositories/../etc", "repositories/nas"] {
        assert!(refused(path, false).await.contains("is no path below /repositories"), "{path}");
    }
    nix::unistd::symlinkat(&machine.path().join("borgherd"), nix::fcntl::AT_FDCWD, "/repositories/nas/link").unwrap();
    assert!(refused("/repositories/nas/link", false).await.contains("leads out of /repositories"));

    // The NAS is gone: what is left is the folder on which it was mounted.
    nix::mount::umount2("/repositories/nas", nix::mount::MntFlags::MNT_DETACH).unwrap();
    let error = refused("/repositories/nas/ns/data", true).await;
    assert!(error.contains("is not on a mounted volume"), "{error}");
    assert!(!Path::new("/repositories/nas/ns/data").exists());
}
