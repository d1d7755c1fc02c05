//! `db …`: the databases of the annotation `borgherd.dev/database`, with the same script in the container as a backup's.
//!
//! What is about to be overwritten is only overwritten from a file that was checked, and after a question.

pub(crate) mod args;
mod download;
mod exec;
mod shell;
mod target;

use crate::errors::{Exit, Failure};
use crate::output::{self, Cell, Tone};
use crate::session::Session;
use args::{Command, Db, Restore, Which};
use borgherd_api::crd::ActionStatus;
use borgherd_api::database::script::Mode;
use borgherd_api::hooks::{redact, wrapper};
use borgherd_api::names;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use target::Target;

/// Runs `db`.
pub(crate) async fn run(session: &Session, args: &Db) -> Result<(), Failure> {
    match &args.command {
        Command::Info(which) => info(session, which).await,
        Command::Dump(which) => dump(session, which).await,
        Command::Restore(args) => restore(session, args).await,
        Command::Download(args) => download::run(session, args).await,
        Command::Shell(which) => shell::run(session, &target::one(session, which).await?).await,
    }
}

/// What is known of one database.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    kind: &'static str,
    place: String,
    pod: String,
    container: String,
    file: String,
    /// What the server says it is; `None`: it does not answer.
    server: Option<String>,
    used_percent: Option<u8>,
    bytes: Option<u64>,
    time: Option<DateTime<Utc>>,
}

async fn look(session: &Session, target: &Target) -> Result<Known, Failure> {
    let said = exec::run(session, target, &exec::script(Mode::Info, target, &[])).await?;
    Ok(known(target, &said))
}

fn known(target: &Target, said: &str) -> Known {
    let fact = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let Target { preset, pod, pod_uid: _, container } = target;
    Known {
        kind: preset.kind.word(),
        place: preset.place.to_string(),
        pod: pod.clone(),
        container: container.clone(),
        file: preset.file.clone(),
        server: fact("server").filter(|said| *said != "does not answer").map(str::to_owned),
        used_percent: fact("used").and_then(|n| n.parse().ok()),
        bytes: fact("bytes").and_then(|n| n.parse().ok()),
        time: fact("time").and_then(|n| n.parse().ok()).and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
    }
}

async fn info(session: &Session, which: &Which) -> Result<(), Failure> {
    let mut all = Vec::new();
    for target in target::find(session, which).await? {
        all.push(look(session, &target).await?);
    }
    session.screen.show(&serde_json::json!({ "items": all }), || shown(session, &all))
}

fn shown(session: &Session, all: &[Known]) -> String {
    let here = session.here();
    let row = |known: &Known| -> Vec<Cell> {
        let server = known
            .server
            .as_deref()
            .map_or_else(|| Cell::new("does not answer", Tone::Bad), |s| s.chars().take(40).collect::<String>().into());
        vec![
            known.kind.into(),
            format!("{}/{}", known.pod, known.container).into(),
            server,
            known.used_percent.map(|n| format!("{n} %")).unwrap_or_default().into(),
            known.file.as_str().into(),
            known.bytes.map(output::bytes).unwrap_or_default().into(),
            known.time.map(|at| here.local(at)).unwrap_or_default().into(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    output::table(&["KIND", "CONTAINER", "SERVER", "USED", "DUMP", "SIZE", "TIME"], &["USED", "SIZE"], &rows, session.screen.colours)
}

/// Runs the script as a backup does: with its timer, so that it ends whatever becomes of this program.
async fn timed(session: &Session, target: &Target, mode: Mode) -> Result<String, Failure> {
    let moment = session.now().to_rfc3339();
    let action = ActionStatus {
        token: names::hash(&[&moment, &target.pod_uid, &target.container, &target.preset.file], 12),
        command: exec::script(mode, target, &[]),
        timeout_seconds: u32::try_from(target.preset.timeout.as_secs()).unwrap_or(u32::MAX),
        ..ActionStatus::default()
    };
    exec::run(session, target, &wrapper::pre(&action, None)).await.map(|said| redact(&said))
}

async fn dump(session: &Session, which: &Which) -> Result<(), Failure> {
    for target in target::find(session, which).await? {
        session.screen.note(&format!("dumping {} in pod {}, container {}", target.preset.kind, target.pod, target.container));
        let said = timed(session, &target, Mode::Dump).await?;
        session.screen.print(&format!("{said}\n"))?;
    }
    Ok(())
}

async fn restore(session: &Session, args: &Restore) -> Result<(), Failure> {
    let target = target::one(session, &args.which).await?;
    let checked = exec::run(session, &target, &exec::script(Mode::Verify, &target, &[])).await?;
    let known = look(session, &target).await?;
    let size = known.bytes.map(output::bytes).unwrap_or_default();
    let time = known.time.map(|at| session.here().local(at)).unwrap_or_default();
    let what = format!("{} of {time}, {size}, into {} in pod {}, container {}", known.file, known.kind, known.pod, known.container);
    session.screen.note(&checked);
    if !args.yes {
        ask(&format!("Restore {what}? What the database holds of it is replaced. [y/N] ")).await?;
    }
    session.screen.note(&format!("restoring {what}"));
    let said = timed(session, &target, Mode::Restore).await?;
    session.screen.print(&format!("{said}\n"))
}

/// Goes on only with a yes, which only a person at a terminal can say.
async fn ask(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::invalid("a restore replaces what the database holds, and there is no terminal to ask at").hint("give --yes"));
    }
    let question = question.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        write!(std::io::stderr(), "{question}")?;
        std::io::stdin().lock().read_line(&mut answer)?;
        std::io::Result::Ok(answer)
    });
    let answer = asked.await.ok().and_then(Result::ok).unwrap_or_default();
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Invalid, "nothing was changed"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn facts_are_read_as_the_script_prints_them() {
        let preset = borgherd_api::database::parse("postgres: {in: deployment/app, file: /a/x.gz}").unwrap().remove(0);
        let target = Target { preset, pod: "app-1".into(), pod_uid: "u".into(), container: "db".into() };
        let full = known(&target, "server PostgreSQL 15.1 on x86_64\nused 12\nbytes 1234\ntime 1795300000\n");
        assert_eq!((full.server.as_deref(), full.used_percent, full.bytes), (Some("PostgreSQL 15.1 on x86_64"), Some(12), Some(1234)));
        assert_eq!(full.time.unwrap().timestamp(), 1_795_300_000);
        let none = known(&target, "server does not answer\n");
        assert_eq!((none.server, none.used_percent, none.bytes, none.time), (None, None, None, None));
    }
}
