//! A turnstile at the API server: refuses chosen writes of Borgherd's processes, so that a test can stop one of them exactly between
//! two steps. The real API server does it, by a `ValidatingAdmissionPolicy`. Its parameter is a
//! VolumeSnapshotClass that nobody uses: of built-in kinds (ConfigMap) an API server (1.36) does not see the next policy's parameter
//! once the last policy with such a parameter was deleted, and of the custom resources this kind takes any text.
//!
//! Invariant: it is taken away at the end whatever came of the body. It refuses everybody's Borgherd: only in a test that runs alone.

use crate::wait::{DEADLINE, until_polled};
use crate::world::World;
use anyhow::{Context, Result};
use borgherd_api::crd::snapshot::VolumeSnapshotClass;
use http::Request;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, LogParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

/// Policy, binding and parameter.
const NAME: &str = "borgherd-e2e-turnstile";
/// How a refusal begins; the name follows.
const REFUSED: &str = "turnstile closed at";
/// What a closed turnstile is asked in vain to find out that it works.
const PROBE: &str = "CREATE configmaps";

/// What is asked for: a status as `backups Cutting`, anything else as `CREATE pods borgherd-volumes`; a command in a pod as `CONNECT pods NAMESPACE`, a
/// scaling as `UPDATE deployments NAMESPACE`.
const WHAT: &str = "\
(has(request.subResource) && request.subResource == 'status') ? \
  (request.resource.resource + ' ' + (!has(object.status) ? '' \
    : request.resource.resource == 'borgruns' ? object.status.phase \
    : size(object.status.volumes) > 0 ? object.status.volumes[0].phase : '')) \
: (request.operation + ' ' + request.resource.resource + (has(request.namespace) && request.namespace != '' ? ' ' + request.namespace : ''))";

/// What of a freeze is about to be written, as `freeze claimed`: `planned`, `claimed` (pre hooks may run), `ended` (they have), `Frozen`,
/// `Thawing` (post hooks may run), `paid` (they have), `Thawed`.
const FREEZE: &str = "\
(has(request.subResource) && request.subResource == 'status' && request.resource.resource == 'backups' && \
 has(object.status) && has(object.status.quiesce)) ? 'freeze ' + (\
   object.status.quiesce.phase == 'Freezing' ? (\
     object.status.quiesce.hooks.exists(h, has(h.pre) && h.pre.exists(p, has(p.result))) ? 'ended' \
     : object.status.quiesce.hooks.exists(h, has(h.begunAt)) ? 'claimed' : 'planned') \
   : object.status.quiesce.phase == 'Thawing' ? (\
     object.status.quiesce.hooks.exists(h, has(h.post) && h.post.exists(p, has(p.result))) ? 'paid' : 'Thawing') \
   : object.status.quiesce.phase) : 'none'";

/// The turnstile, open until it is closed.
pub struct Turnstile<'a> {
    world: &'a World,
}

impl World {
    /// Runs `body` with a turnstile.
    pub async fn turnstile<T>(&self, body: impl AsyncFnOnce(&Turnstile) -> Result<T>) -> Result<T> {
        let turnstile = Turnstile { world: self };
        let outcome = match turnstile.build().await {
            Ok(()) => body(&turnstile).await,
            Err(error) => Err(error.context("build the turnstile")),
        };
        let removed = turnstile.remove().await.context("remove the turnstile");
        let outcome = outcome?;
        removed?;
        Ok(outcome)
    }
}

