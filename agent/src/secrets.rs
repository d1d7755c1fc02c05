//! `borgherd-agent generate-secrets`, the key Job: makes the Secret of the chart's own Borg server, once.
//!
//! Invariant: a Secret that exists is never changed, whatever is in it: with another passphrase or key every archive would be lost. Nothing secret
//! is logged, and keys touch no disk: ssh-keygen writes them into a folder in memory.

use anyhow::{Context, bail, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::mkdtemp;
use rand::TryRng;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const REQUEST: Duration = Duration::from_secs(30);
/// What may be done with the key that is made: serve the repositories below this folder.
const FORCED: &str = r#"restrict,command="cd /repositories && borg serve --restrict-to-path /repositories""#;
const PASSPHRASE: &str = "passphrase";
const CLIENT_KEY: &str = "ssh-privatekey";
const KNOWN_HOSTS: &str = "known_hosts";
const HOST_KEY: &str = "ssh-host-key";
const AUTHORIZED_KEYS: &str = "authorized_keys";
const KEYS: [&str; 5] = [PASSPHRASE, CLIENT_KEY, KNOWN_HOSTS, HOST_KEY, AUTHORIZED_KEYS];

/// What the key Job is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of the Secret.
    #[arg(long, env = "BORGHERD_SECRET", default_value = "borgherd-server")]
    pub secret: String,
    /// Namespace of the Secret.
    #[arg(long, env = "BORGHERD_NAMESPACE", default_value = "borgherd")]
    pub namespace: String,
    /// A name under which clients reach the server; may be given several times.
    #[arg(long = "host", env = "BORGHERD_SERVER_HOSTS", value_delimiter = ',', required = true, value_parser = host)]
    pub hosts: Vec<String>,
    /// The server's port.
    #[arg(long, env = "BORGHERD_SERVER_PORT", default_value_t = 2222)]
    pub port: u16,
    /// A folder in memory (tmpfs) in which the keys are made.
    #[arg(long, env = "BORGHERD_SCRATCH", default_value = "/tmp")]
    pub scratch: PathBuf,
    /// How log lines look.
    #[arg(long, env = "BORGHERD_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
}

/// Makes the Secret unless it exists.
pub fn main(args: &Args) -> anyhow::Result<ExitCode> {
    borgherd_runtime::logging::init(args.log_format == "json");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(async {
        let client = Client::try_default().await.context("connecting to the API server")?;
        ensure_secret(client, args, &mut rand::rngs::SysRng).await
    })?;
    let Args { secret, namespace, .. } = args;
    match made {
        Made::New => tracing::info!(secret, namespace, "made the Secret: save it outside of this cluster"),
        Made::Before => tracing::info!(secret, namespace, "found the Secret; it stays as it is"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the Secret is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It did not exist.
    New,
    /// It existed and has all keys.
    Before,
}

/// Finds the Secret, or makes it with a passphrase from `random`. One that exists but lacks a key is an error and stays as it is.
pub async fn ensure_secret<R: TryRng>(client: Client, args: &Args, random: &mut R) -> anyhow::Result<Made>
where
    R::Error: std::error::Error + Send + Sync + 'static,
{
    let api: Api<Secret> = Api::namespaced(client, &args.namespace);
    let what = || format!("Secret {} in namespace {}", args.secret, args.namespace);
    let found = within(api.get_opt(&args.secret)).await.with_context(|| format!("reading {}", what()))?;
    if let Some(secret) = found {
        complete(&secret).with_context(what)?;
        return Ok(Made::Before);
    }
    let secret = generate(args, random)?;
    match tokio::time::timeout(REQUEST, api.create(&PostParams::default(), &secret)).await? {
        Ok(_) => Ok(Made::New),
        // Another attempt of this Job was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let secret = within(api.get(&args.secret)).await.with_context(|| format!("reading {}", what()))?;
            complete(&secret).with_context(what)?;
            Ok(Made::Before)
        }
        Err(error) => Err(error).with_context(|| format!("creating {}", what())),
    }
}

async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    let answer = tokio::time::timeout(REQUEST, request).await;
    Ok(answer.context("the API server did not answer")??)
}

