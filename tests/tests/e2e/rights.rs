//! Who may do what: the rights of both ServiceAccounts as tables, pods under Pod Security, hooks, and what a borg can see.

use anyhow::{Context, Result, ensure};
use borgherd_e2e::{App, BORG_CREATE, Claim, World, test};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectAccessReview};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Secret};
use kube::api::{AttachParams, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::collections::BTreeSet;

const CONTROLLER: &str = "borgherd-controller";
const AGENT: &str = "borgherd-agent";

/// What the controller may do in every namespace, also in applications'.
const CONTROLLER_ANYWHERE: &str = "
    backups.borgherd.dev: create delete get list patch update watch
    backups.borgherd.dev/finalizers: update
    backups.borgherd.dev/status: get patch update
    csidrivers.storage.k8s.io: get
    daemonsets.apps: get
    deployments.apps: get
    deployments.apps/scale: get patch
    events: create patch
    events.events.k8s.io: create patch
    namespaces: get list watch
    persistentvolumeclaims: create get list watch
    persistentvolumes: create delete get list patch update watch
    pods: get list
    pods/exec: create get
    repositories.borgherd.dev: create delete get list patch watch
    repositories.borgherd.dev/status: get patch update
    restores.borgherd.dev: create delete get list patch update watch
    restores.borgherd.dev/finalizers: update
    restores.borgherd.dev/status: get patch update
    statefulsets.apps: get
    statefulsets.apps/scale: get patch
    storageclasses.storage.k8s.io: get list watch
    volumesnapshotclasses.snapshot.storage.k8s.io: get list watch
    volumesnapshotcontents.snapshot.storage.k8s.io: create delete get list patch update watch
    volumesnapshots.snapshot.storage.k8s.io: create delete get list patch update watch
";
/// What it may do in Borgherd's own namespace besides.
const CONTROLLER_OWN: &str = "
    borgruns.borgherd.dev: create delete get list patch update watch
    configmaps: create get list patch update watch
    configmaps borgherd-defaults: get
    leases.coordination.k8s.io: create delete get list patch update watch
    pods: get list watch
";
/// What it may do with clones and their holders.
const CONTROLLER_VOLUMES: &str = "
    events: list
    persistentvolumeclaims: create delete get list patch watch
    pods: create delete get list patch watch
";
/// What an agent may do in Borgherd's own namespace; elsewhere: nothing.
const AGENT_OWN: &str = "
    borgruns.borgherd.dev: get list watch
    borgruns.borgherd.dev/status: get patch update
    configmaps borgherd-defaults: get
    leases.coordination.k8s.io: create get patch update
    secrets: get
";

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

/// A rule of RBAC as `resource.group NAMES: verbs`, one for each group and resource.
fn rules_of(review: SelfSubjectRulesReview) -> BTreeSet<String> {
    let mut table = BTreeSet::new();
    for rule in review.status.map(|s| s.resource_rules).unwrap_or_default() {
        let mut verbs = rule.verbs;
        verbs.sort();
        let names = rule.resource_names.map(|n| format!(" {}", n.join(","))).filter(|n| n.len() > 1).unwrap_or_default();
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.clone().unwrap_or_default() {
                let (resource, sub) = resource.split_once('/').map_or((resource.as_str(), String::new()), |(r, s)| (r, format!("/{s}")));
                let dot = if group.is_empty() { "" } else { "." };
                table.insert(format!("{resource}{dot}{group}{sub}{names}: {}", verbs.join(" ")));
            }
        }
    }
    table
}

/// What every authenticated user may: ask about itself.
fn everybodys(rule: &str) -> bool {
    rule.starts_with("selfsubject")
}

async fn rules(client: &Client, namespace: &str) -> Result<BTreeSet<String>> {
    let reviews: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let table = rules_of(reviews.create(&PostParams::default(), &review).await?);
    Ok(table.into_iter().filter(|r| !everybodys(r)).collect())
}

async fn table_is(client: &Client, who: &str, namespace: &str, wanted: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = wanted.iter().flat_map(|t| lines(t)).collect();
    let found = rules(client, namespace).await?;
    let more: Vec<&String> = found.difference(&wanted).collect();
    let less: Vec<&String> = wanted.difference(&found).collect();
    ensure!(more.is_empty() && less.is_empty(), "{who} in {namespace}: may, and should not: {more:#?}; should, and may not: {less:#?}");
    Ok(())
}

