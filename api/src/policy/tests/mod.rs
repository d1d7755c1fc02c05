//! Tests of policies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod borg;
mod excluded;
mod inherited;
mod keep;
mod resolved;
mod scale;

use super::{Annotations, Effective, Policy, Problem, merge, resolve};

fn annotations(pairs: &[(&str, &str)]) -> Annotations {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Annotations with Borgherd's prefix.
fn ours(pairs: &[(&str, &str)]) -> Annotations {
    pairs.iter().map(|(key, value)| (format!("borgherd.dev/{key}"), (*value).to_owned())).collect()
}

fn on_pvc(pairs: &[(&str, &str)]) -> Effective {
    merge(&ours(pairs), &Annotations::new(), &Annotations::new())
}

fn policy(pairs: &[(&str, &str)]) -> Result<Policy, Vec<Problem>> {
    resolve("shop", "db", &on_pvc(pairs))
}

/// The only problem of one annotation, in words.
fn wrong(key: &str, value: &str) -> String {
    let problems = policy(&[("schedule", "@daily"), (key, value)]).err().unwrap_or_default();
    let [problem] = problems.as_slice() else {
        return format!("{} problems", problems.len());
    };
    assert_eq!(problem.annotation, format!("borgherd.dev/{key}"));
    problem.to_string()
}