fn complete(secret: &Secret) -> anyhow::Result<()> {
    let has = |key: &&str| secret.data.as_ref().and_then(|data| data.get(*key)).is_some_and(|value| !value.0.is_empty());
    let missing: Vec<&str> = KEYS.into_iter().filter(|key| !has(key)).collect();
    ensure!(
        missing.is_empty(),
        "it exists but lacks {}; it is not changed. Add what is missing, or delete it if no repository was ever made with it",
        missing.join(", ")
    );
    Ok(())
}

fn generate<R: TryRng>(args: &Args, random: &mut R) -> anyhow::Result<Secret>
where
    R::Error: std::error::Error + Send + Sync + 'static,
{
    let mut passphrase = [0; 32];
    random.try_fill_bytes(&mut passphrase).context("asking for random bytes")?;
    let passphrase = serde_json::to_value(ByteString(passphrase.to_vec()))?;
    let passphrase = passphrase.as_str().context("encoding the passphrase")?.to_owned();
    let scratch = Scratch::new(&args.scratch)?;
    let client = KeyPair::generate(&scratch, "client", "borgherd")?;
    let server = KeyPair::generate(&scratch, "server", "borgherd-server")?;
    let names: Vec<String> = args.hosts.iter().map(|host| known_as(host, args.port)).collect();
    let data = [
        (PASSPHRASE, passphrase),
        (KNOWN_HOSTS, format!("{} {}\n", names.join(","), server.public)),
        (AUTHORIZED_KEYS, format!("{FORCED} {} borgherd\n", client.public)),
        (CLIENT_KEY, client.private),
        (HOST_KEY, server.private),
    ];
    let labels = [("app.kubernetes.io/part-of".to_owned(), "borgherd".to_owned())];
    Ok(Secret {
        metadata: ObjectMeta { name: Some(args.secret.clone()), labels: Some(BTreeMap::from(labels)), ..ObjectMeta::default() },
        data: Some(data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).into()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// The name of a host in `known_hosts`. Rule: sshd(8), "known hosts file format".
fn known_as(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// A host that can stand in `known_hosts`: a DNS name or an address.
fn host(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if text.is_empty() || !text.chars().all(plain) {
        return Err("not a DNS name or IP address, as borgherd-server.borgherd.svc".to_owned());
    }
    Ok(text.to_owned())
}

/// An ed25519 key pair in OpenSSH's forms.
struct KeyPair {
    private: String,
    /// `ssh-ed25519 AAAA…`, without a comment.
    public: String,
}

impl KeyPair {
    fn generate(scratch: &Scratch, name: &str, comment: &str) -> anyhow::Result<Self> {
        let file = scratch.0.join(name);
        let output = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .context("starting ssh-keygen")?;
        if !output.status.success() {
            bail!("ssh-keygen: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
        let public = read(&file.with_extension("pub"))?;
        let mut words = public.split_whitespace();
        match (words.next(), words.next()) {
            (Some("ssh-ed25519"), Some(key)) => Ok(Self { private: read(&file)?, public: format!("ssh-ed25519 {key}") }),
            _ => bail!("ssh-keygen wrote a public key that is no ed25519 key"),
        }
    }
}

/// A folder in memory for keys that are being made; gone with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        let kind = statfs(parent).with_context(|| format!("looking at {}", parent.display()))?.filesystem_type();
        ensure!(
            kind == TMPFS_MAGIC,
            "{} is not in memory (tmpfs), and keys must not touch a disk; choose another folder with --scratch",
            parent.display()
        );
        let made = mkdtemp(&parent.join("borgherd-keys-XXXXXX")).with_context(|| format!("making a folder in {}", parent.display()))?;
        Ok(Self(made))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "cannot remove the folder in memory in which keys were made");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{host, known_as};

    #[test]
    fn a_host_stands_in_known_hosts_with_its_port_unless_that_is_the_usual_one() {
        assert_eq!(known_as("nas", 22), "nas");
        assert_eq!(known_as("nas", 2222), "[nas]:2222");
        assert_eq!(known_as("fd00::1", 2222), "[fd00::1]:2222");
    }

    #[test]
    fn what_would_be_more_than_a_host_is_refused() {
        for good in ["nas", "borgherd-server.borgherd.svc", "10.0.0.1", "fd00::1"] {
            assert_eq!(host(good).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "a,b", "*", "a\nb", "@cert-authority", "!a"] {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }
}
