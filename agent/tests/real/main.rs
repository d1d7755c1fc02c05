//! The sandbox, volumes and secrets with real mounts, processes, ssh and borg. Needs root: each test has a mount namespace of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod life;
mod machine;
mod rights;
mod secrets;
mod ssh;
mod view;
mod volume;
