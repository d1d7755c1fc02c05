//! The reading of an archive goes on where the last piece of it ended: what was read before is named to borg in a file of patterns, so that
//! it passes that over.
//!
//! Invariant: nothing is passed over that was not read. A path that the file cannot name beyond doubt is read again in every piece: the file
//! has lines, which borg strips and takes for text, and a line that means another path would hide that one for ever. Hard links have no
//! content of their own, so all of them are passed over; but if one cannot be named, the file that it is a link to is not passed over either,
//! since borg would fetch its content for the link, and keep it in memory.

use super::job::Places;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Name of the file of patterns in the folder of the state. In memory, as other files of a call, it could be too large.
const FILE: &str = "read-before";

/// One item of an archive, as `borg list` tells it: see [`super::argv::items`].
struct Item<'a> {
    /// What it is a hard link to, as borg quotes it.
    link: Option<&'a str>,
    /// As borg quotes it.
    quoted: &'a str,
}

impl<'a> Item<'a> {
    /// `None`: no line of that form.
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut fields = str::from_utf8(line).ok()?.split('\0');
        let (mode, source, quoted) = (fields.next()?, fields.next()?, fields.next()?);
        let is_whole = fields.next().is_none() && !mode.is_empty();
        is_whole.then(|| Self { link: mode.starts_with('h').then_some(source), quoted })
    }

    /// The path, if a line of the file can name it and nothing else.
    fn path(&self) -> Option<&'a str> {
        let mark = self.quoted.chars().next().filter(|mark| matches!(mark, '\'' | '"'))?;
        let path = self.quoted.strip_prefix(mark)?.strip_suffix(mark)?;
        // quoted is whatever is not printable or no UTF-8, and every blank but the plain one
        let is_plain = !path.contains('\\') && !path.chars().any(char::is_control) && path.trim_end() == path;
        // borg makes paths normal before it compares them
        let is_normal = path == "." || path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        (is_plain && is_normal).then_some(path)
    }
}

/// What is left of an archive.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    /// Items that were read before.
    after: u64,
    /// Of each item that is known, in the archive's order, whether it is passed over.
    passed: Vec<bool>,
    /// The file of patterns.
    patterns: String,
}

impl Rest {
    /// What is left after so many items of an archive whose items were listed so. Of a list that is not whole what is missing is read.
    pub(super) fn of(listing: &[u8], after: u64) -> Self {
        let lines = || listing.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        let items = || lines().map(Item::of).zip(0_u64..);
        let over = passed_over(&items(), after);
        let (mut passed, mut patterns) = (Vec::new(), String::new());
        for line in lines() {
            let path = Item::of(line).and_then(|item| item.path()).filter(|path| over.contains(path));
            passed.push(path.is_some());
            patterns.extend(path.into_iter().flat_map(|path| ["pf:", path, "\n"]));
        }
        Self { after, passed, patterns }
    }

    /// How many items, from the archive's first on, are read when borg has begun with so many of those that it does not pass over. The last of
    /// these it had not read to its end.
    pub(super) fn position(&self, begun: u64) -> u64 {
        let read = begun.saturating_sub(1);
        let left = self.passed.iter().zip(0_u64..).filter(|(passed, _)| !**passed).map(|(_, index)| index);
        let beyond = || self.passed.len() as u64 + read.saturating_sub(left.clone().count() as u64);
        let index = usize::try_from(read).ok().and_then(|read| left.clone().nth(read)).unwrap_or_else(beyond);
        index.max(self.after)
    }

    /// Writes the file of patterns, if there is anything to pass over.
    pub(super) fn write(&self, places: &Places<'_>) -> io::Result<Option<Patterns>> {
        if self.patterns.is_empty() {
            return Ok(None);
        }
        let patterns = Patterns { here: places.state_here.join(FILE), file: places.state.join(FILE) };
        fs::write(&patterns.here, &self.patterns)?;
        Ok(Some(patterns))
    }
}

/// Paths that are passed over after so many items.
fn passed_over<'a>(items: &(impl Iterator<Item = (Option<Item<'a>>, u64)> + Clone), after: u64) -> HashSet<&'a str> {
    let known = || items.clone().filter_map(|(item, index)| Some((item?, index)));
    let is_over = |item: &Item<'_>, index: u64| index < after || item.link.is_some();
    let mut over: HashSet<&str> = known().filter(|(item, index)| is_over(item, *index)).filter_map(|(item, _)| item.path()).collect();
    for (item, index) in known() {
        let is_read = match item.link {
            Some(source) => item.path().is_none().then(|| Item { link: None, quoted: source }.path()),
            // the same path may be there twice
            None => (index >= after).then(|| item.path()),
        };
        if let Some(path) = is_read.flatten() {
            over.remove(path);
        }
    }
    over
}

/// The file of patterns; gone with this.
#[derive(Debug)]
pub(super) struct Patterns {
    here: PathBuf,
    file: PathBuf,
}

impl Patterns {
    /// As borg finds it.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Patterns {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.here) {
            tracing::warn!(%error, file = %self.here.display(), "cannot remove a file of patterns");
        }
    }
}

