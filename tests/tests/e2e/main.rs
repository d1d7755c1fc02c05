//! End-to-end tests on a real cluster with the chart installed: `hack/test e2e [NAME…]`. One module a subject.

mod agent_kills;
mod archive_restore;
mod command_line;
mod controller_kills;
mod failures;
mod observability;
mod restores;
mod rights;
mod schedules;
mod slots;
mod support;
mod volumes;
