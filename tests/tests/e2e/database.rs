//! Databases: dumped before the cut, and what the dump holds comes back. Real servers, written to all the while.

use anyhow::{Context, Result, ensure};
use borgherd_api::Reason;
use borgherd_api::crd::snapshot::VolumeSnapshot;
use borgherd_api::crd::{Backup, QuiescePhase, RestoreSource, SourceKind, StepKind};
use borgherd_e2e::{App, Claim, DEADLINE, Output, Running, World, test, until_polled};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, LogParams};
use std::time::Duration;

/// What must be seen nowhere outside the container. The password is awkward on purpose.
const USER: &str = "zoe";
const PASSWORD: &str = "p\"w#4 $x;";
const DATABASE: &str = "kiosk";
/// Where the dump goes.
pub(super) const DUMP: &str = "/data/dump.sql.gz";

/// A kind of server.
#[derive(Clone, Copy)]
pub(super) struct Server {
    kind: &'static str,
    prefix: &'static str,
    start: &'static str,
    /// A client as its user; the statement follows.
    client: &'static str,
    /// The statement that changes the user's password.
    password: fn(&str) -> String,
    bytes: &'static str,
}

pub(super) const POSTGRES: Server = Server {
    kind: "postgres",
    prefix: "POSTGRES",
    start: "start-postgres",
    client: "PGPASSWORD=${PASSWORD-$POSTGRES_PASSWORD} psql -U \"$POSTGRES_USER\" -XAtq -v ON_ERROR_STOP=1 \"$POSTGRES_DB\"",
    password: |new| format!("ALTER USER CURRENT_USER PASSWORD '{new}';"),
    bytes: "bytea",
};

const MARIADB: Server = Server {
    kind: "mysql",
    prefix: "MARIADB",
    start: "start-mariadb",
    client: "MYSQL_PWD=${PASSWORD-$MARIADB_PASSWORD} mariadb -u\"$MARIADB_USER\" -N -B \"$MARIADB_DATABASE\"",
    password: |new| format!("SET PASSWORD = PASSWORD('{new}');"),
    bytes: "blob",
};

impl Server {
    async fn sql(self, app: &Running, statement: &str) -> Result<String> {
        app.sh(&format!("{} <<'END'\n{statement}\nEND\n", self.client)).await
    }

    /// The annotation, with further fields.
    pub(super) fn preset(self, more: &str) -> String {
        format!("- {}: {{in: app=db, container: app, file: {DUMP}{more}}}", self.kind)
    }

    /// A pod that runs it on `pvc`.
    async fn run(self, w: &World, image: &str, name: &str, pvc: &str, more: Option<(&str, &str)>) -> Result<Running> {
        let database = if self.kind == "postgres" { "DB" } else { "DATABASE" };
        let mut app = App::new(name).image(image).mount(pvc, "/data").script(&format!("exec {}", self.start));
        for (variable, value) in [("USER", USER), ("PASSWORD", PASSWORD), (database, DATABASE)] {
            app = app.env(&format!("{}_{variable}", self.prefix), value);
        }
        if let Some((pvc, path)) = more {
            app = app.mount(pvc, path);
        }
        w.app(app.ready_when(&format!("[ \"$(echo 'SELECT 1;' | {})\" = 1 ]", self.client))).await
    }
}

/// A server on PVC `data` with two tables that always have as many rows, and one with what is easily damaged.
pub(super) async fn filled(w: &World, server: Server, image: &str, annotation: &str) -> Result<Running> {
    w.claim(Claim::new("data").annotation("database", annotation)).await?;
    let app = server.run(w, image, "db", "data", None).await?;
    let bytes = server.bytes;
    server
        .sql(&app, &format!("CREATE TABLE a (n int); CREATE TABLE b (n int); CREATE TABLE odd (t text, x {bytes}); INSERT INTO a VALUES (0); INSERT INTO b VALUES (0);"))
        .await?;
    let all = (0..=255).fold(String::new(), |all, byte| all + &format!("{byte:02x}"));
    let literal = if server.kind == "postgres" { format!("'\\x{all}'") } else { format!("x'{all}'") };
    server.sql(&app, &format!("INSERT INTO odd VALUES ('it''s 😀, \"quoted\"; -- Dump completed', {literal});")).await?;
    Ok(app)
}

