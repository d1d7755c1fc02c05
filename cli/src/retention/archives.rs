//! What becomes of archives: each PVC's repository is asked by a preview Restore, a few at a time; what fails for one does not keep the others.

use super::{Item, Seen};
use crate::args;
use crate::errors::{Exit, Failure};
use crate::list;
use crate::policy;
use crate::restore;
use crate::session::Session;
use borgherd_api::Reason;
use borgherd_api::crd::{ArchiveVerdict, Judged, Restore, RestoreSource, RestoreSpec, RestoreStatus, RetentionQuestion, SourceKind};
use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use serde::Serialize;
use std::fmt;

/// PVCs that are asked about at once.
const AT_ONCE: usize = 4;

/// Why no archive of a PVC is pruned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Held {
    namespace: String,
    pvc: String,
    reason: Option<Reason>,
    message: String,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, pvc, reason, message } = self;
        let reason = reason.map(|reason| format!("{reason}: ")).unwrap_or_default();
        write!(f, "no archive of {namespace}/{pvc} is pruned: {reason}{message}")
    }
}

/// What came of asking.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) items: Vec<Item>,
    pub(super) held: Vec<Held>,
    /// The first that could not be asked about; all of them are told.
    pub(super) failed: Option<Failure>,
}

/// The PVCs (namespace, name) to ask about: those that are named, else those that say how many archives stay, or, to try another policy, all.
pub(super) fn wanted(seen: &Seen, session: &Session, args: &args::Preview) -> Vec<(String, String)> {
    if !args.pvcs.is_empty() {
        return args.pvcs.iter().map(|pvc| (session.namespace.clone(), pvc.clone())).collect();
    }
    let says = |policy: &Result<borgherd_api::policy::Policy, _>| policy.as_ref().map_or(true, |policy| policy.archive_keep.is_some());
    let claims = seen.claims.iter().filter(|claim| {
        let judged = policy::judge(claim, None, &seen.inherited);
        judged.excluded.is_none() && (args.archive_keep.is_some() || says(&judged.policy))
    });
    let mut all: Vec<(String, String)> = claims.map(|claim| (claim.namespace().unwrap_or_default(), claim.name_any())).collect();
    all.sort();
    all
}

/// Asks about all of them.
pub(super) async fn judge(session: &Session, args: &args::Preview, pvcs: &[(String, String)]) -> Result<Answers, Failure> {
    let asked = stream::iter(pvcs).map(|pvc| async move { (pvc, one(session, args, pvc).await) }).buffered(AT_ONCE);
    let answers: Vec<_> = asked.collect().await;
    let mut all = Answers::default();
    for ((namespace, pvc), answer) in answers {
        match answer {
            Ok(judged) => all.take(namespace, pvc, judged, session),
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            Err(failure) if all.failed.is_none() => all.failed = Some(failure),
            Err(failure) => session.screen.warn(&failure.to_string()),
        }
    }
    Ok(all)
}

impl Answers {
    fn take(&mut self, namespace: &str, pvc: &str, judged: Judged, session: &Session) {
        let Judged { archives, left_out, reason, message } = judged;
        if left_out > 0 {
            session.screen.warn(&format!("{namespace}/{pvc}: the {left_out} oldest archives are left out here"));
        }
        let is_held = message.is_some();
        self.items.extend(archives.into_iter().map(|verdict| item(namespace, pvc, verdict, is_held)));
        let held = message.map(|message| Held { namespace: namespace.to_owned(), pvc: pvc.to_owned(), reason, message });
        self.held.extend(held);
    }
}

fn item(namespace: &str, pvc: &str, verdict: ArchiveVerdict, is_held: bool) -> Item {
    let ArchiveVerdict { name, cut, goes, why } = verdict;
    let fate = match (goes, is_held) {
        (false, _) => "keep",
        (true, true) => "held",
        (true, false) => "prune",
    };
    Item { namespace: namespace.to_owned(), pvc: pvc.to_owned(), snapshot: None, archive: Some(name), cut, fate, why }
}

/// The Restore is deleted whatever happens: answer, failure, timeout or Ctrl-C.
async fn one(session: &Session, args: &args::Preview, (namespace, pvc): &(String, String)) -> Result<Judged, Failure> {
    let preview = session.create(namespace, &question(namespace, pvc, args)).await?;
    let answer = list::answer(session, &preview, args.timeout).await;
    list::clean_up(session, &preview).await;
    let status: RestoreStatus = answer?;
    if let Some(failure) = restore::failure(&status, &format!("judge the archives of {namespace}/{pvc}")) {
        return Err(failure);
    }
    status.judged.ok_or_else(|| Failure::new(Exit::Failed, "Borgherd in the cluster is older than this program: it judges no archives"))
}

