//! What a pod tells about where a command runs in it, and the API server about how it ended: the same for controller and command line.

use k8s_openapi::api::core::v1::Pod;
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
