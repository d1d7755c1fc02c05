//! What a pod tells about where a command runs in it, and the API server about how it ended: the same for controller and command line.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

/// Rule: condition `Ready`; a pod that is being deleted is none to run anything in.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none() && conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// The container named, else the first.
///
/// # Errors
/// There is none of that name: the names that there are.
pub fn container<'a>(pod: &'a Pod, wanted: Option<&str>) -> Result<&'a str, Vec<&'a str>> {
    let names: Vec<&str> = pod.spec.iter().flat_map(|s| &s.containers).map(|c| c.name.as_str()).collect();
    let found = match wanted {
        Some(wanted) => names.iter().find(|name| **name == wanted),
        None => names.first(),
    };
    found.copied().ok_or(names)
}

/// How often a container of the pod has been restarted; `None`: nothing is told of it.
pub fn restarts(pod: &Pod, container: &str) -> Option<i32> {
    told(pod, container).map(|told| told.restart_count)
}

fn told<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    pod.status.as_ref()?.container_statuses.iter().flatten().find(|told| told.name == container)
}

/// Why a container that was held still may be so no longer, if so: `pod` is its pod as it is now, by its name, `uid` the one that it had, and
/// `restarts` how often the container had been restarted by then. What a process holds ends with it, and the next one knows nothing of it.
pub fn has_let_go(pod: Option<&Pod>, uid: &str, container: &str, restarts: i32) -> Option<String> {
    let Some(pod) = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(uid)) else {
        return Some("its pod was deleted while it was held still".to_owned());
    };
    let told = told(pod, container)?;
    if told.restart_count != restarts {
        return Some("the container was restarted while it was held still; see whether a liveness probe ends it".to_owned());
    }
    let has_ended = told.state.as_ref().is_some_and(|state| state.terminated.is_some());
    has_ended.then(|| "the container ended while it was held still".to_owned())
}

/// Exit code of a command; `None`: it was not started. Rule: the API server tells a non-zero exit as Failure with a cause `ExitCode`.
pub fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_ref())?;
    causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode")).and_then(|cause| cause.message.as_ref()?.parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_pod_that_is_ready_and_stays_is_one_to_run_in() {
        for (deleted, condition, status, ready) in [
            (false, "Ready", "True", true),
            (true, "Ready", "True", false),
            (false, "Ready", "False", false),
            (false, "Initialized", "True", false),
        ] {
            let at = deleted.then_some("2026-11-21T10:00:00Z");
            let pod = json!({
                "metadata": {"name": "p", "deletionTimestamp": at},
                "status": {"conditions": [{"type": condition, "status": status}]},
            });
            assert_eq!(is_ready(&serde_json::from_value(pod).unwrap()), ready, "{deleted} {condition} {status}");
        }
    }

    #[test]
    fn the_container_is_the_one_named_or_the_first() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "app"}, {"name": "db"}]}})).unwrap();
        assert_eq!(container(&pod, None), Ok("app"));
        assert_eq!(container(&pod, Some("db")), Ok("db"));
        assert_eq!(container(&pod, Some("web")), Err(vec!["app", "db"]));
        assert_eq!(container(&Pod::default(), None), Err(vec![]));
    }

    #[test]
    fn a_container_that_is_another_process_has_let_go() {
        let pod = |uid: &str, restarts: i32, state: serde_json::Value| -> Pod {
            let app = json!({"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": restarts, "state": state});
            let other = json!({"name": "other", "image": "", "imageID": "", "ready": true, "restartCount": 9});
            serde_json::from_value(json!({"metadata": {"uid": uid}, "status": {"containerStatuses": [other, app]}})).unwrap()
        };
        assert_eq!(restarts(&pod("u", 3, json!({})), "app"), Some(3));
        assert_eq!(restarts(&pod("u", 3, json!({})), "web"), None);
        let running = json!({"running": {"startedAt": "2026-11-21T10:00:00Z"}});
        for (now, word) in [
            (Some(pod("u", 3, running.clone())), None),
            (Some(pod("u", 4, running.clone())), Some("was restarted")),
            (Some(pod("u", 3, json!({"terminated": {"exitCode": 137}}))), Some("ended")),
            (Some(pod("other", 3, running)), Some("was deleted")),
            (None, Some("was deleted")),
        ] {
            let said = has_let_go(now.as_ref(), "u", "app", 3);
            assert_eq!(said.is_some(), word.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(word.unwrap_or_default()), "{word:?}");
        }
    }

    #[test]
    fn the_exit_code_is_a_cause_of_a_failure() {
        for (status, code) in [
            (json!({"status": "Success"}), Some(0)),
            (json!({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}}), Some(3)),
            (json!({"status": "Failure", "message": "no such container"}), None),
            (json!({"status": "Failure", "details": {"causes": [{"reason": "Other", "message": "3"}]}}), None),
        ] {
            assert_eq!(exit_code(&serde_json::from_value(status.clone()).unwrap()), code, "{status}");
        }
    }
}
