//! Where a hook is run: what may stand after `in:`.

use std::fmt;

/// What `in` may be, for every message about it.
pub(crate) const POSSIBLE: &str = "it can be pod/NAME, deployment/NAME, statefulset/NAME, daemonset/NAME or a label selector like \
                                   app=db,tier!=cache";

/// Where a hook is run, in the Backup's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A pod by name.
    Pod(String),
    /// The pods that a Deployment selects.
    Deployment(String),
    /// The pods that a StatefulSet selects.
    StatefulSet(String),
    /// The pods that a DaemonSet selects.
    DaemonSet(String),
    /// The pods with these labels.
    Selector(String),
}

impl Place {
    /// Reads `in`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains('=') || text.starts_with('!') {
            let is_right = text.split(',').map(str::trim).all(is_requirement);
            let wrong = || format!("'{text}' is no label selector of equalities; {POSSIBLE}");
            return is_right.then(|| Self::Selector(text.to_owned())).ok_or_else(wrong);
        }
        let (kind, name) = text.split_once('/').ok_or_else(|| format!("'{text}' has no kind; {POSSIBLE}"))?;
        if !is_name(name) {
            return Err(format!("'{name}' in '{text}' is no name of an object; {POSSIBLE}"));
        }
        let name = name.to_owned();
        match kind.to_lowercase().as_str() {
            "pod" | "pods" => Ok(Self::Pod(name)),
            "deployment" | "deployments" => Ok(Self::Deployment(name)),
            "statefulset" | "statefulsets" => Ok(Self::StatefulSet(name)),
            "daemonset" | "daemonsets" => Ok(Self::DaemonSet(name)),
            _ => Err(format!("'{kind}' in '{text}' is none of the kinds; {POSSIBLE}")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => write!(f, "pod/{name}"),
            Self::Deployment(name) => write!(f, "deployment/{name}"),
            Self::StatefulSet(name) => write!(f, "statefulset/{name}"),
            Self::DaemonSet(name) => write!(f, "daemonset/{name}"),
            Self::Selector(labels) => f.write_str(labels),
        }
    }
}

/// `key=value`, `key==value`, `key!=value`, `key` or `!key`.
fn is_requirement(text: &str) -> bool {
    if let Some(key) = text.strip_prefix('!') {
        return is_key(key);
    }
    let (key, value) = match text.split_once("!=").or_else(|| text.split_once("==")).or_else(|| text.split_once('=')) {
        Some((key, value)) => (key.trim(), value.trim()),
        None => (text, ""),
    };
    is_key(key) && (value.is_empty() || is_word(value))
}

/// Rule: Kubernetes label keys, an optional DNS subdomain before a word.
fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_name(prefix) && is_word(name),
        None => is_word(text),
    }
}

/// Rule: Kubernetes label values, not empty.
fn is_word(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63 && text.chars().all(is_inner) && is_end(text.chars().next()) && is_end(text.chars().last())
}

/// Rule: DNS subdomain, RFC 1123.
pub(crate) fn is_name(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_label = |label: &str| {
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        label.chars().all(is_inner) && is_end(label.chars().next()) && is_end(label.chars().last())
    };
    text.len() <= 253 && text.split('.').all(is_label)
}
