//! Under which prefix the labels of retention stand on snapshots: Borgherd's own, or that of a program before it whose snapshots go on being
//! retained.

use crate::names::{DAILY, DELETE_AFTER, GROUP, HOURLY, MONTHLY, PVC, RETAIN, TYPE, WEEKLY, YEARLY};
use std::borrow::Cow;
use std::fmt;

/// The labels that stand under it; annotations are always Borgherd's own.
const LABELS: [&str; 9] = [PVC, TYPE, RETAIN, HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY, DELETE_AFTER];

/// A prefix with its slash: `borgherd.dev/`, `backup-ns.sh/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Default for Prefix {
    fn default() -> Self {
        Self(format!("{GROUP}/"))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prefix {
    /// Reads one; the message says what would be right. Rule: the prefix of a label's key, a DNS subdomain; not one of Kubernetes' own.
    pub fn parse(text: &str) -> Result<Self, String> {
        let good = |part: &str| {
            let inner = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            inner && !part.is_empty() && part.len() <= 63 && !part.starts_with('-') && !part.ends_with('-')
        };
        let domain = text.strip_suffix('/').filter(|domain| domain.len() <= 253 && domain.split('.').all(good));
        let Some(domain) = domain else {
            return Err(format!("'{text}' is no prefix of labels; give a domain with a slash behind it, such as borgherd.dev/"));
        };
        let theirs = |owner: &str| domain == owner || domain.ends_with(&format!(".{owner}"));
        if theirs("kubernetes.io") || theirs("k8s.io") {
            return Err(format!("'{text}' is for Kubernetes itself"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The key under which Borgherd's label `own` stands on snapshots.
    pub fn key(&self, own: &'static str) -> Cow<'static, str> {
        match own.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix('/')) {
            Some(name) if LABELS.contains(&own) && *self != Self::default() => Cow::Owned(format!("{}{name}", self.0)),
            Some(_) | None => Cow::Borrowed(own),
        }
    }

    /// Whether `key` stands under it.
    pub fn has(&self, key: &str) -> bool {
        key.starts_with(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;
    use crate::names::CUT;

    #[test]
    fn a_prefix_is_a_domain_with_a_slash() {
        for good in ["borgherd.dev/", "backup-ns.sh/", "x/"] {
            assert_eq!(Prefix::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "/", "backup-ns.sh", "a//", "A/", "a_b/", "-a/", "a..b/", "a/b/", "snapshot.storage.kubernetes.io/", "k8s.io/"] {
            assert!(Prefix::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_stand_under_it_and_annotations_do_not() {
        let theirs = Prefix::parse("backup-ns.sh/").unwrap();
        assert_eq!((theirs.key(DAILY), theirs.key(CUT)), ("backup-ns.sh/daily".into(), "borgherd.dev/cut".into()));
        assert_eq!(Prefix::default().key(DAILY), DAILY);
        assert!(LABELS.iter().all(|own| theirs.has(&theirs.key(own))));
    }
}
