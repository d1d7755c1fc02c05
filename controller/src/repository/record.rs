//! The record that a repository has held an archive: a ConfigMap for each location, written after each success.
//!
//! Why: an unmounted NAS looks just like a new repository. With a record, a repository that is missing is `RepositoryVanished`
//! and never created again; another one in its place is `RepositoryReplaced`. A person who wants to begin anew deletes the record.
//! What keeping archives in order has to know of a place stands there too, by a field manager of its own: which archives lack files (only
//! borg's exit code said so), which of them are in doubt and what compacting may free.
//! In doubt is the archive of a volume that is read in place from before its reading until all is known to have been right: whatever dies in
//! between, it does not count. That may stand there before the first archive, when the map is no record yet.

use super::reading::{self, Reading};
use super::tried::Turn;
use borgherd_api::crd::{Progress, PruneResult};
use borgherd_api::names::{self, CONTROLLER};
use borgherd_api::time;
use chrono::{DateTime, NaiveDateTime, SubsecRound, TimeDelta, Utc};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Field manager of what is written beside the record itself, which is applied whole.
const MANAGER: &str = "borgherd-maintenance";
/// A repository is compacted after this, whatever was deleted: runs that died leave something, too.
const LONGEST: TimeDelta = TimeDelta::days(7);
/// It is compacted when this part of it is not used: one tenth.
const ENOUGH: u64 = 10;
/// Newest archives without files that are remembered of a PVC.
const REMEMBERED: usize = 10_000;
const UNUSED: &str = "unusedBytes";
const USED: &str = "repositoryBytes";
const COMPACTED: &str = "compactedAt";
const CHECKS: &str = "checks";
const CHECKED: &str = "checkedAt";
const ARCHIVES_CHECKED: &str = "archivesCheckedAt";
/// What the full check of data was asked for by that was made last.
const VERIFIED: &str = "verified";
const CHECK_NOT_BEFORE: &str = "checkNotBefore";
const DAMAGED: &str = "damaged";
const DAMAGED_AT: &str = "damagedAt";
const DAMAGED_REPOSITORY: &str = "damagedRepository";
/// Longest description of damage.
const DAMAGE_CHARS: usize = 2000;

/// What is known of a location.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Borg's id of the repository.
    pub id: Option<String>,
    data: BTreeMap<String, String>,
    version: Option<String>,
    created: Option<DateTime<Utc>>,
}

impl Record {
    /// What a ConfigMap records.
    pub fn of(map: ConfigMap) -> Self {
        let (version, created) = (map.resource_version(), time::created(&map));
        let data = map.data.unwrap_or_default();
        Self { id: data.get("repositoryId").cloned(), data, version, created }
    }

    /// Cuts of the archives of a PVC (namespace, name) that lack files.
    pub fn lacking(&self, pvc: (&str, &str)) -> BTreeSet<DateTime<Utc>> {
        self.times(&lacking_key(pvc))
    }

    /// Cuts of the archives of a PVC (namespace, name) that are no good ones: they lack files, or are in doubt.
    pub fn not_good(&self, pvc: (&str, &str)) -> BTreeSet<DateTime<Utc>> {
        self.lacking(pvc).into_iter().chain(self.doubtful(pvc)).collect()
    }

    fn doubtful(&self, pvc: (&str, &str)) -> BTreeSet<DateTime<Utc>> {
        self.times(&doubtful_key(pvc))
    }

