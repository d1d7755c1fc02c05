//! End-to-end tests on a real cluster with the chart installed: `hack/test e2e [NAME…]`. One module a subject.

mod alone;
mod archive_restore;
mod checks;
mod command_line;
mod database;
mod failures;
mod live;
mod live_held;
mod live_more;
mod maintenance;
mod parked;
mod quiesce;
mod quiesce_pods;
mod quiesce_ways;
mod rebind;
mod restores;
mod retention;
mod rights;
mod schedules;
mod support;
mod volumes;
