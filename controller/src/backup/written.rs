//! The policy as it is written down on each snapshot: for people, and for the time when PVC and namespace are gone. Pure.

use borgherd_api::hooks::HookSpec;
use borgherd_api::policy::{Effective, Key};
use std::collections::BTreeMap;

/// An object's annotations may be 256 KiB together; a backup must not fail for this one.
const MOST: usize = 64 * 1024;

/// JSON of the values in force, annotation without prefix to value; `own` are the hooks of the Backup, which count in place of the annotation's.
/// `None`: longer than 64 KiB.
pub(super) fn policy(effective: &Effective, own: Option<&[HookSpec]>) -> Option<String> {
    let mut values: BTreeMap<&str, String> = effective.values.iter().map(|(key, (value, _))| (key.name(), value.clone())).collect();
    match own {
        None => {}
        Some([]) => drop(values.remove(Key::Hooks.name())),
        Some(own) => drop(values.insert(Key::Hooks.name(), serde_json::to_string(own).ok()?)),
    }
    serde_json::to_string(&values).ok().filter(|text| text.len() <= MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgherd_api::policy::Origin;

    fn effective(values: &[(Key, &str)]) -> Effective {
        Effective { values: values.iter().map(|(key, value)| (*key, ((*value).to_owned(), Origin::Pvc))).collect() }
    }

    #[test]
    fn what_is_in_force_is_written_with_the_hooks_that_are_used() {
        let given = effective(&[(Key::Schedule, "@daily"), (Key::Hooks, "[]")]);
        let own = [HookSpec::default()];
        for (own, expected) in [
            (None, r#"{"hooks":"[]","schedule":"@daily"}"#),
            (Some(&own[..0]), r#"{"schedule":"@daily"}"#),
            (Some(&own[..]), r#"{"hooks":"[{\"onError\":\"Fail\",\"parallel\":false}]","schedule":"@daily"}"#),
        ] {
            assert_eq!(policy(&given, own).as_deref(), Some(expected));
        }
        assert_eq!(policy(&effective(&[(Key::Exclude, &"x".repeat(MOST))]), None), None);
    }
}