    fn times(&self, key: &str) -> BTreeSet<DateTime<Utc>> {
        let times = self.data.get(key).map(String::as_str).unwrap_or_default();
        let read = |time: &str| Some(NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H-%M-%SZ").ok()?.and_utc());
        times.split_whitespace().filter_map(read).collect()
    }

    fn time(&self, key: &str) -> Option<DateTime<Utc>> {
        self.data.get(key).and_then(|at| at.parse().ok())
    }

    /// Of the Borg repository.
    pub fn location(&self) -> Option<&str> {
        self.data.get("location").map(String::as_str)
    }

    /// When the first archive was recorded.
    pub const fn created(&self) -> Option<DateTime<Utc>> {
        self.created
    }

    /// How many checks have ended.
    pub fn checks(&self) -> u32 {
        u32::try_from(self.number(CHECKS)).unwrap_or(u32::MAX - 1)
    }

    /// When a check of segments last came to the end.
    pub fn checked_at(&self) -> Option<DateTime<Utc>> {
        self.time(CHECKED)
    }

    /// When the metadata of archives was last checked.
    pub fn archives_checked_at(&self) -> Option<DateTime<Utc>> {
        self.time(ARCHIVES_CHECKED)
    }

    /// When the content of the newest archive of a PVC (namespace, name) was last read.
    pub fn read_at(&self, pvc: (&str, &str)) -> Option<DateTime<Utc>> {
        self.time(&read_key(pvc))
    }

    /// When a check was last tried, however it went.
    pub fn tried_at(&self, turn: Turn<'_>) -> Option<DateTime<Utc>> {
        self.time(&turn.key())
    }

    /// How far the archive of a PVC (namespace, name) has been read that is being read in pieces.
    pub fn reading(&self, pvc: (&str, &str)) -> Option<Reading> {
        self.data.get(&reading::key(pvc)).and_then(|text| Reading::parse(text))
    }

    /// By which word the content of all archives was last asked to be read, and was.
    pub fn verified(&self) -> Option<&str> {
        self.data.get(VERIFIED).map(String::as_str)
    }

    /// A check that did not go is not tried again before this.
    pub fn check_not_before(&self) -> Option<DateTime<Utc>> {
        self.time(CHECK_NOT_BEFORE)
    }

    /// When damage was found, and what; until a person says that it is repaired.
    pub fn damage(&self) -> Option<(DateTime<Utc>, &str)> {
        let what = self.data.get(DAMAGED).filter(|what| !what.is_empty())?;
        Some((self.time(DAMAGED_AT).unwrap_or(DateTime::<Utc>::MAX_UTC), what))
    }

    /// The Repository that the damaged place is of.
    pub fn damaged_repository(&self) -> Option<&str> {
        self.damage().and_then(|_| self.data.get(DAMAGED_REPOSITORY)).map(String::as_str)
    }

    /// Files and bytes of the last archive of a PVC (namespace, name) that was right.
    pub fn right(&self, pvc: (&str, &str)) -> Option<Progress> {
        let (files, bytes) = self.data.get(&right_key(pvc))?.split_once(' ')?;
        Some(Progress { files: files.parse().ok()?, bytes: bytes.parse().ok()?, ..Progress::default() })
    }

    fn number(&self, key: &str) -> u64 {
        self.data.get(key).and_then(|n| n.parse().ok()).unwrap_or_default()
    }

    /// Whether the repository is to be compacted. Nothing is, before the first pruning.
    pub fn is_compacting_due(&self, now: DateTime<Utc>) -> bool {
        let Some(last) = self.data.get(COMPACTED).and_then(|at| at.parse::<DateTime<Utc>>().ok()) else { return false };
        let unused = self.number(UNUSED);
        now - last >= LONGEST || unused > 0 && unused.saturating_mul(ENOUGH) >= self.number(USED).saturating_add(unused)
    }
}

fn right_key((namespace, pvc): (&str, &str)) -> String {
    format!("right.{}", names::hash(&[namespace, pvc], 10))
}

fn lacking_key((namespace, pvc): (&str, &str)) -> String {
    format!("lacking.{}", names::hash(&[namespace, pvc], 10))
}

fn doubtful_key((namespace, pvc): (&str, &str)) -> String {
    format!("doubtful.{}", names::hash(&[namespace, pvc], 10))
}

/// Where it stands when the content of the newest archive of a PVC was read.
pub fn read_key((namespace, pvc): (&str, &str)) -> String {
    format!("read.{}", names::hash(&[namespace, pvc], 10))
}

/// Reads the record of a location; `None`: nothing has been archived there.
pub async fn read(records: &Api<ConfigMap>, location: &str) -> Result<Option<Record>, kube::Error> {
    Ok(look(records, location).await?.filter(|record| record.location().is_some()))
}

async fn look(records: &Api<ConfigMap>, location: &str) -> Result<Option<Record>, kube::Error> {
    Ok(records.get_opt(&names::repository_record(location)).await?.map(Record::of))
}

/// Writes that an archive was made at a location.
pub async fn write(records: &Api<ConfigMap>, location: &str, id: Option<&str>, cut: DateTime<Utc>) -> Result<(), kube::Error> {
    let name = names::repository_record(location);
    let mut data = Map::from_iter([("location".to_owned(), json!(location)), ("lastArchive".to_owned(), json!(cut.to_rfc3339()))]);
    if let Some(id) = id {
        data.insert("repositoryId".to_owned(), json!(id));
    }
    let patch = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {names::COMPONENT: "repository-record"}},
        "data": data,
    });
    records.patch(&name, &PatchParams::apply(CONTROLLER).force(), &Patch::Apply(patch)).await.map(|_| ())
}

