//! What is found where archives were: nothing, another repository, a damaged one, a full disk. Nothing is made or written there.

use super::expect::{Case, all_fail, all_succeed};
use super::server;
use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::Repository;
use borgherd_e2e::{App, Claim, DEADLINE, Running, World, test, until};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
use kube::api::DeleteParams;
use std::collections::BTreeMap;

/// Each of them held an archive before.
const CASES: [Case; 5] = [
    Case::of(
        "emptied",
        Reason::RepositoryVanished,
        &["where archives were", "check that the storage is mounted", "delete ConfigMap repository-"],
    ),
    Case::of(
        "gone",
        Reason::RepositoryVanished,
        &["where archives were", "check that the storage is mounted", "delete ConfigMap repository-"],
    ),
    Case::of(
        "replaced",
        Reason::RepositoryReplaced,
        &["not the one that was there", "bring that one back", "delete ConfigMap repository-"],
    ),
    Case::of("damaged", Reason::RepositoryCorrupted, &["is damaged", "borg check"]),
    Case::of("full", Reason::RepositoryFull, &["no space left for the repository", "free some there"]),
];

/// All files below a folder with their hashes, without locks and what a reader of a repository may write.
const CONTENT: &str = "find . -type f ! -path '*/lock*' ! -name nonce | sort | xargs -r sha256sum";

#[test]
fn what_is_found_in_place_of_a_repository_is_neither_overwritten_nor_made_anew() -> Result<()> {
    test("what_is_found_in_place_of_a_repository_is_neither_overwritten_nor_made_anew", async |w: &World| {
        let mut app = App::new("app").mount("healthy", "/healthy");
        w.claim(Claim::new("healthy")).await?;
        for case in &CASES {
            w.claim(Claim::new(case.pvc)).await?;
            app = app.mount(case.pvc, &format!("/{}", case.pvc));
        }
        let places = repositories(w).await?;
        let app = w.app(app).await?;
        app.sh("for d in healthy emptied gone replaced damaged full; do head -c 2000000 /dev/urandom >/$d/file; done").await?;
        let mut all = CASES.map(|c| c.pvc).to_vec();
        all.push("healthy");
        all_succeed(w, &all).await?;

        spoil(w, &app, &places).await?;
        let foreign = content(w, &places, "replaced").await?;
        let failed = all_fail(w, &CASES, "healthy").await?;
        ensure!(content(w, &places, "emptied").await?.is_empty(), "something was made in the empty folder");
        let there = w.on_server(&format!("ls -d {} 2>/dev/null || true", place(&places, "gone")?)).await?;
        ensure!(there.is_empty(), "the folder that is gone was made anew");
        let now = content(w, &places, "replaced").await?;
        ensure!(foreign == now, "the repository in another's place was written to:\n{foreign}\nis now\n{now}");

        let is_told = |r: Option<&Repository>| {
            r.and_then(|r| r.status.as_ref()).is_some_and(|s| !s.ready && s.reason == Some(Reason::RepositoryCorrupted))
        };
        let name = format!("{}-damaged", w.namespace);
        until(&w.api_all::<Repository>(), &name, "the damage that a backup met stands in its status", DEADLINE, is_told).await?;

        let gone = failed.iter().find(|f| f.case.pvc == "gone").context("the case")?;
        begin_anew(w, gone.message()).await?;
        mend(w, &app, &places).await?;
        all_succeed(w, &CASES.map(|c| c.pvc)).await
    })
}

type Places = BTreeMap<&'static str, String>;

fn place<'a>(places: &'a Places, pvc: &str) -> Result<&'a str> {
    places.get(pvc).map(String::as_str).with_context(|| format!("no place for {pvc}"))
}

async fn content(w: &World, places: &Places, pvc: &str) -> Result<String> {
    w.on_server(&format!("cd {} && {CONTENT}", place(places, pvc)?)).await
}

/// A Repository for each: on the chart's server, and one on a server with a small disk.
async fn repositories(w: &World) -> Result<Places> {
    let right = w.server_credentials().await?;
    let secret = w.credentials("right", &right).await?;
    let mut places = Places::new();
    for pvc in ["emptied", "gone", "replaced", "damaged", "healthy"] {
        let (folder, location) = w.fresh_place(pvc).await?;
        let repository = w.repository(pvc, &location, &secret).await?;
        w.annotate::<PersistentVolumeClaim>(pvc, &[("repository", Some(&repository))]).await?;
        places.insert(pvc, folder);
    }
    server::prepare(w).await?;
    server::start(w, "24Mi").await?;
    let repository = server::repository(w, "full").await?;
    w.annotate::<PersistentVolumeClaim>("full", &[("repository", Some(&repository))]).await?;
    Ok(places)
}

async fn spoil(w: &World, app: &Running, places: &Places) -> Result<()> {
    let at = |pvc: &str| place(places, pvc);
    let (emptied, gone, replaced) = (at("emptied")?, at("gone")?, at("replaced")?);
    w.on_server(&format!("mv {emptied} {emptied}.aside && mkdir {emptied}")).await?;
    w.on_server(&format!("mv {gone} {gone}.aside")).await?;
    // a real one, with the same passphrase: only its id tells
    w.on_server(&format!("mv {replaced} {replaced}.aside && cp -a {} {replaced}", at("healthy")?)).await?;
    let damaged = at("damaged")?;
    let damage = "printf damaged | dd of=$f bs=1 seek=$(($(stat -c %s $f) / 2)) conv=notrunc status=none";
    w.on_server(&format!("cp -a {damaged} {damaged}.aside && for f in {damaged}/data/0/*; do {damage}; done")).await?;
    // more than the server's disk
    app.sh("head -c 40000000 /dev/urandom >/full/large").await?;
    server::sh(w, "head -c 4000000 /dev/zero >/repositories/of-others").await
}

/// What the messages ask for.
async fn mend(w: &World, app: &Running, places: &Places) -> Result<()> {
    for pvc in ["emptied", "replaced", "damaged"] {
        let folder = place(places, pvc)?;
        w.on_server(&format!("rm -rf {folder} && mv {folder}.aside {folder}")).await?;
    }
    app.sh("rm /full/large").await?;
    server::sh(w, "rm /repositories/of-others").await
}

/// Deletes the ConfigMap that the message names.
async fn begin_anew(w: &World, message: &str) -> Result<()> {
    let (_, after) = message.split_once("delete ConfigMap ").context("the message names no ConfigMap")?;
    let name = after.split_whitespace().next().unwrap_or_default();
    let deleted = w.api_own::<ConfigMap>().delete(name, &DeleteParams::default()).await;
    drop(deleted.with_context(|| format!("ConfigMap {name} of the message: {message}"))?);
    Ok(())
}
