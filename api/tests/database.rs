//! The script for databases, really run: under dash, bash and busybox's ash with busybox's own tools, against real servers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use borgherd_api::database::script::{Mode, command, words};
use borgherd_api::database::{Preset, parse};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const USER: &str = "zoe";
const PASSWORD: &str = "p\"w\\4 $x;#'";

/// A server of its own in a temporary folder, which goes with it.
struct Server {
    kind: &'static str,
    folder: tempfile::TempDir,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A program as another user than root, which servers refuse.
fn as_user(user: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", "--pdeathsig", "keep"]).arg(program);
    command
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_mins(1), "not in time: {what}");
        done(Command::new("sleep").arg("0.05"));
    }
}

/// Where the programs of `PostgreSQL` are: those in the search path are a wrapper.
fn postgres_programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").unwrap_or_else(|_| panic!("PostgreSQL is not here: hack/packages tests"));
    versions.map(|version| version.unwrap().path().join("bin")).max().unwrap()
}

impl Server {
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        folder
    }

    fn postgres() -> Self {
        let (folder, programs) = (Self::folder(), postgres_programs());
        let data = folder.path().join("db");
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        let mut init = as_user("postgres", &programs.join("initdb"));
        done(init.args(["--no-sync", "--auth", "scram-sha-256", "--username", USER, "--pwfile"]).arg(&password).arg("-D").arg(&data));
        let mut server = as_user("postgres", &programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"]).arg(folder.path());
        let process = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { kind: "postgres", folder, process }.ready("CREATE DATABASE kiosk;", "postgres")
    }

    fn mariadb() -> Self {
        let folder = Self::folder();
        let data = folder.path().join("db");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
        done(
            as_user("mysql", Path::new("mariadb-install-db"))
                .arg("--no-defaults")
                .arg("--skip-test-db")
                .arg(format!("--datadir={}", data.display())),
        );
        let sql = folder.path().join("init.sql");
        let quoted = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
        let init = format!(
            "CREATE DATABASE kiosk;\nCREATE USER zoe@localhost IDENTIFIED BY '{quoted}';\nGRANT ALL ON kiosk.* TO zoe@localhost;\n"
        );
        fs::write(&sql, init).unwrap();
        let mut server = as_user("mysql", Path::new("/usr/sbin/mariadbd"));
        server.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
        for (option, name) in [("datadir", "db"), ("socket", "socket"), ("pid-file", "pid"), ("init-file", "init.sql")] {
            server.arg(format!("--{option}={}", folder.path().join(name).display()));
        }
        let process = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { kind: "mysql", folder, process }.ready("SELECT 1;", "kiosk")
    }

    fn ready(self, statement: &str, database: &str) -> Self {
        until("the server answers", || self.client(database, statement).output().unwrap().status.success());
        self
    }

    fn client(&self, database: &str, statement: &str) -> Command {
        let folder = self.folder.path();
        if self.kind == "postgres" {
            let mut command = Command::new(postgres_programs().join("psql"));
            command.args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-U", USER, database, "-c", statement]);
            command.env("PGHOST", folder).env("PGPASSWORD", PASSWORD);
            return command;
        }
        let mut command = Command::new("mariadb");
        command.arg("--no-defaults").arg("-S").arg(folder.join("socket")).args(["-u", USER, "-N", "-B", database, "-e", statement]);
        command.env("MYSQL_PWD", PASSWORD);
        command
    }

    fn sql(&self, statement: &str) -> String {
        let output = self.client("kiosk", statement).output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// One shell as `sh`, a folder for the dump, a server.
struct World<'a> {
    shell: &'static str,
    server: &'a Server,
    folder: tempfile::TempDir,
    path: String,
    password: &'a str,
}

/// Runs all cases with each shell.
fn all(server: &Server) {
    for (shell, program) in [("dash", "/bin/dash"), ("bash", "/bin/bash"), ("busybox", "/bin/busybox")] {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        let rest = if shell == "busybox" {
            done(Command::new(program).args(["--install", "-s"]).arg(&bin));
            for name in ["mariadb", "mariadb-dump"] {
                symlink(Path::new("/usr/bin").join(name), bin.join(name)).unwrap();
            }
            String::new() // its own tools only
        } else {
            symlink(program, bin.join("sh")).unwrap();
            ":/usr/bin:/bin".to_owned()
        };
        let path = format!("{}:{}{rest}", bin.display(), postgres_programs().display());
        let world = World { shell, server, folder, path, password: PASSWORD };
        for case in [
            what_is_dumped_comes_back,
            a_dump_that_fails_says_why_and_keeps_the_last,
            a_dump_that_is_killed_leaves_nothing_behind,
            a_file_that_is_not_whole_is_not_restored,
        ] {
            world.fill();
            case(&world);
        }
    }
}

#[test]
fn postgres_is_dumped_and_restored() {
    all(&Server::postgres());
}

#[test]
fn mariadb_is_dumped_and_restored() {
    all(&Server::mariadb());
}

impl World<'_> {
    fn file(&self) -> PathBuf {
        self.folder.path().join("dump.sql.gz")
    }

    fn preset(&self, more: &str) -> Preset {
        let text = format!("{}: {{in: pod/x, file: {}, spaceUsedLimit: 100{more}}}", self.server.kind, self.file().display());
        parse(&text).unwrap().remove(0)
    }

    fn command(&self, mode: Mode, preset: &Preset) -> Command {
        let argv = command(&words(mode, preset));
        let mut command = Command::new(self.folder.path().join("bin/sh"));
        command.args(&argv[1..]).env_clear().env("PATH", &self.path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let folder = self.server.folder.path();
        for prefix in ["POSTGRES", "MARIADB"] {
            command.env(format!("{prefix}_USER"), USER).env(format!("{prefix}_PASSWORD"), self.password);
        }
        command.env("POSTGRES_DB", "kiosk").env("MARIADB_DATABASE", "kiosk");
        let options = folder.join(".my.cnf");
        if !options.exists() {
            // once: another client may be reading it
            fs::write(options, format!("[client]\nsocket={}\n", folder.join("socket").display())).unwrap();
        }
        command.env("POSTGRES_HOST", folder).env("HOME", folder);
        command
    }

    /// Exit code and what it said on both streams.
    fn run(&self, mode: Mode, preset: &Preset) -> (i32, String) {
        let output = self.command(mode, preset).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).trim().to_owned())
    }

    fn here(&self) -> String {
        format!("{} under {}", self.server.kind, self.shell)
    }

    fn fails(&self, mode: Mode, preset: &Preset, words: &str) {
        let before = fs::read(self.file()).ok();
        let (code, said) = self.run(mode, preset);
        assert!(code == 1 && said.contains(words), "{}: {words}: {code} {said}", self.here());
        assert!(!said.contains(USER) && !said.contains("kiosk") && !said.contains(PASSWORD), "{}: a secret is told: {said}", self.here());
        assert_eq!(before, fs::read(self.file()).ok(), "{}: the last dump has changed", self.here());
        self.is_clean();
    }

    /// No half file, no process, no folder.
    fn is_clean(&self) {
        let file = self.file().display().to_string();
        until(&format!("{}: nothing is left", self.here()), || {
            let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
            let is_running = lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(&file));
            !names.into_iter().any(|name| name.contains("part-")) && !is_running
        });
    }

    /// Two tables, one with what is easily damaged.
    fn fill(&self) {
        let bytes = if self.server.kind == "postgres" { "bytea" } else { "blob" };
        self.server.sql("DROP TABLE IF EXISTS odd; ");
        self.server.sql(&format!("CREATE TABLE odd (t text, x {bytes})"));
        let literal = if self.server.kind == "postgres" { "'\\x00ff5c0a'" } else { "x'00ff5c0a'" };
        self.server.sql(&format!("INSERT INTO odd VALUES ('it''s, \"quoted\"; -- Dump completed', {literal})"));
    }

    fn odd(&self) -> String {
        self.server.sql("SELECT t, md5(x) FROM odd")
    }

    fn dumped(&self) {
        let (code, said) = self.run(Mode::Dump, &self.preset(""));
        assert!(code == 0 && said.starts_with("dumped "), "{}: {code} {said}", self.here());
    }

    /// A transaction that a dump waits for.
    fn lock(&self) -> Child {
        let statement = if self.server.kind == "postgres" {
            "BEGIN; LOCK TABLE odd IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)"
        } else {
            "LOCK TABLES odd WRITE; SELECT sleep(600)"
        };
        let child = self.server.client("kiosk", statement).stdout(Stdio::null()).spawn().unwrap();
        let seen = if self.server.kind == "postgres" {
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
        } else {
            "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT sleep%'"
        };
        until("the table is locked", || self.server.sql(seen) != "0");
        child
    }

    /// Whether the client that dumps runs below the script.
    fn is_dumping(&self) -> bool {
        fs::read_dir(self.folder.path()).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().contains("part-"))
    }
}