/// Writes that the archive of a PVC (namespace, name) cut then lacks files. The record is there.
pub async fn lacks_files(records: &Api<ConfigMap>, location: &str, pvc: (&str, &str), cut: DateTime<Utc>) -> Result<(), kube::Error> {
    let record = read(records, location).await?.unwrap_or_default();
    let mut cuts = record.lacking(pvc);
    cuts.insert(cut);
    change(records, location, &record, json!({lacking_key(pvc): written(&cuts)})).await
}

/// Cuts of the archives of a PVC (namespace, name) that are in doubt, also where nothing is recorded yet.
pub async fn doubtful(records: &Api<ConfigMap>, location: &str, pvc: (&str, &str)) -> Result<BTreeSet<DateTime<Utc>>, kube::Error> {
    Ok(look(records, location).await?.map(|record| record.doubtful(pvc)).unwrap_or_default())
}

/// Writes, before there can be one, that the archive of a PVC (namespace, name) cut then is in doubt.
pub async fn doubt(records: &Api<ConfigMap>, location: &str, pvc: (&str, &str), cut: DateTime<Utc>) -> Result<(), kube::Error> {
    let Some(record) = look(records, location).await? else {
        let map = json!({
            "metadata": {"name": names::repository_record(location), "labels": {names::COMPONENT: "repository-record"}},
            "data": {doubtful_key(pvc): names::archive_time(cut)},
        });
        let map = serde_json::from_value(map).map_err(kube::Error::SerdeError)?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        return records.create(&params, &map).await.map(|_| ());
    };
    let mut cuts = record.doubtful(pvc);
    if !cuts.insert(cut) {
        return Ok(());
    }
    change(records, location, &record, json!({doubtful_key(pvc): written(&cuts)})).await
}

/// Writes that nothing is wrong with the archive of a PVC (namespace, name) cut then.
pub async fn trust(records: &Api<ConfigMap>, location: &str, pvc: (&str, &str), cut: DateTime<Utc>) -> Result<(), kube::Error> {
    let Some(record) = look(records, location).await? else { return Ok(()) };
    let mut cuts = record.doubtful(pvc);
    if !cuts.remove(&cut) {
        return Ok(());
    }
    change(records, location, &record, json!({doubtful_key(pvc): written(&cuts)})).await
}

/// The newest of the cuts, as `Record::times` reads them.
fn written(cuts: &BTreeSet<DateTime<Utc>>) -> String {
    let surplus = cuts.len().saturating_sub(REMEMBERED);
    let times: Vec<String> = cuts.iter().skip(surplus).copied().map(names::archive_time).collect();
    times.join(" ")
}

/// Adds up what pruning has left unused, and remembers the archive of the PVC that it followed. Returns whether the repository is to be compacted.
pub async fn pruned(
    records: &Api<ConfigMap>,
    location: &str,
    (pvc, right): ((&str, &str), Progress),
    result: PruneResult,
    now: DateTime<Utc>,
) -> Result<bool, kube::Error> {
    let Some(mut record) = read(records, location).await? else { return Ok(false) };
    let PruneResult { kept: _, deleted, unused_bytes, repository_bytes } = result;
    let mut news = BTreeMap::from([(right_key(pvc), format!("{} {}", right.files, right.bytes))]);
    if !record.data.contains_key(COMPACTED) {
        news.insert(COMPACTED.to_owned(), now.to_rfc3339());
    }
    if deleted > 0 {
        news.insert(UNUSED.to_owned(), record.number(UNUSED).saturating_add(unused_bytes).to_string());
        news.insert(USED.to_owned(), repository_bytes.to_string());
    }
    if !news.is_empty() {
        change(records, location, &record, json!(news)).await?;
        record.data.extend(news);
    }
    Ok(record.is_compacting_due(now))
}

