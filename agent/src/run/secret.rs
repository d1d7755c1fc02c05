//! The credentials of a repository, read from its Secret at the moment a run begins, so that a changed Secret counts at once.
//!
//! Invariant: they are never logged and never written to a disk of the node.

use crate::sandbox::Secrets;
use borgherd_api::Reason;
use borgherd_api::crd::{Encryption, RunRepository};
use borgherd_runtime::refusal::words;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use std::collections::BTreeMap;
use std::time::Duration;

const REQUEST: Duration = Duration::from_secs(10);
const PASSPHRASE: &str = "passphrase";
const KEY: &str = "ssh-privatekey";
const KNOWN_HOSTS: &str = "known_hosts";

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// No such Secret.
    #[error(
        "Secret {name} does not exist in namespace {namespace}; create it with the keys {PASSPHRASE}, and for ssh {KEY} and {KNOWN_HOSTS}"
    )]
    NotFound {
        /// Of the Secret.
        name: String,
        /// Where it should be.
        namespace: String,
    },
    /// It lacks what is needed.
    #[error("Secret {name} has no {keys}, which repository {location} needs; add what is missing")]
    MissingKeys {
        /// Of the Secret.
        name: String,
        /// The keys, or what is wrong with one.
        keys: String,
        /// What needs them.
        location: String,
    },
    /// The agent may not read it.
    #[error("Secret {name} may not be read by the agent: {message}")]
    Forbidden {
        /// Of the Secret.
        name: String,
        /// What the API server says.
        message: String,
    },
    /// The API server did not tell; asking again may help.
    #[error("reading Secret {name}: {}", words(.error))]
    Request {
        /// Of the Secret.
        name: String,
        /// What happened.
        #[source]
        error: kube::Error,
    },
    /// The API server did not answer; asking again may help.
    #[error("reading Secret {name}: no answer within {} s", REQUEST.as_secs())]
    Timeout {
        /// Of the Secret.
        name: String,
    },
}

impl SecretError {
    /// What stands in the run's status; `None`: ask again.
    pub(super) const fn reason(&self) -> Option<Reason> {
        match self {
            Self::NotFound { .. } => Some(Reason::SecretNotFound),
            Self::MissingKeys { .. } | Self::Forbidden { .. } => Some(Reason::SecretInvalid),
            Self::Request { .. } | Self::Timeout { .. } => None,
        }
    }
}

/// Read the Secret of `repository`.
pub(super) async fn fetch(api: &Api<Secret>, repository: &RunRepository) -> Result<Secrets, SecretError> {
    let name = &repository.secret_ref;
    let read = tokio::time::timeout(REQUEST, api.get(name)).await;
    let read = read.map_err(|_| SecretError::Timeout { name: name.clone() })?;
    let secret = read.map_err(|error| classify(name, api.namespace().unwrap_or_default(), error))?;
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    credentials(repository, data)
}

fn classify(name: &str, namespace: &str, error: kube::Error) -> SecretError {
    let name = name.to_owned();
    let code = if let kube::Error::Api(status) = &error { status.code } else { 0 };
    match code {
        404 => SecretError::NotFound { name, namespace: namespace.to_owned() },
        403 => SecretError::Forbidden { name, message: words(&error) },
        _ => SecretError::Request { name, error },
    }
}

/// What `repository` needs of a Secret's data. A key that is there but blank is missing.
fn credentials(repository: &RunRepository, mut data: BTreeMap<String, Vec<u8>>) -> Result<Secrets, SecretError> {
    let mut missing = Vec::new();
    let mut take = |key: &'static str| {
        let value = String::from_utf8(data.remove(key).unwrap_or_default());
        match value {
            Ok(text) if !text.trim().is_empty() => text,
            Ok(_) => {
                missing.push(key.to_owned());
                String::new()
            }
            Err(_) => {
                missing.push(format!("{key} that is UTF-8"));
                String::new()
            }
        }
    };
    let passphrase = match repository.encryption {
        Encryption::Repokey | Encryption::RepokeyBlake2 | Encryption::Authenticated | Encryption::AuthenticatedBlake2 => take(PASSPHRASE),
        Encryption::None => String::new(),
    };
    let is_ssh = repository.location.starts_with("ssh://");
    let secrets = Secrets { passphrase, ssh_privatekey: is_ssh.then(|| take(KEY)), known_hosts: is_ssh.then(|| take(KNOWN_HOSTS)) };
    if missing.is_empty() {
        return Ok(secrets);
    }
    Err(SecretError::MissingKeys { name: repository.secret_ref.clone(), keys: missing.join(", "), location: repository.location.clone() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    fn repository(location: &str, encryption: Encryption) -> RunRepository {
        RunRepository { location: location.to_owned(), secret_ref: "nas".to_owned(), encryption, ..RunRepository::default() }
    }

    #[test]
    fn every_missing_key_is_named() {
        let full = [(PASSPHRASE, "p"), (KEY, "k"), (KNOWN_HOSTS, "h")];
        let table: [(&str, Encryption, &[&str], Option<&str>); 7] = [
            ("ssh://borg@nas/./r", Encryption::RepokeyBlake2, &[], None),
            ("ssh://borg@nas/./r", Encryption::RepokeyBlake2, &[PASSPHRASE], Some("passphrase")),
            ("ssh://borg@nas/./r", Encryption::Repokey, &[KEY, KNOWN_HOSTS], Some("ssh-privatekey, known_hosts")),
            ("ssh://borg@nas/./r", Encryption::None, &[PASSPHRASE], None),
            ("/repositories/r", Encryption::Repokey, &[KEY, KNOWN_HOSTS], None),
            ("/repositories/r", Encryption::Authenticated, &[PASSPHRASE], Some("passphrase")),
            ("/repositories/r", Encryption::None, &[PASSPHRASE, KEY, KNOWN_HOSTS], None),
        ];
        for (location, encryption, without, missing) in table {
            let data = full
                .iter()
                .filter(|(key, _)| !without.contains(key))
                .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
                .collect();
            let got = credentials(&repository(location, encryption), data);
            match missing {
                None => assert_eq!(got.unwrap().known_hosts.is_some(), location.starts_with("ssh"), "{location} {encryption:?}"),
                Some(missing) => {
                    let error = got.unwrap_err();
                    assert_eq!(error.reason(), Some(Reason::SecretInvalid));
                    assert!(error.to_string().contains(&format!("has no {missing},")), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_key_that_is_no_text_is_named() {
        let data = BTreeMap::from([(PASSPHRASE.to_owned(), vec![0xff])]);
        let error = credentials(&repository("/repositories/r", Encryption::Repokey), data).unwrap_err();
        assert!(error.to_string().contains("passphrase that is UTF-8"), "{error}");
    }

    #[test]
    fn a_blank_key_is_missing_and_nothing_secret_is_shown() {
        let data = BTreeMap::from([(PASSPHRASE.to_owned(), b" \n".to_vec())]);
        assert!(credentials(&repository("/repositories/r", Encryption::Repokey), data).is_err());
        let data = BTreeMap::from([(PASSPHRASE.to_owned(), b"hunter2".to_vec())]);
        let shown = credentials(&repository("/repositories/r", Encryption::Repokey), data).unwrap();
        assert!(!format!("{shown:?}").contains("hunter2"));
    }
}
