//! What goes wrong, as one or two lines for a person and an exit code for a script.
//!
//! Every failure says what was tried and what is wrong; where something can be done about it, the hint says what.

use kube::Resource;
use kube::core::Status;
use std::error::Error as _;
use std::fmt;

/// Kinds of failure, as scripts tell them apart; the help text lists the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The backup or restore failed, or the cluster refused for a reason of its own.
    Failed,
    /// Wrong usage or input; nothing was changed.
    Invalid,
    /// What should be made is there already: like `Invalid` to a script.
    Exists,
    /// A PVC, a backup, an archive, or Borgherd itself.
    NotFound,
    /// Not allowed, or not recognised.
    Forbidden,
    /// A wait ended before what it waited for.
    TimedOut,
    /// No answer from the API server.
    Unreachable,
    /// Ctrl-C, as shells count it.
    Interrupted,
}

impl Exit {
    /// What the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Invalid | Self::Exists => 2,
            Self::NotFound => 3,
            Self::Forbidden => 4,
            Self::TimedOut => 5,
            Self::Unreachable => 6,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command ends without success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) exit: Exit,
    /// What was tried and what is wrong: one line.
    pub(crate) message: String,
    /// What to do: one line.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: one_line(&message.into()), hint: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Exit::Invalid, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(one_line(&hint.into()));
        self
    }

    /// Ctrl-C where nothing goes on in the cluster.
    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// No answer to a request within the time a request may take.
    pub(crate) fn no_answer(attempt: &Attempt, seconds: u64) -> Self {
        Self::new(Exit::Unreachable, format!("cannot {attempt}: the API server did not answer within {seconds} s")).hint(REACH)
    }

    /// What a request's error means.
    pub(crate) fn of(attempt: &Attempt, error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return of_status(attempt, status);
        }
        if let kube::Error::SerdeError(e) = error {
            let wrong = format!("cannot {attempt}: the cluster's answer is not what this version of borgherd expects: {e}");
            return Self::new(Exit::Failed, wrong).hint("use the borgherd that belongs to the installed chart");
        }
        if let kube::Error::Auth(e) = error {
            return Self::new(Exit::Forbidden, format!("cannot {attempt}: no credentials: {}", innermost(e))).hint(LOG_IN);
        }
        Self::new(Exit::Unreachable, format!("cannot {attempt}: {}", innermost(error))).hint(REACH)
    }
}

const LOG_IN: &str = "log in to the cluster again, or choose another --context";
const REACH: &str = "check `kubectl cluster-info`, --context and --kubeconfig";

/// A request, in the words of RBAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    verb: &'static str,
    /// `backups.borgherd.dev`.
    resource: String,
    group: String,
    kind: String,
    namespace: Option<String>,
    name: Option<String>,
    everywhere: bool,
}

impl Attempt {
    /// `verb` on `K` in a namespace (`None`: all, or none) for one object (`None`: no particular one).
    pub(crate) fn new<K>(verb: &'static str, namespace: Option<&str>, name: Option<&str>) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        let (plural, group) = (K::plural(&()), K::group(&()));
        let resource = if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") };
        Self {
            verb,
            resource,
            group: group.into_owned(),
            kind: K::kind(&()).into_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            everywhere: false,
        }
    }

    /// In all namespaces at once.
    pub(crate) fn everywhere(mut self) -> Self {
        self.everywhere = true;
        self
    }

    fn subject(&self) -> String {
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => format!("{} {namespace}/{name}", self.kind),
            (None, Some(name)) => format!("{} {name}", self.kind),
            (Some(namespace), None) => format!("{} in namespace {namespace}", self.resource),
            (None, None) if self.everywhere => format!("{} in all namespaces", self.resource),
            (None, None) => self.resource.clone(),
        }
    }

    /// The question that shows whether the right is missing.
    fn can_i(&self) -> String {
        let scope = match &self.namespace {
            Some(namespace) => format!(" -n {namespace}"),
            None if self.everywhere => " -A".to_owned(),
            None => String::new(),
        };
        format!("kubectl auth can-i {} {}{scope}", self.verb, self.resource)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.subject())
    }
}

fn of_status(attempt: &Attempt, status: &Status) -> Failure {
    match status.code {
        401 => Failure::new(Exit::Forbidden, format!("cannot {attempt}: the API server does not accept your credentials")).hint(LOG_IN),
        403 => forbidden(attempt, status),
        404 => not_found(attempt, status),
        409 if status.is_already_exists() => Failure::new(Exit::Exists, format!("cannot {attempt}: it exists already")),
        400 | 422 => Failure::invalid(format!("cannot {attempt}: {}", status.message)),
        _ => Failure::new(Exit::Failed, format!("cannot {attempt}: {}", status.message)),
    }
}

/// RBAC's refusals name the user; what an admission policy denies says why in its own words.
fn forbidden(attempt: &Attempt, status: &Status) -> Failure {
    let failure = Failure::new(Exit::Forbidden, format!("not allowed to {attempt}: {}", status.message));
    if status.message.contains("denied request") {
        return failure;
    }
    let instead = if attempt.everywhere { "; or look at one namespace with -n" } else { "" };
    let can_i = attempt.can_i();
    failure.hint(format!("ask for a role that allows `{} {}`; `{can_i}` tells whether it does{instead}", attempt.verb, attempt.resource))
}