/// Writes that the repository was compacted.
pub async fn compacted(records: &Api<ConfigMap>, location: &str, now: DateTime<Utc>) -> Result<(), kube::Error> {
    let Some(record) = read(records, location).await? else { return Ok(()) };
    change(records, location, &record, json!({UNUSED: "0", COMPACTED: now.to_rfc3339()})).await
}

/// What a check that has ended well has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked<'a> {
    /// Some of the segments.
    Piece,
    /// The last of the segments.
    Repository,
    /// The metadata of all archives.
    Archives,
    /// The content of an archive of a PVC (namespace, name), to its end.
    Data((&'a str, &'a str)),
    /// Part of that content; how far it is read.
    DataPiece((&'a str, &'a str), &'a Reading),
    /// None of that content: the archive is gone.
    DataGone((&'a str, &'a str)),
    /// The content of all archives, which was asked for by this word.
    All(&'a str),
}

impl<'a> Checked<'a> {
    /// Whose turn it was.
    fn turn(self) -> Option<Turn<'a>> {
        match self {
            Self::Piece | Self::Repository => Some(Turn::Repository),
            Self::Archives => Some(Turn::Archives),
            Self::Data(pvc) | Self::DataPiece(pvc, _) | Self::DataGone(pvc) => Some(Turn::Data(pvc)),
            Self::All(_) => None,
        }
    }
}

/// Writes that a check has ended well. `pvcs` are those (namespace, name) that have archives there: what is known of readings of others goes.
pub async fn checked(
    records: &Api<ConfigMap>,
    location: &str,
    what: Checked<'_>,
    pvcs: &[(&str, &str)],
    now: DateTime<Utc>,
) -> Result<(), kube::Error> {
    let Some(record) = read(records, location).await? else { return Ok(()) };
    change(records, location, &record, news(&record, what, pvcs, now)).await
}

/// What a check that has ended well changes in the record's data.
pub fn news(record: &Record, what: Checked<'_>, pvcs: &[(&str, &str)], now: DateTime<Utc>) -> Value {
    let mut data = json!({CHECKS: (record.checks() + 1).to_string(), CHECK_NOT_BEFORE: null});
    let at = json!(now.to_rfc3339());
    for key in reading::stale(record.data.keys(), pvcs) {
        data[key] = Value::Null;
    }
    if let Some(turn) = what.turn() {
        data[turn.key()] = at.clone();
    }
    match what {
        Checked::Piece => {}
        Checked::Repository => data[CHECKED] = at,
        Checked::Archives => data[ARCHIVES_CHECKED] = at,
        Checked::Data(pvc) => {
            data[read_key(pvc)] = at;
            data[reading::key(pvc)] = Value::Null;
        }
        Checked::DataPiece(pvc, reading) => data[reading::key(pvc)] = json!(reading.text()),
        Checked::DataGone(pvc) => data[reading::key(pvc)] = Value::Null,
        Checked::All(word) => {
            data[ARCHIVES_CHECKED] = at;
            data[VERIFIED] = json!(word);
        }
    }
    data
}

/// Writes that a check did not go, and when the next one may.
pub async fn check_failed(
    records: &Api<ConfigMap>,
    location: &str,
    turn: Option<Turn<'_>>,
    again: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), kube::Error> {
    let Some(record) = read(records, location).await? else { return Ok(()) };
    change(records, location, &record, failure(&record, turn, again, now)).await
}

/// What a check that did not go changes in the record's data.
pub fn failure(record: &Record, turn: Option<Turn<'_>>, again: DateTime<Utc>, now: DateTime<Utc>) -> Value {
    let mut data = json!({CHECKS: (record.checks() + 1).to_string(), CHECK_NOT_BEFORE: again.to_rfc3339()});
    if let Some(turn) = turn {
        data[turn.key()] = json!(now.to_rfc3339());
    }
    data
}