fn what_is_dumped_comes_back(w: &World) {
    let before = w.odd();
    assert_eq!(w.run(Mode::Check, &w.preset("")), (0, "the server answers, there is room".to_owned()), "{}", w.here());
    w.dumped();
    let mode = fs::metadata(w.file()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{}", w.here());
    w.server.sql("DROP TABLE odd");
    let (code, said) = w.run(Mode::Restore, &w.preset(""));
    assert_eq!((code, said.starts_with("restored ")), (0, true), "{}: {said}", w.here());
    assert_eq!(w.odd(), before, "{}", w.here());
    assert_eq!(w.run(Mode::Restore, &w.preset("")).0, 0, "{}: over what is there", w.here());
    let info = w.run(Mode::Info, &w.preset("")).1;
    assert!(["server ", "used ", "bytes ", "time "].iter().all(|word| info.contains(word)), "{}: {info}", w.here());
    w.is_clean();
}

fn a_dump_that_fails_says_why_and_keeps_the_last(w: &World) {
    w.dumped();
    let wrong = World { password: "wrong", folder: tempfile::tempdir().unwrap(), path: w.path.clone(), ..*w };
    symlink(w.folder.path().join("bin"), wrong.folder.path().join("bin")).unwrap();
    wrong.fails(Mode::Dump, &wrong.preset(""), "the server does not answer: ");
    wrong.fails(Mode::Check, &wrong.preset(""), "the server does not answer: ");
    w.fails(Mode::Dump, &w.preset(", args: [--no-such-option]"), "the dump ended with exit code");
    w.fails(Mode::Dump, &w.preset(", database: nothing"), if w.server.kind == "postgres" { "does not exist" } else { "" });
    w.fails(Mode::Dump, &w.preset(", user: $NO_SUCH"), "the container's environment has no NO_SUCH");
    let nowhere = Preset { file: format!("{}/no/dump.gz", w.folder.path().display()), ..w.preset("") };
    w.fails(Mode::Check, &nowhere, "there is no folder");
    w.fails(Mode::Dump, &Preset { space_used_limit: 1, ..w.preset("") }, "no space: ");
    let empty = if w.server.kind == "postgres" { "--file=/dev/null" } else { "--skip-comments" };
    w.fails(Mode::Dump, &w.preset(&format!(", args: [{empty}]")), "lacks the line with which a dump ends");
}

fn a_dump_that_is_killed_leaves_nothing_behind(w: &World) {
    w.dumped();
    let before = fs::read(w.file()).unwrap();
    for signal in ["TERM", "KILL"] {
        let mut lock = w.lock();
        let mut dump = w.command(Mode::Dump, &w.preset("")).spawn().unwrap();
        until(&format!("{}: it dumps", w.here()), || w.is_dumping());
        let (code, said) = w.run(Mode::Dump, &w.preset(""));
        assert_eq!((code, said.contains("is under way")), (1, true), "{}: {said}", w.here());
        done(Command::new("kill").args(["-s", signal, &dump.id().to_string()]));
        assert!(!dump.wait().unwrap().success(), "{}: {signal}", w.here());
        w.is_clean();
        assert_eq!(fs::read(w.file()).unwrap(), before, "{}: {signal}", w.here());
        lock.kill().unwrap();
        lock.wait().unwrap();
        if w.server.kind == "postgres" {
            w.server
                .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()");
        } else {
            let id = w.server.sql("SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT sleep%'");
            w.server.sql(&format!("KILL {id}"));
        }
        w.dumped();
        fs::write(w.file(), &before).unwrap();
    }
}

fn a_file_that_is_not_whole_is_not_restored(w: &World) {
    w.dumped();
    let before = w.odd();
    let whole = fs::read(w.file()).unwrap();
    let gzip = |text: &str| {
        let plain = w.folder.path().join("plain");
        fs::write(&plain, text).unwrap();
        Command::new("gzip").arg("-c").arg(plain).output().unwrap().stdout
    };
    let damaged: Vec<u8> = whole.iter().enumerate().map(|(at, byte)| if at == whole.len() / 2 { byte ^ 0xff } else { *byte }).collect();
    for (content, words) in [
        (vec![], "is missing or empty"),
        (whole[..whole.len() - 20].to_vec(), "is damaged"),
        (damaged, "is damaged"),
        (gzip(""), "lacks the line with which a dump ends"),
        (gzip("DROP TABLE odd;\n"), "lacks the line with which a dump ends"),
    ] {
        fs::write(w.file(), content).unwrap();
        w.fails(Mode::Verify, &w.preset(""), words);
        w.fails(Mode::Restore, &w.preset(""), words);
    }
    fs::remove_file(w.file()).unwrap();
    w.fails(Mode::Restore, &w.preset(""), "is missing or empty");
    assert_eq!(w.odd(), before, "{}", w.here());
}
