//! The command line: every argument, its help and what can be told wrong without a cluster.
//!
//! Parsing only: no clock, no cluster. What depends on the moment (`--at`) stays text until the command reads it.

use crate::duration;
use crate::output::Format;
use borgherd_api::policy::Keep;
use clap::{Args, Command, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How `borgherd` is called: by its own name or as kubectl's plugin.
pub(crate) const NAME: &str = "borgherd";
/// The name by which kubectl finds its plugin.
pub(crate) const PLUGIN: &str = "kubectl-borgherd";

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the backup or restore failed, or the cluster refused for a reason of its own
  2    wrong usage or input: nothing was changed
  3    not found: PVC, backup, archive, or Borgherd itself is not installed
  4    not allowed, or the credentials are not accepted
  5    timed out; what was begun goes on in the cluster
  6    the cluster cannot be reached
  130  Ctrl-C; what was begun goes on in the cluster";

/// Kubernetes volume backup with Borg: see, start and restore backups.
///
/// Backups are set up by annotations (borgherd.dev/schedule and others) on a PVC or a namespace; this tool shows what is in
/// force, starts backups by hand and restores. It acts with the rights of your kubeconfig and never reads a Secret.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = EXIT_CODES, max_term_width = 110, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Action,
}

/// Where to look and how to print: the same for every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The kubeconfig file [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The namespace [default: that of the context]
    #[arg(short, long, global = true, value_name = "NAME", value_parser = name)]
    pub(crate) namespace: Option<String>,
    /// The namespace that Borgherd is installed in
    #[arg(long, global = true, value_name = "NAME", env = "BORGHERD_NAMESPACE", default_value = "borgherd", value_parser = name)]
    pub(crate) borgherd_namespace: String,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Action {
    /// Show what is backed up, when, by which annotation, and why not
    Status(Status),
    /// Back up PVCs now
    Backup(Backup),
    /// List the snapshots and archives of a PVC, which need not exist any more
    List(List),
    /// Restore a snapshot or an archive of a PVC into a new PVC of the same namespace
    Restore(Restore),
    /// See which snapshots and archives stay and which go
    Retention(Retention),
    /// Accept what keeps archives of a PVC from being pruned, by the token that the Event gives
    Accept(Accept),
    /// Look at a database and its dump, dump it, restore it, open its client
    Db(crate::db::args::Db),
    /// Make a snapshot usable again whose VolumeSnapshot or namespace is gone
    Rebind(Rebind),
    /// Print a completion script for a shell
    #[command(
        after_help = "Bash:  source <(borgherd completion bash)\nZsh:   source <(borgherd completion zsh)\nFish:  borgherd completion fish | source"
    )]
    Completion(Completion),
}

/// Arguments of `status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Without a PVC: one line for each PVC of the namespace. With PVCs: a block for each, with every setting and where it comes from
(pvc, namespace or default), the last backup, the next one, and everything that stands against it.
-o json|yaml: {\"items\": [{namespace, pvc, state, excluded, suspended, policy: {KEY: {value, origin}}, repository, problems,
warnings, lastBackup, lastSuccess, lastFailure, due, nextBackup}]}; state is one of off, excluded, invalid, suspended, running,
overdue, failed, incomplete, waiting, ok; times are RFC 3339 in UTC.")]
pub(crate) struct Status {
    /// The PVCs to explain; none: a table of all
    #[arg(value_name = "PVC", value_parser = name)]
    pub(crate) pvcs: Vec<String>,
    /// Of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "pvcs"])]
    pub(crate) all_namespaces: bool,
    /// A block for each PVC, also when none is named
    #[arg(long)]
    pub(crate) explain: bool,
}

