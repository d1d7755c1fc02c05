//! The API server is away for 20 s, longer than a leader may stay without its lease, while a live volume is read: the application is held still to
//! the reading's end, and let go.

use crate::live::{HOOKS, WRITER, one, own_borg, restored, slow};
use crate::quiesce::settled;
use anyhow::{Context, Result, ensure};
use borgherd_e2e::{App, World, exclusive};
use std::time::Duration;

#[test]
fn live_a_volume_is_read_on_while_the_api_server_is_away_and_its_application_let_go() -> Result<()> {
    exclusive("live_a_volume_is_read_on_while_the_api_server_is_away_and_its_application_let_go", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        slow(w, Some(HOOKS)).await?;
        let app = w.app(App::new("app").mount("data", "/data").script(WRITER)).await?;
        app.sh("head -c 2000000 /dev/urandom >/data/noise").await?;
        let name = w.backup(&["data"]).await?;
        let (node, agent) = (cluster.node(&app.node), w.agent_on(&app.node).await?);
        let agent = agent.metadata.uid.context("an agent without a UID")?;
        node.process(&agent, &own_borg(w)).await?;
        node.kill(&agent, &own_borg(w), "STOP").await?;
        cluster.signal("apiserver", "STOP").await?;
        let read = node.kill(&agent, &own_borg(w), "CONT").await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let ended = node.pids(&agent, &own_borg(w)).await;
        cluster.signal("apiserver", "CONT").await?;
        read?;
        ensure!(ended?.is_empty(), "borg should have read all while the API server was away");
        let volume = one(w, &name).await?;
        ensure!(volume.attempt == 1 && volume.quiesced == Some(true), "{volume:#?}");
        settled(w, &name).await?;
        let log = app.sh("cat /tmp/log").await?;
        ensure!(log == "freeze\nthaw", "{log}");
        let read = restored(w).await?.sh("cat /data/one /data/two").await?;
        let (first, second) = read.split_once('\n').context("two lines")?;
        ensure!(first == second && !first.is_empty(), "read was {read}");
        Ok(())
    })
}
