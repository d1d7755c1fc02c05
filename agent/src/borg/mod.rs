//! Everything Borgherd knows about borg 1.4: how it is called, what it answers, and what that means for a run.
//!
//! `argv` and `env` say how borg is called, `line`, `transcript` and `answer` read what it says, `outcome` decides what that means: all
//! pure. `call` is the only place that starts a process, `state` and `lock` the only ones that touch files, `execute` puts them in order.
//! Invariant: nothing is a success unless borg said so by exit code 0, and nothing is written into a repository that is not the expected one.

mod answer;
mod argv;
mod call;
mod env;
mod execute;
#[cfg(test)]
mod fixture;
mod job;
mod judge;
mod launch;
mod line;
mod lock;
mod maintenance;
mod message;
mod outcome;
mod reading;
mod record;
mod ssh;
mod state;
mod transcript;

pub use env::host_id;
pub use execute::{execute, make_repository};
pub use job::{Clock, Job, Limits, Places, Report};
pub use launch::{Access, Call, Launch, Process, Running};