/// Arguments of `backup`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Several PVCs are cut together, at the same moment. Just the named PVCs are backed up, also when an annotation makes them part of
a larger group. A PVC that has no schedule or is suspended can be backed up by hand.
-o json|yaml prints the Backup object, with --wait as it ended.")]
pub(crate) struct Backup {
    /// The PVCs, all of one namespace
    #[arg(value_name = "PVC", required = true, value_parser = name)]
    pub(crate) pvcs: Vec<String>,
    /// Only take snapshots, archive nothing
    #[arg(long)]
    pub(crate) no_archive: bool,
    /// Keep the snapshots for so many days [default: for ever]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(crate) keep_days: Option<u32>,
    /// Wait for the end, showing progress
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: how long at most, such as 90s, 30m, 2h [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, requires = "wait")]
    pub(crate) timeout: Option<Duration>,
}

/// Arguments of `list`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Asks Borgherd by a Restore object with `preview: true`, which is deleted afterwards.
-o json|yaml: {\"items\": [{cut, snapshot: {name, bytes}, archives: [{name, repository, bytes, files}]}]}, newest first.")]
pub(crate) struct List {
    /// The PVC that was backed up
    #[arg(value_parser = name)]
    pub(crate) pvc: String,
    /// Only snapshots
    #[arg(long, conflicts_with_all = ["archives", "repository"])]
    pub(crate) snapshots: bool,
    /// Only archives
    #[arg(long)]
    pub(crate) archives: bool,
    /// Look into this Repository [default: the one in force for the PVC]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) repository: Option<String>,
    /// How long to wait for Borgherd's answer
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "60s")]
    pub(crate) timeout: Duration,
}

/// Arguments of `restore`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
TIME: 2026-11-21T10:00:00Z, or in local time `2026-11-21 10:00:00`, `2026-11-21 10:00` (to the end of that minute), `2026-11-21`
(to the end of that day), or an age such as 3h, 2d, 1w, `90m ago`. The newest backup cut at that time or before is taken.
The new PVC appears when it is complete; one that exists is never touched. Without --wait the command ends when it is clear
what will be restored. -o json|yaml prints the Restore object, with --wait as it ended.")]
pub(crate) struct Restore {
    /// The PVC that was backed up; it need not exist any more
    #[arg(value_parser = name)]
    pub(crate) pvc: String,
    /// The PVC to make
    #[arg(long, value_name = "NEW", value_parser = name)]
    pub(crate) to: String,
    /// Only from a snapshot or only from an archive [default: the newest, a snapshot before an archive of the same cut]
    #[arg(long, value_enum)]
    pub(crate) from: Option<Kind>,
    /// The snapshot or archive with this name, as `list` shows it [default: the newest]
    #[arg(long, value_name = "NAME", conflicts_with = "at")]
    pub(crate) name: Option<String>,
    /// As of this time
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// StorageClass of the new PVC [default: that of the source]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) storage_class: Option<String>,
    /// Size of the new PVC, such as 10Gi [default: that of the source]
    #[arg(long, value_name = "SIZE", value_parser = quantity)]
    pub(crate) size: Option<String>,
    /// Look into this Repository [default: the one in force for the PVC]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) repository: Option<String>,
    /// Wait for the end, showing progress
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: how long at most, such as 90s, 30m, 2h [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, requires = "wait")]
    pub(crate) timeout: Option<Duration>,
}

/// Arguments of `retention`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Retention {
    #[command(subcommand)]
    pub(crate) command: Retain,
}

/// What to do about retention.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Retain {
    /// Show for each snapshot, and with --archives for each archive, what becomes of it and why; nothing is changed
    Preview(Preview),
}

