//! `borgherd-controller`: reads its configuration and runs.

use borgherd_controller::config::Config;
use clap::Parser;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    borgherd_runtime::logging::init(config.log_format == "json");
    Box::pin(borgherd_controller::serve::run(config)).await
}
