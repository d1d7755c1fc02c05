//! Hooks as people write them, in an annotation or in a Backup. [`super::check`] says what they mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One hook: what is run before the snapshots are cut, and after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookSpec {
    /// Quiesces the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre: Option<ActionSpec>,
    /// Resumes it; at the place of `pre` unless it says otherwise. It must bear repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<ActionSpec>,
    /// Whether a failed pre hook, or a cut that came too late, voids the backup.
    #[serde(default)]
    pub on_error: OnError,
    /// Runs together with those before and after it that are parallel, too.
    #[serde(default)]
    pub parallel: bool,
    /// `true`: pre stays connected with its input open until the thaw. It says the line `ready` once it holds the application still; the words
    /// of post's command are then written to it, one a line, and its input is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<bool>,
    /// `false`: pre runs beside the snapshot; it is awaited after the cut, before anything is archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
    /// In place of a command: pods that the Deployment or StatefulSet is scaled to, and back to what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
}

/// A command and where it is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionSpec {
    /// `pod/x`, `deployment/x`, `statefulset/x`, `daemonset/x` or a label selector.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub place: Option<String>,
    /// Name of the container; absent: the pod's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub container: Option<String>,
    /// In which of the ready pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Pods>,
    /// Program and arguments; no shell is involved unless it is named. Of the post of a session: lines that are written to it.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// After this it is killed: `30s` (the default), `2m`, `1m30s`, at most 10 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub timeout: Option<String>,
}

/// Whether a failed pre hook voids the backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnError {
    /// No snapshot is made, or a late one is deleted.
    #[default]
    Fail,
    /// The snapshot is made all the same and marked as not quiesced.
    Continue,
}

/// In which of the ready pods of a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Pods {
    /// The first by name.
    #[default]
    First,
    /// All that are ready when the freeze begins.
    All,
}
