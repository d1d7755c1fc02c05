//! `completion`: a script for a shell that completes both names of the program.

use crate::args::{self, Completion, NAME, PLUGIN};
use crate::errors::Failure;
use crate::output;
use clap_complete::{Shell, generate};
use std::path::Path;

/// Prints the script.
pub(crate) fn run(args: &Completion) -> Result<(), Failure> {
    output::print(&script(args.shell))
}

/// One script for both names. PowerShell takes `using` only at the top, and once.
fn script(shell: Shell) -> String {
    let mut text = String::new();
    for name in [NAME, PLUGIN] {
        let mut buffer = Vec::new();
        generate(shell, &mut args::command(Path::new(NAME)), name, &mut buffer);
        for line in String::from_utf8_lossy(&buffer).lines() {
            if line.starts_with("using namespace") && text.contains(line) {
                continue;
            }
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::process::Command;

    #[test]
    fn both_names_are_completed_in_every_shell() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let script = script(shell);
            assert!(script.contains(PLUGIN) && script.contains("no-archive"), "{shell}");
        }
        let powershell = script(Shell::PowerShell);
        assert_eq!(powershell.matches("using namespace System.Management.Automation\n").count(), 1);
    }

    #[test]
    fn bash_completes_with_it() {
        for name in [NAME, PLUGIN] {
            let script = script(Shell::Bash);
            let ask = format!(
                "{script}\nCOMP_WORDS=({name} restore --fr); COMP_CWORD=2; f=$(complete -p {name} | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $f {name} --fr restore; echo \"${{COMPREPLY[*]}}\""
            );
            let answer = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "--from", "{name}: {answer:?}");
        }
    }
}
