//! Tests that kill or reconfigure what all others need: each has the cluster for itself. `hack/test` gives them a cluster of their own.

mod agent_kills;
mod controller_kills;
mod database_kills;
mod deadlines;
mod downtime;
mod forty_days;
mod label_prefix;
mod live_held;
mod live_host;
mod live_kills;
mod maintenance_kills;
mod maintenance_pieces;
mod observability;
mod quiesce_agent;
mod quiesce_kills;
mod quiesce_lost;
mod quiesce_walk;
mod quiesce_walk_scale;
mod slots;
mod without_api_server;
