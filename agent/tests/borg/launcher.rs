//! Starts borg as the agent does, in its sandbox or with no more than the sandbox's capabilities.

use borgherd_agent::borg::{Access, Call, Launch, Running};
use borgherd_agent::sandbox::{self, Capabilities, Plan, SandboxVolume, Secrets};
use command_fds::{CommandFdExt, FdMapping};
use futures::future::BoxFuture;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

const PASSPHRASE_FD: i32 = 3;

/// Starts borg with the sandbox's capabilities, but without a sandbox; or in one.
pub(crate) struct Launcher {
    pub(crate) borg: PathBuf,
    pub(crate) volume: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) files: PathBuf,
    pub(crate) passphrase: String,
    pub(crate) capabilities: Option<&'static str>,
    /// SSH key and known hosts, for the sandbox, if it is to be used.
    pub(crate) keys: Option<(String, String)>,
    pub(crate) pids: Mutex<Vec<i32>>,
}

impl Launch for Launcher {
    fn launch<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, io::Result<Running>> {
        Box::pin(async move {
            if let Some(keys) = &self.keys {
                return self.sandbox(call, keys).await;
            }
            for (name, text) in &call.files {
                fs::write(self.files.join(name), text)?;
            }
            let mut child = tokio::process::Command::from(self.command(call)?).spawn()?;
            self.pids.lock().unwrap().push(i32::try_from(child.id().unwrap()).unwrap());
            Ok(Running { stdout: child.stdout.take().unwrap(), stderr: child.stderr.take().unwrap(), process: Box::new(child) })
        })
    }
}

impl Launcher {
    async fn sandbox(&self, call: &Call, (key, known_hosts): &(String, String)) -> io::Result<Running> {
        let (capabilities, volume) = match call.access {
            Access::Archive => (Capabilities::Archive, Some(true)),
            Access::Restore => (Capabilities::Restore, Some(false)),
            Access::Repository => (Capabilities::Repository, None),
        };
        let plan = Plan {
            volume: volume.map(|read_only| SandboxVolume { source: self.volume.clone(), beneath: None, read_only }),
            state: self.state.clone(),
            repository_path: None,
            create_repository_path: false,
            secrets: Secrets {
                passphrase: self.passphrase.clone(),
                ssh_privatekey: Some(key.clone()),
                known_hosts: Some(known_hosts.clone()),
            },
            files: call.files.clone(),
            argv: std::iter::once(self.borg.display().to_string()).chain(call.argv.iter().cloned()).collect(),
            env: call.env.clone(),
            capabilities,
        };
        let exe = Path::new(env!("CARGO_BIN_EXE_borgherd-agent"));
        let mut sandbox = sandbox::spawn(exe, &plan, Vec::new()).await.map_err(io::Error::other)?;
        let (stdout, stderr) = (sandbox.take_stdout().unwrap(), sandbox.take_stderr().unwrap());
        self.pids.lock().unwrap().push(i32::try_from(sandbox.pid().unwrap()).unwrap());
        Ok(Running { stdout, stderr, process: Box::new(sandbox) })
    }

    fn command(&self, call: &Call) -> io::Result<Command> {
        let capabilities = self.capabilities.unwrap_or(match call.access {
            Access::Archive => "-all,+dac_read_search",
            Access::Restore => "-all,+dac_read_search,+dac_override,+chown,+fowner,+fsetid,+setfcap,+mknod",
            Access::Repository => "-all",
        });
        // Fits into a pipe's buffer.
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(self.passphrase.as_bytes())?;
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--bounding-set={capabilities}"))
            .args(["--inh-caps=-all", "--no-new-privs", "--"])
            .arg(&self.borg)
            .args(&call.argv)
            .current_dir(match call.access {
                Access::Archive | Access::Restore => self.volume.as_path(),
                Access::Repository => Path::new("/"),
            })
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(&call.env)
            .env("BORG_PASSPHRASE_FD", PASSPHRASE_FD.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mapping = FdMapping { parent_fd: reader.into(), child_fd: PASSPHRASE_FD };
        command.fd_mappings(vec![mapping]).map_err(io::Error::other)?;
        Ok(command)
    }
}
