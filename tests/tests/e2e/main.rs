//! End-to-end tests on a real cluster with the chart installed: `hack/test e2e [NAME…]`. One module a subject.

mod archive_restore;
mod failures;
mod support;
