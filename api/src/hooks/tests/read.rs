//! What people write, right and wrong.

use super::hooks;
use crate::hooks::{Mode, OnError, Place, Pods, parse};
use std::time::Duration;

#[test]
fn everything_written_arrives_and_post_is_at_the_place_of_pre() {
    let read = hooks(
        "- pre: {in: deployment/app-base, container: postgres, pods: All, command: [psql, -c, CHECKPOINT], timeout: 1m30s}\n\
         \x20 post: {command: [resume]}\n\
         \x20 onError: Continue\n\
         \x20 parallel: true\n\
         - post: {in: 'app=db,tier!=cache', command: [sync]}\n",
    );
    let (first, second) = (&read[0], &read[1]);
    let (pre, post) = (first.pre.clone().unwrap(), first.post.clone().unwrap());
    assert_eq!(pre.place, Place::Deployment("app-base".into()));
    assert_eq!((pre.container.as_deref(), pre.pods, pre.timeout), (Some("postgres"), Pods::All, Duration::from_secs(90)));
    assert_eq!(pre.command, ["psql", "-c", "CHECKPOINT"]);
    assert_eq!((&post.place, &post.container, post.pods), (&pre.place, &pre.container, pre.pods));
    assert_eq!((post.timeout, post.command.as_slice()), (Duration::from_secs(30), ["resume".to_owned()].as_slice()));
    assert_eq!((first.on_error, first.parallel), (OnError::Continue, true));
    assert_eq!((second.on_error, second.parallel, &second.pre), (OnError::Fail, false, &None));
    assert_eq!(second.post.clone().unwrap().place, Place::Selector("app=db,tier!=cache".into()));
}

#[test]
fn a_post_elsewhere_does_not_inherit_the_container() {
    let read = hooks("- {pre: {in: pod/a, container: x, command: [a]}, post: {in: pod/b, command: [b]}}");
    let post = read[0].post.clone().unwrap();
    assert_eq!((post.place, post.container), (Place::Pod("b".into()), None));
}

#[test]
fn kinds_are_read_in_singular_and_plural() {
    for (text, place) in [
        ("pod/x", Place::Pod("x".into())),
        ("pods/x", Place::Pod("x".into())),
        ("Deployments/x", Place::Deployment("x".into())),
        ("statefulset/x", Place::StatefulSet("x".into())),
        ("statefulsets/x", Place::StatefulSet("x".into())),
        ("daemonsets/x", Place::DaemonSet("x".into())),
        ("app.kubernetes.io/name=x", Place::Selector("app.kubernetes.io/name=x".into())),
        ("!legacy", Place::Selector("!legacy".into())),
    ] {
        assert_eq!(Place::parse(text), Ok(place), "{text}");
    }
}

