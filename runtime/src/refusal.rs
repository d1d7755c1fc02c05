//! What the API server says when a request fails, in words for a status or a log line: kube's own text carries its whole debug output.

use kube::runtime::watcher;

/// The message of the API server where it gave one, else what happened on the way.
pub fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("the API server answers {}: {}", status.code, status.message);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The same of a watch.
pub fn words_of_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            words(error)
        }
        watcher::Error::WatchError(status) => format!("the API server answers {}: {}", status.code, status.message),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn the_api_servers_own_words_and_nothing_else() {
        let error = kube::Error::Api(Status::failure("leases is forbidden", "Forbidden").with_code(403).boxed());
        assert_eq!(words(&error), "the API server answers 403: leases is forbidden");
    }

    #[test]
    fn causes_are_named() {
        let cause = std::io::Error::other("connection refused");
        let error = kube::Error::Service(Box::new(cause));
        assert_eq!(words(&error), "ServiceError: connection refused");
    }
}