/// Arguments of `retention preview`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The verdicts are those that the controller would carry out now; that more than retention.maxDeletions over the cluster wait is not
seen here. FATE: keep; marked (not deleted before a day has passed); held (its time has come, but a person has to allow it, or
something keeps all of them); sweep (deleted at the next look).
--archives asks each PVC's repository by a Restore object with `preview: true`, which is deleted afterwards: an agent lists the
archives and judges them as pruning does. Without PVCs those that have archive-keep; with --archive-keep all. FATE of an archive: keep;
prune (deleted after the next archive); held.
-o json|yaml: {\"items\": [{namespace, pvc, snapshot, archive, cut, fate, why}], \"held\": [{namespace, pvc, reason, message}]}, by PVC,
the oldest first; held says for which PVCs no archive is pruned at all.")]
pub(crate) struct Preview {
    /// The PVCs, which need not exist any more; none: all of the namespace
    #[arg(value_name = "PVC", value_parser = name)]
    pub(crate) pvcs: Vec<String>,
    /// Of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "pvcs"])]
    pub(crate) all_namespaces: bool,
    /// Try another policy, such as last=1,hourly=24,daily=7 [default: the one in force]
    #[arg(long, value_name = "POLICY", value_parser = Keep::parse)]
    pub(crate) keep: Option<Keep>,
    /// The archives, too
    #[arg(long)]
    pub(crate) archives: bool,
    /// Try another policy on the archives, and show them [default: archive-keep as in force]
    #[arg(long, value_name = "POLICY", value_parser = Keep::parse)]
    pub(crate) archive_keep: Option<Keep>,
    /// How long to wait for Borgherd's answer about the archives of one PVC
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "60s")]
    pub(crate) timeout: Duration,
}

/// Arguments of `accept`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
TOKEN: foreign:UID (archives of that cluster are this one's now), prune:TIME (archives cut by then may go, however many),
suspect:TIME (archives cut by then are right), repaired:TIME (damage found by then is repaired).
An Event on the PVC and the Backup's status give the token. It is added to the PVC's annotation borgherd.dev/accept; take it out there to
take it back.
-o json|yaml prints the PVC.")]
pub(crate) struct Accept {
    /// The PVC
    #[arg(value_name = "PVC", value_parser = name)]
    pub(crate) pvc: String,
    /// What is accepted
    #[arg(value_name = "TOKEN", required = true, value_parser = crate::accept::token)]
    pub(crate) tokens: Vec<String>,
}

/// Arguments of `rebind`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Borgherd keeps what the storage has of a snapshot when its VolumeSnapshot is deleted with its namespace: the VolumeSnapshotContent,
with the labels and annotations that the VolumeSnapshot had. This makes a new VolumeSnapshot of it, of the same name, in the namespace
where it was or in the one that -n names; its age is that of the cut. The old VolumeSnapshotContent is deleted when the new one is
bound; the storage keeps what it has. Who is interrupted calls it again. Contents are objects of the cluster: it takes an administrator.
-o json|yaml prints the VolumeSnapshot; with --list {\"items\": [{content, namespace, pvc, snapshot, cut, bytes, problem}]}.")]
pub(crate) struct Rebind {
    /// The VolumeSnapshotContent
    #[arg(value_name = "CONTENT", value_parser = name, required_unless_present = "list")]
    pub(crate) content: Option<String>,
    /// Show what can be rebound, of the whole cluster
    #[arg(long, conflicts_with_all = ["content", "namespace"])]
    pub(crate) list: bool,
    /// How long to wait until the new VolumeSnapshot is ready
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "60s")]
    pub(crate) timeout: Duration,
}

/// Arguments of `completion`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// What to restore from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A snapshot in the storage
    Snapshot,
    /// A Borg archive
    Archive,
}

/// A name that the API server takes, so that nothing else gets into the path of a request: RFC 1123 subdomain.
fn name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err("a name has lower case letters, digits, `-` and `.`, and begins and ends with a letter or digit".to_owned())
}