#[test]
fn both_service_accounts_may_do_what_the_table_says_and_nothing_else() -> Result<()> {
    test("both_service_accounts_may_do_what_the_table_says_and_nothing_else", async |w: &World| {
        let (own, volumes) = (w.own_namespace(), w.volumes_namespace());
        let controller = w.as_account(own, CONTROLLER).await?;
        table_is(&controller, CONTROLLER, own, &[CONTROLLER_ANYWHERE, CONTROLLER_OWN]).await?;
        table_is(&controller, CONTROLLER, volumes, &[CONTROLLER_ANYWHERE, CONTROLLER_VOLUMES]).await?;
        let agent = w.as_account(own, AGENT).await?;
        table_is(&agent, AGENT, own, &[AGENT_OWN]).await?;
        table_is(&agent, AGENT, volumes, &[]).await?;
        let holder = w.as_account(volumes, "default").await?;
        for namespace in [w.namespace.as_str(), "kube-system", "default"] {
            table_is(&controller, CONTROLLER, namespace, &[CONTROLLER_ANYWHERE]).await?;
            table_is(&agent, AGENT, namespace, &[]).await?;
            table_is(&holder, "a holder", namespace, &[]).await?;
        }
        never(
            w,
            CONTROLLER,
            &[
                ("get", "secrets", ""),
                ("list", "secrets", ""),
                ("create", "pods", "ephemeralcontainers"),
                ("impersonate", "serviceaccounts", ""),
                ("create", "serviceaccounts", "token"),
                ("get", "nodes", "proxy"),
            ],
        )
        .await?;
        never(
            w,
            AGENT,
            &[
                ("list", "secrets", ""),
                ("watch", "secrets", ""),
                ("create", "pods", ""),
                ("create", "pods", "exec"),
                ("create", "serviceaccounts", "token"),
                ("get", "nodes", "proxy"),
            ],
        )
        .await
    })
}

/// `kubectl auth can-i` with each namespace in turn, and over all of them.
async fn never(w: &World, account: &str, questions: &[(&str, &str, &str)]) -> Result<()> {
    let reviews: Api<SubjectAccessReview> = Api::all(w.client.clone());
    let user = format!("system:serviceaccount:{}:{account}", w.own_namespace());
    for namespace in ["", w.own_namespace(), w.volumes_namespace(), &w.namespace, "kube-system"] {
        for (verb, resource, sub) in questions {
            let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": {
                "user": user, "groups": ["system:serviceaccounts", "system:authenticated"],
                "resourceAttributes": { "verb": verb, "resource": resource, "subresource": sub, "namespace": namespace },
            } });
            let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
            let allowed = answer.status.is_some_and(|s| s.allowed);
            ensure!(!allowed, "{account} may {verb} {resource}/{sub} in namespace {namespace:?}");
        }
    }
    Ok(())
}

fn pod(spec: &serde_json::Value) -> Result<Pod> {
    Ok(serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "e2e-" }, "spec": spec }))?)
}

fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// Creating the pod is refused, and the refusal says `part`.
async fn refused(client: &Client, namespace: &str, spec: &serde_json::Value, part: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match pods.create(&dry(), &pod(spec)?).await {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            ensure!(status.message.contains(part), "in {namespace} it is refused, but not for {part:?}: {}", status.message);
            Ok(())
        }
        other => anyhow::bail!("in {namespace} a pod {spec} should be refused for {part:?}, and the answer is {other:?}"),
    }
}