async fn odd(server: Server, app: &Running) -> Result<String> {
    server.sql(app, "SELECT t, md5(x) FROM odd;").await
}

async fn rows(server: Server, app: &Running, table: &str) -> Result<u64> {
    Ok(server.sql(app, &format!("SELECT count(*) FROM {table};")).await?.parse()?)
}

/// Writes to both tables, a transaction each, until the pod ends.
async fn write_on(server: Server, app: &Running) -> Result<()> {
    let turn = "BEGIN; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); COMMIT;";
    let turns = format!("while :; do for i in 1 2 3 4 5 6 7 8 9; do echo '{turn}'; done; sleep 0.01; done");
    app.sh(&format!("nohup sh -c \"{turns}\" 2>/dev/null </dev/null | {} >/dev/null 2>&1 &", server.client)).await?;
    until_polled("rows are written", DEADLINE, async || Ok((rows(server, app, "a").await? > 20).then_some(()))).await
}

/// Nothing that people can see tells what is the container's own.
async fn tells_no_secret(w: &World, name: &str) -> Result<()> {
    let backup = w.api::<Backup>().get(name).await?;
    let events = w.api::<Event>().list(&ListParams::default()).await?;
    let mut seen = serde_json::to_string(&backup.status)?;
    for event in events.items.iter().filter(|e| e.involved_object.kind.as_deref() != Some("Pod")) {
        seen += event.message.as_deref().unwrap_or_default();
    }
    for pod in w.controllers().await? {
        seen += &w.api_own::<Pod>().logs(&pod.metadata.name.unwrap_or_default(), &LogParams::default()).await?;
    }
    for value in [USER, DATABASE, PASSWORD, "p\\\"w#4"] {
        ensure!(!seen.contains(value), "{value:?} is told in: {seen}");
    }
    Ok(())
}

async fn comes_back(w: &World, server: Server) -> Result<()> {
    let Some(image) = w.databases_image() else {
        return w.skip("needs the image with databases, which the project's own scripts build");
    };
    let app = filled(w, server, image, &server.preset("")).await?;
    let before_odd = odd(server, &app).await?;
    write_on(server, &app).await?;
    let before = rows(server, &app, "a").await?;
    let name = w.backup(&["data"]).await?;
    let volumes = w.backup_succeeded(&name).await?;
    let after = rows(server, &app, "a").await?;
    ensure!(after > before, "nothing was written while the backup ran");
    let cut = volumes.first().and_then(|v| v.cut).context("no cut")?;
    let status = w.api::<Backup>().get(&name).await?.status.unwrap_or_default();
    let quiesce = status.quiesce.context("no account of the dump")?;
    ensure!(quiesce.phase == QuiescePhase::Thawed, "{quiesce:#?}");
    let kinds: Vec<StepKind> = quiesce.hooks.iter().map(|h| h.kind).collect();
    ensure!(kinds == [StepKind::Check, StepKind::Dump], "{kinds:?}");
    let dumped = quiesce.hooks.last().and_then(|h| h.pre.first()).and_then(|a| a.ended_at).context("no dump has ended")?;
    ensure!(dumped <= cut + Duration::from_secs(1), "dumped at {dumped}, cut at {cut}");
    ensure!(volumes.iter().all(|v| v.quiesced.is_none()), "a dump alone holds nothing still: {volumes:#?}");
    tells_no_secret(w, &name).await?;

    app.stop().await?;
    drop(w.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await?);
    let source = RestoreSource { pvc: "data".into(), from: Some(SourceKind::Archive), ..RestoreSource::default() };
    let restore = w.restore(source, "restored").await?;
    w.restore_succeeded(&restore).await?;
    w.claim(Claim::new("fresh")).await?;
    let fresh = server.run(w, image, "db", "fresh", Some(("restored", "/restored"))).await?;
    fresh.sh(&format!("gzip -dc /restored/dump.sql.gz | {} >/dev/null", server.client)).await?;
    let (a, b) = (rows(server, &fresh, "a").await?, rows(server, &fresh, "b").await?);
    ensure!(a == b && (before..=after).contains(&a), "{a} and {b} rows came back; there were {before} to {after}");
    let back = odd(server, &fresh).await?;
    ensure!(back == before_odd, "came back as {back}, was {before_odd}");
    Ok(())
}

