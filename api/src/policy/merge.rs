//! Inheritance: the PVC wins over its namespace, the namespace over the chart's defaults; present but empty switches off.

use super::key::Key;
use std::{collections::BTreeMap, fmt};

/// Annotations as Kubernetes has them; for the chart's defaults the same without prefix.
pub type Annotations = BTreeMap<String, String>;

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// On the PVC itself.
    Pvc,
    /// On its namespace.
    Namespace,
    /// In the chart's `defaults`.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pvc => "on the PVC",
            Self::Namespace => "on the namespace",
            Self::Default => "in the chart's defaults",
        })
    }
}

/// The values in force, and where each comes from. What is switched off is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// Never empty, but for `archive-schedule`, where empty means "never".
    pub values: BTreeMap<Key, (String, Origin)>,
}

impl Effective {
    /// The value of `key`.
    pub fn get(&self, key: Key) -> Option<&str> {
        self.values.get(&key).map(|(value, _)| value.as_str())
    }

    /// Where the value of `key` was written.
    pub fn origin(&self, key: Key) -> Option<Origin> {
        self.values.get(&key).map(|(_, origin)| *origin)
    }
}

/// The values in force for one PVC. `defaults` has its keys without prefix. Surrounding white space does not count.
pub fn merge(pvc: &Annotations, namespace: &Annotations, defaults: &Annotations) -> Effective {
    let nearest = |key: Key| {
        let on_pvc = pvc.get(key.annotation()).map(|value| (value, Origin::Pvc));
        let on_namespace = || namespace.get(key.annotation()).map(|value| (value, Origin::Namespace));
        let by_default = || defaults.get(key.name()).map(|value| (value, Origin::Default));
        on_pvc.or_else(on_namespace).or_else(by_default)
    };
    let value = |key: Key| {
        let (value, origin) = nearest(key)?;
        let value = value.trim();
        let counts = !value.is_empty() || key == Key::ArchiveSchedule;
        counts.then(|| (key, (value.to_owned(), origin)))
    };
    Effective { values: Key::ALL.into_iter().filter_map(value).collect() }
}
