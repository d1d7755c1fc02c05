//! Borg's environment, whole: nothing of the agent's own leaks into it.

use super::job::{Job, Places};
use super::state::{Guard, SSH_LOG};
use borgherd_api::crd::Encryption;
use borgherd_api::names;
use std::collections::BTreeMap;
use std::time::Duration;

/// `BORG_HOST_ID`: borg breaks locks by itself whose host id is its own and whose pid it cannot see. Two PID namespaces, or two boots, with
/// one host id would break each other's living locks; so both are in it. `@` cannot be in a node's name.
pub fn host_id(node: &str, boot_id: &str, pid_namespace: &str) -> String {
    format!("{node}@{boot_id}@{}", pid_namespace.replace(['/', '[', ']', ':'], ""))
}

/// The node in a [`host_id`].
pub(super) fn node_of(host_id: &str) -> &str {
    host_id.split_once('@').map_or(host_id, |(node, _)| node)
}

/// The environment of every call for `job`, but for the passphrase.
pub(super) fn env(job: &Job<'_>, guard: &Guard) -> BTreeMap<String, String> {
    let state = job.places.state;
    let below = |name: &str| state.join(name).display().to_string();
    let spec = job.spec;
    let mut env = BTreeMap::from([
        ("BORG_BASE_DIR", state.display().to_string()),
        ("BORG_CACHE_DIR", below("cache")),
        ("BORG_CONFIG_DIR", below("config")),
        ("BORG_SECURITY_DIR", below("security")),
        ("BORG_EXIT_CODES", "modern".to_owned()),
        ("BORG_FILES_CACHE_SUFFIX", names::hash(&[&spec.subject.namespace, &spec.subject.pvc], 8)),
        ("BORG_FILES_CACHE_TTL", "100".to_owned()),
        ("BORG_HOST_ID", job.host_id.to_owned()),
        ("BORG_RELOCATED_REPO_ACCESS_IS_OK", "no".to_owned()),
        ("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", unencrypted(job, guard).to_owned()),
        ("HOME", state.display().to_string()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TZ", spec.time_zone.clone()),
    ]);
    if spec.repository.location.starts_with("ssh://") {
        env.insert("BORG_RSH", rsh(&job.places, job.limits.connect));
    }
    env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Borg asks before it uses a repository without encryption that this node has not seen. Yes only where the Repository asks for none and
/// the repository is new or known by its id: else one that somebody put in place of an encrypted one would be written to.
fn unencrypted(job: &Job<'_>, guard: &Guard) -> &'static str {
    let repository = &job.spec.repository;
    let vouched = repository.may_init || guard.expected().is_some();
    match repository.encryption {
        Encryption::None | Encryption::Authenticated | Encryption::AuthenticatedBlake2 if vouched => "yes",
        Encryption::None
        | Encryption::Authenticated
        | Encryption::AuthenticatedBlake2
        | Encryption::Repokey
        | Encryption::RepokeyBlake2 => "no",
    }
}

/// The ssh that borg starts: one key, checked hosts, no questions, no files of anybody's home, and an end when the server is silent. It
/// writes a log of its own, since borg loses what ssh says when it ends at once.
fn rsh(places: &Places<'_>, connect: Duration) -> String {
    let options = [
        format!("UserKnownHostsFile={}", places.known_hosts.display()),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        "UpdateHostKeys=no".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "IdentityAgent=none".to_owned(),
        "BatchMode=yes".to_owned(),
        "ServerAliveInterval=10".to_owned(),
        "ServerAliveCountMax=3".to_owned(),
        format!("ConnectTimeout={}", connect.as_secs().max(1)),
    ];
    let log = places.state.join(SSH_LOG).display().to_string();
    let key = places.ssh_privatekey.display().to_string();
    let mut words: Vec<String> = ["ssh", "-F", "/dev/null", "-E", &log, "-i", &key].map(str::to_owned).into();
    words.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// A word as Python's `shlex.split`, by which borg reads `BORG_RSH`, gives it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\"'\"'"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use crate::borg::fixture;

    #[test]
    fn a_host_id_tells_its_node_and_differs_by_boot_and_namespace() {
        let id = host_id("node-1.example.org", "b0", "pid:[4026531836]");
        assert_eq!(id, "node-1.example.org@b0@pid4026531836");
        assert_eq!(node_of(&id), "node-1.example.org");
        assert_ne!(id, host_id("node-1.example.org", "b1", "pid:[4026531836]"));
    }

    fn with(encryption: Encryption, may_init: bool, expected: Option<&str>) -> BTreeMap<String, String> {
        let mut spec = fixture::spec();
        spec.repository.encryption = encryption;
        spec.repository.may_init = may_init;
        env(&fixture::job(&spec), &Guard::new(expected).unwrap())
    }

    #[test]
    fn the_whole_environment() {
        insta::assert_debug_snapshot!(with(Encryption::RepokeyBlake2, true, None));
    }

    #[test]
    fn a_repository_without_encryption_is_used_unasked_only_if_it_is_wanted_so_and_known_or_new() {
        let key = "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK";
        for (encryption, may_init, expected, answer) in [
            (Encryption::None, true, None, "yes"),
            (Encryption::None, false, Some(fixture::ID), "yes"),
            (Encryption::None, false, None, "no"),
            (Encryption::Authenticated, true, None, "yes"),
            (Encryption::AuthenticatedBlake2, false, None, "no"),
            (Encryption::Repokey, true, Some(fixture::ID), "no"),
            (Encryption::RepokeyBlake2, true, None, "no"),
        ] {
            let env = with(encryption, may_init, expected);
            assert_eq!(env.get(key).map(String::as_str), Some(answer), "{encryption:?} {may_init} {expected:?}");
        }
    }

    #[test]
    fn a_path_repository_needs_no_ssh() {
        let mut spec = fixture::spec();
        spec.repository.location = "/repositories/a".to_owned();
        assert!(!env(&fixture::job(&spec), &Guard::new(None).unwrap()).contains_key("BORG_RSH"));
    }

    #[test]
    fn words_for_ssh_are_quoted() {
        for (word, quoted) in [("-o", "-o"), ("a b", "'a b'"), ("", "''"), ("it's", "'it'\"'\"'s'")] {
            assert_eq!(quote(word), quoted);
        }
    }
}
