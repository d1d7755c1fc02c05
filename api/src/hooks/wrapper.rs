//! What runs in a container that has a shell: the command in a process group of its own, its timer, the watchdog.
//!
//! The text is `wrapper.sh`: POSIX, for dash, busybox and bash alike.

use crate::crd::ActionStatus;
use std::time::Duration;

/// The script.
pub const SCRIPT: &str = include_str!("wrapper.sh");
/// Seconds between TERM and KILL.
pub const GRACE: u32 = 5;
/// Exit code: the command took too long and was killed.
pub const TIMED_OUT: i32 = 124;
/// Exit code: the wrapper itself could not work; nothing was run.
pub const BROKEN: i32 = 125;
/// Exit code of a pre hook that came after the thaw and was not run.
pub const TOO_LATE: i32 = 123;

/// What a session says, on a line of its own, once it holds the application still.
pub const READY: &str = "ready";

/// Argv of a pre hook. With `post` a watchdog runs that one `watch` after now if nobody else has.
pub fn pre(action: &ActionStatus, post: Option<(&ActionStatus, Duration)>) -> Vec<String> {
    let (seconds, owed) = match post {
        // rounded up: never before the deadline that the controller knows
        Some((post, watch)) => (watch.as_secs() + 1, post.command.as_slice()),
        None => (0, [].as_slice()),
    };
    let limit = post.map_or(0, |(post, _)| post.timeout_seconds);
    let mut argv = begin("pre", action);
    argv.extend([seconds.to_string(), limit.to_string(), owed.len().to_string()]);
    argv.extend(owed.iter().chain(&action.command).cloned());
    argv
}

/// Argv of a post hook; the same again is a no-op once it has succeeded.
pub fn post(action: &ActionStatus) -> Vec<String> {
    let mut argv = begin("post", action);
    argv.extend(action.command.iter().cloned());
    argv
}

/// Argv of a session: says the line [`READY`] once it holds, and what it has said after its end. Its input are the lines of `post`; what has
/// not ended by itself `watch` after now is told them by a watchdog.
pub fn session(action: &ActionStatus, post: &ActionStatus, watch: Duration) -> Vec<String> {
    let mut argv = begin("hold", action);
    argv.extend([watch.as_secs() + 1, u64::from(post.timeout_seconds), post.command.len() as u64].map(|number| number.to_string()));
    argv.extend(post.command.iter().chain(&action.command).cloned());
    argv
}

/// Argv that ends a session that nobody is connected to; its exit code is 0 once that is over, whoever has ended it.
pub fn end_session(post: &ActionStatus) -> Vec<String> {
    begin("end", post)
}

/// Argv that tells, by exit code 0, that there is a shell.
pub fn probe() -> Vec<String> {
    ["sh", "-c", ":"].map(str::to_owned).to_vec()
}

fn begin(mode: &str, action: &ActionStatus) -> Vec<String> {
    let words = ["sh", "-c", "eval \"$1\"", "borgherd", SCRIPT, mode, &action.token];
    let mut argv: Vec<String> = words.map(str::to_owned).to_vec();
    argv.extend([action.timeout_seconds.to_string(), GRACE.to_string()]);
    argv
}