/// A Kubernetes quantity of bytes, as the API server would take it, without its rarer forms.
fn quantity(text: &str) -> Result<String, String> {
    const SUFFIXES: [&str; 11] = ["", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &text[number.len()..];
    let positive = number.parse::<f64>().is_ok_and(|n| n > 0.0) && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    if positive && SUFFIXES.contains(&suffix) {
        return Ok(text.to_owned());
    }
    Err("give a size such as 500Mi, 10Gi or 2Ti".to_owned())
}

/// The command as it should present itself when it was started as `argv0`: kubectl's plugins as `kubectl NAME`.
pub(crate) fn command(argv0: &Path) -> Command {
    let called = argv0.file_stem().and_then(|n| n.to_str()).unwrap_or(NAME);
    let shown = if called == PLUGIN { "kubectl borgherd" } else { NAME };
    Cli::command().name(NAME).bin_name(shown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use clap::FromArgMatches;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let matches = command(Path::new("borgherd")).try_get_matches_from(line.split(' '))?;
        Cli::from_arg_matches(&matches)
    }

    #[test]
    fn the_command_is_well_formed_under_both_names() {
        command(Path::new("/usr/local/bin/borgherd")).debug_assert();
        command(Path::new("kubectl-borgherd")).debug_assert();
    }

    #[test]
    fn as_plugin_the_usage_says_kubectl() {
        for (argv0, usage) in [
            ("/usr/bin/borgherd", "Usage: borgherd "),
            ("/opt/kubectl-borgherd", "Usage: kubectl borgherd "),
            ("kubectl-borgherd", "Usage: kubectl borgherd "),
            ("something-else", "Usage: borgherd "),
        ] {
            let help = command(Path::new(argv0)).render_help().to_string();
            assert!(help.contains(usage), "{argv0}: {help}");
            let wrong = command(Path::new(argv0)).try_get_matches_from([argv0, "backup"]).unwrap_err().to_string();
            assert!(wrong.contains(usage), "{argv0}: {wrong}");
        }
    }

    #[test]
    fn contradictions_and_wrong_values_are_refused_by_name() {
        for (line, named) in [
            ("borgherd status -A -n shop", "--namespace"),
            ("borgherd status -A data", "[PVC]"),
            ("borgherd backup", "<PVC>"),
            ("borgherd backup data --timeout 5m", "--wait"),
            ("borgherd backup data --wait --timeout 5x", "5x"),
            ("borgherd list data --snapshots --archives", "--archives"),
            ("borgherd list data --snapshots --repository nas", "--repository"),
            ("borgherd restore data", "--to"),
            ("borgherd restore data --to new --name a --at 3h", "--at"),
            ("borgherd restore data --to new --size 10Gx", "10Gx"),
            ("borgherd restore data --to new --size -1Gi", "-1"),
            ("borgherd restore data --to new --from tape", "tape"),
            ("borgherd status -o xml", "xml"),
            ("borgherd status -n Shop", "Shop"),
            ("borgherd status --borgherd-namespace a/b", "a/b"),
            ("borgherd backup ../secrets", "../secrets"),
            ("borgherd list a?b", "a?b"),
            ("borgherd backup data --keep-days 0", "--keep-days"),
            ("borgherd retention preview --keep daily=0", "would keep nothing"),
            ("borgherd retention preview data -A", "--all-namespaces"),
            ("borgherd retention preview --archive-keep last=0", "would keep nothing"),
            ("borgherd rebind", "<CONTENT>"),
            ("borgherd rebind --list content-1", "[CONTENT]"),
            ("borgherd rebind --list -n shop", "--namespace"),
            ("borgherd restore data_1 --to new", "data_1"),
            ("borgherd restore data --to a..b", "a..b"),
            ("borgherd restore data --to new --storage-class a%2f", "a%2f"),
            ("borgherd restore data --to new --repository .x", ".x"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(named), "{line}: {error}");
        }
    }

    #[test]
    fn names() {
        let long = "a".repeat(253);
        for good in ["a", "data-1", "data.example.org", "0", long.as_str()] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a-", "a.", ".a", "A", "a_b", "a b", "ä", &format!("{long}a")] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for good in ["1", "10Gi", "1.5Ti", "500M", "1k"] {
            assert_eq!(quantity(good).as_deref(), Ok(good));
        }
        for bad in ["", "Gi", "0", "0Gi", "10GiB", "ten", "1e3", "nan", "inf", "10 Gi", "-5Gi"] {
            assert!(quantity(bad).is_err(), "{bad}");
        }
    }
}
