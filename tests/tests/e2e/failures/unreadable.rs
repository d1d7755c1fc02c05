//! A file that the storage cannot give: the rest is archived and kept, and nobody takes it for a success.

use super::expect::{Case, all_fail, all_succeed};
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::{Outcome, RestoreSource, SourceKind};
use borgherd_e2e::{App, Claim, World, test};

const CASE: Case = Case {
    outcome: Outcome::Incomplete,
    ..Case::of(
        "data",
        Reason::FilesUnreadable,
        &["lacks files that could not be read", "folder/bad", "Input/output error", "back up again"],
    )
};

#[test]
fn a_file_that_cannot_be_read_leaves_an_archive_of_the_rest_that_is_no_success() -> Result<()> {
    test("a_file_that_cannot_be_read_leaves_an_archive_of_the_rest_that_is_no_success", async |w: &World| {
        let Some(cluster) = w.cluster() else {
            return w.skip("needs the project's own cluster: it damages a file below the file system");
        };
        w.claim(Claim::new("data")).await?;
        w.claim(Claim::new("healthy")).await?;
        let app = w.app(App::new("app").mount("data", "/data").mount("healthy", "/healthy")).await?;
        app.sh("mkdir /data/folder && echo good >/data/folder/good && head -c 1000000 /dev/urandom >/data/folder/bad").await?;
        cluster.damage(&w.volume_handle("data").await?, "folder/bad").await?;

        let failed = all_fail(w, &[CASE], "healthy").await?;
        let archive = failed.first().and_then(|f| f.volume.archive.clone()).context("no archive is named")?;
        let own = [("namespace", w.namespace.as_str()), ("pvc", "data")];
        let success = w.controller_metrics().await?.sum("borgherd_last_success_timestamp_seconds", &own);
        ensure!(success.is_none(), "an incomplete archive counts as a success of {success:?}");
        let listed = w.candidates("data").await?;
        ensure!(listed.iter().any(|c| c.name == archive), "{archive} is not among {listed:#?}");

        let source = RestoreSource { pvc: "data".into(), from: Some(SourceKind::Archive), name: Some(archive), ..RestoreSource::default() };
        let restore = w.restore(source, "restored").await?;
        w.restore_succeeded(&restore).await?;
        let reader = w.app(App::new("reader").mount("restored", "/data")).await?;
        let found = reader.sh("cat /data/folder/good; ls /data/folder").await?;
        ensure!(found == "good\ngood", "of the incomplete archive came back: {found}");

        app.sh("rm /data/folder/bad && echo mended >/data/folder/bad").await?;
        all_succeed(w, &["data"]).await
    })
}
