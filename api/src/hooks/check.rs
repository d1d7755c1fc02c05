//! What hooks mean: every value checked, places inherited from pre to post.

use super::place::{POSSIBLE, Place, is_name};
use super::span;
use super::spec::{ActionSpec, HookSpec, OnError, Pods};
use std::time::Duration;

/// As many hooks as one list may have.
pub(super) const MAX_HOOKS: usize = 16;
/// As many arguments as a command may have, and characters over all of them: they stand in the Backup's status.
const MAX_ARGUMENTS: usize = 64;
const MAX_COMMAND: usize = 16 * 1024;
/// How long a command may take when nothing else is said, and at most.
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_TIMEOUT: Duration = Duration::from_mins(10);

/// A hook that can be carried out; it has a pre, a post, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Quiesces.
    pub pre: Option<Action>,
    /// Resumes.
    pub post: Option<Action>,
    /// What a failure means.
    pub on_error: OnError,
    /// Together with its parallel neighbours.
    pub parallel: bool,
}

/// A command and where it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// In what.
    pub place: Place,
    /// In which container; `None`: the first.
    pub container: Option<String>,
    /// In which pods.
    pub pods: Pods,
    /// Program and arguments; not empty.
    pub command: Vec<String>,
    /// After this it is killed; whole seconds.
    pub timeout: Duration,
}

/// What `hooks` mean. The message names the hook by its number from 1 and what would be right.
pub fn check(hooks: &[HookSpec]) -> Result<Vec<Hook>, String> {
    if hooks.len() > MAX_HOOKS {
        return Err(format!("has {} hooks, more than {MAX_HOOKS}", hooks.len()));
    }
    (1..).zip(hooks).map(|(number, spec)| hook(spec).map_err(|said: String| format!("hook {number}: {said}"))).collect()
}

fn hook(spec: &HookSpec) -> Result<Hook, String> {
    let HookSpec { pre, post, on_error, parallel, session, wait, scale } = spec;
    let later = |what: &str| Err(format!("{what} is not available yet in this version"));
    match (session, wait, scale) {
        (Some(true), _, _) => return later("session: true"),
        (_, Some(false), _) => return later("wait: false"),
        (_, _, Some(_)) => return later("scale"),
        (_, _, None) => {}
    }
    if pre.is_none() && post.is_none() {
        return Err("has neither pre nor post; write pre: {in: deployment/NAME, command: [PROGRAM, ARGUMENT]}".to_owned());
    }
    let pre_action = pre.as_ref().map(|pre| action(pre, None)).transpose().map_err(|said| format!("pre: {said}"))?;
    let post_action = post.as_ref().map(|post| action(post, pre_action.as_ref())).transpose().map_err(|said| format!("post: {said}"))?;
    Ok(Hook { pre: pre_action, post: post_action, on_error: *on_error, parallel: *parallel })
}

fn action(spec: &ActionSpec, before: Option<&Action>) -> Result<Action, String> {
    let ActionSpec { place, container, pods, command, timeout } = spec;
    let inherited = before.filter(|_| place.is_none());
    let place = match (place, inherited) {
        (Some(text), _) => Place::parse(text).map_err(|said| format!("in: {said}"))?,
        (None, Some(before)) => before.place.clone(),
        (None, None) => return Err(format!("does not say where: in is missing; {POSSIBLE}")),
    };
    if let Some(name) = container.as_deref().filter(|name| !is_name(name)) {
        return Err(format!("container: '{name}' is no name of a container, like 'postgres'"));
    }
    Ok(Action {
        place,
        container: container.clone().or_else(|| inherited.and_then(|before| before.container.clone())),
        pods: pods.or_else(|| inherited.map(|before| before.pods)).unwrap_or_default(),
        command: checked_command(command)?,
        timeout: timeout.as_deref().map_or(Ok(TIMEOUT), checked_timeout)?,
    })
}

fn checked_command(command: &[String]) -> Result<Vec<String>, String> {
    let length: usize = command.iter().map(String::len).sum();
    match command.first() {
        None => Err("command is missing; write it as a list, like [psql, -c, CHECKPOINT]".to_owned()),
        Some(program) if program.is_empty() => Err("command: its first word, the program, is empty".to_owned()),
        Some(_) if command.len() > MAX_ARGUMENTS => Err(format!("command has {} words, more than {MAX_ARGUMENTS}", command.len())),
        Some(_) if length > MAX_COMMAND => Err(format!("command has {length} bytes, more than {MAX_COMMAND}")),
        Some(_) if command.iter().any(|word| word.contains('\0')) => Err("command holds a NUL character".to_owned()),
        Some(_) => Ok(command.to_vec()),
    }
}

/// `30s`, `2m`, `1m30s`.
fn checked_timeout(text: &str) -> Result<Duration, String> {
    let wrong = || format!("timeout: '{text}' is no time from 1s to 10m, like '30s', '2m' or '1m30s'");
    let timeout = Duration::from_secs(span::seconds(text).ok_or_else(wrong)?);
    if timeout.is_zero() || timeout > MAX_TIMEOUT { Err(wrong()) } else { Ok(timeout) }
}
