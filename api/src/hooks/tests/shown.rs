//! What may be shown of what commands say.

use crate::hooks::redact;

#[test]
fn what_looks_like_a_credential_is_not_shown() {
    for (said, shown) in [
        ("CHECKPOINT", "CHECKPOINT"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=[hidden]"),
        ("password: my long secret", "password:[hidden]"),
        ("Password for user \"app\": x", "Password for user \"app\":[hidden]"),
        ("connecting to postgres://app:hunter2@db/app now", "connecting to postgres://app:[hidden]@db/app now"),
        ("see https://example.org/a:b", "see https://example.org/a:b"),
        ("-----BEGIN RSA PRIVATE KEY-----", "[hidden]"),
        ("the password was wrong", "the password was wrong"),
        ("one\r\ntwo\u{1b}[0m\n", "one\ntwo[0m"),
    ] {
        assert_eq!(redact(said), shown, "{said}");
    }
}

#[test]
fn only_the_end_of_much_is_shown() {
    let shown = redact(&format!("{}last", "x".repeat(100_000)));
    assert_eq!(shown.chars().count(), 2001);
    assert!(shown.starts_with('…') && shown.ends_with("last"));
}
