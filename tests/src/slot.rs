//! The slots of a node as any other program on it sees them: lock files.

use crate::node::Node;
use crate::wait::{DEADLINE, until_polled};
use crate::world::World;
use anyhow::{Context, Result, ensure};
use borgherd_api::names;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

/// Where the agents keep them, by the chart's defaults.
const FOLDER: &str = "/var/lib/borgherd/slots";

/// A lock file that a program of the test holds; let go on drop.
pub struct Foreign {
    child: Child,
}

impl Foreign {
    /// Lets go, and waits until it is so.
    pub async fn release(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().await?;
        Ok(())
    }
}

impl Node {
    /// Locks a slot as soon as nobody else has it: `flock(1)` on the node.
    pub async fn take_slot(&self, number: usize) -> Result<Foreign> {
        let path = format!("{FOLDER}/{number}.lock");
        // it ends with its standard input: a signal would reach the script around it only
        let script = format!("exec 9>>{path} && flock 9 && echo held && exec cat");
        let mut child = self.spawn(&["sh", "-c", &script])?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let held = tokio::time::timeout(DEADLINE, lines.next_line()).await;
        let said = held.with_context(|| format!("slot {number} of {} is not let go", self.name()))??;
        ensure!(said.as_deref() == Some("held"), "flock on {} did not work: {said:?}", self.name());
        Ok(Foreign { child })
    }

    /// What a shell script says that runs as soon as nobody else has a slot, while it holds it.
    pub async fn once_slot_free(&self, number: usize, script: &str) -> Result<String> {
        let flock = format!("exec 9>>{FOLDER}/{number}.lock && flock 9 && {{ {script}; }}");
        self.sh(&flock).await
    }

    /// Numbers of the slots that somebody holds now.
    pub async fn slots_held(&self) -> Result<Vec<usize>> {
        let script = format!(
            "cd {FOLDER} && for f in *.lock; do [ -e \"$f\" ] || continue; flock --nonblock \"$f\" true || echo \"${{f%.lock}}\"; done"
        );
        self.sh(&script).await?.lines().map(|l| l.parse().context("a slot's number")).collect()
    }
}

impl World {
    /// How many slots the agent of a node says that it has.
    pub async fn slots_of(&self, node: &str) -> Result<usize> {
        let lease: Lease = self.api_own().get(&names::agent_lease(node)).await?;
        let slots = lease.annotations().get(names::SLOTS).context("the agent's Lease says no slots")?;
        Ok(slots.parse()?)
    }

    /// Waits until the agent of a node says that it has so many.
    pub async fn slots_become(&self, node: &str, count: usize) -> Result<()> {
        let what = format!("the agent of {node} has {count} slots");
        until_polled(&what, DEADLINE, async || Ok((self.slots_of(node).await? == count).then_some(()))).await
    }

    /// Takes all slots of a node.
    pub async fn take_slots(&self, node: &Node) -> Result<Vec<Foreign>> {
        let mut taken = Vec::new();
        for number in 1..=self.slots_of(node.name()).await? {
            taken.push(node.take_slot(number).await?);
        }
        Ok(taken)
    }
}
