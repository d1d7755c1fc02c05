//! What a command said, as it may be shown: bounded, one kind of line end, without what looks like a credential.
//!
//! Values of the container's environment are taken out before, in the container: see [`super::wrapper`].

/// So much is kept, of the end: there stands why something failed.
const KEPT: usize = 2000;
/// Names that are followed by a credential.
const NAMES: [&str; 10] = ["password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "api_key", "credential", "private_key"];
/// What stands in place of what was taken out.
const HIDDEN: &str = "[hidden]";

/// `text` as it may stand in a status and a log.
pub fn redact(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(line).collect();
    let clean: String = lines.join("\n").chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect();
    let skipped = clean.chars().count().saturating_sub(KEPT);
    let tail: String = clean.chars().skip(skipped).collect();
    let tail = tail.trim();
    if skipped == 0 { tail.to_owned() } else { format!("…{tail}") }
}

fn line(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if lower.contains("private key") {
        return HIDDEN.to_owned();
    }
    let named = NAMES.iter().filter_map(|name| after_name(&lower, name)).min();
    let text = named.map_or_else(|| text.to_owned(), |at| format!("{}{HIDDEN}", text.get(..at).unwrap_or_default()));
    text.split_inclusive(' ').map(url).collect()
}

/// Where the value after `name` and `=`, `:` or `is` begins. All the rest of the line counts as the value: it may hold spaces.
fn after_name(lower: &str, name: &str) -> Option<usize> {
    let end = lower.find(name)? + name.len();
    let rest = lower.get(end..)?;
    let (word, _) = rest.split_at(rest.find(['=', ':'])?);
    // `password for user "x":` and `token_file=…` too, a sentence not
    (word.len() <= 24).then(|| end + word.len() + 1)
}

/// `scheme://user:password@host` without the password.
fn url(word: &str) -> String {
    let hidden = || {
        let (scheme, rest) = word.split_once("://")?;
        let (credentials, host) = rest.rsplit_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(format!("{scheme}://{user}:{HIDDEN}@{host}"))
    };
    hidden().unwrap_or_else(|| word.to_owned())
}
