//! What runs in the container: `database.sh`, POSIX, for dash, busybox and bash alike.

use super::Preset;

/// The script.
pub const SCRIPT: &str = include_str!("database.sh");

/// What the script does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Looks whether a dump can be made; changes nothing.
    Check,
    /// Makes one in place of the last.
    Dump,
    /// Looks whether the dump's file is whole.
    Verify,
    /// Plays the dump's file back.
    Restore,
    /// Prints facts: `server TEXT`, `used PERCENT`, `bytes NUMBER`, `time SECONDS`; the last two where there is a dump.
    Info,
    /// Prints `bytes NUMBER` and `sha256 HEX` of the dump's file.
    Sum,
    /// Prints the dump's file; one more word says from which byte on.
    Read,
    /// Becomes the database's client.
    Shell,
}

impl Mode {
    const fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Dump => "dump",
            Self::Verify => "verify",
            Self::Restore => "restore",
            Self::Info => "info",
            Self::Sum => "sum",
            Self::Read => "read",
            Self::Shell => "shell",
        }
    }
}

/// The script's words: what stands in a status in place of the whole command.
pub fn words(mode: Mode, preset: &Preset) -> Vec<String> {
    let Preset { kind, place: _, container: _, file, space_used_limit, user, password, database, host, args, timeout: _ } = preset;
    let mut words = vec![mode.word().to_owned(), kind.word().to_owned(), file.clone(), space_used_limit.to_string()];
    words.extend([user, password, database, host].map(Clone::clone));
    if mode == Mode::Dump {
        words.extend(args.iter().cloned());
    }
    words
}

/// The whole command of [`words`].
pub fn command(words: &[String]) -> Vec<String> {
    let mut argv: Vec<String> = ["sh", "-c", "eval \"$1\"", "borgherd", SCRIPT].map(str::to_owned).to_vec();
    argv.extend(words.iter().cloned());
    argv
}
