//! The annotation `borgherd.dev/database`: YAML, read so that a typo is told and never means something else.

use super::preset::{Kind, Preset};
use crate::hooks::{POSSIBLE, Place, is_name, known, seconds};
use serde::Deserialize;
use serde_yaml::Value;
use std::time::Duration;

/// The kinds.
const KINDS: [&str; 2] = ["postgres", "mysql"];
/// What a preset may say.
const FIELDS: [&str; 10] = ["in", "container", "file", "spaceUsedLimit", "user", "password", "database", "host", "args", "timeout"];
/// As it is meant, for every message.
const EXAMPLE: &str = "write - postgres: {in: deployment/NAME, file: /FOLDER/dump.sql.gz}";
/// As many presets as one list may have.
const MAX_PRESETS: usize = 8;
/// As long as the annotation may be, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Percent of a file system that may be used when nothing else is said.
const SPACE_USED_LIMIT: u8 = 90;
/// How long a dump may take when nothing else is said, and at most.
const TIMEOUT: Duration = Duration::from_mins(30);
const MAX_TIMEOUT: Duration = Duration::from_hours(12);
/// As many further arguments as there may be, and characters in one of the values.
const MAX_ARGS: usize = 32;
const MAX_VALUE: usize = 512;

/// As people write it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(rename = "in")]
    place: Option<String>,
    container: Option<String>,
    file: Option<String>,
    space_used_limit: Option<Value>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    database: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    args: Vec<String>,
    timeout: Option<String>,
}

/// Reads the annotation: a list of presets, or a single one. The message says what is wrong and what would be right, and repeats no password.
pub fn parse(text: &str) -> Result<Vec<Preset>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("is {} bytes long, more than {MAX_TEXT}", text.len()));
    }
    let value: Value = serde_yaml::from_str(text).map_err(|error| format!("is no YAML: {error}"))?;
    let items = match value {
        Value::Sequence(items) => items,
        single @ Value::Mapping(_) => vec![single],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Tagged(_) => {
            return Err(format!("is no list of databases; {EXAMPLE}"));
        }
    };
    if items.len() > MAX_PRESETS {
        return Err(format!("has {} databases, more than {MAX_PRESETS}", items.len()));
    }
    let read = (1..).zip(&items).map(|(number, item)| preset(item).map_err(|said| format!("database {number}: {said}")));
    let presets = read.collect::<Result<Vec<_>, _>>()?;
    for (index, preset) in presets.iter().enumerate() {
        let same = |other: &&Preset| (&other.place, &other.container, &other.file) == (&preset.place, &preset.container, &preset.file);
        if presets.iter().take(index).any(|other| same(&other)) {
            return Err(format!(
                "database {}: file: '{}' is that of another one in the same place; give each its own",
                index + 1,
                preset.file
            ));
        }
    }
    Ok(presets)
}

fn preset(item: &Value) -> Result<Preset, String> {
    known(item, &KINDS).map_err(|said| format!("{said}; {EXAMPLE}"))?;
    let present: Vec<(Kind, &Value)> =
        [Kind::Postgres, Kind::Mysql].into_iter().filter_map(|kind| Some((kind, item.get(kind.word())?))).collect();
    let [(kind, fields)] = present.as_slice() else {
        return Err(format!("says {} kinds where one is meant; {EXAMPLE}", present.len()));
    };
    known(fields, &FIELDS).and_then(|()| read(*kind, fields)).map_err(|said| format!("{kind}: {said}"))
}