/// Writes that damage was found at a place of a Repository; false: that was known.
pub async fn damaged(
    records: &Api<ConfigMap>,
    location: &str,
    repository: &str,
    what: &str,
    now: DateTime<Utc>,
) -> Result<bool, kube::Error> {
    let Some(record) = read(records, location).await? else { return Ok(false) };
    if record.damage().is_some() {
        return Ok(false);
    }
    let what: String = what.chars().take(DAMAGE_CHARS).collect();
    let at = now.trunc_subsecs(0).to_rfc3339();
    change(records, location, &record, json!({DAMAGED: what, DAMAGED_AT: at, DAMAGED_REPOSITORY: repository})).await?;
    Ok(true)
}

/// Writes that the damage is repaired.
pub async fn repaired(records: &Api<ConfigMap>, location: &str) -> Result<(), kube::Error> {
    let Some(record) = read(records, location).await? else { return Ok(()) };
    change(records, location, &record, json!({DAMAGED: null, DAMAGED_AT: null, DAMAGED_REPOSITORY: null})).await
}

/// Changes data of the version that was read; a conflict if somebody else has.
async fn change(records: &Api<ConfigMap>, location: &str, read: &Record, data: Value) -> Result<(), kube::Error> {
    let patch = json!({"metadata": {"resourceVersion": read.version}, "data": data});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    records.patch(&names::repository_record(location), &params, &Patch::Merge(patch)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    fn record(pairs: &[(&str, &str)]) -> Record {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Record { data, ..Record::default() }
    }

    #[test]
    fn compacting_is_due_when_a_tenth_is_not_used_or_after_a_week() {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().unwrap();
        for (compacted, unused, used, due) in [
            ("2026-11-20T10:00:00Z", "0", "1000", false),
            ("2026-11-20T10:00:00Z", "0", "0", false),
            ("2026-11-20T10:00:00Z", "99", "901", false),
            ("2026-11-20T10:00:00Z", "100", "900", true),
            ("2026-11-20T10:00:00Z", "7", "0", true),
            ("2026-11-14T10:00:00Z", "0", "1000", true),
            ("2026-11-14T10:00:01Z", "1", "1000", false),
        ] {
            let record = record(&[(COMPACTED, compacted), (UNUSED, unused), (USED, used)]);
            assert_eq!(record.is_compacting_due(now), due, "{compacted} {unused} {used}");
        }
        assert!(!record(&[(UNUSED, "7")]).is_compacting_due(now));
    }

    #[test]
    fn archives_that_lack_files_are_told_apart_by_pvc() {
        let key = lacking_key(("shop", "db"));
        let record = record(&[(&key, "2026-11-21T10-00-00Z nonsense 2026-11-20T10-00-00Z")]);
        let cuts: Vec<String> = record.lacking(("shop", "db")).into_iter().map(names::archive_time).collect();
        assert_eq!(cuts, ["2026-11-20T10-00-00Z", "2026-11-21T10-00-00Z"]);
        assert!(record.lacking(("shop", "db-2")).is_empty());
    }

    #[test]
    fn what_is_in_doubt_is_no_good_archive_either_and_alone_no_record() {
        let (pvc, time) = (("shop", "db"), |cuts: BTreeSet<DateTime<Utc>>| cuts.into_iter().map(names::archive_time).collect::<Vec<_>>());
        let record = record(&[(&lacking_key(pvc), "2026-11-21T10-00-00Z"), (&doubtful_key(pvc), "2026-11-22T10-00-00Z")]);
        assert_eq!(time(record.doubtful(pvc)), ["2026-11-22T10-00-00Z"]);
        assert_eq!(time(record.not_good(pvc)), ["2026-11-21T10-00-00Z", "2026-11-22T10-00-00Z"]);
        assert_eq!(time(record.lacking(pvc)), ["2026-11-21T10-00-00Z"]);
        assert_eq!(record.location(), None);
    }
}
