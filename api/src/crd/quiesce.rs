//! The account of one freeze in a Backup's status: what was begun, what is owed, what has been paid.

use crate::hooks::OnError;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One freeze of the applications of a Backup. A phase is only entered by a status written with the resourceVersion it was read with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuiesceStatus {
    /// Where it stands.
    #[serde(default)]
    pub phase: QuiescePhase,
    /// Of a live volume: the attempt that it is for, which has a freeze of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When the watchdogs in the containers resume the applications by themselves; a cut seen later is not quiesced.
    pub deadline: DateTime<Utc>,
    /// When the last pre hook had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_at: Option<DateTime<Utc>>,
    /// The freeze limit: post hooks begin by then, cut or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<DateTime<Utc>>,
    /// When the post hooks began: no cut that was seen later is quiesced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<DateTime<Utc>>,
    /// Why they began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// When nothing was owed any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thawed_at: Option<DateTime<Utc>>,
    /// Seconds from the begin of the last pre hooks to that of the first post hooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<f64>,
    /// What went wrong, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// One entry a hook, in their order.
    #[schemars(length(max = 64))]
    pub hooks: Vec<HookStatus>,
}

/// Where a freeze stands; it only moves down this list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum QuiescePhase {
    /// Pre hooks run.
    #[default]
    Freezing,
    /// All have run; the snapshots are being cut, or a live volume is read.
    Frozen,
    /// Post hooks run until all have succeeded.
    Thawing,
    /// Nothing is owed.
    Thawed,
}

/// Why an application was resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Release {
    /// Every snapshot is cut; the reading of a live volume has ended, however.
    Cut,
    /// A pre hook failed.
    HookFailed,
    /// The freeze limit or the watchdogs' deadline has come.
    FreezeLimit,
    /// The controller that ran the pre hooks is gone.
    Interrupted,
    /// The Backup was deleted.
    Deleted,
}

/// One hook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// What it is.
    #[serde(default, skip_serializing_if = "StepKind::is_plain")]
    pub kind: StepKind,
    /// Hooks of the same number run together; groups run in order, post hooks in reverse order.
    pub group: u32,
    /// What a failure means.
    #[serde(default)]
    pub on_error: OnError,
    /// When it was claimed: from then on its post is owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<DateTime<Utc>>,
    /// One entry a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub pre: Vec<ActionStatus>,
    /// One entry a pod: the debt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub post: Vec<ActionStatus>,
}

/// What one entry of the list of hooks is. Only hooks hold an application still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepKind {
    /// A hook whose pre is awaited.
    #[default]
    Hook,
    /// A hook whose pre runs beside the snapshot.
    Beside,
    /// A hook whose pre lasts until the thaw: `pre` has ended once it holds the application still, `post` when it is over.
    Session,
    /// A Deployment or StatefulSet that is scaled.
    Scale,
    /// Looks whether a database can be dumped. `command` has the words of the script.
    Check,
    /// Dumps a database. `command` has the words of the script.
    Dump,
}

impl StepKind {
    /// Whether it holds an application still.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if wants a reference")]
    pub const fn is_hook(&self) -> bool {
        match self {
            Self::Hook | Self::Beside | Self::Session | Self::Scale => true,
            Self::Check | Self::Dump => false,
        }
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if wants a reference")]
    const fn is_plain(&self) -> bool {
        match self {
            Self::Hook => true,
            Self::Beside | Self::Session | Self::Scale | Self::Check | Self::Dump => false,
        }
    }
}

/// What can be scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Workload {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
}

/// How a workload is scaled: to `to` where it has `from` replicas; where it has any other number, somebody else has changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scaling {
    /// What it is.
    pub kind: Workload,
    /// Replicas before.
    pub from: i32,
    /// Replicas after.
    pub to: i32,
}

/// One command in one container, or the scaling of one workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionStatus {
    /// Name of the pod, or of what is scaled.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// Its UID; when that is gone nothing is owed.
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// Name of the container; empty where something is scaled.
    #[schemars(length(max = 63))]
    pub container: String,
    /// How often its container had been restarted when it was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i32>,
    /// In place of a command: how it is scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scaling>,
    /// Whether there is a shell: where there is none, nothing kills a command that takes too long and nothing resumes by itself.
    pub shell: bool,
    /// What makes repetitions of the post hook no-ops in that container.
    #[schemars(length(max = 64))]
    pub token: String,
    /// Program and arguments.
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// After so many seconds it is killed.
    pub timeout_seconds: u32,
    /// How often it was begun.
    #[serde(default)]
    pub attempts: u32,
    /// Not tried again before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// When the last try ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ActionResult>,
    /// What it said or what became of it, bounded, without what looks like a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub output: Option<String>,
}

/// How a command in a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActionResult {
    /// Exit code 0.
    Succeeded,
    /// Any other, or it could not be started.
    Failed,
    /// It took too long and was killed in the container.
    TimedOut,
    /// It took too long or the connection broke, and nothing could kill it: there is no shell.
    MayStillRun,
    /// Its pod is gone, or its session, or somebody else has scaled it: nothing is owed to it.
    Void,
}

impl ActionStatus {
    /// For a post hook: it was resumed, or there is nobody to resume.
    pub const fn is_paid(&self) -> bool {
        match self.result {
            Some(ActionResult::Succeeded | ActionResult::Void) => true,
            Some(ActionResult::Failed | ActionResult::TimedOut | ActionResult::MayStillRun) | None => false,
        }
    }
}

impl HookStatus {
    /// Post hooks that are owed.
    pub fn debts(&self) -> impl Iterator<Item = &ActionStatus> {
        self.post.iter().filter(|post| self.begun_at.is_some() && !post.is_paid())
    }
}

impl QuiesceStatus {
    /// Resumes that are owed.
    pub fn debts(&self) -> usize {
        self.hooks.iter().map(|hook| hook.debts().count()).sum()
    }

    /// Whether a failure voids the backup: any hook says so, or a dump has not succeeded.
    pub fn fails(&self) -> bool {
        let counts = |hook: &HookStatus| hook.kind.is_hook() || hook.pre.iter().any(|pre| pre.result != Some(ActionResult::Succeeded));
        self.hooks.iter().any(|hook| hook.on_error == OnError::Fail && counts(hook))
    }

    /// Whether there are hooks, not only dumps.
    pub fn holds(&self) -> bool {
        self.hooks.iter().any(|hook| hook.kind.is_hook())
    }

    /// Whether a hook has begun: from then on an application may be held still.
    pub fn is_holding(&self) -> bool {
        self.hooks.iter().any(|hook| hook.kind.is_hook() && hook.begun_at.is_some())
    }
}
