//! A real sshd on 127.0.0.1 that lets one key in, to `borg serve` in one folder. Ended with the value.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Server {
    pub(crate) port: u16,
    /// Where repositories are.
    pub(crate) folder: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) known_hosts: PathBuf,
    sshd: Child,
}

impl Server {
    /// Starts it; everything it needs is made below `root`.
    pub(crate) fn start(root: &Path, borg: &Path) -> Self {
        let ssh = root.join("sshd");
        let folder = root.join("repositories");
        fs::create_dir_all(&ssh).unwrap();
        fs::create_dir_all(&folder).unwrap();
        // Debian's sshd wants its folder, which only the service makes.
        fs::create_dir_all("/run/sshd").unwrap();
        let (host_key, key) = (keygen(&ssh, "host"), keygen(&ssh, "client"));
        let public = |key: &Path| fs::read_to_string(key.with_extension("pub")).unwrap();
        let path = folder.display();
        let serve = format!("cd {path} && {} serve --restrict-to-path {path}", borg.display());
        fs::write(ssh.join("authorized_keys"), format!("restrict,command=\"{serve}\" {}", public(&key))).unwrap();
        let port = free_port();
        let known_hosts = ssh.join("known_hosts");
        fs::write(&known_hosts, format!("[127.0.0.1]:{port} {}", public(&host_key))).unwrap();
        let sshd = sshd(&ssh, port, &host_key);
        Self { port, folder, key, known_hosts, sshd }
    }

    /// The client's key and known hosts, as a Secret would hold them.
    pub(crate) fn keys(&self) -> (String, String) {
        (fs::read_to_string(&self.key).unwrap(), fs::read_to_string(&self.known_hosts).unwrap())
    }

    /// Location of a repository on it.
    pub(crate) fn location(&self, path: &str) -> String {
        format!("ssh://root@127.0.0.1:{}/./{path}", self.port)
    }

    /// Kills every connection that is open, not the server.
    pub(crate) fn kill_connections(&self) {
        let pid = self.sshd.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        assert!(!children.trim().is_empty(), "no connection to kill");
        for child in children.split_whitespace() {
            let pid = nix::unistd::Pid::from_raw(child.parse().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.sshd.kill().unwrap();
        self.sshd.wait().unwrap();
    }
}

/// A key pair below `folder`.
pub(crate) fn keygen(folder: &Path, name: &str) -> PathBuf {
    let key = folder.join(name);
    let done = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(&key).status();
    assert!(done.expect("ssh-keygen of openssh-client").success());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    key
}

/// A port nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sshd(ssh: &Path, port: u16, host_key: &Path) -> Child {
    let config = [
        format!("Port {port}"),
        "ListenAddress 127.0.0.1".to_owned(),
        format!("HostKey {}", host_key.display()),
        format!("AuthorizedKeysFile {}", ssh.join("authorized_keys").display()),
        "PidFile none".to_owned(),
        "AuthenticationMethods publickey".to_owned(),
        "PermitRootLogin yes".to_owned(),
        "StrictModes no".to_owned(),
        "UsePAM no".to_owned(),
        "MaxStartups 100".to_owned(),
    ];
    fs::write(ssh.join("config"), config.join("\n")).unwrap();
    let log = fs::File::create(ssh.join("log")).unwrap();
    let mut sshd = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(ssh.join("config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("sshd of openssh-server: apt-get install openssh-server");
    let deadline = Instant::now() + Duration::from_mins(1);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = fs::read_to_string(ssh.join("log")).unwrap();
        assert!(sshd.try_wait().unwrap().is_none(), "sshd ended: {log}");
        assert!(Instant::now() < deadline, "sshd does not listen: {log}");
        std::thread::yield_now();
    }
    sshd
}
