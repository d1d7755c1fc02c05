//! `completion`: a script for a shell that completes both names of the program.

use crate::args::{self, Completion, NAME, PLUGIN};
use crate::errors::Failure;
use crate::output::Screen;
use clap_complete::{Shell, generate};
use std::path::Path;

/// Prints the script.
pub(crate) fn run(args: &Completion, screen: Screen) -> Result<(), Failure> {
    screen.print(&script(args.shell))
}

/// One script for both names: the plugin's is registered for the same completer, since clap's generators get names with a hyphen
/// wrong.
fn script(shell: Shell) -> String {
    let mut buffer = Vec::new();
    generate(shell, &mut args::command(Path::new(NAME)), NAME, &mut buffer);
    let script = String::from_utf8_lossy(&buffer);
    match shell {
        Shell::Bash => format!("{script}\ncomplete -F _{NAME} -o nosort -o bashdefault -o default {PLUGIN}\n"),
        Shell::Zsh => script
            .replacen(&format!("#compdef {NAME}"), &format!("#compdef {NAME} {PLUGIN}"), 1)
            .replace(&format!("compdef _{NAME} {NAME}\n"), &format!("compdef _{NAME} {NAME} {PLUGIN}\n")),
        Shell::Fish => format!("{script}complete -c {PLUGIN} -w {NAME}\n"),
        Shell::PowerShell => script.replace(&format!("-CommandName '{NAME}'"), &format!("-CommandName '{NAME}', '{PLUGIN}'")),
        Shell::Elvish => format!("{script}\nset edit:completion:arg-completer[{PLUGIN}] = $edit:completion:arg-completer[{NAME}]\n"),
        // clap may learn more shells; they get what it generates.
        _ => script.into_owned(),
    }
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
