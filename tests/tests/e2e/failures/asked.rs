//! What was asked for is not there: class, Repository, Secret; or a Secret is not the right one.

use super::expect::{Case, all_fail, all_succeed};
use anyhow::{Context, Result};
use borgherd_api::Reason;
use borgherd_e2e::{App, Claim, World, test};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

/// Each fails for a reason of its own, and says what to do.
const CASES: [Case; 7] = [
    Case::of(
        "no-class",
        Reason::SnapshotClassNotFound,
        &["VolumeSnapshotClass no-such-class", "there are: btrfs", "borgherd.dev/snapshot-class"],
    ),
    Case::of("no-repository", Reason::RepositoryNotFound, &["there is no Repository nowhere", "in-cluster", "borgherd.dev/repository"]),
    Case::of(
        "no-secret",
        Reason::SecretNotFound,
        &["no-such-secret", "namespace borgherd", "passphrase, and for ssh ssh-privatekey and known_hosts"],
    ),
    Case::of("no-key", Reason::SecretInvalid, &["has no ssh-privatekey, known_hosts", "add"]),
    Case::of("unknown-host", Reason::HostKeyUnknown, &["known_hosts of Secret", "ssh-keyscan"]),
    Case::of("foreign-key", Reason::AuthenticationFailed, &["allow the key ssh-privatekey of Secret"]),
    Case::of("passphrase", Reason::PassphraseWrong, &["passphrase in Secret", "put the right one there"]),
];

/// Another key than the server's, of the same kind.
const OTHER_HOST_KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIN1yZd9gTZWTaXZa4pEWxYDLtmYDTGYbJgMCcBSwu9Hq";

#[test]
fn what_is_asked_for_and_not_there_fails_with_a_reason_of_its_own_until_it_is_there() -> Result<()> {
    test("what_is_asked_for_and_not_there_fails_with_a_reason_of_its_own_until_it_is_there", async |w: &World| {
        let mut app = App::new("app").mount("healthy", "/healthy");
        w.claim(Claim::new("healthy")).await?;
        for case in &CASES {
            w.claim(Claim::new(case.pvc)).await?;
            app = app.mount(case.pvc, &format!("/{}", case.pvc));
        }
        let app = w.app(app).await?;
        app.sh("for d in healthy no-* unknown-host foreign-key passphrase; do echo data >/$d/file; done").await?;
        prepare(w).await?;
        all_succeed(w, &["passphrase"]).await?;

        spoil(w, &app).await?;
        all_fail(w, &CASES, "healthy").await?;

        mend(w).await?;
        all_succeed(w, &CASES.map(|c| c.pvc)).await
    })
}

/// A Repository for each, all right.
async fn prepare(w: &World) -> Result<()> {
    let right = w.server_credentials().await?;
    for pvc in ["no-secret", "no-key", "unknown-host", "foreign-key", "passphrase"] {
        let (_, location) = w.fresh_place(pvc).await?;
        let secret = w.credentials(pvc, &right).await?;
        let repository = w.repository(pvc, &location, &secret).await?;
        w.annotate::<PersistentVolumeClaim>(pvc, &[("repository", Some(&repository))]).await?;
    }
    Ok(())
}

async fn spoil(w: &World, app: &borgherd_e2e::Running) -> Result<()> {
    let right = w.server_credentials().await?;
    w.annotate::<PersistentVolumeClaim>("no-class", &[("snapshot-class", Some("no-such-class"))]).await?;
    w.annotate::<PersistentVolumeClaim>("no-repository", &[("repository", Some("nowhere"))]).await?;
    let (_, location) = w.fresh_place("no-secret").await?;
    w.repository("no-secret", &location, "no-such-secret").await?;

    let only_passphrase = right.iter().filter(|(key, _)| *key == "passphrase");
    w.credentials("no-key", &only_passphrase.map(|(k, v)| (k.clone(), v.clone())).collect()).await?;

    let mut spoiled = right.clone();
    let known = right.get("known_hosts").context("known_hosts of the chart's server")?;
    let other = |line: &str| line.rsplit_once(' ').map(|(host, _)| format!("{host} {OTHER_HOST_KEY}\n"));
    spoiled.insert("known_hosts".into(), known.lines().filter_map(other).collect());
    w.credentials("unknown-host", &spoiled).await?;

    let mut spoiled = right.clone();
    let key = app.sh("ssh-keygen -q -t ed25519 -N '' -f /tmp/key && cat /tmp/key").await?;
    spoiled.insert("ssh-privatekey".into(), format!("{key}\n"));
    w.credentials("foreign-key", &spoiled).await?;

    let mut spoiled = right;
    spoiled.insert("passphrase".into(), "not-the-right-one-at-all".into());
    w.credentials("passphrase", &spoiled).await?;
    Ok(())
}

async fn mend(w: &World) -> Result<()> {
    w.annotate::<PersistentVolumeClaim>("no-class", &[("snapshot-class", None)]).await?;
    w.annotate::<PersistentVolumeClaim>("no-repository", &[("repository", None)]).await?;
    prepare(w).await
}
