//! Annotations with Borgherd's prefix that mean nothing: typos, mostly. They warn; they switch nothing off.

use super::key::{Key, PREFIX};
use super::merge::{Annotations, Origin};
use super::near::near;
use super::problem::Problem;
use crate::names;

/// What Borgherd itself writes as an annotation or a label, and people copy from object to object.
const OWN: &[&str] = &[
    names::TEMPORARY,
    names::TWIN,
    names::TWIN_OF,
    names::IN_FLIGHT,
    names::OWNER_UID,
    names::OWNER,
    names::PVC,
    names::PVC_NAME,
    names::PVC_UID,
    names::TYPE,
    names::CUT,
    names::SCHEDULED_TIME,
    names::OWN_DELETION_POLICY,
    names::VOLUME_FACTS,
    names::NODE_AFFINITY,
    names::POLICY,
    names::GO,
    names::COMPONENT,
    names::SLOTS,
    names::VERSION,
    names::AGENT_POD_UID,
    names::AGENT_POD,
    names::RETAIN,
    names::HOURLY,
    names::DAILY,
    names::WEEKLY,
    names::MONTHLY,
    names::YEARLY,
    names::DELETE_AFTER,
    names::TIERS_AT_BIRTH,
    names::MARKED_AT,
    names::UNMARKED_AT,
    names::SWEPT,
    names::ACKNOWLEDGE,
    names::ACCEPT,
    names::DEBT_FINALIZER,
];

/// One problem for each annotation that looks like Borgherd's and is not. For [`Origin::Default`] every key counts, without prefix.
pub fn unknown(annotations: &Annotations, origin: Origin) -> Vec<Problem> {
    let ours = |key: &str| match origin {
        Origin::Default => Some(key.to_owned()),
        Origin::Pvc | Origin::Namespace => key.strip_prefix(PREFIX).map(str::to_owned),
    };
    let warn = |(key, value): (&String, &String)| {
        let name = ours(key)?;
        (!is_known(&name)).then(|| Problem { annotation: key.clone(), origin, value: value.clone(), message: message(&name, origin) })
    };
    annotations.iter().filter_map(warn).collect()
}

fn is_known(name: &str) -> bool {
    let own = || OWN.iter().any(|own| own.strip_prefix(PREFIX) == Some(name));
    names().any(|known| known == name) || own()
}

/// All that people may write.
fn names() -> impl Iterator<Item = &'static str> {
    Key::ALL.into_iter().map(Key::name)
}

fn message(name: &str, origin: Origin) -> String {
    let prefix = match origin {
        Origin::Default => "",
        Origin::Pvc | Origin::Namespace => PREFIX,
    };
    let meant: Vec<_> = near(name, names()).into_iter().map(|name| format!("{prefix}{name}")).collect();
    if meant.is_empty() {
        let all: Vec<_> = names().collect();
        return format!("is not known and has no effect; there are {}", all.join(", "));
    }
    format!("is not known and has no effect; did you mean {}?", meant.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_module_names_is_known() {
        let source = include_str!("../names.rs");
        let keys = source.split('"').filter(|text| text.starts_with(PREFIX) && text.len() > PREFIX.len());
        let missing: Vec<_> = keys.filter(|key| !OWN.contains(key)).collect();
        assert!(missing.is_empty(), "add to OWN: {missing:?}");
    }
}