fn question(namespace: &str, pvc: &str, args: &args::Preview) -> Restore {
    let source = RestoreSource { pvc: pvc.to_owned(), from: Some(SourceKind::Archive), ..RestoreSource::default() };
    let retention = Some(RetentionQuestion { archive_keep: args.archive_keep.map(|keep| keep.to_string()) });
    Restore {
        metadata: ObjectMeta {
            generate_name: Some("retention-".to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: RestoreSpec { source, target: None, preview: true, retention },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::testing::{Answer, Asked, Server, err, found, list, modified, no, out};
    use borgherd_api::policy::Keep;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn claim(name: &str, keep: Option<&str>) -> Value {
        let annotations = keep.map_or(json!({}), |keep| json!({"borgherd.dev/archive-keep": keep}));
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
            "spec": {"volumeMode": "Filesystem", "volumeName": "v"}, "status": {"phase": "Bound"},
        })
    }

    fn verdict(hour: u32, goes: bool, why: &str) -> Value {
        let cut = format!("2026-11-21T{hour:02}:00:00Z");
        json!({"name": format!("shop_data_2026-11-21T{hour:02}-00-00Z"), "cut": cut, "goes": goes, "why": why})
    }

    /// `data` has `archive-keep`, `other` does not; Borgherd answers about any with `status`.
    fn server(status: &'static str) -> Server {
        Server::new(move |asked: &Asked| {
            let restore = |status: Option<Value>| {
                let metadata = json!({"name": "retention-x", "namespace": "shop", "uid": "u"});
                let spec = json!({"source": {"pvc": "data"}, "preview": true});
                json!({"apiVersion": "borgherd.dev/v1alpha1", "kind": "Restore", "metadata": metadata, "spec": spec, "status": status})
            };
            let answered = || restore(Some(serde_json::from_str(status).unwrap()));
            match (asked.what.split(' ').next().unwrap(), asked.what.rsplit('/').next().unwrap()) {
                ("POST", "restores") => found(restore(None)),
                ("WATCH", "restores") => Answer::Events(vec![modified(&answered())]),
                ("DELETE", _) => found(answered()),
                ("GET", "restores") => list(&[answered()]),
                ("GET", "persistentvolumeclaims") => list(&[claim("data", Some("last=1")), claim("other", None)]),
                ("GET", "volumesnapshots") => list(&[]),
                ("GET", "shop") => found(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})),
                _ => no("configmaps", "borgherd-defaults"),
            }
        })
    }

    fn args(archive_keep: Option<&str>) -> args::Preview {
        let archive_keep = archive_keep.map(|keep| Keep::parse(keep).unwrap());
        let timeout = Duration::from_secs(5);
        args::Preview { pvcs: vec![], all_namespaces: false, keep: None, archives: true, archive_keep, timeout }
    }

    fn judged(more: &Value) -> &'static str {
        let mut judged = json!({"archives": [verdict(6, true, "no tier holds it"), verdict(7, false, "last")]});
        judged.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"phase": "Succeeded", "judged": judged}).to_string().leak()
    }

    fn fates(text: &str) -> Vec<String> {
        let of_archives = text.lines().filter(|line| line.contains("shop_data_"));
        of_archives.map(|line| line.split_whitespace().nth(4).unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn those_that_say_how_many_stay_are_asked_about_and_nothing_is_left_behind() {
        let server = server(judged(&json!({})));
        super::super::run(&server.session, &args(None)).await.unwrap();
        let text = out();
        assert_eq!(fates(&text), ["prune", "keep"], "{text}");
        let asked = server.asked();
        let count = |what: &str| asked.iter().filter(|asked| asked.starts_with(what)).count();
        assert_eq!((count("POST"), count("DELETE")), (1, 1), "{asked:?}");
        let question = server.body_of("POST");
        assert_eq!((&question["spec"]["preview"], &question["spec"]["retention"]), (&json!(true), &json!({})), "{question}");
    }

    #[tokio::test]
    async fn another_policy_is_tried_on_all_and_what_keeps_them_is_said() {
        let held = judged(&json!({"reason": "SuspectArchive", "message": "it lacks most"}));
        let server = server(held);
        super::super::run(&server.session, &args(Some("daily=3"))).await.unwrap();
        let text = out();
        assert_eq!(fates(&text), ["held", "keep", "held", "keep"], "{text}");
        assert!(text.contains("no archive of shop/other is pruned: SuspectArchive: it lacks most"), "{text}");
        assert_eq!(
            server.body_of("POST")["spec"]["retention"]["archiveKeep"],
            json!("last=0,hourly=0,daily=3,weekly=0,monthly=0,yearly=0")
        );
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_an_error_and_what_an_older_controller_says_too() {
        let server = server(r#"{"phase": "Failed", "reason": "ConnectionFailed", "message": "nobody answers"}"#);
        let failure = super::super::run(&server.session, &args(Some("daily=3"))).await.unwrap_err();
        assert!(failure.to_string().contains("shop/data: ConnectionFailed: nobody answers"), "{failure}");
        assert!(err().contains("shop/other"), "the other is told as well");
        let server = self::server(r#"{"phase": "Succeeded"}"#);
        let failure = super::super::run(&server.session, &args(None)).await.unwrap_err();
        assert!(failure.to_string().contains("older"), "{failure}");
    }
}
