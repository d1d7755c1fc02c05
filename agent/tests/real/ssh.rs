//! Real borg in the sandbox, through a real ssh, to a real sshd with the secrets that the key Job makes.

use crate::machine::{Machine, probe, run, unconfined};
use borgherd_agent::sandbox::{Plan, Secrets};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The pinned borg.
pub(crate) fn borg() -> PathBuf {
    let hack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/borg");
    let output = Command::new(hack).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// sshd on this machine, for root, with a host key and authorized keys as files.
pub(crate) struct Sshd(Child);

impl Sshd {
    pub(crate) fn start(machine: &Machine, port: u16, host_key: &str, authorized_keys: &str) -> Self {
        let folder = machine.folder("sshd");
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        let (host_key, authorized_keys) = (write("host-key", host_key), write("authorized_keys", authorized_keys));
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nAuthorizedKeysFile {authorized_keys}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        );
        let config = write("config", &config);
        // It wants this folder, which not every machine has.
        Machine::mount_tmpfs(Path::new("/run"));
        fs::create_dir("/run/sshd").unwrap();
        let mut child = Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &config]).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(log.any(|line| line.unwrap().contains("Server listening")), "sshd does not start");
        std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| eprintln!("sshd: {line}")));
        Self(child)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A plan that calls borg with these arguments.
fn plan(machine: &Machine, base: Plan, env: &BTreeMap<String, String>, secrets: &Secrets, arguments: &[&str]) -> Plan {
    let argv = std::iter::once(borg().display().to_string()).chain(arguments.iter().map(ToString::to_string)).collect();
    Plan { argv, env: env.clone(), secrets: secrets.clone(), state: machine.folder("borgherd/state/borg"), ..base }
}

async fn call(plan: Plan) -> String {
    let ended = run(&plan).await;
    assert!(ended.status.success(), "{:?}: {ended:?}", plan.argv);
    ended.stdout
}

#[tokio::test]
async fn borg_archives_and_restores_over_ssh_without_proc_and_with_few_capabilities() {
    let machine = Machine::new();
    let port = free_port();
    let keys = crate::secrets::made(port).await;
    let server = machine.folder("server");
    // As the forced command of the key does it, but in this test's folder.
    let forced = format!("cd {} && {} serve --restrict-to-path {}", server.display(), borg().display(), server.display());
    let authorized = keys["authorized_keys"].replace("cd /repositories && borg serve --restrict-to-path /repositories", &forced);
    assert!(authorized.contains(&forced));
    let _sshd = Sshd::start(&machine, port, &keys["ssh-host-key"], &authorized);
    let secrets = Secrets {
        passphrase: keys["passphrase"].clone(),
        ssh_privatekey: Some(keys["ssh-privatekey"].clone()),
        known_hosts: Some(keys["known_hosts"].clone()),
    };
    let rsh = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -i /run/borg/secrets/ssh-privatekey \
               -o UserKnownHostsFile=/run/borg/secrets/known_hosts -o GlobalKnownHostsFile=none -E /run/borg/state/ssh.log";
    let env = [
        ("BORG_REPO", format!("ssh://root@127.0.0.1:{port}/./ns/data")),
        ("BORG_RSH", rsh.to_owned()),
        ("BORG_BASE_DIR", "/run/borg/state".to_owned()),
        ("BORG_EXIT_CODES", "modern".to_owned()),
    ];
    let env: BTreeMap<String, String> = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();

    let source = machine.volume("uid-1", "pvc-1");
    fs::write(source.join("private"), "of somebody").unwrap();
    std::os::unix::fs::chown(source.join("private"), Some(1234), Some(5678)).unwrap();
    fs::set_permissions(source.join("private"), fs::Permissions::from_mode(0o4700)).unwrap();
    let in_archive = |arguments: &[&str]| plan(&machine, machine.archive(&source, ""), &env, &secrets, arguments);
    let alone = |arguments: &[&str]| plan(&machine, machine.plan(""), &env, &secrets, arguments);

    call(alone(&["init", "--encryption", "repokey", "--make-parent-dirs"])).await;
    let created = call(in_archive(&["create", "--json", "::one", "."])).await;
    let created: Value = serde_json::from_str(&created).unwrap();
    assert_eq!(created["archive"]["stats"]["nfiles"], 2);
    assert_eq!(call(alone(&["list", "--short"])).await.trim(), "one");

    let target = machine.volume("uid-2", "pvc-2");
    call(plan(&machine, machine.restore(&target, ""), &env, &secrets, &["extract", "--numeric-ids", "::one"])).await;
    let code =
        "s = os.stat('private'); say([open('private').read(), s.st_uid, s.st_gid, oct(s.st_mode), os.path.exists('marker-of-pvc-1')])";
    assert_eq!(probe(&machine.archive(&target, code)).await, json!(["of somebody", 1234, 5678, "0o104700", true]));

    // A passphrase that is wrong, and a host key that is not the server's.
    let mut wrong = alone(&["list"]);
    wrong.secrets.passphrase = "wrong".to_owned();
    assert_eq!(run(&wrong).await.status.code(), Some(52));
    let mut stranger = alone(&["list"]);
    stranger.secrets.known_hosts = Some(String::new());
    let ended = run(&stranger).await;
    // From ssh's own log: borg may be gone before it has passed on what ssh said.
    let log = fs::read_to_string(stranger.state.join("ssh.log")).unwrap();
    assert!(!ended.status.success() && log.contains("Host key verification failed"), "{ended:?} {log}");
    assert!(unconfined("say(os.path.exists('/proc/self'))") == json!(true));
}
