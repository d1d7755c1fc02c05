//! What people write, right and wrong.

use super::hooks;
use crate::hooks::{OnError, Place, Pods, parse};
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
        ("- {pre: {in: pod/x, command: [a]}, session: true}", "hook 1: session: true is not available yet"),
        ("- {pre: {in: pod/x, command: [a]}, wait: false}", "wait: false is not available yet"),
        ("- {pre: {in: pod/x, command: [a]}, scale: 0}", "scale is not available yet"),
        ("- {pre: {in: pod/x, command: [a]}}\n- {post: {in: x, command: [a]}}", "hook 2: post: in: 'x' has no kind"),
    ] {
        let told = parse(text).unwrap_err();
        assert!(told.contains(words), "{text}: {told}");
    }
    let many = "- {pre: {in: pod/x, command: [a]}}\n".repeat(17);
    assert_eq!(parse(&many).unwrap_err(), "has 17 hooks, more than 16");
}
