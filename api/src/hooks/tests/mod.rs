//! Tests of hooks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod planned;
mod read;
mod shown;

use super::{Hook, parse};

fn hooks(text: &str) -> Vec<Hook> {
    parse(text).unwrap()
}