/// Removes what an agent that was killed has left.
pub(super) fn forget(state_here: &Path) -> io::Result<()> {
    match fs::remove_file(state_here.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of items: mode, source, path, the latter two as borg quotes them.
    fn listing(items: &[(&str, &str, &str)]) -> Vec<u8> {
        let lines: Vec<String> = items.iter().map(|(mode, source, path)| format!("{mode}\0{source}\0{path}\n")).collect();
        lines.concat().into_bytes()
    }

    fn files(paths: &[&str]) -> Vec<u8> {
        listing(&paths.iter().map(|path| ("-rw-r--r--", "''", *path)).collect::<Vec<_>>())
    }

    #[test]
    fn only_what_a_line_names_beyond_doubt_is_passed_over() {
        for (quoted, line) in [
            ("'.'", "pf:.\n"),
            ("'a/b c'", "pf:a/b c\n"),
            ("' a'", "pf: a\n"),
            ("'#a'", "pf:#a\n"),
            ("'pp:a'", "pf:pp:a\n"),
            ("'*?[a]{b}'", "pf:*?[a]{b}\n"),
            ("\"it's\"", "pf:it's\n"),
            ("'é'", "pf:é\n"),
            ("'a '", ""),
            ("'a\u{3000}'", ""),
            (r"'new\nline'", ""),
            (r"'cr\rpp:b'", ""),
            ("'cr\rpp:b'", ""),
            (r"'no-utf-8\udcff'", ""),
            (r"'back\\slash'", ""),
            ("'a/../b'", ""),
            ("'a//b'", ""),
            ("'./a'", ""),
            ("'/a'", ""),
            ("'a/'", ""),
            ("''", ""),
            ("'", ""),
            ("a", ""),
        ] {
            let rest = Rest::of(&files(&[quoted]), 1);
            assert_eq!((rest.patterns.as_str(), rest.passed), (line, vec![!line.is_empty()]), "{quoted}");
        }
    }

    #[test]
    fn nothing_that_was_not_read_is_passed_over() {
        let two = files(&["'a'", "'b'"]);
        assert_eq!(Rest::of(&two, 0).patterns, "");
        assert_eq!(Rest::of(&two, 1).patterns, "pf:a\n");
        assert_eq!(Rest::of(&two, 9).patterns, "pf:a\npf:b\n");
        assert_eq!(Rest::of(&files(&["'a'", "'b'", "'a'"]), 2).patterns, "pf:b\n", "one path twice");
        let cut = [two.as_slice(), b"-rw-r--r--\0''\0'c"].concat();
        assert_eq!(Rest::of(&cut, 3).passed, [true, true], "a list that was cut off");
        for odd in [&b"?\n"[..], b"\n", b"-\0''\0'a'\0\n", b"-\0''\0'\xff'\n"] {
            let rest = Rest::of(&[odd, two.as_slice()].concat(), 2);
            assert_eq!((rest.patterns.as_str(), rest.passed), ("pf:a\n", vec![false, true, false]), "what is no item counts all the same");
        }
    }

    #[test]
    fn hard_links_have_nothing_to_read_but_keep_what_they_are_links_to() {
        let file = |path| ("-rw-r--r--", "''", path);
        let link = |source, path| ("hrw-r--r--", source, path);
        let of = |items: &[(&str, &str, &str)], after| Rest::of(&listing(items), after).patterns;
        assert_eq!(of(&[file("'a'"), file("'b'"), link("'a'", "'c'")], 1), "pf:a\npf:c\n");
        assert_eq!(of(&[file("'a'"), file("'b'"), link("'a'", r"'\n'")], 2), "pf:b\n", "a link that cannot be named");
        assert_eq!(of(&[("lrwxrwxrwx", "'a'", r"'\n'"), file("'a'")], 2), "pf:a\n", "a symbolic link");
        assert_eq!(of(&[link("'a'", "'b'"), file("'b'")], 1), "", "a link and a file of the same path");
    }

    #[test]
    fn a_position_is_where_the_item_stands_that_was_being_read() {
        let items = files(&["'a'", r"'\n'", "'b'", "'c'", "'d'"]);
        let position = |after, begun| Rest::of(&items, after).position(begun);
        assert_eq!([0, 1, 2, 5].map(|begun| position(0, begun)), [0, 0, 1, 4]);
        // `\n` is read again, then c, d
        assert_eq!([0, 1, 2, 3].map(|begun| position(3, begun)), [3, 3, 3, 4]);
        let nothing = Rest::default();
        assert_eq!([0, 1, 2, 100].map(|begun| nothing.position(begun)), [0, 0, 1, 99], "not listed");
        assert_eq!(Rest::of(&files(&["'a'"]), 5).position(4), 5, "a list that was cut off");
        assert_eq!(Rest::of(&files(&["'a'"]), 1).position(4), 4);
        let links = listing(&[("-", "''", "'a'"), ("h", "'a'", "'b'"), ("-", "''", "'c'"), ("-", "''", "'d'")]);
        assert_eq!([1, 2].map(|begun| Rest::of(&links, 1).position(begun)), [2, 3]);
    }

    #[test]
    fn the_file_is_there_for_borg_and_goes_afterwards() -> io::Result<()> {
        let here = tempfile::tempdir()?;
        let (state, nowhere) = (Path::new("/run/borg/state"), Path::new("/"));
        let places = Places { state, state_here: here.path(), files: nowhere, ssh_privatekey: nowhere, known_hosts: nowhere };
        assert!(Rest::default().write(&places)?.is_none());
        let patterns = Rest::of(&files(&["'a'"]), 1).write(&places)?;
        assert_eq!(patterns.as_ref().map(Patterns::file), Some(Path::new("/run/borg/state/read-before")));
        assert_eq!(fs::read_to_string(here.path().join(FILE))?, "pf:a\n");
        drop(patterns);
        fs::write(here.path().join(FILE), "left")?;
        for _ in 0..2 {
            forget(here.path())?;
            assert_eq!(fs::read_dir(here.path())?.count(), 0);
        }
        Ok(())
    }
}