fn read(kind: Kind, fields: &Value) -> Result<Preset, String> {
    let written: Written = serde_yaml::from_value(fields.clone()).map_err(|error| error.to_string())?;
    let Written { place, container, file, space_used_limit, user, password, database, host, args, timeout } = written;
    let place = place.ok_or_else(|| format!("does not say where: in is missing; {POSSIBLE}"))?;
    if let Some(name) = container.as_deref().filter(|name| !is_name(name)) {
        return Err(format!("container: '{name}' is no name of a container, like 'postgres'"));
    }
    for (name, value) in [("user", &user), ("database", &database), ("host", &host)] {
        checked_value(value).map_err(|said| format!("{name}: {said}"))?;
    }
    Ok(Preset {
        kind,
        place: Place::parse(&place).map_err(|said| format!("in: {said}"))?,
        container,
        file: checked_file(file.as_deref().unwrap_or_default())?,
        space_used_limit: space_used_limit.map_or(Ok(SPACE_USED_LIMIT), |limit| checked_limit(&limit))?,
        user,
        password: checked_password(password)?,
        database,
        host,
        args: checked_args(args)?,
        timeout: timeout.as_deref().map_or(Ok(TIMEOUT), checked_timeout)?,
    })
}

fn checked_file(file: &str) -> Result<String, String> {
    let name = file.rsplit('/').next().unwrap_or_default();
    let is_clean = file.len() <= MAX_VALUE && !file.contains(|c: char| c.is_control() || "*?[]\\".contains(c));
    let is_plain = file.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    let is_compressed = name.strip_suffix(".gz").is_some_and(|stem| !stem.is_empty());
    if file.starts_with('/') && is_clean && is_plain && is_compressed {
        return Ok(file.to_owned());
    }
    Err(format!("file: '{file}' is no absolute path of a compressed file in the container, like '/var/lib/postgresql/data/dump.sql.gz'"))
}

/// `90` or `90%`.
fn checked_limit(limit: &Value) -> Result<u8, String> {
    let text = match limit {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().trim_end_matches('%').trim_end().to_owned(),
        Value::Null | Value::Bool(_) | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => String::new(),
    };
    let wrong = || "spaceUsedLimit: is no number of percent from 1 to 100, like 90".to_owned();
    text.parse().ok().filter(|percent| (1..=100).contains(percent)).ok_or_else(wrong)
}

/// Empty, `$NAME`, or a word without control characters.
fn checked_value(value: &str) -> Result<(), String> {
    if value.len() > MAX_VALUE || value.contains(|c: char| c.is_control()) {
        return Err(format!("is longer than {MAX_VALUE} bytes or holds control characters"));
    }
    if value.starts_with('$') && !is_variable(value) {
        return Err(format!("'{value}' names no variable of the container's environment, like '$DB_USER'"));
    }
    Ok(())
}

/// The value is not repeated: it may be a password.
fn checked_password(value: String) -> Result<String, String> {
    if value.is_empty() || is_variable(&value) {
        return Ok(value);
    }
    Err("password: must name a variable of the container's environment, like '$DB_PASSWORD'; a password itself does not belong into an annotation"
        .to_owned())
}

fn is_variable(value: &str) -> bool {
    let Some(name) = value.strip_prefix('$') else { return false };
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(is_inner) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn checked_args(args: Vec<String>) -> Result<Vec<String>, String> {
    if args.len() > MAX_ARGS || args.iter().any(|arg| arg.len() > MAX_VALUE || arg.contains('\0')) {
        return Err(format!("args: has more than {MAX_ARGS} words, or one longer than {MAX_VALUE} bytes"));
    }
    // -p is mysqldump's password and pg_dump's port
    if let Some(number) = args.iter().position(|arg| arg.to_lowercase().contains("pass") || arg.starts_with("-p")) {
        return Err(format!("args: word {} may be a password; say password: $NAME, and a port as --port=NUMBER", number + 1));
    }
    if let Some(word) = args.iter().find(|arg| !arg.starts_with('-') || arg.as_str() == "--") {
        return Err(format!(
            "args: '{word}' does not begin with '-'; write an option and its value as one word, like --exclude-table=cache"
        ));
    }
    Ok(args)
}

fn checked_timeout(text: &str) -> Result<Duration, String> {
    let wrong = || format!("timeout: '{text}' is no time from 1s to 12h, like '90s', '30m' or '2h'");
    let timeout = Duration::from_secs(seconds(text).ok_or_else(wrong)?);
    if timeout.is_zero() || timeout > MAX_TIMEOUT { Err(wrong()) } else { Ok(timeout) }
}