#[test]
fn database_postgres_is_dumped_while_it_is_written_to_and_comes_back() -> Result<()> {
    test("database_postgres_is_dumped_while_it_is_written_to_and_comes_back", async |w: &World| comes_back(w, POSTGRES).await)
}

#[test]
fn database_mariadb_is_dumped_while_it_is_written_to_and_comes_back() -> Result<()> {
    test("database_mariadb_is_dumped_while_it_is_written_to_and_comes_back", async |w: &World| comes_back(w, MARIADB).await)
}

async fn snapshots(w: &World) -> Result<usize> {
    Ok(w.api::<VolumeSnapshot>().list(&ListParams::default()).await?.items.len())
}

async fn annotate(w: &World, annotation: &str) -> Result<()> {
    w.annotate::<PersistentVolumeClaim>("data", &[("database", Some(annotation))]).await
}

/// A backup that fails for a dump, says `words`, makes no snapshot, and leaves the last dump as it was.
async fn fails(w: &World, app: &Running, words: &[&str]) -> Result<()> {
    let before = (app.sh(&format!("md5sum {DUMP}")).await?, snapshots(w).await?);
    let name = w.backup_as(&["data"], false).await?;
    let message = w.backup_failed(&name, Reason::DumpFailed).await?;
    for word in words {
        ensure!(message.contains(word), "it should say {word:?}: {message}");
    }
    let after = (app.sh(&format!("md5sum {DUMP}")).await?, snapshots(w).await?);
    ensure!(before == after, "the last dump or the snapshots have changed: {before:?} {after:?}");
    tells_no_secret(w, &name).await?;
    is_clean(app).await
}

/// No half file, and no process of a dump.
async fn is_clean(app: &Running) -> Result<()> {
    let look = "ls /data | grep part- ; ls -d /dev/shm/borgherd* /tmp/borgherd* 2>/dev/null; \
                pgrep -r R,S,D,T -x 'pg_dump|mariadb-dump|gzip'; pgrep -r R,S,D,T -f '[b]orgherd-watch'; true";
    until_polled("nothing is left of the dump", DEADLINE, async || Ok(app.sh(look).await?.is_empty().then_some(()))).await
}

async fn keeps_the_last(w: &World, server: Server) -> Result<()> {
    let Some(image) = w.databases_image() else {
        return w.skip("needs the image with databases, which the project's own scripts build");
    };
    let app = filled(w, server, image, &server.preset("")).await?;
    let name = w.backup_as(&["data"], false).await?;
    w.backup_succeeded(&name).await?;
    is_clean(&app).await?;

    server.sql(&app, &(server.password)("other")).await?;
    fails(w, &app, &["the last dump stays", server.kind, DUMP, "the server does not answer"]).await?;
    app.sh(&format!("PASSWORD=other; {} <<'END'\n{}\nEND\n", server.client, (server.password)(PASSWORD))).await?;

    let used =
        app.sh("dd if=/dev/urandom of=/data/filling bs=1M count=700 2>/dev/null; sync; df -P /data | tail -n 1 | awk '{print $5}'").await?;
    let used: u8 = used.trim_end_matches('%').parse().with_context(|| used.clone())?;
    ensure!(used > 0, "the volume is empty by df");
    annotate(w, &server.preset(&format!(", spaceUsedLimit: {used}"))).await?;
    fails(w, &app, &["no space", &format!("spaceUsedLimit is {used} %")]).await?;
    app.sh("rm /data/filling").await?;

    annotate(w, &server.preset(", args: [--no-such-option]")).await?;
    fails(w, &app, &["the dump ended with exit code", "no-such-option"]).await?;
    annotate(w, &server.preset("").replace(DUMP, "/nowhere/dump.sql.gz")).await?;
    fails(w, &app, &["/nowhere/dump.sql.gz", "is on no PVC"]).await?;
    annotate(w, &server.preset("").replace("container: app", "container: other")).await?;
    fails(w, &app, &["has no container other; there are app"]).await?;
    annotate(w, &server.preset("")).await?;
    let name = w.backup_as(&["data"], false).await?;
    w.backup_succeeded(&name).await?;
    Ok(())
}

