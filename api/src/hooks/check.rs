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
/// How long pods may take to go or to be ready: longer than the usual grace period.
const SCALE_TIMEOUT: Duration = Duration::from_mins(2);
/// As many pods as something may be scaled to.
const MAX_SCALE: u32 = 1000;

/// How a hook holds an application still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A command, which is awaited.
    #[default]
    Command,
    /// A command that runs beside the snapshot; it has a pre.
    Beside,
    /// A command that lasts until the thaw; it has pre and post at one place, and post's command may be empty.
    Session,
    /// A Deployment or StatefulSet is scaled to so many pods; it has pre and post at one place, both without a command.
    Scale(i32),
}

/// A hook that can be carried out; it has a pre, a post, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// How.
    pub mode: Mode,
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
    /// Program and arguments; not empty, but see [`Mode`].
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
    let mode = mode(session.unwrap_or(false), wait.unwrap_or(true), *scale)?;
    let of_pre = |said| format!("pre: {said}");
    let of_post = |said| format!("post: {said}");
    let (pre, post) = match mode {
        Mode::Scale(_) => {
            let pre = scaled(pre.as_ref(), post.as_ref())?;
            (Some(pre.clone()), Some(pre))
        }
        Mode::Session => {
            let pre = pre.as_ref().ok_or("session: true needs pre, the command that lasts until the thaw")?;
            let pre = action(pre, None).map_err(of_pre)?;
            let post = end_of_session(&pre, post.as_ref()).map_err(of_post)?;
            (Some(pre), Some(post))
        }
        Mode::Beside if pre.is_none() => return Err("wait: false is about pre, and there is none".to_owned()),
        Mode::Command | Mode::Beside => {
            if pre.is_none() && post.is_none() {
                return Err("has neither pre nor post; write pre: {in: deployment/NAME, command: [PROGRAM, ARGUMENT]}".to_owned());
            }
            let pre = pre.as_ref().map(|pre| action(pre, None)).transpose().map_err(of_pre)?;
            let post = post.as_ref().map(|post| action(post, pre.as_ref())).transpose().map_err(of_post)?;
            (pre, post)
        }
    };
    Ok(Hook { mode, pre, post, on_error: *on_error, parallel: *parallel })
}

fn mode(session: bool, wait: bool, scale: Option<u32>) -> Result<Mode, String> {
    match (session, wait, scale) {
        (false, true, None) => Ok(Mode::Command),
        (false, false, None) => Ok(Mode::Beside),
        (true, true, None) => Ok(Mode::Session),
        (false, true, Some(count)) => {
            let count = i32::try_from(count).ok().filter(|_| count <= MAX_SCALE);
            count.map(Mode::Scale).ok_or_else(|| format!("scale: is more than {MAX_SCALE}"))
        }
        (true, _, _) | (false, false, Some(_)) => Err("session: true, wait: false and scale exclude each other: choose one".to_owned()),
    }
}

/// What is scaled: only where and how long it may take is said.
fn scaled(pre: Option<&ActionSpec>, post: Option<&ActionSpec>) -> Result<Action, String> {
    let right = "write pre: {in: deployment/NAME} and scale: 0";
    let ActionSpec { place, container, pods, command, timeout } =
        pre.ok_or_else(|| format!("scale needs pre to say what is scaled; {right}"))?;
    if post.is_some() || container.is_some() || pods.is_some() || !command.is_empty() {
        return Err(format!("scale runs no command and is undone by itself: only in and timeout of pre are of use; {right}"));
    }
    let text = place.as_ref().ok_or_else(|| format!("pre: in is missing; {right}"))?;
    let place = match Place::parse(text).map_err(|said| format!("pre: in: {said}"))? {
        place @ (Place::Deployment(_) | Place::StatefulSet(_)) => place,
        Place::Pod(_) | Place::DaemonSet(_) | Place::Selector(_) => {
            return Err(format!("pre: in: only deployment/NAME and statefulset/NAME can be scaled, not '{text}'"));
        }
    };
    let timeout = timeout.as_deref().map_or(Ok(SCALE_TIMEOUT), checked_timeout).map_err(|said| format!("pre: {said}"))?;
    Ok(Action { place, container: None, pods: Pods::First, command: vec![], timeout })
}

/// What a session is told at the thaw.
fn end_of_session(pre: &Action, post: Option<&ActionSpec>) -> Result<Action, String> {
    let Some(ActionSpec { place, container, pods, command, timeout }) = post else {
        return Ok(Action { command: vec![], timeout: TIMEOUT, ..pre.clone() });
    };
    if place.is_some() || container.is_some() || pods.is_some() {
        return Err("is told to the session of pre, so it has no place of its own: leave in, container and pods out".to_owned());
    }
    if command.iter().any(|line| line.contains('\n')) {
        return Err("command: each of its words is a line for the session; one holds a line break".to_owned());
    }
    let command = if command.is_empty() { vec![] } else { checked_command(command)? };
    Ok(Action { command, timeout: timeout.as_deref().map_or(Ok(TIMEOUT), checked_timeout)?, ..pre.clone() })
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
