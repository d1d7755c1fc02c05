//! The one place where Kubernetes' timestamps (jiff) become the calendar's (chrono), and back.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

/// The moment a Kubernetes `Time` names, to the nanosecond. `None` outside chrono's range (some 262,000 years).
pub fn from_k8s(time: &Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.0.as_second(), u32::try_from(time.0.subsec_nanosecond()).ok()?)
}

/// When the API server created `object`.
pub fn created(object: &impl ResourceExt) -> Option<DateTime<Utc>> {
    object.creation_timestamp().as_ref().and_then(from_k8s)
}
