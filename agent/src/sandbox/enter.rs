//! The sandbox's own side, in order: read the plan, give everything up, become borg.

use super::SandboxError;
use std::convert::Infallible;
use std::io::Read;
use std::process::ExitCode;

/// Becomes borg as the plan on `stdin` says. Returns only if that failed.
pub fn enter(_stdin: impl Read) -> Result<Infallible, SandboxError> {
    Err(SandboxError::new("enter", "not there yet"))
}

/// Becomes borg, or reports to the parent why not.
pub fn main(stdin: impl Read) -> ExitCode {
    let Err(error) = enter(stdin);
    eprintln!("{}", super::spawn::failure_line(error));
    ExitCode::from(super::EXIT_CODE)
}
