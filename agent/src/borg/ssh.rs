//! Why there is no connection: ssh's own words, from its log, or from borg, which passes on what the server says.

use borgherd_api::Reason;

/// What a line of ssh (or of the shell on the server) says about a connection that did not come about.
pub(super) fn complaint(line: &str) -> Option<Reason> {
    let says = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if says(&["Host key verification failed", "host key is known for", "REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        return Some(Reason::HostKeyUnknown);
    }
    if says(&[
        "Permission denied (",
        "Too many authentication failures",
        "Load key \"",
        "UNPROTECTED PRIVATE KEY FILE",
        "no such identity",
        "Identity file",
    ]) {
        return Some(Reason::AuthenticationFailed);
    }
    None
}

/// A line worth quoting when the connection failed: not decoration.
pub(super) fn quote(line: &str) -> Option<&str> {
    let line = line.trim();
    let decoration = line.is_empty() || line.starts_with('@');
    (!decoration).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sshs_own_words() {
        let table = [
            ("Remote: Host key verification failed.", Some(Reason::HostKeyUnknown)),
            (
                "Remote: No ED25519 host key is known for [127.0.0.1]:2299 and you have requested strict checking.",
                Some(Reason::HostKeyUnknown),
            ),
            ("Remote: root@127.0.0.1: Permission denied (publickey).", Some(Reason::AuthenticationFailed)),
            ("Remote: Load key \"/k\": error in libcrypto", Some(Reason::AuthenticationFailed)),
            ("Remote: ssh: connect to host 127.0.0.1 port 2298: Connection refused", None),
            ("Remote: bash: line 1: borg: command not found", None),
        ];
        for (line, reason) in table {
            assert_eq!(complaint(line), reason, "{line}");
        }
    }

    #[test]
    fn decoration_is_not_quoted() {
        assert_eq!(quote("@@@@@@"), None);
        assert_eq!(quote("ssh: no route\r"), Some("ssh: no route"));
    }
}
