//! Applications: a pod with volumes and a shell.

use crate::exec::{Output, exec};
use crate::wait::{DEADLINE, until};
use crate::world::World;
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;

/// Container of an application's pod.
const CONTAINER: &str = "app";

/// A pod to start: root, with the usual capabilities, sleeping unless told otherwise.
#[derive(Clone, Debug)]
pub struct App {
    name: String,
    mounts: Vec<(String, String, bool)>,
    script: String,
    node: Option<String>,
    image: Option<String>,
    env: Vec<(String, String)>,
    probe: Option<String>,
}

impl App {
    /// A pod without volumes that does nothing.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            mounts: Vec::new(),
            script: "exec sleep infinity".into(),
            node: None,
            image: None,
            env: vec![],
            probe: None,
        }
    }

    /// Mounts a PVC.
    #[must_use]
    pub fn mount(mut self, pvc: &str, path: &str) -> Self {
        self.mounts.push((pvc.into(), path.into(), false));
        self
    }

    /// Mounts a PVC read-only.
    #[must_use]
    pub fn mount_read_only(mut self, pvc: &str, path: &str) -> Self {
        self.mounts.push((pvc.into(), path.into(), true));
        self
    }

    /// What it runs, by `sh -c`.
    #[must_use]
    pub fn script(mut self, script: &str) -> Self {
        self.script = script.into();
        self
    }

    /// The node it has to run on.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Another image than the usual one.
    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        self.image = Some(image.into());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A script that ends well once it is ready.
    #[must_use]
    pub fn ready_when(mut self, script: &str) -> Self {
        self.probe = Some(script.into());
        self
    }

    fn manifest(&self, image: &str) -> Value {
        let Self { name, mounts, script, node, image: own_image, env, probe } = self;
        let image = own_image.as_deref().unwrap_or(image);
        let env: Vec<Value> = env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        // Only until it is ready, and never cut short: what a killed probe leaves behind becomes a child of process 1, which PostgreSQL
        // takes for a crash of its own.
        let probe = probe.as_ref().map(
            |script| json!({ "exec": { "command": ["sh", "-c", script] }, "periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 300 }),
        );
        let volumes: Vec<Value> = mounts
            .iter()
            .enumerate()
            .map(|(i, (pvc, _, read_only))| {
                json!({ "name": format!("v{i}"), "persistentVolumeClaim": { "claimName": pvc, "readOnly": read_only } })
            })
            .collect();
        let places: Vec<Value> =
            mounts.iter().enumerate().map(|(i, (_, path, _))| json!({ "name": format!("v{i}"), "mountPath": path })).collect();
        let mut selector = json!({});
        if let Some(node) = node {
            selector["kubernetes.io/hostname"] = node.as_str().into();
        }
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": name } },
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "nodeSelector": selector,
                "securityContext": { "runAsUser": 0, "runAsNonRoot": false },
                "containers": [{
                    "name": CONTAINER, "image": image, "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", script], "volumeMounts": places, "env": env, "startupProbe": probe,
                }],
                "volumes": volumes,
            },
        })
    }
}

/// An application that is ready.
#[derive(Clone)]
pub struct Running {
    /// Its pod.
    pub name: String,
    /// UID of its pod.
    pub uid: String,
    /// Node of its pod.
    pub node: String,
    pods: Api<Pod>,
}

impl World {
    /// Starts an application and waits until it is ready.
    pub async fn app(&self, app: App) -> Result<Running> {
        let pods: Api<Pod> = self.api();
        let params = PatchParams::apply("borgherd-e2e").force();
        drop(pods.patch(&app.name, &params, &Patch::Apply(app.manifest(&self.image))).await?);
        let pod = until(&pods, &app.name, "the application is ready", DEADLINE, |p| p.is_some_and(is_ready)).await?;
        let pod = pod.context("ready and yet absent")?;
        Ok(Running {
            name: app.name,
            uid: pod.uid().unwrap_or_default(),
            node: pod.spec.and_then(|s| s.node_name).unwrap_or_default(),
            pods,
        })
    }
}

/// Rule: condition `Ready` of a pod.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

impl Running {
    /// Runs a shell script in it; an exit code other than 0 is an error.
    pub async fn sh(&self, script: &str) -> Result<String> {
        Ok(self.exec(&["sh", "-c", script]).await?.ok(script)?.text())
    }

    /// Runs a command in it, however it ends.
    pub async fn exec(&self, command: &[&str]) -> Result<Output> {
        self.exec_within(command, Duration::from_mins(5)).await
    }

    /// The same with a deadline.
    pub async fn exec_within(&self, command: &[&str], deadline: Duration) -> Result<Output> {
        exec(&self.pods, &self.name, CONTAINER, command, deadline).await
    }

    /// Deletes the pod and waits until it is gone.
    pub async fn stop(self) -> Result<()> {
        drop(self.pods.delete(&self.name, &DeleteParams::default().grace_period(0)).await?);
        until(&self.pods, &self.name, "the application is gone", DEADLINE, |p| p.is_none()).await?;
        Ok(())
    }
}

impl World {
    /// Runs a command in any pod, e.g. an agent's.
    pub async fn exec(&self, namespace: &str, pod: &str, container: &str, command: &[&str]) -> Result<Output> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        exec(&pods, pod, container, command, DEADLINE).await
    }
}
