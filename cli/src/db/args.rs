//! Arguments of `db`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `db`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Db {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do with a database.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Show whether the server answers, how full its volume is, and the last dump
    Info(Which),
    /// Dump it now, as a backup would; the last dump stays until the new one is whole
    Dump(Which),
    /// Play the dump's file back into the database; asks first
    Restore(Restore),
    /// Copy the dump's file to this machine; goes on where it was broken off
    Download(Download),
    /// Open the database's client in the container
    Shell(Which),
}

/// Which database.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The databases are those of the annotation borgherd.dev/database on the PVCs of the namespace and on the namespace itself.
-o json|yaml prints what is known: {kind, place, pod, container, file, server, usedPercent, bytes, time}.")]
pub(crate) struct Which {
    /// What the annotation says after `in`, such as deployment/app; or its name alone
    pub(crate) workload: String,
    /// The dump's file in the container, where there are several
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<String>,
}

/// Arguments of `db restore`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The file is checked before anything is changed. PostgreSQL: all of it or nothing is restored. MySQL and MariaDB: a restore that
fails leaves what it had restored by then; restore once more.")]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Arguments of `db download`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The dump is checked in the container, and its SHA-256 here. Until it is whole it is called FILE.part; the same command goes on with that.")]
pub(crate) struct Download {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Where to; a file that exists is never overwritten [default: the dump's name, in this folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}