#[test]
fn what_cannot_be_is_told_with_what_would_be_right() {
    let possible = "it can be pod/NAME, deployment/NAME, statefulset/NAME, daemonset/NAME or a label selector";
    for (text, words) in [
        ("[", "is no YAML"),
        ("{pre: {}}", "is no list of hooks; each begins with"),
        ("- x", "hook 1: is no mapping; there are pre, post"),
        ("- {}", "hook 1: has neither pre nor post"),
        ("- {pre: {command: [a]}}", "hook 1: pre: does not say where: in is missing; it can be pod/NAME"),
        ("- {pre: {in: job/x, command: [a]}}", possible),
        ("- {pre: {in: app, command: [a]}}", "'app' has no kind"),
        ("- {pre: {in: pod/X, command: [a]}}", "'X' in 'pod/X' is no name of an object"),
        ("- {pre: {in: 'a b=c', command: [a]}}", "is no label selector"),
        ("- {pre: {in: pod/x}}", "hook 1: pre: command is missing; write it as a list"),
        ("- {pre: {in: pod/x, command: sync}}", "expected a sequence"),
        ("- {pre: {in: pod/x, command: ['']}}", "the program, is empty"),
        ("- {pre: {in: pod/x, comand: [a]}}", "hook 1: pre: 'comand' is not known; there is command"),
        ("- {pres: {}}", "hook 1: 'pres' is not known; there is pre"),
        ("- {pre: {in: pod/x, command: [a], timeout: 30}}", "expected a string"),
        ("- {pre: {in: pod/x, command: [a], timeout: '30'}}", "timeout: '30' is no time from 1s to 10m"),
        ("- {pre: {in: pod/x, command: [a], timeout: 11m}}", "no time from 1s to 10m"),
        ("- {pre: {in: pod/x, command: [a], timeout: 0s}}", "no time from 1s to 10m"),
        ("- {pre: {in: pod/x, command: [a], pods: all}}", "expected `First` or `All`"),
        ("- {pre: {in: pod/x, command: [a], container: A}}", "'A' is no name of a container"),
        ("- {pre: {in: pod/x, command: [a]}, onError: Ignore}", "expected `Fail` or `Continue`"),
        ("- {post: {in: pod/x, command: [a]}, session: true}", "session: true needs pre"),
        ("- {pre: {in: pod/x, command: [a]}, post: {in: pod/y, command: [b]}, session: true}", "post: is told to the session of pre"),
        ("- {pre: {in: pod/x, command: [a]}, post: {command: [\"a\\nb\"]}, session: true}", "post: command: each of its words is a line"),
        ("- {post: {in: pod/x, command: [a]}, wait: false}", "wait: false is about pre"),
        ("- {pre: {in: pod/x, command: [a]}, session: true, wait: false}", "exclude each other"),
        ("- {pre: {in: deployment/x}, wait: false, scale: 0}", "exclude each other"),
        ("- {scale: 0}", "scale needs pre to say what is scaled"),
        ("- {pre: {in: deployment/x, command: [a]}, scale: 0}", "scale runs no command"),
        ("- {pre: {in: deployment/x}, post: {in: deployment/x}, scale: 0}", "is undone by itself"),
        ("- {pre: {in: daemonset/x}, scale: 0}", "only deployment/NAME and statefulset/NAME can be scaled, not 'daemonset/x'"),
        ("- {pre: {in: deployment/x}, scale: 1001}", "scale: is more than 1000"),
        ("- {pre: {in: deployment/x}, scale: -1}", "integer `-1`, expected u32"),
        ("- {pre: {in: deployment/x}, \"sc\\x61le\": 0}", "write the word itself"),
        ("- {pre: {in: pod/x, command: [a]}}\n- {post: {in: x, command: [a]}}", "hook 2: post: in: 'x' has no kind"),
    ] {
        let told = parse(text).unwrap_err();
        assert!(told.contains(words), "{text}: {told}");
    }
    let many = "- {pre: {in: pod/x, command: [a]}}\n".repeat(17);
    assert_eq!(parse(&many).unwrap_err(), "has 17 hooks, more than 16");
}

#[test]
fn what_lasts_what_is_beside_and_what_is_scaled() {
    let read = hooks(
        "- {pre: {in: pod/x, container: db, command: [hold]}, session: true}\n\
         - {pre: {in: pod/x, container: db, command: [hold]}, post: {command: [a b, c], timeout: 5s}, session: true}\n\
         - {pre: {in: pod/x, command: [a]}, wait: false}\n\
         - {pre: {in: statefulset/x}, scale: 0}\n\
         - {pre: {in: deployments/x, timeout: 5m}, scale: 2, wait: true, session: false}\n",
    );
    let told: Vec<_> =
        read.iter().map(|hook| (hook.mode, hook.post.as_ref().map(|post| (post.command.join("|"), post.timeout.as_secs())))).collect();
    let post = |command: &str, seconds| Some((command.to_owned(), seconds));
    assert_eq!(
        told,
        [
            (Mode::Session, post("", 30)),
            (Mode::Session, post("a b|c", 5)),
            (Mode::Beside, None),
            (Mode::Scale(0), post("", 120)),
            (Mode::Scale(2), post("", 300))
        ]
    );
    for hook in read.iter().filter(|hook| hook.mode != Mode::Beside) {
        let (pre, post) = (hook.pre.as_ref().unwrap(), hook.post.as_ref().unwrap());
        assert_eq!((&pre.place, &pre.container, pre.pods), (&post.place, &post.container, post.pods));
    }
}