impl Turnstile<'_> {
    /// Closes it for `what`, and opens it for all else. Refusals carry `name`.
    pub async fn close(&self, name: &str, what: &[String]) -> Result<()> {
        let object = json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "metadata": { "name": NAME },
            "driver": NAME, "deletionPolicy": "Retain", "parameters": { "name": name, "closed": what.join(",") },
        });
        let params = PatchParams::apply("borgherd-e2e").force();
        drop(self.world.api_all::<VolumeSnapshotClass>().patch(NAME, &params, &Patch::Apply(object)).await?);
        Ok(())
    }

    /// Lets everything through.
    pub async fn open(&self) -> Result<()> {
        self.close("open", &[]).await
    }

    /// Whether a process of this pod's has said that it was refused under `name`.
    pub async fn has_refused(&self, pod: &str, name: &str) -> Result<bool> {
        let log = self.world.api_own::<Pod>().logs(pod, &LogParams::default()).await?;
        Ok(log.contains(&refusal(name)))
    }

    async fn build(&self) -> Result<()> {
        self.close("probe", &[format!("{PROBE} {}", self.world.namespace)]).await?;
        let accounts = format!("system:serviceaccount:{}:borgherd-", self.world.own_namespace());
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": NAME },
            "spec": {
                "failurePolicy": "Fail",
                "paramKind": { "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass" },
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": ["", "apps", "borgherd.dev", "snapshot.storage.k8s.io"], "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE", "DELETE", "CONNECT"],
                    "resources": [
                        "configmaps", "persistentvolumeclaims", "persistentvolumes", "pods", "pods/exec", "volumesnapshots", "volumesnapshotcontents",
                        "deployments/scale", "statefulsets/scale",
                        "backups", "backups/status", "borgruns", "borgruns/status",
                    ],
                }] },
                "matchConditions": [{ "name": "borgherd", "expression": format!("request.userInfo.username.startsWith('{accounts}')") }],
                "variables": [{ "name": "what", "expression": WHAT }, { "name": "freeze", "expression": FREEZE }],
                "validations": [{
                    "expression": "!params.parameters.closed.split(',').exists(c, c == variables.what || c == variables.freeze)",
                    "messageExpression": format!("'{REFUSED} ' + params.parameters.name + ': ' + variables.what + ' ' + variables.freeze"),
                    "reason": "Forbidden",
                }],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": NAME },
            "spec": {
                "policyName": NAME, "validationActions": ["Deny"],
                "paramRef": { "name": NAME, "parameterNotFoundAction": "Allow" },
            },
        });
        let params = PatchParams::apply("borgherd-e2e").force();
        let (policies, bindings) = self.apis();
        drop(policies.patch(NAME, &params, &Patch::Apply(policy)).await?);
        drop(bindings.patch(NAME, &params, &Patch::Apply(binding)).await?);
        until_polled("the turnstile refuses", DEADLINE, async || self.refuses_probe().await).await?;
        self.open().await
    }

    /// Asks as the controller for what is closed, without doing it.
    async fn refuses_probe(&self) -> Result<Option<()>> {
        let namespace = &self.world.namespace;
        let user = format!("system:serviceaccount:{}:borgherd-controller", self.world.own_namespace());
        let body = serde_json::to_vec(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "probe" } }))?;
        let request = Request::post(format!("/api/v1/namespaces/{namespace}/configmaps?dryRun=All"))
            .header("content-type", "application/json")
            .header("impersonate-user", user)
            .header("impersonate-group", "system:masters")
            .body(body)?;
        match self.world.client.request::<ConfigMap>(request).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if status.message.contains(&refusal("probe")) => Ok(Some(())),
            Err(error) => Err(error.into()),
        }
    }

    fn apis(&self) -> (Api<ValidatingAdmissionPolicy>, Api<ValidatingAdmissionPolicyBinding>) {
        (self.world.api_all(), self.world.api_all())
    }

    async fn remove(&self) -> Result<()> {
        let (policies, bindings) = self.apis();
        self.open().await?;
        drop(bindings.delete(NAME, &DeleteParams::default()).await?);
        drop(policies.delete(NAME, &DeleteParams::default()).await?);
        drop(self.world.api_all::<VolumeSnapshotClass>().delete(NAME, &DeleteParams::default()).await?);
        Ok(())
    }
}

fn refusal(name: &str) -> String {
    format!("{REFUSED} {name}: ")
}

impl World {
    /// The one pod of the controller's that is not being deleted.
    pub async fn controller(&self) -> Result<Pod> {
        let mut living = self.controllers().await?.into_iter().filter(|p| p.metadata.deletion_timestamp.is_none());
        let pod = living.next().context("no controller runs")?;
        let more: Vec<String> = living.map(|p| p.name_any()).collect();
        anyhow::ensure!(more.is_empty(), "this test is made for one controller, but there are more: {more:?}");
        Ok(pod)
    }
}
