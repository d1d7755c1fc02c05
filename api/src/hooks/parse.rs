//! The annotation `borgherd.dev/hooks`: YAML, read so that a typo is told and never means something else.

use super::check::{Hook, check};
use super::spec::HookSpec;
use crate::policy::near::near;
use serde_yaml::Value;

/// What a hook may say.
const HOOK: [&str; 7] = ["pre", "post", "onError", "parallel", "session", "wait", "scale"];
/// What its pre and post may say.
const ACTION: [&str; 5] = ["in", "container", "pods", "command", "timeout"];
/// As long as an annotation's worth of hooks may be.
const MAX_TEXT: usize = 64 * 1024;

/// Reads the annotation; the message says what is wrong and what would be right.
pub fn parse(text: &str) -> Result<Vec<Hook>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("is {} bytes long, more than {MAX_TEXT}", text.len()));
    }
    let value: Value = serde_yaml::from_str(text).map_err(|error| format!("is no YAML: {error}"))?;
    let Value::Sequence(items) = value else {
        return Err("is no list of hooks; each begins with '- pre: {in: deployment/NAME, command: [PROGRAM, ARGUMENT]}'".to_owned());
    };
    let read = (1..).zip(items).map(|(number, item)| hook(item).map_err(|said| format!("hook {number}: {said}")));
    let read = read.collect::<Result<Vec<_>, _>>()?;
    // the chart's admission policy asks who sets it for the right to scale by looking for the word
    if read.iter().any(|hook| hook.scale.is_some()) && !text.contains("scale") {
        return Err("writes scale with escapes; write the word itself".to_owned());
    }
    check(&read)
}

fn hook(item: Value) -> Result<HookSpec, String> {
    known(&item, &HOOK)?;
    for part in ["pre", "post"] {
        if let Some(action) = item.get(part) {
            known(action, &ACTION).map_err(|said| format!("{part}: {said}"))?;
        }
    }
    serde_yaml::from_value(item).map_err(|error| error.to_string())
}

/// Every key is one of `names`.
pub(crate) fn known(value: &Value, names: &[&str]) -> Result<(), String> {
    let Value::Mapping(fields) = value else {
        return Err(format!("is no mapping; there are {}", names.join(", ")));
    };
    for key in fields.keys() {
        let key = key.as_str().unwrap_or("a key that is no text");
        if !names.contains(&key) {
            let meant = near(key, names.iter().copied());
            let hint = if meant.is_empty() { names.join(", ") } else { meant.join(" or ") };
            return Err(format!("'{key}' is not known; there is {hint}"));
        }
    }
    Ok(())
}