/// The path is unknown (no such kind in this cluster), or the object is (then the answer names it).
fn not_found(attempt: &Attempt, status: &Status) -> Failure {
    let details = status.details.as_ref().filter(|d| !d.name.is_empty());
    let Some(details) = details else {
        return no_such_kind(attempt);
    };
    if details.kind == "namespaces" {
        return Failure::new(Exit::NotFound, format!("cannot {attempt}: there is no namespace {}", details.name));
    }
    Failure::new(Exit::NotFound, format!("there is no {}", attempt.subject()))
}

fn no_such_kind(attempt: &Attempt) -> Failure {
    let cannot = |what: &str| Failure::new(Exit::NotFound, format!("cannot {attempt}: {what}"));
    match attempt.group.as_str() {
        borgherd_api::names::GROUP => cannot("Borgherd is not installed in this cluster")
            .hint("install it: helm install borgherd charts/borgherd --namespace borgherd --create-namespace"),
        "snapshot.storage.k8s.io" => cannot("this cluster has no VolumeSnapshots, which Borgherd needs")
            .hint("install the CSI snapshot CRDs and the snapshot controller (kubernetes-csi/external-snapshotter)"),
        _ => cannot("this cluster does not know that kind"),
    }
}

/// The cause that says most: of "client error (Connect)" and the like, the last in the chain.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Whether an error of a watch passes by itself, so that watching goes on.
pub(crate) fn is_transient(error: &kube::runtime::watcher::Error) -> bool {
    let Some(kube::Error::Api(status)) = cause_of_watch(error) else {
        return true;
    };
    status.code >= 500 || matches!(status.code, 408 | 409 | 410 | 429)
}

/// What a watch's error means.
pub(crate) fn of_watch(attempt: &Attempt, error: &kube::runtime::watcher::Error) -> Failure {
    cause_of_watch(error).map_or_else(|| Failure::new(Exit::Failed, format!("cannot {attempt}: {error}")), |e| Failure::of(attempt, e))
}

fn cause_of_watch(error: &kube::runtime::watcher::Error) -> Option<&kube::Error> {
    error.source().and_then(|e| e.downcast_ref::<kube::Error>())
}

/// `text` with its lines joined: answers of servers may hold line breaks.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(|l| l.trim().trim_start_matches("* ")).filter(|l| !l.is_empty());
    lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use borgherd_api::crd::Backup;
    use borgherd_api::crd::snapshot::VolumeSnapshot;
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use serde_json::json;

    fn api(status: serde_json::Value) -> kube::Error {
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    fn shown(failure: &Failure) -> String {
        format!("{:?}: {failure} | {}", failure.exit, failure.hint.as_deref().unwrap_or("-"))
    }

    #[test]
    fn what_the_api_server_answers_becomes_a_sentence_and_a_code() {
        let create = Attempt::new::<Backup>("create", Some("shop"), Some("data"));
        let list = Attempt::new::<Backup>("list", None, None).everywhere();
        let snapshots = Attempt::new::<VolumeSnapshot>("list", Some("shop"), None);
        let get = Attempt::new::<PersistentVolumeClaim>("get", Some("shop"), Some("data"));
        let unknown = json!({"code": 404, "message": "404 page not found", "reason": "Failed to parse error data"});
        let lines: Vec<String> = [
            (&create, json!({"code": 401, "message": "Unauthorized", "reason": "Unauthorized"})),
            (&create, json!({"code": 403, "reason": "Forbidden", "message": "backups.borgherd.dev is forbidden: User \"eve\" cannot create resource \"backups\""})),
            (&create, json!({"code": 403, "reason": "Forbidden", "message": "ValidatingAdmissionPolicy 'hooks' with binding 'hooks' denied request: needs pods/exec"})),
            (&create, unknown.clone()),
            (&list, unknown.clone()),
            (&list, json!({"code": 403, "reason": "Forbidden", "message": "backups.borgherd.dev is forbidden"})),
            (&snapshots, unknown),
            (&get, json!({"code": 404, "reason": "NotFound", "message": "persistentvolumeclaims \"data\" not found", "details": {"name": "data", "kind": "persistentvolumeclaims"}})),
            (&create, json!({"code": 404, "reason": "NotFound", "message": "namespaces \"shop\" not found", "details": {"name": "shop", "kind": "namespaces"}})),
            (&create, json!({"code": 422, "reason": "Invalid", "message": "Backup is invalid:\n* spec.volumes: Too many"})),
            (&create, json!({"code": 500, "reason": "InternalError", "message": "etcdserver: no leader"})),
        ]
        .into_iter()
        .map(|(attempt, status)| shown(&Failure::of(attempt, &api(status))))
        .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn without_an_answer_the_innermost_cause_is_told() {
        let attempt = Attempt::new::<PersistentVolumeClaim>("list", None, None);
        let refused = std::io::Error::other("Connection refused (os error 111)");
        let failure = Failure::of(&attempt, &kube::Error::Service(Box::new(std::io::Error::other(refused))));
        assert_eq!(failure.exit, Exit::Unreachable);
        assert_eq!(failure.message, "cannot list persistentvolumeclaims: Connection refused (os error 111)");
        assert_eq!(Failure::no_answer(&attempt, 30).exit, Exit::Unreachable);
    }

    #[test]
    fn a_watch_goes_on_after_what_passes_by_itself_and_ends_after_what_does_not() {
        use kube::runtime::watcher::Error;
        for (code, goes_on) in [(403, false), (401, false), (404, false), (410, true), (429, true), (500, true), (503, true)] {
            let error = Error::WatchStartFailed(api(json!({"code": code, "message": "m", "reason": "r"})));
            assert_eq!(is_transient(&error), goes_on, "{code}");
        }
        let broken = Error::WatchFailed(kube::Error::Service("connection reset".into()));
        assert!(is_transient(&broken));
    }
}
