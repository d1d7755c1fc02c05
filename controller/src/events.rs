//! Events: what a user acts on or wants to see in `kubectl describe`. Losing one is logged and changes nothing.
//!
//! Each is an object of its own. A recorder that is kept counts up an earlier Event of the same reason instead: with the earlier one's
//! words, and in vain where that one has been deleted.

use borgherd_api::crd::Owner;
use borgherd_api::names::{CONTROLLER, GROUP};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// Publishes Events in the name of the controller.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
}

impl Events {
    /// `instance` is the pod's name.
    pub fn new(client: Client, instance: &str) -> Self {
        Self { client, reporter: Reporter { controller: CONTROLLER.into(), instance: Some(instance.to_owned()) } }
    }

    /// Something went as it should.
    pub async fn normal(&self, about: &ObjectReference, action: &str, reason: &str, note: &str) {
        self.publish(EventType::Normal, about, action, reason, note).await;
    }

    /// Something that a person should look at.
    pub async fn warning(&self, about: &ObjectReference, action: &str, reason: &str, note: &str) {
        self.publish(EventType::Warning, about, action, reason, note).await;
    }

    async fn publish(&self, type_: EventType, about: &ObjectReference, action: &str, reason: &str, note: &str) {
        let note: String = note.chars().take(1000).collect();
        let event = Event { type_, reason: reason.into(), note: Some(note), action: action.into(), secondary: None };
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        if let Err(error) = recorder.publish(&event, about).await {
            tracing::warn!(reason, %error, "could not publish an Event");
        }
    }
}

/// A reference to a Borgherd object, for its Events.
pub fn about<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}

/// A reference to a Backup or Restore, for its Events.
pub fn owner(owner: &Owner) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/v1alpha1")),
        kind: Some(owner.kind.clone()),
        namespace: Some(owner.namespace.clone()),
        name: Some(owner.name.clone()),
        uid: Some(owner.uid.clone()),
        ..ObjectReference::default()
    }
}

/// A reference to a PVC, for its Events.
pub fn pvc(namespace: &str, name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}