#[test]
fn database_a_failed_dump_of_postgres_keeps_the_last_one_and_fails_the_backup() -> Result<()> {
    test("database_a_failed_dump_of_postgres_keeps_the_last_one_and_fails_the_backup", async |w: &World| keeps_the_last(w, POSTGRES).await)
}

#[test]
fn database_a_failed_dump_of_mariadb_keeps_the_last_one_and_fails_the_backup() -> Result<()> {
    test("database_a_failed_dump_of_mariadb_keeps_the_last_one_and_fails_the_backup", async |w: &World| keeps_the_last(w, MARIADB).await)
}

/// Locks a table of the filled `PostgreSQL`: `pg_dump` waits for it.
pub(super) async fn locked(app: &Running) -> Result<()> {
    let lock = "BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3600);";
    app.sh(&format!(
        // a child of process 1 that ends with an error would be a crash to PostgreSQL
        "echo '{lock}' >/tmp/lock; nohup sh -c '{} -f /tmp/lock || :' >/dev/null 2>&1 </dev/null &",
        POSTGRES.client.replace('\'', "")
    ))
    .await?;
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'a'::regclass;";
    until_polled("the table is locked", DEADLINE, async || Ok((POSTGRES.sql(app, held).await? == "1").then_some(()))).await
}

/// Ends what [`locked`] began.
pub(super) async fn unlocked(app: &Running) -> Result<()> {
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(%' AND pid <> pg_backend_pid();";
    POSTGRES.sql(app, cancel).await.map(drop)
}

#[test]
fn database_a_killed_dump_leaves_no_half_file_and_no_process() -> Result<()> {
    test("database_a_killed_dump_leaves_no_half_file_and_no_process", async |w: &World| {
        let Some(image) = w.databases_image() else {
            return w.skip("needs the image with databases, which the project's own scripts build");
        };
        let app = filled(w, POSTGRES, image, &POSTGRES.preset("")).await?;
        let name = w.backup_as(&["data"], false).await?;
        w.backup_succeeded(&name).await?;
        locked(&app).await?;
        annotate(w, &POSTGRES.preset(", timeout: 3s")).await?;
        fails(w, &app, &["killed after 3 s"]).await?;

        annotate(w, &POSTGRES.preset("")).await?;
        let script = "kill -KILL $(cut -d ' ' -f 1 /dev/shm/borgherd-database*/holder)";
        for kill in ["pkill -KILL -x pg_dump", "pkill -KILL -x gzip", script] {
            let before = app.sh(&format!("md5sum {DUMP}")).await?;
            let name = w.backup_as(&["data"], false).await?;
            let runs = async || Ok((!app.sh("pgrep -x pg_dump || true").await?.is_empty()).then_some(()));
            until_polled("the dump runs", DEADLINE, runs).await?;
            app.sh(kill).await?;
            w.backup_failed(&name, Reason::DumpFailed).await?;
            ensure!(app.sh(&format!("md5sum {DUMP}")).await? == before, "the last dump was changed");
            is_clean(&app).await?;
        }
        unlocked(&app).await?;
        let name = w.backup_as(&["data"], false).await?;
        w.backup_succeeded(&name).await?;
        Ok(())
    })
}

#[test]
fn database_on_a_namespace_concerns_the_pvc_that_holds_the_dump_and_goes_before_hooks() -> Result<()> {
    test("database_on_a_namespace_concerns_the_pvc_that_holds_the_dump_and_goes_before_hooks", async |w: &World| {
        let Some(image) = w.databases_image() else {
            return w.skip("needs the image with databases, which the project's own scripts build");
        };
        w.annotate_namespace(&[("database", Some(&POSTGRES.preset("")))]).await?;
        let hooks = "- pre: {in: pod/db, command: [sh, -c, 'test -s /data/dump.sql.gz && touch /tmp/held']}\n  post: {command: [rm, -f, /tmp/held]}\n";
        w.claim(Claim::new("data").annotation("hooks", hooks)).await?;
        w.claim(Claim::new("other")).await?;
        let app = POSTGRES.run(w, image, "db", "data", Some(("other", "/other"))).await?;
        let other = w.backup_as(&["other"], false).await?;
        w.backup_succeeded(&other).await?;
        ensure!(app.sh(&format!("ls {DUMP} || true")).await?.is_empty(), "it was dumped for another PVC");
        let status = w.api::<Backup>().get(&other).await?.status.unwrap_or_default();
        ensure!(status.quiesce.is_none(), "{:#?}", status.quiesce);
        let name = w.backup_as(&["data"], false).await?;
        let volumes = w.backup_succeeded(&name).await?;
        ensure!(volumes.iter().all(|v| v.quiesced == Some(true)), "{volumes:#?}");
        ensure!(app.sh("ls /tmp/held || true").await?.is_empty(), "it is still held");
        Ok(())
    })
}

/// `borgherd` with `arguments` ends with `code` and says each of `words`.
async fn says(w: &World, arguments: &[&str], code: i32, words: &[&str]) -> Result<String> {
    let output = w.cli(arguments).await?;
    let all = format!("{}\n{}", output.text(), output.stderr);
    ensure!(output.code == code, "{arguments:?} should end with {code}, and ended with {}: {all}", output.code);
    for word in words {
        ensure!(all.contains(word), "{arguments:?} should say {word:?}: {all}");
    }
    for value in [USER, DATABASE, PASSWORD] {
        ensure!(!all.contains(value), "{arguments:?} tells {value:?}: {all}");
    }
    Ok(output.text())
}

/// `borgherd` at a terminal of its own; each line is typed after some seconds.
async fn typed(w: &World, arguments: &str, lines: &[&str]) -> Result<Output> {
    let command = format!("stty rows 50 cols 120; {} {arguments} -n {}", w.cli_binary()?.display(), w.namespace);
    let keys: String = lines.iter().fold(String::new(), |all, line| all + &format!("sleep 3; echo '{line}'; "));
    let script = format!("{{ {keys} sleep 2; }} | script -qec '{command}' /dev/null");
    w.call(tokio::process::Command::new("sh").args(["-c", &script])).await
}

async fn by_command_line(w: &World, server: Server) -> Result<()> {
    let Some(image) = w.databases_image() else {
        return w.skip("needs the image with databases, which the project's own scripts build");
    };
    let app = filled(w, server, image, &server.preset("")).await?;
    says(w, &["db", "info", "app=db"], 0, &[server.kind, "db/app", DUMP, "%"]).await?;
    says(w, &["db", "download", "app=db"], 1, &["is missing or empty"]).await?;
    says(w, &["db", "dump", "app=db"], 0, &["dumped ", DUMP]).await?;
    says(w, &["db", "dump", "deployment/db"], 3, &["no annotation borgherd.dev/database", "app=db"]).await?;
    let before = odd(server, &app).await?;
    server.sql(&app, "DROP TABLE a; DELETE FROM odd;").await?;
    says(w, &["db", "restore", "app=db"], 2, &["--yes"]).await?;
    ensure!(odd(server, &app).await?.is_empty(), "it was restored without a yes");
    says(w, &["db", "restore", "app=db", "--yes"], 0, &["is whole", "restored "]).await?;
    ensure!(odd(server, &app).await? == before && rows(server, &app, "a").await? == 1, "it did not come back as it was");

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("here.sql.gz");
    let shown = file.to_string_lossy().into_owned();
    let there = app.sh(&format!("sha256sum <{DUMP} | cut -d' ' -f1; base64 -w0 {DUMP}")).await?;
    let sum = there.lines().next().context("no hash")?.to_owned();
    for part in [None, Some("half"), Some("wrong")] {
        let bytes = match part {
            Some("half") => Some(app.exec(&["head", "-c", "200", DUMP]).await?.ok("head")?.stdout),
            Some(other) => Some(other.as_bytes().to_vec()),
            None => None,
        };
        if let Some(bytes) = bytes {
            std::fs::write(folder.path().join("here.sql.gz.part"), bytes)?;
        }
        says(w, &["db", "download", "app=db", "--to", &shown], 0, &[&sum]).await?;
        let here = w.call(tokio::process::Command::new("sha256sum").arg(&file)).await?.text();
        ensure!(here.starts_with(&sum), "{part:?}: downloaded {here}, not {sum}");
        says(w, &["db", "download", "app=db", "--to", &shown], 2, &["exists"]).await?;
        std::fs::remove_file(&file)?;
    }
    let script = format!("echo 'SELECT 40 + 2;' | {} db shell app=db -n {}", w.cli_binary()?.display(), w.namespace);
    let output = w.call(tokio::process::Command::new("sh").args(["-c", &script])).await?;
    ensure!(output.code == 0 && output.text().contains("42"), "{} {}", output.text(), output.stderr);

    let shell = typed(w, "db shell app=db", &["SELECT 40 + 2;", "\\q"]).await?;
    ensure!(shell.code == 0 && shell.text().contains("42"), "{} {}", shell.code, shell.text());
    server.sql(&app, "DELETE FROM odd;").await?;
    for (answer, code, words) in [("n", 2, "nothing was changed"), ("y", 0, "restored ")] {
        ensure!(odd(server, &app).await?.is_empty(), "it was restored without a yes");
        let asked = typed(w, "db restore app=db", &[answer]).await?;
        let said = asked.text();
        ensure!(asked.code == code && said.contains("What the database holds of it is replaced") && said.contains(words), "{said}");
    }
    ensure!(odd(server, &app).await? == before, "it did not come back as it was");

    app.sh(&format!("head -c 300 {DUMP} >/data/x && cat /data/x >{DUMP}")).await?;
    says(w, &["db", "restore", "app=db", "--yes"], 1, &["is damaged"]).await?;
    ensure!(odd(server, &app).await? == before, "a damaged dump was restored");
    let nobody = folder.path().join("nobody");
    w.kubeconfig_of_nobody("nobody", &nobody).await?;
    let output = w.cli_with(&["db", "info", "app=db"], Some(&nobody)).await?;
    ensure!(output.code == 4 && output.stderr.contains("not allowed"), "{} {}", output.code, output.stderr);
    is_clean(&app).await
}

#[test]
fn database_postgres_is_dumped_restored_and_downloaded_by_command_line() -> Result<()> {
    test("database_postgres_is_dumped_restored_and_downloaded_by_command_line", async |w: &World| by_command_line(w, POSTGRES).await)
}

#[test]
fn database_mariadb_is_dumped_restored_and_downloaded_by_command_line() -> Result<()> {
    test("database_mariadb_is_dumped_restored_and_downloaded_by_command_line", async |w: &World| by_command_line(w, MARIADB).await)
}