#[test]
fn the_controller_starts_no_pod_where_secrets_are_and_only_harmless_ones_elsewhere() -> Result<()> {
    test("the_controller_starts_no_pod_where_secrets_are_and_only_harmless_ones_elsewhere", async |w: &World| {
        let controller = w.as_account(w.own_namespace(), CONTROLLER).await?;
        let harmless = json!({
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{ "name": "hold", "image": "x", "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
        });
        for namespace in [w.own_namespace(), &w.namespace, "kube-system", "default"] {
            refused(&controller, namespace, &harmless, "cannot create resource \"pods\"").await?;
        }
        let volumes: Api<Pod> = Api::namespaced(controller.clone(), w.volumes_namespace());
        volumes.create(&dry(), &pod(&harmless)?).await.context("a harmless pod in the volumes' namespace")?;
        for (key, value) in [
            ("hostNetwork", json!(true)),
            ("hostPID", json!(true)),
            ("volumes", json!([{ "name": "host", "hostPath": { "path": "/" } }])),
            ("securityContext", json!({ "runAsUser": 0 })),
        ] {
            let mut spec = harmless.clone();
            spec[key] = value;
            refused(&controller, w.volumes_namespace(), &spec, "violates PodSecurity \"restricted").await?;
        }
        let mut spec = harmless.clone();
        spec["containers"][0]["securityContext"] = json!({ "privileged": true });
        refused(&controller, w.volumes_namespace(), &spec, "violates PodSecurity \"restricted").await?;
        let secrets = w.api_volumes::<Secret>().list(&ListParams::default()).await?;
        ensure!(
            secrets.items.is_empty(),
            "there are Secrets in {}: {:?}",
            w.volumes_namespace(),
            secrets.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
        );
        Ok(())
    })
}

/// Noise, so that borg takes its time to send it at the given rate; and a file of a volume that is not backed up.
const FILES: &str =
    "head -c 6000000 /dev/urandom >/data/noise && mkdir /data/folder && echo x >/data/folder/of-this && echo x >/other/of-another";

/// What the process `$1` sees: its identity and mounts, the processes it can name, and where it finds the files of both volumes.
const LOOK: &str = r#"grep -E '^(Cap(Eff|Prm)|NoNewPrivs|Seccomp):' /proc/$1/status
awk '{ print "mount", $5, $6 }' /proc/$1/mountinfo
for ns in mnt pid; do echo "ns $ns $(readlink /proc/$1/ns/$ns)"; done
cd /proc/$1/root
for p in proc/[0-9]*; do echo "process $(tr '\0' ' ' <$p/cmdline)"; done
find . -path ./proc -prune -o \( -name noise -o -name of-this -o -name of-another -o -name ssh-privatekey -o -name token \) -print 2>/dev/null | sed 's/^/finds /'
true"#;

#[test]
fn a_holder_is_restricted_and_its_borg_sees_its_one_volume_only() -> Result<()> {
    test("a_holder_is_restricted_and_its_borg_sees_its_one_volume_only", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let (_, location) = w.fresh_place("slow").await?;
        let secret = w.credentials("slow", &w.server_credentials().await?).await?;
        let repository = w.repository_with("slow", json!({ "location": location, "secretRef": secret, "rateLimit": 400 })).await?;
        w.claim(Claim::new("data").size("20Mi").annotation("repository", &repository)).await?;
        w.claim(Claim::new("other").size("20Mi")).await?;
        let app = w.app(App::new("app").mount("data", "/data").mount("other", "/other")).await?;
        app.sh(FILES).await?;
        w.pin("data", &app.node).await?;

        let backup = w.backup(&["data"]).await?;
        let node = cluster.node(&app.node);
        let agent = w.agent_on(&app.node).await?.uid().unwrap_or_default();
        // stopped, so that there is time to look
        let borg = node.process(&agent, BORG_CREATE).await?;
        node.kill(&agent, BORG_CREATE, "STOP").await?;
        is_restricted(w, &app.node).await?;
        let inside = node.sh(&LOOK.replace("$1", &borg.to_string())).await?;
        let outside = node.process(&agent, "borgherd-agent run").await?;
        let outside = node.sh(&LOOK.replace("$1", &outside.to_string())).await?;
        node.kill(&agent, BORG_CREATE, "CONT").await?;
        sees_one_volume(&inside, &outside)?;
        w.backup_succeeded(&backup).await.map(drop)
    })
}

fn sees_one_volume(inside: &str, outside: &str) -> Result<()> {
    let lines = |of: &str, start: &str| -> Vec<String> { of.lines().filter_map(|l| l.strip_prefix(start)).map(str::to_owned).collect() };
    for wanted in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        ensure!(inside.lines().any(|l| l == wanted), "{wanted:?} is not so for borg:\n{inside}");
    }
    // CAP_DAC_READ_SEARCH and nothing else
    for set in ["CapEff:\t", "CapPrm:\t"] {
        ensure!(lines(inside, set) == ["0000000000000004"], "borg can do more than read:\n{inside}");
    }
    // the sandbox has no PID namespace of its own (it does not fork): what keeps borg from other processes is the covered /proc and the filter
    ensure!(lines(inside, "ns mnt ") != lines(outside, "ns mnt "), "borg shares its agent's mounts:\n{inside}");
    let found = lines(inside, "finds ");
    let of = |name: &str| found.iter().filter(|p| p.ends_with(name)).count();
    ensure!((of("/noise"), of("/of-this")) == (1, 1), "borg should find the files of its volume once, and finds {found:?}");
    ensure!(of("/of-another") == 0 && of("/token") == 0, "borg sees what is not of its volume: {found:?}");
    let agents = lines(outside, "finds ");
    ensure!(agents.iter().any(|p| p.ends_with("/of-another")), "the other volume is not on this node at all: {agents:?}");
    let folder = found.iter().find_map(|p| p.strip_suffix("/noise")).unwrap_or_default().trim_start_matches('.');
    let mounts = lines(inside, "mount ");
    let volume = mounts.iter().find(|m| m.starts_with(&format!("{folder} "))).with_context(|| format!("no mount {folder}: {mounts:?}"))?;
    ensure!(volume.contains(" ro,"), "the volume can be written to: {volume}");
    let processes = lines(inside, "process ");
    ensure!(!processes.is_empty() && !processes.iter().any(|p| p.contains("agent run")), "borg sees the processes {processes:?}");
    Ok(())
}

