//! Values that borg reads: checked here by borg 1.4's own rules, so that a typo is told at once and not by a run in the night.

use super::regex;

/// As many patterns and characters as a BorgRun takes.
const MAX_PATTERNS: usize = 1000;
const MAX_PATTERN: usize = 4096;
/// As long as a BorgRun takes.
const MAX_WORD: usize = 64;
/// Borg's pattern styles; without one a pattern is `fm:`.
const STYLES: [&str; 5] = ["fm", "sh", "re", "pp", "pf"];
/// What borg can compare to see that a file is unchanged, each sorted.
const FILES_CACHE: [&[&str]; 8] = [
    &["ctime", "size"],
    &["ctime", "inode", "size"],
    &["mtime", "size"],
    &["inode", "mtime", "size"],
    &["size"],
    &["ctime", "rechunk"],
    &["mtime", "rechunk"],
    &["disabled"],
];

/// Checks `--compression`.
pub(super) fn compression(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(',').collect();
    let is_right = text.len() <= MAX_WORD
        && match parts.as_slice() {
            ["obfuscate", spec, rest @ ..] => is_obfuscation(spec) && is_compressor(rest),
            other => is_compressor(other),
        };
    if is_right {
        return Ok(text.to_owned());
    }
    Err("is no compression of borg's; it can be none, lz4, zstd (or zstd,1 to zstd,22), zlib (zlib,0 to zlib,9), \
         lzma (lzma,0 to lzma,9), auto,… or obfuscate,SPEC,… before one of these, without spaces"
        .to_owned())
}

fn is_compressor(parts: &[&str]) -> bool {
    match parts {
        ["auto", rest @ ..] => is_algorithm(rest),
        other => is_algorithm(other),
    }
}

fn is_algorithm(parts: &[&str]) -> bool {
    match parts {
        ["none" | "lz4" | "zstd" | "zlib" | "lzma"] => true,
        ["zstd", level] => is_number(level, 1, 22),
        ["zlib" | "lzma", level] => is_number(level, 0, 9),
        _ => false,
    }
}

fn is_obfuscation(spec: &str) -> bool {
    is_number(spec, 1, 6) || is_number(spec, 110, 123) || spec == "250"
}

fn is_number(text: &str, min: u32, max: u32) -> bool {
    let is_digits = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits && text.parse().is_ok_and(|number: u32| (min..=max).contains(&number))
}

/// Checks `--files-cache`; the order of the words does not matter.
pub(super) fn files_cache(text: &str) -> Result<String, String> {
    let mut words: Vec<&str> = text.split(',').collect();
    words.sort_unstable();
    words.dedup();
    if text.len() <= MAX_WORD && FILES_CACHE.contains(&words.as_slice()) {
        return Ok(text.to_owned());
    }
    Err("is no files cache mode of borg's; it can be ctime,size (the default), mtime,size, each also with ,inode, or disabled".to_owned())
}

/// Checks patterns, one a line; empty lines and those that begin with `#` do not count.
pub(super) fn exclude(text: &str) -> Result<Vec<String>, String> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    if lines.len() > MAX_PATTERNS {
        return Err(format!("has {} patterns, more than {MAX_PATTERNS}", lines.len()));
    }
    let checked = lines.into_iter().map(|(number, line)| match pattern(line) {
        Ok(()) => Ok(line.to_owned()),
        Err(wrong) => Err(format!("line {number} {wrong}")),
    });
    checked.collect()
}

fn pattern(line: &str) -> Result<(), String> {
    if line.chars().count() > MAX_PATTERN {
        return Err(format!("is longer than {MAX_PATTERN} characters"));
    }
    if line.chars().any(char::is_control) {
        return Err("has a control character in it".to_owned());
    }
    // Borg takes any two letters or digits before a colon for a style.
    let Some((style, rest)) = line.split_once(':') else {
        return Ok(());
    };
    if style.chars().count() != 2 || !style.chars().all(char::is_alphanumeric) {
        return Ok(());
    }
    if !STYLES.contains(&style) {
        return Err(format!(
            "begins with '{style}:', which is no pattern style of borg's; there are fm: (the default), sh:, re:, pp: (path prefix) and pf: (whole path)"
        ));
    }
    if rest.is_empty() {
        return Err(format!("has nothing after '{style}:'"));
    }
    match regex::fault(rest).filter(|_| style == "re") {
        Some(fault) => Err(format!("is no regular expression: it {fault}")),
        None => Ok(()),
    }
}
