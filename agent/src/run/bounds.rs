//! Keeps a status within what the CRD and etcd accept.
//!
//! Why: a status the API server refuses is a report that never arrives. So the bounds of `api/src/crd/run.rs` are applied before the
//! write, and where something is left out the message says so.

use borgherd_api::crd::BorgRunStatus;

const MESSAGE: usize = 4096;
const LOG_LINES: usize = 20;
const LOG_LINE: usize = 1024;
const ARCHIVES: usize = 5000;
/// JSON bytes of the list of archives; etcd takes 1.5 MiB for the whole object.
const ARCHIVES_BYTES: usize = 768 * 1024;
const MARK: &str = " […]";

/// `status` with every part cut to its bound: of the log the last lines stay, of the archives the newest.
pub(super) fn bounded(mut status: BorgRunStatus) -> BorgRunStatus {
    let dropped = drop_oldest(&mut status);
    if dropped > 0 {
        let note = format!("The {dropped} oldest archives are left out of this list.");
        let message = status.message.take().map_or_else(|| note.clone(), |message| format!("{note} {message}"));
        status.message = Some(message);
    }
    status.message = status.message.map(|message| cut(message, MESSAGE));
    let skip = status.log.len().saturating_sub(LOG_LINES);
    status.log = status.log.into_iter().skip(skip).map(|line| cut(line, LOG_LINE)).collect();
    status.borg_seconds = status.borg_seconds.filter(|seconds| seconds.is_finite());
    status
}

/// What is left of a status that the API server refused: phase, reason, message and archive, the facts that decide what happens next.
pub(super) fn essence(status: &BorgRunStatus, refusal: &str) -> BorgRunStatus {
    let message = status.message.clone().unwrap_or_default();
    BorgRunStatus {
        message: Some(format!("{message} (The whole report was refused: {refusal})").trim_start().to_owned()),
        archives: Vec::new(),
        judged: None,
        log: Vec::new(),
        ..status.clone()
    }
}

/// How many archives were dropped from the front to fit.
fn drop_oldest(status: &mut BorgRunStatus) -> usize {
    let sizes: Vec<usize> = status.archives.iter().map(|archive| serde_json::to_string(archive).map_or(0, |json| json.len() + 1)).collect();
    let mut bytes = 0;
    let fits = sizes
        .iter()
        .rev()
        .take(ARCHIVES)
        .take_while(|size| {
            bytes += **size;
            bytes <= ARCHIVES_BYTES
        })
        .count();
    let dropped = status.archives.len() - fits;
    status.archives.drain(..dropped);
    dropped
}

/// At most `max` characters, with a mark where something is missing.
fn cut(text: String, max: usize) -> String {
    if text.chars().count() <= max {
        return text;
    }
    let keep = max - MARK.chars().count();
    text.chars().take(keep).chain(MARK.chars()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use borgherd_api::crd::{FoundArchive, RunPhase, VolumeFacts};

    #[test]
    fn long_texts_are_cut_by_characters_and_the_last_log_lines_stay() {
        let status = bounded(BorgRunStatus {
            message: Some("ä".repeat(5000)),
            log: (0..30).map(|line| format!("{line} {}", "x".repeat(2000))).collect(),
            borg_seconds: Some(f64::NAN),
            ..BorgRunStatus::default()
        });
        assert_eq!(status.message.unwrap().chars().count(), 4096);
        assert_eq!(status.log.len(), 20);
        assert!(status.log.iter().all(|line| line.chars().count() == 1024));
        assert!(status.log[0].starts_with("10 ") && status.log[19].starts_with("29 "));
        assert_eq!(status.borg_seconds, None);
    }

    #[test]
    fn a_list_too_long_for_etcd_keeps_the_newest_and_says_so() {
        let archives = (0..4000)
            .map(|number| FoundArchive {
                name: format!("{number}"),
                facts: Some(VolumeFacts { size: "x".repeat(60), snapshot: "s".repeat(250), ..VolumeFacts::default() }),
                ..FoundArchive::default()
            })
            .collect();
        let status = bounded(BorgRunStatus { phase: RunPhase::Succeeded, archives, ..BorgRunStatus::default() });
        assert!(serde_json::to_vec(&status).unwrap().len() < 1024 * 1024);
        assert!(status.archives.len() > 1000, "{}", status.archives.len());
        assert_eq!(status.archives.last().unwrap().name, "3999");
        let dropped = 4000 - status.archives.len();
        assert!(status.message.unwrap().starts_with(&format!("The {dropped} oldest")));
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let status = BorgRunStatus {
            message: Some("m".repeat(4096)),
            log: vec!["a".to_owned(); 20],
            archives: vec![FoundArchive::default(); 5],
            borg_seconds: Some(1.5),
            ..BorgRunStatus::default()
        };
        assert_eq!(bounded(status.clone()), status);
    }
}