/// The pod that holds the clone, as it runs.
async fn is_restricted(w: &World, node: &str) -> Result<()> {
    let on_node = |p: &&Pod| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node);
    let namespace: Namespace = w.api_all().get(w.volumes_namespace()).await?;
    let enforced = namespace.labels().get("pod-security.kubernetes.io/enforce").cloned();
    ensure!(enforced.as_deref() == Some("restricted"), "{} enforces {enforced:?}", w.volumes_namespace());
    let pods = w.api_volumes::<Pod>().list(&ListParams::default()).await?;
    let owner = format!("/{}/", w.namespace);
    let ours = |p: &&Pod| p.annotations().get(borgherd_api::names::OWNER).is_some_and(|o| o.contains(&owner));
    let holder = pods.iter().filter(on_node).find(ours).context("no holder of this test's runs on the node")?;
    let spec: PodSpec = holder.spec.clone().unwrap_or_default();
    ensure!(spec.automount_service_account_token == Some(false), "the holder has a token");
    let of = |v: &k8s_openapi::api::core::v1::Volume| v.persistent_volume_claim.as_ref().map(|c| (c.claim_name.clone(), c.read_only));
    let volumes: Vec<_> = spec.volumes.unwrap_or_default().iter().map(of).collect();
    ensure!(volumes == [Some((holder.name_any(), Some(true)))], "the holder mounts {volumes:?}");
    Ok(())
}

#[test]
fn agents_are_not_privileged() -> Result<()> {
    test("agents_are_not_privileged", async |w: &World| {
        for agent in w.agents().await? {
            let spec = agent.spec.clone().unwrap_or_default();
            let name = agent.name_any();
            ensure!(
                spec.host_pid != Some(true) && spec.host_network != Some(true) && spec.host_ipc != Some(true),
                "{name} shares the host's namespaces"
            );
            ensure!(
                spec.containers.iter().all(|c| c.security_context.as_ref().is_some_and(|s| s.privileged != Some(true))),
                "{name} is privileged"
            );
            let status = w.exec(w.own_namespace(), &name, "agent", &["cat", "/proc/self/status"]).await?.ok("cat")?.text();
            let line = |start: &str| status.lines().find(|l| l.starts_with(start)).unwrap_or_default().to_owned();
            // SYS_ADMIN, DAC_READ_SEARCH, CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP
            let wanted: u64 = [21, 2, 0, 1, 3, 4, 27, 31].iter().map(|bit| 1 << bit).sum();
            ensure!(line("CapBnd") == format!("CapBnd:\t{wanted:016x}"), "{name}: {}", line("CapBnd"));
            ensure!(
                line("NoNewPrivs").ends_with('1') && line("Seccomp:").ends_with('2'),
                "{name}: {} {}",
                line("NoNewPrivs"),
                line("Seccomp:")
            );
            let root = w.exec(w.own_namespace(), &name, "agent", &["touch", "/usr/new"]).await?;
            ensure!(root.code != 0 && root.stderr.contains("Read-only"), "{name} can change its own image: {root:?}");
        }
        Ok(())
    })
}

