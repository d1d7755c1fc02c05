//! `list PVC`: asks the controller by a preview Restore what could be restored and shows it merged by cut.
//!
//! The Restore is deleted whatever happens: answer, failure, timeout or Ctrl-C.

use crate::args;
use crate::errors::{Exit, Failure};
use crate::follow::{self, End};
use crate::instant::Here;
use crate::output::{self, Cell, Format, Tone};
use crate::restore;
use crate::session::Session;
use borgherd_api::crd::{Candidate, Restore, RestoreSource, RestoreSpec, RestoreStatus, SourceKind};
use chrono::{DateTime, Utc};
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that captures one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Moment {
    /// The moment.
    cut: DateTime<Utc>,
    /// The snapshot, while it is there.
    snapshot: Option<Snapshot>,
    /// The archives, one for each repository that has one.
    archives: Vec<Archive>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Snapshot {
    name: String,
    /// What a volume of it needs.
    bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Archive {
    name: String,
    repository: Option<String>,
    /// Of its files.
    bytes: Option<u64>,
    files: Option<u64>,
    /// It is restored only by its name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    doubtful: bool,
}

impl Archive {
    fn shown(&self) -> String {
        if self.doubtful { format!("{} (in doubt)", self.name) } else { self.name.clone() }
    }
}

#[derive(Debug, Serialize)]
struct Listing {
    items: Vec<Moment>,
}

/// Runs `list`.
pub(crate) async fn run(session: &Session, args: &args::List) -> Result<(), Failure> {
    let preview = session.create(&session.namespace, &preview(&session.namespace, args)).await?;
    let answer = answer(session, &preview, args.timeout).await;
    clean_up(session, &preview).await;
    let status = answer?;
    let items = merge(status.candidates.clone());
    let failed = restore::failure(&status, "list what there is").or_else(|| incomplete(&status));
    if items.is_empty() {
        return Err(failed.unwrap_or_else(|| nothing(&session.namespace, args)));
    }
    let listing = Listing { items };
    session.screen.show(&listing, || render(&listing.items, session.here(), session.screen.format, session.screen.colours))?;
    // What was found stands on stdout; that it is not all of it must not be missed.
    failed.map_or(Ok(()), Err)
}

fn preview(namespace: &str, args: &args::List) -> Restore {
    let from = match (args.snapshots, args.archives) {
        (true, _) => Some(SourceKind::Snapshot),
        (false, true) => Some(SourceKind::Archive),
        (false, false) => None,
    };
    Restore {
        metadata: ObjectMeta { generate_name: Some("list-".to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
        spec: RestoreSpec {
            source: RestoreSource { pvc: args.pvc.clone(), from, repository: args.repository.clone(), ..RestoreSource::default() },
            target: None,
            preview: true,
            retention: None,
        },
        status: None,
    }
}

/// What Borgherd says of a Restore that is only a preview.
pub(crate) async fn answer(session: &Session, preview: &Restore, limit: Duration) -> Result<RestoreStatus, Failure> {
    let is_answered = |r: &Restore| r.status.as_ref().is_some_and(|s| s.phase.is_final());
    match follow::until(session, preview, Some(limit), |_| (), is_answered).await? {
        End::Reached(answered) => Ok(answered.status.unwrap_or_default()),
        End::Deleted => Err(Failure::new(Exit::Failed, format!("Restore {} was deleted before Borgherd had answered", preview.name_any()))),
        End::TimedOut => Err(no_answer(session, limit)),
        End::Stopped => Err(Failure::interrupted()),
    }
}

fn no_answer(session: &Session, limit: Duration) -> Failure {
    let within = limit.as_secs();
    Failure::new(Exit::TimedOut, format!("Borgherd did not answer within {within} s")).hint(format!(
        "look at `kubectl -n {0} get pods,borgruns`; a slow or busy repository needs a longer --timeout, --snapshots asks no repository",
        session.borgherd_namespace
    ))
}

/// Deletes a preview.
pub(crate) async fn clean_up(session: &Session, preview: &Restore) {
    let (namespace, name) = (preview.namespace().unwrap_or_default(), preview.name_any());
    if let Err(failure) = session.delete::<Restore>(&namespace, &name).await {
        session.screen.warn(&format!("{failure}; it can be deleted with `kubectl -n {namespace} delete restores.borgherd.dev {name}`"));
    }
}

/// Snapshots are listed also when the repository cannot be; then the status says why.
fn incomplete(status: &RestoreStatus) -> Option<Failure> {
    let reason = status.reason?;
    let message = status.message.as_ref().map(|m| format!(": {m}")).unwrap_or_default();
    Some(Failure::new(Exit::Failed, format!("cannot list archives: {reason}{message}")))
}

fn nothing(namespace: &str, args: &args::List) -> Failure {
    let what = match (args.snapshots, args.archives) {
        (true, _) => "snapshot",
        (false, true) => "archive",
        (false, false) => "snapshot or archive",
    };
    let pvc = &args.pvc;
    Failure::new(Exit::NotFound, format!("there is no {what} of {namespace}/{pvc}"))
        .hint(format!("`borgherd status -n {namespace} {pvc}` tells whether and when it is backed up; --repository NAME looks elsewhere"))
}

/// Candidates by their cut, newest first. Archives keep a cut to the second, so what was cut within one second is one moment.
fn merge(candidates: Vec<Candidate>) -> Vec<Moment> {
    let mut moments: BTreeMap<i64, Moment> = BTreeMap::new();
    for candidate in candidates {
        let Candidate { kind, name, cut, bytes, files, repository, doubtful } = candidate;
        let moment = moments.entry(cut.timestamp()).or_insert_with(|| Moment { cut, snapshot: None, archives: Vec::new() });
        match kind {
            SourceKind::Snapshot => moment.snapshot = Some(Snapshot { name, bytes }),
            SourceKind::Archive => moment.archives.push(Archive { name, repository, bytes, files, doubtful }),
        }
    }
    moments.into_values().rev().collect()
}

/// One line a moment; where several repositories have an archive of it, a line for each further one.
fn render(moments: &[Moment], here: Here, format: Format, colours: bool) -> String {
    let rows: Vec<Vec<Cell>> = moments.iter().flat_map(|m| rows(m, here, format)).collect();
    let mut headings = vec!["CUT", "AGE", "SNAPSHOT", "ARCHIVE", "SIZE", "FILES"];
    if format == Format::Wide {
        headings.push("REPOSITORY");
    }
    output::table(&headings, &["SIZE", "FILES"], &rows, colours)
}

fn rows(moment: &Moment, here: Here, format: Format) -> Vec<Vec<Cell>> {
    let cut = match format {
        Format::Wide => here.local_with_offset(moment.cut),
        Format::Table | Format::Json | Format::Yaml => here.local(moment.cut),
    };
    (0..moment.archives.len().max(1))
        .map(|number| {
            let archive = moment.archives.get(number);
            let snapshot = moment.snapshot.as_ref().filter(|_| number == 0);
            let size = archive.and_then(|a| a.bytes).or_else(|| snapshot.and_then(|s| s.bytes));
            let mut row: Vec<Cell> = vec![
                cut.clone().into(),
                Cell::new(here.age(moment.cut), Tone::Dim),
                snapshot.map(|s| s.name.clone()).unwrap_or_default().into(),
                archive.map(Archive::shown).unwrap_or_default().into(),
                size.map(output::bytes).unwrap_or_default().into(),
                archive.and_then(|a| a.files).map(output::count).unwrap_or_default().into(),
            ];
            if format == Format::Wide {
                row.push(archive.and_then(|a| a.repository.clone()).unwrap_or_default().into());
            }
            row
        })
        .collect()
}

#[cfg(test)]
mod tests;
