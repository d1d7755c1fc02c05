//! How far the content of a volume's archive has been read, where it takes more than one piece; it stands in the record of the place.
//!
//! Invariant: an archive counts as read only when borg has come to its end, and what a piece has not reported is read again.

use super::record::Record;
use super::tried::{self, Turn};
use borgherd_api::crd::CheckResult;
use borgherd_api::names;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// What the keys of a record begin with.
const PREFIX: &str = "reading.";

/// An archive that has been read in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its name.
    pub archive: String,
    /// Borg's id of it; `None`: nobody has said it, so nothing is known to be read.
    pub id: Option<String>,
    /// So many of its items, from the first on, are read.
    pub position: u64,
    /// Seconds that the next piece gets.
    pub seconds: u32,
}

impl Reading {
    /// Of the archive, nothing; a piece gets so many seconds.
    pub const fn begin(archive: String, seconds: u32) -> Self {
        Self { archive, id: None, position: 0, seconds }
    }

    /// As [`Self::text`] wrote it; `None`: it is nothing of the kind.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let archive = words.next()?.to_owned();
        let (position, seconds) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let reading = Self { archive, id: words.next().map(str::to_owned), position, seconds };
        let is_whole = words.next().is_none() && !reading.archive.is_empty() && reading.id.as_deref() != Some("");
        is_whole.then_some(reading)
    }

    /// For a record.
    pub fn text(&self) -> String {
        let Self { archive, id, position, seconds } = self;
        match id {
            Some(id) => format!("{archive} {position} {seconds} {id}"),
            None => format!("{archive} {position} {seconds}"),
        }
    }

    /// After another piece. One that ended where it began met a file that takes longer than the piece: the next one gets twice the time, up to
    /// `most` seconds; else it gets `piece`. Of another archive of that name nothing was read before.
    #[must_use]
    pub fn after(&self, check: CheckResult, piece: u32, most: u32) -> Self {
        let before = if self.id == check.archive_id { self.position } else { 0 };
        let position = before.max(check.position);
        let seconds = if position > before { piece } else { self.seconds.max(piece).saturating_mul(2).min(most.max(piece)) };
        Self { archive: self.archive.clone(), id: check.archive_id, position, seconds }
    }
}

/// Where it stands for a PVC (namespace, name).
pub fn key((namespace, pvc): (&str, &str)) -> String {
    format!("{PREFIX}{}", names::hash(&[namespace, pvc], 10))
}

/// The archive of a PVC (namespace, name) that is being read, where a piece of it was tried within `interval`.
pub fn being_read(record: &Record, pvc: (&str, &str), interval: Duration, now: DateTime<Utc>) -> Option<String> {
    let tried = record.tried_at(Turn::Data(pvc))?;
    let goes_on = TimeDelta::from_std(interval).is_ok_and(|interval| now - tried < interval);
    record.reading(pvc).filter(|_| goes_on).map(|reading| reading.archive)
}