async fn may(w: &World, user: &str, role: &str, rules: serde_json::Value) -> Result<()> {
    let name = format!("{user}-{role}");
    let api = "rbac.authorization.k8s.io/v1";
    let role = json!({ "apiVersion": api, "kind": "Role", "metadata": { "name": name }, "rules": rules });
    let binding = json!({
        "apiVersion": api, "kind": "RoleBinding", "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    });
    let params = PostParams::default();
    drop(w.api::<k8s_openapi::api::rbac::v1::Role>().create(&params, &serde_json::from_value(role)?).await?);
    drop(w.api::<k8s_openapi::api::rbac::v1::RoleBinding>().create(&params, &serde_json::from_value(binding)?).await?);
    Ok(())
}

async fn annotates(client: &Client, w: &World, key: &str, value: Option<&str>) -> Result<Option<String>> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &w.namespace);
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { key: value } } }));
    match claims.patch("data", &PatchParams::default(), &patch).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn hooks_are_set_only_by_those_who_may_exec() -> Result<()> {
    test("hooks_are_set_only_by_those_who_may_exec", async |w: &World| {
        w.claim(Claim::new("data").size("20Mi")).await?;
        let edit = json!([{ "apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get", "create", "patch"] }]);
        may(w, "alice", "edit", edit.clone()).await?;
        may(w, "bob", "edit", edit).await?;
        may(w, "bob", "exec", json!([{ "apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"] }])).await?;
        let alice = w.as_user("alice", &["system:authenticated"]).await?;
        let bob = w.as_user("bob", &["system:authenticated"]).await?;
        for key in ["borgherd.dev/hooks", "borgherd.dev/database"] {
            let message = annotates(&alice, w, key, Some("x")).await?.with_context(|| format!("alice could set {key}"))?;
            for part in [key, "pods/exec", "alice", &w.namespace] {
                ensure!(message.contains(part), "the refusal should name {part}: {message}");
            }
            ensure!(annotates(&bob, w, key, Some("x")).await?.is_none(), "bob may exec, and could not set {key}");
            ensure!(annotates(&alice, w, "borgherd.dev/suspend", Some("true")).await?.is_none(), "alice could not set another annotation");
            ensure!(annotates(&alice, w, key, Some("y")).await?.is_some(), "alice could change {key}");
            ensure!(annotates(&alice, w, key, None).await?.is_none(), "alice could not take {key} away");
        }
        let scales = "- {pre: {in: deployment/app}, scale: 0}";
        let message =
            annotates(&bob, w, "borgherd.dev/hooks", Some(scales)).await?.context("bob may not scale, and could set hooks that do")?;
        ensure!(message.contains("deployments/scale") && message.contains("bob"), "{message}");
        let scale = json!([{ "apiGroups": ["apps"], "resources": ["deployments/scale", "statefulsets/scale"], "verbs": ["patch"] }]);
        may(w, "bob", "scale", scale).await?;
        ensure!(annotates(&bob, w, "borgherd.dev/hooks", Some(scales)).await?.is_none(), "bob may scale, and could not set hooks that do");
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(alice, &w.namespace);
        let new = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "new", "annotations": { "borgherd.dev/hooks": "x" } },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "20Mi" } } },
        });
        let made = claims.create(&dry(), &serde_json::from_value(new)?).await;
        ensure!(made.is_err_and(|e| e.to_string().contains("pods/exec")), "alice could make a PVC with hooks");
        Ok(())
    })
}

#[test]
fn the_controller_execs_in_applications_pods_and_not_in_borgherds_own() -> Result<()> {
    test("the_controller_execs_in_applications_pods_and_not_in_borgherds_own", async |w: &World| {
        let app = w.app(App::new("app")).await?;
        let controller = w.as_account(w.own_namespace(), CONTROLLER).await?;
        let exec = async |namespace: &str, pod: &str| {
            let pods: Api<Pod> = Api::namespaced(controller.clone(), namespace);
            let mut process = pods.exec(pod, ["true"], &AttachParams::default()).await?;
            let status = process.take_status().context("exec gave no status")?.await;
            ensure!(status.and_then(|s| s.status).as_deref() == Some("Success"), "it did not run in {namespace}/{pod}");
            Ok(())
        };
        exec(&w.namespace, &app.name).await?;
        let agent = w.agents().await?.into_iter().next().context("no agent")?;
        ensure!(exec(w.own_namespace(), &agent.name_any()).await.is_err(), "the controller may run commands in an agent");
        let own: Api<Deployment> = Api::namespaced(controller, w.own_namespace());
        let patch = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
        let answer = own.patch_scale(CONTROLLER, &PatchParams { dry_run: true, ..PatchParams::default() }, &patch).await;
        ensure!(
            answer.as_ref().is_err_and(|e| e.to_string().contains("Borgherd's own namespaces")),
            "scaled in its own namespace: {answer:?}"
        );
        Ok(())
    })
}

