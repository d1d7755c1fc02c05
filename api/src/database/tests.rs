//! Tests of what people write about databases.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::script::{Mode, words};
use super::{Kind, parse};
use crate::hooks::Place;
use crate::policy::{Annotations, Key, merge, resolve};
use std::time::Duration;

#[test]
fn everything_written_arrives_and_the_rest_has_defaults() {
    let read = parse(
        "- postgres: {in: deployment/app-base, container: postgres, file: /var/lib/postgresql/data/dump.sql.gz}\n\
         - mysql:\n    in: app=db\n    file: /var/lib/mysql/dump.sql.gz\n    spaceUsedLimit: 75%\n    user: $DB_USER\n\
         \x20   password: $DB_PASSWORD\n    database: shop\n    host: db\n    args: [--ignore-table=shop.cache]\n    timeout: 2h\n",
    )
    .unwrap();
    let (first, second) = (&read[0], &read[1]);
    assert_eq!((first.kind, &first.place), (Kind::Postgres, &Place::Deployment("app-base".into())));
    assert_eq!((first.container.as_deref(), first.space_used_limit, first.timeout), (Some("postgres"), 90, Duration::from_mins(30)));
    assert_eq!((first.user.as_str(), first.args.len()), ("", 0));
    assert_eq!((second.kind, second.space_used_limit, second.timeout), (Kind::Mysql, 75, Duration::from_hours(2)));
    let file = "/var/lib/mysql/dump.sql.gz";
    assert_eq!(words(Mode::Check, second), ["check", "mysql", file, "75", "$DB_USER", "$DB_PASSWORD", "shop", "db"]);
    assert_eq!(words(Mode::Dump, second).last().map(String::as_str), Some("--ignore-table=shop.cache"));
    assert_eq!(words(Mode::Dump, first), ["dump", "postgres", "/var/lib/postgresql/data/dump.sql.gz", "90", "", "", "", ""]);
    assert_eq!(parse("postgres: {in: pod/db, file: /a/b.gz}").unwrap().len(), 1, "a single one without a list");
    assert_eq!(parse("[]").unwrap(), []);
}

#[test]
fn what_cannot_be_is_told_with_what_would_be_right() {
    let one = |fields: &str| format!("- postgres: {{in: pod/db, {fields}}}");
    let with = |fields: &str| one(&format!("file: /a/b.gz, {fields}"));
    for (text, words) in [
        ("[".to_owned(), "is no YAML"),
        ("true".to_owned(), "is no list of databases; write - postgres: {in: deployment/NAME, file: /FOLDER/dump.sql.gz}"),
        ("- x".to_owned(), "database 1: is no mapping; there are postgres, mysql"),
        ("- {}".to_owned(), "database 1: says 0 kinds where one is meant"),
        ("- {mysql: {}, postgres: {}}".to_owned(), "says 2 kinds"),
        ("- postgresql: {}".to_owned(), "'postgresql' is not known; there is postgres"),
        ("- mysql: []".to_owned(), "database 1: mysql: is no mapping"),
        ("- mysql: {file: /a/b.gz}".to_owned(), "in is missing; it can be pod/NAME"),
        ("- mysql: {in: db, file: /a/b.gz}".to_owned(), "mysql: in: 'db' has no kind"),
        ("- mysql: {in: pod/db, fil: /a/b.gz}".to_owned(), "'fil' is not known; there is file"),
        (one("container: x"), "file: '' is no absolute path of a compressed file"),
        (one("file: dump.sql.gz"), "no absolute path"),
        (one("file: /a/dump.sql"), "like '/var/lib/postgresql/data/dump.sql.gz'"),
        (one("file: /a/../b.gz"), "no absolute path"),
        (one("file: '/a/*.gz'"), "no absolute path"),
        (one("file: /a/.gz"), "no absolute path"),
        (with("container: X"), "'X' is no name of a container"),
        (with("spaceUsedLimit: 0"), "spaceUsedLimit: is no number of percent from 1 to 100, like 90"),
        (with("spaceUsedLimit: 101%"), "from 1 to 100"),
        (with("spaceUsedLimit: much"), "from 1 to 100"),
        (with("user: $1"), "user: '$1' names no variable"),
        (with("database: \"a\\nb\""), "database: is longer than 512 bytes or holds control characters"),
        (with("args: x"), "expected a sequence"),
        (with("args: [cache]"), "args: 'cache' does not begin with '-'; write an option and its value as one word"),
        (with("args: ['--']"), "'--' does not begin"),
        (with("args: [-x, --password=a]"), "args: word 2 may be a password; say password: $NAME"),
        (with("args: [-psecret]"), "args: word 1 may be a password"),
        (with("timeout: 13h"), "timeout: '13h' is no time from 1s to 12h, like '90s', '30m' or '2h'"),
        (with("timeout: 0s"), "no time from 1s to 12h"),
        (with("onError: Continue"), "'onError' is not known"),
        (
            "- postgres: {in: pod/db, file: /a/b.gz}\n- mysql: {in: pod/db, file: /a/b.gz}".to_owned(),
            "database 2: file: '/a/b.gz' is that of another",
        ),
    ] {
        let told = parse(&text).unwrap_err();
        assert!(told.contains(words), "{text}: {told}");
    }
    let many = "- postgres: {in: pod/x, file: /a/b.gz}\n".repeat(9);
    assert_eq!(parse(&many).unwrap_err(), "has 9 databases, more than 8");
}

#[test]
fn a_password_in_the_annotation_is_refused_and_not_repeated() {
    for text in [
        "- postgres: {in: pod/db, file: /a/b.gz, password: hunter2}",
        "- postgres:\n    in: pod/db\n    file: /a/b.gz\n    password: hunter2\n",
        "- postgres: {in: pod/db, file: /a/b.gz, args: [--password=hunter2]}",
    ] {
        let pvc: Annotations = [(Key::Database.annotation().to_owned(), text.to_owned())].into();
        let problems = resolve("shop", "db", &merge(&pvc, &Annotations::new(), &Annotations::new())).unwrap_err();
        let told = format!("{} {problems:?}", problems[0]);
        assert!(told.contains('$') && told.contains("borgherd.dev/database") && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn where_it_is_written_says_whom_it_concerns() {
    let text: Annotations = [(Key::Database.annotation().to_owned(), "- postgres: {in: pod/db, file: /a/b.gz}".to_owned())].into();
    let none = Annotations::new();
    let own = resolve("shop", "db", &merge(&text, &none, &none)).unwrap().databases;
    let inherited = resolve("shop", "db", &merge(&none, &text, &none)).unwrap().databases;
    assert_eq!((own.inherited, inherited.inherited), (false, true));
    assert_eq!((own.list.len(), own.list), (1, inherited.list));
}
