//! Borg's arguments.
//!
//! Invariant: every value is given as `--name=value`, so that none can be taken for an option, and braces in what borg would expand
//! (`{hostname}`, …) are doubled, so that borg gives back what was given to it.

use borgherd_api::crd::{ArchiveOptions, CheckOptions, CompactOptions, Encryption, ListOptions, RunRepository, VolumeFacts};
use std::path::Path;

/// Seconds borg itself waits for a lock before the loop of ours asks again. Borg looks every tenth of it, and the whole of it is how late
/// an interruption may be.
pub(super) const LOCK_WAIT: u32 = 3;
/// Name of the file of patterns among the files of a call.
pub(super) const EXCLUDE_FILE: &str = "exclude";
/// Longest comment: the kernel takes no argument over 128 KiB.
const COMMENT_MAX: usize = 96 * 1024;

/// What every call has.
fn common(command: &str) -> Vec<String> {
    vec!["--log-json".to_owned(), format!("--lock-wait={LOCK_WAIT}"), command.to_owned()]
}

/// `text` such that borg's expansion of placeholders gives it back.
fn literal(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

fn archive_at(repository: &RunRepository, archive: &str) -> String {
    format!("{}::{}", literal(&repository.location), literal(archive))
}

/// `borg create` of the working directory; `files` is where borg finds the file of patterns.
pub(super) fn create(repository: &RunRepository, options: &ArchiveOptions, files: &Path) -> Vec<String> {
    let mut argv = common("create");
    argv.extend(["--progress", "--json", "--numeric-ids", "--checkpoint-interval=300"].map(str::to_owned));
    argv.push(format!("--files-cache={}", options.files_cache.as_deref().unwrap_or("ctime,size")));
    argv.push(format!("--timestamp={}", options.cut.format("%Y-%m-%dT%H:%M:%S+00:00")));
    argv.push(format!("--comment={}", literal(&comment(&options.facts))));
    if let Some(compression) = &options.compression {
        argv.push(format!("--compression={compression}"));
    }
    if let Some(limit) = repository.rate_limit {
        argv.push(format!("--upload-ratelimit={limit}"));
    }
    if !options.exclude.is_empty() {
        argv.push(format!("--exclude-from={}", files.join(EXCLUDE_FILE).display()));
    }
    argv.push(archive_at(repository, &options.name));
    argv.push(".".to_owned());
    argv
}

/// The file of patterns for `--exclude-from`. Borg skips empty lines and takes `#` for a comment, which no pattern of a user's is.
pub(super) fn exclude_file(patterns: &[String]) -> String {
    patterns
        .iter()
        .flat_map(|pattern| pattern.lines())
        .map(str::trim)
        .filter(|pattern| !pattern.is_empty())
        .map(|pattern| if pattern.starts_with('#') { format!("fm:{pattern}\n") } else { format!("{pattern}\n") })
        .collect()
}

/// The archive's comment: the facts as JSON. Labels are dropped where they would not fit into an argument.
pub(super) fn comment(facts: &VolumeFacts) -> String {
    let json = |facts: &VolumeFacts| serde_json::to_string(facts).unwrap_or_default();
    let whole = json(facts);
    if whole.len() <= COMMENT_MAX {
        return whole;
    }
    let mut facts = facts.clone();
    facts.labels.clear();
    json(&facts)
}

/// `borg init`.
pub(super) fn init(repository: &RunRepository) -> Vec<String> {
    let mut argv = common("init");
    argv.push("--make-parent-dirs".to_owned());
    argv.push(format!("--encryption={}", Encryption::as_borg(repository.encryption)));
    argv.push(literal(&repository.location));
    argv
}

/// `borg extract` into the working directory.
pub(super) fn extract(repository: &RunRepository, archive: &str) -> Vec<String> {
    let mut argv = common("extract");
    argv.extend(["--progress", "--sparse", "--numeric-ids"].map(str::to_owned));
    argv.push(archive_at(repository, archive));
    argv
}

/// `borg extract` of the top folder alone, once everything is in it: borg restores the times of the top folder first and then writes into it.
pub(super) fn extract_top(repository: &RunRepository, archive: &str) -> Vec<String> {
    let mut argv = common("extract");
    argv.push("--numeric-ids".to_owned());
    argv.push(archive_at(repository, archive));
    argv.push("pf:.".to_owned());
    argv
}

/// `borg list` of the archives whose names begin with `prefix`, with their comments.
pub(super) fn list(repository: &RunRepository, prefix: &str, options: &ListOptions) -> Vec<String> {
    let mut argv = common("list");
    argv.push("--json".to_owned());
    argv.push("--format={comment}".to_owned());
    argv.push(format!("--glob-archives={}*", literal(prefix)));
    if let Some(last) = options.last {
        argv.push(format!("--last={last}"));
    }
    argv.push(literal(&repository.location));
    argv
}

/// `borg list` of the archive of this name.
pub(super) fn list_one(repository: &RunRepository, archive: &str) -> Vec<String> {
    let mut argv = common("list");
    argv.push("--json".to_owned());
    argv.push(format!("--glob-archives={}", literal(archive)));
    argv.push(literal(&repository.location));
    argv
}

/// `borg list` of all archives whose names begin with `prefix`, checkpoints too, with their comments.
pub(super) fn list_all(repository: &RunRepository, prefix: &str) -> Vec<String> {
    let mut argv = common("list");
    argv.extend(["--json", "--consider-checkpoints", "--format={comment}"].map(str::to_owned));
    argv.push(format!("--glob-archives={}*", literal(prefix)));
    argv.push(literal(&repository.location));
    argv
}

/// `borg delete` of archives by their names. The first stands in the location: without any name borg would delete the whole repository.
pub(super) fn delete(repository: &RunRepository, first: &str, more: &[&str]) -> Vec<String> {
    let mut argv = common("delete");
    argv.push(archive_at(repository, first));
    argv.extend(more.iter().map(|name| literal(name)));
    argv
}

/// `borg compact`.
pub(super) fn compact(repository: &RunRepository, options: &CompactOptions) -> Vec<String> {
    let mut argv = common("compact");
    if let Some(threshold) = options.threshold {
        argv.push(format!("--threshold={threshold}"));
    }
    argv.push(literal(&repository.location));
    argv
}

/// `borg check`, with what it says of how far it came.
pub(super) fn check(repository: &RunRepository, options: &CheckOptions) -> Vec<String> {
    let mut argv = common("check");
    argv.push("--info".to_owned());
    if options.archives {
        argv.push("--archives-only".to_owned());
        argv.extend(options.verify_data.as_ref().map(|_| "--verify-data".to_owned()));
    } else {
        argv.push("--repository-only".to_owned());
        argv.extend(options.max_seconds.map(|seconds| format!("--max-duration={seconds}")));
    }
    argv.push(literal(&repository.location));
    argv
}

/// `borg extract` that writes nothing and names each item before it is read: the content of an archive is fetched, decrypted and compared
/// with its hashes, but for what the file of patterns `but`, as borg finds it, names.
pub(super) fn read(repository: &RunRepository, archive: &str, but: Option<&Path>) -> Vec<String> {
    let mut argv = common("extract");
    argv.extend(["--dry-run", "--list"].map(str::to_owned));
    argv.extend(but.map(|file| format!("--exclude-from={}", file.display())));
    argv.push(archive_at(repository, archive));
    argv
}

/// `borg list` of an archive's items, in its order, as [`super::reading`] reads it. `!r`: borg would else write `?` for what is no UTF-8.
pub(super) fn items(repository: &RunRepository, archive: &str) -> Vec<String> {
    let mut argv = common("list");
    argv.push("--format={mode}{NUL}{source!r}{NUL}{bpath!r}{NL}".to_owned());
    argv.push(archive_at(repository, archive));
    argv
}

/// `borg info` of the repository: what all archives take.
pub(super) fn repository_info(repository: &RunRepository) -> Vec<String> {
    let mut argv = common("info");
    argv.push("--json".to_owned());
    argv.push(literal(&repository.location));
    argv
}

/// `borg info` of one archive: its comment and its sizes.
pub(super) fn info(repository: &RunRepository, archive: &str) -> Vec<String> {
    let mut argv = common("info");
    argv.push("--json".to_owned());
    argv.push(archive_at(repository, archive));
    argv
}

/// The name that an archive gets which is in the way and may be incomplete. It tells no cut, so nothing takes it for a restore point.
pub(super) fn aside(archive: &str, id: &str) -> String {
    format!("{archive}.incomplete-{}", id.get(..8).unwrap_or(id))
}

/// `borg rename` of one archive.
pub(super) fn rename(repository: &RunRepository, archive: &str, new: &str) -> Vec<String> {
    let mut argv = common("rename");
    argv.push(archive_at(repository, archive));
    argv.push(literal(new));
    argv
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::borg::fixture;

    fn repository() -> RunRepository {
        fixture::spec().repository
    }

    #[test]
    fn every_command_line() {
        let repository = repository();
        let mut options = fixture::archive_options();
        let files = Path::new("/run/borg/files");
        let plain = create(&repository, &options, files);
        options.compression = Some("zstd,3".to_owned());
        options.files_cache = Some("disabled".to_owned());
        options.exclude = vec!["*.tmp".to_owned()];
        let limited = RunRepository { rate_limit: Some(500), ..repository.clone() };
        let name = &options.name;
        insta::assert_debug_snapshot!([
            plain,
            create(&limited, &options, files),
            init(&repository),
            extract(&repository, name),
            extract_top(&repository, name),
            list(&repository, "shop_db_", &ListOptions { last: Some(5), judge: None }),
            info(&repository, name),
            rename(&repository, name, &aside(name, fixture::ID)),
            list_all(&repository, "shop_db_"),
            delete(&repository, name, &["shop_db_x", "shop_db_y"]),
            compact(&repository, &CompactOptions { threshold: Some(25) }),
            repository_info(&repository),
            check(&repository, &CheckOptions { max_seconds: Some(600), ..CheckOptions::default() }),
            check(&repository, &CheckOptions { archives: true, ..CheckOptions::default() }),
            check(&repository, &CheckOptions { archives: true, verify_data: Some("today".into()), ..CheckOptions::default() }),
            read(&repository, "shop_db_{now}", None),
            items(&repository, "shop_db_{now}"),
            read(&repository, "shop_db_{now}", Some(Path::new("/run/borg/state/read-before"))),
        ]);
    }

    #[test]
    fn a_patterns_file_holds_every_pattern_and_nothing_else() {
        let patterns = ["*.tmp", " spaced ", "", "#odd", "sh:**/a", "two\nlines"].map(str::to_owned);
        assert_eq!(exclude_file(&patterns), "*.tmp\nspaced\nfm:#odd\nsh:**/a\ntwo\nlines\n");
    }

    #[test]
    fn braces_reach_the_archive_as_they_are() {
        assert_eq!(literal("{hostname} }{"), "{{hostname}} }}{{");
    }

    #[test]
    fn a_comment_that_no_argument_holds_loses_its_labels() {
        let mut facts = fixture::archive_options().facts;
        assert!(comment(&facts).contains("labels"));
        facts.labels.insert("long".to_owned(), "x".repeat(200_000));
        let comment = comment(&facts);
        assert!(comment.len() < 1000 && comment.contains("backupUid") && !comment.contains("labels"), "{comment}");
    }
}