/// What a PersistentVolume has to be for the controller to make it.
fn twin(w: &World, change: &[(&str, serde_json::Value)]) -> Result<PersistentVolume> {
    let mut twin = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": w.namespace, "labels": { "borgherd.dev/temporary": "true", "borgherd.dev/twin": "true" }, "annotations": {} },
        "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
            "claimRef": { "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": w.volumes_namespace(), "name": w.namespace },
            "csi": { "driver": "x.csi", "volumeHandle": "v" },
        },
    });
    for (at, value) in change {
        *twin.pointer_mut(at).with_context(|| format!("nothing at {at}"))? = value.clone();
    }
    Ok(serde_json::from_value(twin)?)
}

#[test]
fn the_controller_makes_and_deletes_no_persistent_volumes_but_twins_and_lets_no_storage_go_by_one() -> Result<()> {
    test("the_controller_makes_and_deletes_no_persistent_volumes_but_twins_and_lets_no_storage_go_by_one", async |w: &World| {
        let client = w.as_account(w.own_namespace(), CONTROLLER).await?;
        let volumes: Api<PersistentVolume> = Api::all(client);
        volumes.create(&dry(), &twin(w, &[])?).await.context("a twin")?;
        let host = json!({ "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": { "namespace": w.volumes_namespace(), "name": w.namespace }, "hostPath": { "path": "/" } });
        let mut local = host.clone();
        local["local"] = json!({ "path": "/var/lib" });
        local["nodeAffinity"] =
            json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "x", "operator": "Exists" }] }] } });
        drop(local.as_object_mut().and_then(|spec| spec.remove("hostPath")));
        for (at, value) in [
            ("/metadata/labels", json!({ "borgherd.dev/temporary": "true" })),
            ("/metadata/annotations", json!({ "pv.kubernetes.io/provisioned-by": "x.csi" })),
            ("/spec/persistentVolumeReclaimPolicy", json!("Delete")),
            ("/spec/storageClassName", json!("btrfs")),
            ("/spec/claimRef/namespace", json!(w.namespace)),
            ("/spec/claimRef/name", json!("other")),
            ("/spec/csi/driver", json!("csi.vsphere.vmware.com")),
            ("/spec", host),
            ("/spec", local),
        ] {
            let answer = volumes.create(&dry(), &twin(w, &[(at, value.clone())])?).await;
            ensure!(answer.as_ref().is_err_and(|e| e.to_string().contains("borgherd-twins")), "{at} {value}: {answer:?}");
        }
        let own = w.api_all::<PersistentVolume>().create(&PostParams::default(), &twin(w, &[])?).await?;
        let foreign = twin(w, &[("/metadata/labels", json!({}))])?;
        let foreign = PersistentVolume {
            metadata: kube::api::ObjectMeta { name: Some(format!("{}-foreign", w.namespace)), ..foreign.metadata },
            ..foreign
        };
        let foreign = w.api_all::<PersistentVolume>().create(&PostParams::default(), &foreign).await?;
        let outcome = by_changes(&volumes, &own.name_any(), &foreign.name_any()).await;
        let gone = volumes.delete(&own.name_any(), &DeleteParams::default()).await;
        drop(w.api_all::<PersistentVolume>().delete(&foreign.name_any(), &DeleteParams::default()).await?);
        outcome?;
        gone.map(drop).context("a twin is deleted")
    })
}

/// A twin stays what it is, and what is none becomes none and is not deleted.
async fn by_changes(volumes: &Api<PersistentVolume>, twin: &str, foreign: &str) -> Result<()> {
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    for (name, change) in [
        (twin, json!({ "spec": { "persistentVolumeReclaimPolicy": "Delete" } })),
        (twin, json!({ "metadata": { "labels": { "borgherd.dev/twin": null } } })),
        (twin, json!({ "metadata": { "annotations": { "pv.kubernetes.io/provisioned-by": "x.csi" } } })),
        (foreign, json!({ "metadata": { "labels": { "borgherd.dev/twin": "true" } } })),
    ] {
        let answer = volumes.patch(name, &dry, &Patch::Merge(&change)).await;
        ensure!(answer.as_ref().is_err_and(|e| e.to_string().contains("borgherd-twins")), "{change}: {answer:?}");
    }
    let answer = volumes.delete(foreign, &DeleteParams::default()).await;
    ensure!(answer.as_ref().is_err_and(|e| e.to_string().contains("borgherd-twins")), "deleted: {answer:?}");
    Ok(())
}
