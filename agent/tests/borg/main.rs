//! Borg as the agent runs it, against real borg, real sshd and real file systems. The sandbox is left out where nothing rests on it:
//! without it, borg has the same capabilities.
//!
//! Needs root, since owners, capabilities and mounts are part of it, the Debian packages acl, attr, e2fsprogs, libcap2-bin, openssh-server, util-linux,
//! and borg as `hack/borg` installs it. What is missing fails a test, it does not skip it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests: a failed expectation ends them, and they are processes of their own"
)]

mod archive;
mod kill;
mod launcher;
mod maintenance;
mod reading;
mod refuse;
mod restore;
mod server;
mod tree;
mod world;