/// Those of a record's keys about readings that are of no PVC of these.
pub fn stale<'a>(keys: impl Iterator<Item = &'a String>, pvcs: &[(&str, &str)]) -> Vec<&'a str> {
    let known: Vec<String> = pvcs.iter().flat_map(|pvc| [key(*pvc), Turn::Data(*pvc).key()]).collect();
    let is_of_a_pvc = |one: &str| [PREFIX, tried::PREFIX].iter().any(|prefix| one.starts_with(prefix));
    keys.filter(|one| is_of_a_pvc(one) && !known.contains(one)).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use serde_json::json;

    fn at(position: u64, seconds: u32) -> Reading {
        Reading { id: Some("1f".into()), position, ..Reading::begin("shop_db_2026-11-21T10-00-00Z".into(), seconds) }
    }

    #[test]
    fn a_piece_that_came_no_further_gets_twice_the_time_up_to_the_runs_own() {
        let (piece, most) = (600, 3600);
        for (before, position, after) in [
            (at(0, 600), 7, at(7, 600)),
            (at(7, 600), 7, at(7, 1200)),
            (at(7, 1200), 7, at(7, 2400)),
            (at(7, 2400), 7, at(7, 3600)),
            (at(7, 3600), 7, at(7, 3600)),
            (at(7, 3600), 8, at(8, 600)),
            (at(0, 600), 0, at(0, 1200)),
            // the chart was changed
            (at(7, 10), 7, at(7, 1200)),
        ] {
            let check = CheckResult { position, archive_id: before.id.clone(), ..CheckResult::default() };
            assert_eq!(before.after(check, piece, most), after, "{before:?}");
        }
        let nothing = || CheckResult { archive_id: at(0, 0).id, ..CheckResult::default() };
        assert_eq!(at(0, 600).after(nothing(), 600, 60), at(0, 600), "a run that ends before its piece");
        let long = at(0, u32::MAX).after(nothing(), 600, u32::MAX);
        assert_eq!(long.seconds, u32::MAX);
    }

    #[test]
    fn what_was_read_of_another_archive_of_that_name_does_not_count() {
        let another = |position| CheckResult { position, archive_id: Some("2e".into()), ..CheckResult::default() };
        let of = |position, seconds| Reading { id: Some("2e".into()), ..at(position, seconds) };
        assert_eq!(at(7, 1200).after(another(3), 600, 3600), of(3, 600));
        assert_eq!(at(7, 600).after(another(0), 600, 3600), of(0, 1200));
        // an agent of another version
        let unknown = at(7, 600).after(CheckResult { position: 9, ..CheckResult::default() }, 600, 3600);
        assert_eq!(unknown, Reading { id: None, ..at(9, 600) });
        assert_eq!(unknown.after(another(3), 600, 3600), of(3, 600));
    }

    #[test]
    fn an_archive_is_being_read_while_pieces_of_it_follow_each_other() {
        let (db, now) = (("shop", "db"), "2026-11-21T10:00:00Z".parse().unwrap());
        let (reading, tried) = (key(db), Turn::Data(db).key());
        let month = Duration::from_hours(30 * 24);
        for (data, pvc, interval, is_read) in [
            (json!({&reading: "one 7 600", &tried: "2026-11-20T10:00:00Z"}), db, month, true),
            (json!({&reading: "one 7 600", &tried: "2026-11-20T10:00:00Z"}), ("shop", "web"), month, false),
            (json!({&reading: "one 7 600", &tried: "2026-10-20T10:00:00Z"}), db, month, false),
            (json!({&reading: "one 7 600", &tried: "2026-11-20T10:00:00Z"}), db, Duration::ZERO, false),
            (json!({&reading: "one 7 600"}), db, month, false),
            (json!({&tried: "2026-11-20T10:00:00Z"}), db, month, false),
        ] {
            let record = Record::of(serde_json::from_value(json!({"data": data})).unwrap());
            assert_eq!(being_read(&record, pvc, interval, now), is_read.then(|| "one".to_owned()), "{data} {interval:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for reading in [at(12, 600), Reading { id: None, ..at(12, 600) }] {
            assert_eq!(Reading::parse(&reading.text()), Some(reading));
        }
        for wrong in ["", " ", "a", "a 1", "a b 1", "a 1 b", "a 1 1 ", "a 1 1 1 1", " 1 1", "a -1 1"] {
            assert_eq!(Reading::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn keys_of_volumes_that_are_gone_are_stale() {
        let (db, web) = (("shop", "db"), ("shop", "web"));
        let tried = |pvc| Turn::Data(pvc).key();
        let of_the_place = [Turn::Repository.key(), Turn::Archives.key(), "read.0123456789".to_owned(), "location".to_owned()];
        let keys = [key(db), tried(db), key(web), tried(web)].into_iter().chain(of_the_place).collect::<Vec<_>>();
        assert_eq!(stale(keys.iter(), &[db]), [key(web), tried(web)]);
        assert_eq!(stale(keys.iter(), &[db, web]), [""; 0]);
    }
}
