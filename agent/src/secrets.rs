//! `borgherd-agent generate-secrets`, the key Job: makes the secrets of the chart's own Borg server, once.

/// What the key Job is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Secret.
    #[arg(long, env = "BORGHERD_SECRET", default_value = "borgherd-server")]
    pub secret: String,
    /// Namespace of the Secret.
    #[arg(long, env = "BORGHERD_NAMESPACE", default_value = "borgherd")]
    pub namespace: String,
    /// A name under which clients reach the server; may be given several times.
    #[arg(long = "host", env = "BORGHERD_SERVER_HOSTS", value_delimiter = ',', required = true)]
    pub hosts: Vec<String>,
    /// The server's port.
    #[arg(long, env = "BORGHERD_SERVER_PORT", default_value_t = 2222)]
    pub port: u16,
}

/// Makes the Secret unless it exists.
pub fn main(_args: Args) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("not there yet")
}
