//! Who wins, what empty means, and what is unknown.

use super::{annotations, ours};
use crate::policy::{Annotations, ArchiveWhen, Key, Origin, Problem, merge, resolve, unknown};

#[test]
fn the_nearest_wins_and_empty_switches_off() {
    let none = None;
    let pvc = |value| Some((value, Origin::Pvc));
    let namespace = |value| Some((value, Origin::Namespace));
    let default = |value| Some((value, Origin::Default));
    let (a, b, c) = (Some("@daily"), Some("@hourly"), Some("@weekly"));
    let empty = Some("");
    for (on_pvc, on_namespace, by_default, expected) in [
        (None, None, None, none),
        (a, None, None, pvc("@daily")),
        (None, b, None, namespace("@hourly")),
        (None, None, c, default("@weekly")),
        (a, b, c, pvc("@daily")),
        (None, b, c, namespace("@hourly")),
        (empty, b, c, none),
        (None, empty, c, none),
        (a, empty, c, pvc("@daily")),
        (None, None, empty, none),
        (Some("  \n"), b, c, none),
        (Some(" @daily\n"), b, c, pvc("@daily")),
    ] {
        let one = |key: &str, value: Option<&str>| value.map(|value| annotations(&[(key, value)])).unwrap_or_default();
        let key = Key::Schedule.annotation();
        let found = merge(&one(key, on_pvc), &one(key, on_namespace), &one("schedule", by_default));
        let found = found.values.get(&Key::Schedule).map(|(value, origin)| (value.as_str(), *origin));
        assert_eq!(found, expected, "{on_pvc:?} {on_namespace:?} {by_default:?}");
    }
}

#[test]
fn each_annotation_is_inherited_by_itself() {
    let namespace = ours(&[("schedule", "@daily"), ("repository", "nas"), ("group", "all")]);
    let defaults = annotations(&[("time-zone", "Europe/Berlin"), ("repository", "in-cluster"), ("compression", "lz4")]);
    let merged = merge(&ours(&[("schedule", "@hourly"), ("group", "")]), &namespace, &defaults);
    let policy = resolve("shop", "db", &merged).unwrap();
    assert_eq!(policy.schedule.unwrap().to_string(), "@hourly");
    assert_eq!(policy.repository.as_deref(), Some("nas"));
    assert_eq!(policy.time_zone, chrono_tz::Tz::Europe__Berlin);
    assert_eq!(policy.compression.as_deref(), Some("lz4"));
    assert_eq!(policy.group, None);
    assert_eq!(merged.origin(Key::Schedule), Some(Origin::Pvc));
    assert_eq!(merged.origin(Key::Repository), Some(Origin::Namespace));
    assert_eq!(merged.origin(Key::Compression), Some(Origin::Default));
    assert_eq!((merged.origin(Key::Group), merged.get(Key::Group)), (None, None));
}

#[test]
fn an_empty_archive_schedule_is_a_value_wherever_it_stands() {
    let empty = ours(&[("archive-schedule", "")]);
    let weekly = ours(&[("archive-schedule", "@weekly")]);
    let none = Annotations::new();
    let archive = |pvc: &Annotations, namespace: &Annotations, defaults: &Annotations| {
        let archive = resolve("shop", "db", &merge(pvc, namespace, defaults)).unwrap().archive;
        match archive {
            ArchiveWhen::EveryBackup => "every".to_owned(),
            ArchiveWhen::Never => "never".to_owned(),
            ArchiveWhen::At(schedule) => schedule.to_string(),
        }
    };
    assert_eq!(archive(&none, &none, &none), "every");
    assert_eq!(archive(&empty, &weekly, &none), "never");
    assert_eq!(archive(&none, &empty, &none), "never");
    assert_eq!(archive(&weekly, &empty, &none), "@weekly");
    assert_eq!(archive(&none, &none, &annotations(&[("archive-schedule", "")])), "never");
}

#[test]
fn annotations_of_others_are_not_ours() {
    let foreign = annotations(&[("schedule", "@daily"), ("example.com/schedule", "@daily"), ("borgherd.dev", "x")]);
    assert!(merge(&foreign, &foreign, &Annotations::new()).values.is_empty());
    assert_eq!(unknown(&foreign, Origin::Pvc), []);
}

#[test]
fn a_typo_is_told_with_what_was_meant() {
    for (written, meant) in [
        ("scheduel", "did you mean borgherd.dev/schedule?"),
        ("Schedule", "did you mean borgherd.dev/schedule?"),
        ("shedule", "did you mean borgherd.dev/schedule?"),
        ("timezone", "did you mean borgherd.dev/time-zone?"),
        ("time_zone", "did you mean borgherd.dev/time-zone?"),
        ("archive-shedule", "did you mean borgherd.dev/archive-schedule?"),
        ("repo", "there are schedule, archive-schedule"),
        ("groups", "did you mean borgherd.dev/group?"),
        ("archive-keeps", "did you mean borgherd.dev/archive-keep?"),
        ("something-else", "there are schedule, archive-schedule"),
        ("", "there are schedule, archive-schedule"),
    ] {
        let problems = unknown(&ours(&[(written, "value")]), Origin::Namespace);
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{written}");
        let begins = format!("borgherd.dev/{written} on the namespace, value 'value': is not known and has no effect; ");
        assert!(told.iter().all(|told| told.starts_with(&begins) && told.contains(meant)), "{told:?}");
    }
    let default = unknown(&annotations(&[("scheduel", "x"), ("schedule", "y"), ("borgherd.dev/schedule", "z")]), Origin::Default);
    let told: Vec<_> = default.iter().map(|problem| problem.annotation.as_str()).collect();
    assert_eq!(told, ["borgherd.dev/schedule", "scheduel"], "defaults have no prefix");
}

#[test]
fn what_is_known_or_our_own_is_no_typo() {
    let known = Key::ALL.map(|key| (key.name(), "x"));
    let own = ["pvc-uid", "cut", "temporary", "scheduled-time"].map(|name| (name, "x"));
    for pairs in [&known[..], &own] {
        assert_eq!(unknown(&ours(pairs), Origin::Pvc), []);
    }
}

#[test]
fn a_problem_is_one_bounded_line() {
    let problem = Problem {
        annotation: "borgherd.dev/exclude".to_owned(),
        origin: Origin::Default,
        value: format!("a\nb\u{1b}[31m\"{}", "x".repeat(5000)),
        message: "is wrong".to_owned(),
    };
    let told = problem.to_string();
    assert!(told.starts_with("borgherd.dev/exclude in the chart's defaults, value 'a\\nb\\u{1b}[31m\"xxx"), "{told}");
    assert!(told.ends_with("x…': is wrong") && told.len() < 200, "{told}");
}
