//! The tests' own instruments: a check that cannot fail proves nothing.

use anyhow::{Result, ensure};
use borgherd_e2e::{App, Claim, World, same, test};

/// Changes that a restore could make by mistake, each of one thing.
const CHANGES: [&str; 12] = [
    "chmod u-s mode-4755",
    "chown -h 1001 link",
    "chgrp 0 setgid/inside",
    "touch -d @1 nothing",
    "touch -hd @7 dangling",
    "ln -f owner-1 hard-2",
    "cp --sparse=never sparse x && cat x >sparse",
    "rmdir empty",
    "rm fifo && touch fifo",
    "python3 -c 'import os; os.setxattr(\"xattr\", b\"user.empty\", b\"x\")'",
    "python3 -c 'import os; os.removexattr(\"acl\", b\"system.posix_acl_access\")'",
    "printf X | dd of=large bs=1 seek=4000000 conv=notrunc",
];

#[test]
fn fingerprints_differ_after_any_change() -> Result<()> {
    test("fingerprints_differ_after_any_change", async |w: &World| {
        w.claim(Claim::new("data").size("3Gi")).await?;
        let app = w.app(App::new("app").mount("data", "/data")).await?;
        app.make_awkward_tree("/data/tree").await?;
        let mut before = app.fingerprint("/data/tree").await?;
        same(&before, &app.fingerprint("/data/tree").await?)?;
        for change in CHANGES {
            app.sh(&format!("cd /data/tree && {change}")).await?;
            let after = app.fingerprint("/data/tree").await?;
            ensure!(same(&before, &after).is_err(), "not noticed: {change}");
            before = after;
        }
        Ok(())
    })
}

#[test]
fn exec_tells_output_and_exit_code() -> Result<()> {
    test("exec_tells_output_and_exit_code", async |w: &World| {
        let app = w.app(App::new("app")).await?;
        let output = app.exec(&["sh", "-c", "head -c 3000000 /dev/zero; echo problem >&2; exit 7"]).await?;
        ensure!((output.code, output.stdout.len()) == (7, 3_000_000), "{} and {} bytes", output.code, output.stdout.len());
        ensure!(output.stderr == "problem\n", "stderr: {}", output.stderr);
        ensure!(app.exec(&["/no/such/program"]).await.is_err(), "a program that is not there ran");
        app.stop().await
    })
}

#[test]
fn a_signal_reaches_a_process_of_a_pod() -> Result<()> {
    test("a_signal_reaches_a_process_of_a_pod", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster");
        };
        let app = w.app(App::new("app").script("n=98765; sleep $n & wait; n=12345; exec sleep $n")).await?;
        let node = cluster.node(&app.node);
        node.process(&app.uid, "sleep 98765").await?;
        node.kill(&app.uid, "sleep 98765", "KILL").await?;
        node.process(&app.uid, "sleep 12345").await?;
        ensure!(node.pids(&app.uid, "sleep 98765").await?.is_empty(), "it still runs");
        Ok(())
    })
}
