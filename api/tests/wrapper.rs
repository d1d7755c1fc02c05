//! What runs in a container, really run: under dash, bash and busybox's ash with busybox's own tools.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use borgherd_api::crd::ActionStatus;
use borgherd_api::hooks::wrapper;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// One shell as `sh`, a folder for what commands write, a token of its own.
struct World {
    shell: &'static str,
    folder: PathBuf,
    token: String,
    path: String,
}

impl Drop for World {
    fn drop(&mut self) {
        for base in ["/dev/shm", "/tmp"] {
            drop(fs::remove_dir_all(format!("{base}/borgherd.{}", self.token)));
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Runs `body` with each shell.
fn each(name: &str, body: impl Fn(&World)) {
    for (shell, program) in [("dash", "/bin/dash"), ("bash", "/bin/bash"), ("busybox", "busybox")] {
        let token = format!("test-{name}-{shell}-{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("wrapper-{token}"));
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let path = if shell == "busybox" {
            let installed = Command::new(program).args(["--install", "-s"]).arg(&bin).status().unwrap();
            assert!(installed.success());
            bin.display().to_string() // its own tools only
        } else {
            symlink(program, bin.join("sh")).unwrap();
            format!("{}:/usr/bin:/bin", bin.display())
        };
        body(&World { shell, folder, token, path });
    }
}

impl World {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// A script as a command of a hook; `@` in it is the folder.
    fn action(&self, script: &str, timeout_seconds: u32) -> ActionStatus {
        let script = script.replace('@', &self.folder.display().to_string());
        ActionStatus {
            token: self.token.clone(),
            command: ["sh", "-c", &script].map(str::to_owned).to_vec(),
            timeout_seconds,
            ..ActionStatus::default()
        }
    }

    fn command(&self, argv: &[String]) -> Command {
        let (program, arguments) = argv.split_first().unwrap();
        let program = self.path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.exists()).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", &self.path).env("DB_PASSWORD", "h&1").env("REGION", "north\nsouth");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, argv: &[String]) -> (i32, String) {
        let Output { status, stdout, .. } = self.command(argv).output().unwrap();
        (status.code().unwrap_or(-1), String::from_utf8_lossy(&stdout).trim().to_owned())
    }

    /// Whether a process is there whose command line holds `text`.
    fn lives(text: &str) -> bool {
        let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
        lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(text))
    }

    /// Waits until `holds`, 20 s at most.
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}: not in time: {what}", self.shell);
            assert!(Command::new("sleep").arg("0.05").status().unwrap().success());
        }
    }
}

#[test]
fn a_command_tells_its_end_and_what_it_said_without_the_environments_values() {
    each("tells", |w| {
        let pre = w.action("echo one; echo two >&2; echo \"$DB_PASSWORD, $REGION\"; exit 7", 10);
        let (code, out) = w.run(&wrapper::pre(&pre, None));
        assert_eq!((code, out.as_str()), (7, "one\ntwo\n[hidden], [hidden]\n[hidden]"), "{}", w.shell);
    });
}

#[test]
fn words_arrive_as_they_are() {
    each("words", |w| {
        let words = ["a b", "", "$(exit 1)", "\"'", "*", "-n", "\\n", "x\ny"];
        let mut pre = w.action("for word; do printf '<%s>' \"$word\"; done", 10);
        let mut post = w.action("for word; do printf '<%s>' \"$word\"; done >@/post", 10);
        for action in [&mut pre, &mut post] {
            action.command.push("sh".to_owned());
            action.command.extend(words.map(str::to_owned));
        }
        let expected = format!("<{}>", words.join("><"));
        let (code, out) = w.run(&wrapper::pre(&pre, Some((&post, Duration::ZERO))));
        assert_eq!((code, out.as_str()), (0, expected.as_str()), "{}", w.shell);
        w.until("the watchdog has resumed", || w.read("post") == expected);
    });
}

#[test]
fn a_thaw_that_succeeded_is_not_repeated_and_ends_the_watchdog() {
    each("once", |w| {
        let (pre, post) = (w.action("echo pre >>@/log", 10), w.action("echo post >>@/log", 10));
        assert_eq!(w.run(&wrapper::pre(&pre, Some((&post, Duration::from_secs(50))))).0, 0);
        assert!(World::lives(&w.token), "{}: there is no watchdog", w.shell);
        for _ in 0..3 {
            assert_eq!(w.run(&wrapper::post(&post)).0, 0);
        }
        assert_eq!(w.read("log"), "pre\npost\n", "{}", w.shell);
        w.until("nothing is left running", || !World::lives(&w.token));
        assert_eq!(w.run(&wrapper::pre(&pre, None)).0, wrapper::TOO_LATE);
        assert_eq!(w.read("log"), "pre\npost\n", "{}: a pre hook ran after the thaw", w.shell);
    });
}

#[test]
fn a_thaw_that_failed_is_none() {
    each("failed", |w| {
        let post = w.action("echo post >>@/log; test -e @/good", 10);
        assert_eq!(w.run(&wrapper::post(&post)).0, 1);
        fs::write(w.file("good"), "").unwrap();
        assert_eq!(w.run(&wrapper::post(&post)).0, 0);
        assert_eq!(w.run(&wrapper::post(&post)).0, 0);
        assert_eq!(w.read("log"), "post\npost\n", "{}", w.shell);
    });
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_its_children() {
    each("late", |w| {
        let mark = format!("9{}", std::process::id());
        let pre = w.action(&format!("trap 'echo told' TERM; sleep {mark} & while :; do wait; done"), 1);
        let begun = Instant::now();
        let (code, out) = w.run(&wrapper::pre(&pre, None));
        assert_eq!((code, out.contains("told")), (wrapper::TIMED_OUT, true), "{}: {out}", w.shell);
        assert!(begun.elapsed() < Duration::from_secs(10), "{}: {:?}", w.shell, begun.elapsed());
        w.until("its child is gone", || !World::lives(&mark));
        w.until("nothing is left running", || !World::lives(&w.token));
    });
}

#[test]
fn the_command_is_killed_in_time_though_nobody_listens_and_the_watchdog_resumes() {
    each("alone", |w| {
        let mark = format!("8{}", std::process::id());
        let pre = w.action(&format!("echo pre >>@/log; sleep {mark}"), 1);
        let post = w.action("echo post >>@/log", 10);
        let mut main = w.command(&wrapper::pre(&pre, Some((&post, Duration::from_secs(1))))).spawn().unwrap();
        w.until("the command runs", || World::lives(&mark) && w.read("log") == "pre\n");
        main.kill().unwrap();
        main.wait().unwrap();
        w.until("the watchdog has resumed", || w.read("log") == "pre\npost\n");
        w.until("the command is gone", || !World::lives(&mark));
        assert_eq!(w.run(&wrapper::post(&post)), (0, "(it was thawed before)".to_owned()), "{}", w.shell);
        w.until("nothing is left running", || !World::lives(&w.token));
    });
}

#[test]
fn a_thaw_ends_a_pre_hook_that_still_runs() {
    each("during", |w| {
        let mark = format!("7{}", std::process::id());
        let (pre, post) = (w.action(&format!("echo pre >>@/log; sleep {mark}; echo never >>@/log"), 60), w.action("echo post >>@/log", 10));
        let mut main = w.command(&wrapper::pre(&pre, None)).spawn().unwrap();
        w.until("the command runs", || w.read("log") == "pre\n");
        assert_eq!(w.run(&wrapper::post(&post)).0, 0);
        assert!(!main.wait().unwrap().success(), "{}: a pre hook that was ended counts as success", w.shell);
        assert_eq!(w.read("log"), "pre\npost\n", "{}", w.shell);
        w.until("the command is gone", || !World::lives(&mark));
    });
}

#[test]
fn many_thaws_at_once_are_one() {
    each("many", |w| {
        let post = w.action("echo post >>@/log; sleep 0.3", 10);
        let started: Vec<_> = (0..5).map(|_| w.command(&wrapper::post(&post)).spawn().unwrap()).collect();
        for mut one in started {
            assert!(one.wait().unwrap().success(), "{}", w.shell);
        }
        assert_eq!(w.read("log"), "post\n", "{}", w.shell);
    });
}

#[test]
fn a_process_that_stays_behind_or_much_output_holds_nothing_up() {
    each("behind", |w| {
        let pre = w.action("sleep 15 & i=0; while [ $i -lt 3000 ]; do echo 0123456789abcdefghij; i=$((i+1)); done", 10);
        let begun = Instant::now();
        let (code, out) = w.run(&wrapper::pre(&pre, None));
        assert_eq!((code, out.len() <= 16384, out.len() > 16000), (0, true, true), "{}: {}", w.shell, out.len());
        assert!(begun.elapsed() < Duration::from_secs(8), "{}: {:?}", w.shell, begun.elapsed());
    });
}

/// A session that has said that it is ready, and what is to be read of it yet.
fn held(w: &World, pre: &ActionStatus, post: &ActionStatus, watch: Duration) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut main = w.command(&wrapper::session(pre, post, watch)).stdin(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(main.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), wrapper::READY, "{}", w.shell);
    let input = main.stdin.take().unwrap();
    (main, input, said)
}

fn rest(mut main: Child, mut said: BufReader<ChildStdout>) -> (i32, String) {
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    (main.wait().unwrap().code().unwrap_or(-1), text.trim().to_owned())
}

/// Holds until its input ends, and writes down what it is told.
const HOLD: &str =
    "echo hold >>@/log; echo \"$DB_PASSWORD\"; echo ready; while read -r line; do echo \"$line\" >>@/log; done; echo over; exit 3";

#[test]
fn a_session_lasts_until_its_input_ends() {
    each("session", |w| {
        let (pre, post) = (w.action(HOLD, 10), w.action("", 10));
        let (main, mut input, said) = held(w, &pre, &post, Duration::from_mins(1));
        assert_eq!(w.read("log"), "hold\n", "{}", w.shell);
        input.write_all(b"one\ntwo words\n").unwrap();
        drop(input);
        assert_eq!(rest(main, said), (3, "[hidden]\nover".to_owned()), "{}", w.shell);
        assert_eq!(w.read("log"), "hold\none\ntwo words\n", "{}", w.shell);
        assert_eq!(w.run(&wrapper::end_session(&post)).0, 0);
        w.until("nothing is left running", || !World::lives(&w.token));
    });
}

#[test]
fn a_session_that_is_never_ready_or_does_not_end_is_killed() {
    each("stuck", |w| {
        let mark = format!("6{}", std::process::id());
        let (never, post) = (w.action(&format!("echo no; exec sleep {mark}"), 1), w.action("", 1));
        let main = w.command(&wrapper::session(&never, &post, Duration::from_mins(1))).stdin(Stdio::piped()).spawn();
        let mut main = main.unwrap();
        let (_input, said) = (main.stdin.take(), BufReader::new(main.stdout.take().unwrap()));
        let (code, out) = rest(main, said);
        assert_eq!((code, out.starts_with("no")), (wrapper::TIMED_OUT, true), "{}: {out}", w.shell);
        drop(fs::remove_dir_all(format!("/dev/shm/borgherd.{}", w.token)));
        let deaf = w.action(&format!("echo ready; exec sleep {mark}"), 10);
        let (main, input, said) = held(w, &deaf, &post, Duration::from_mins(1));
        drop(input);
        assert_eq!(rest(main, said).0, wrapper::TIMED_OUT, "{}", w.shell);
        assert!(!World::lives(&mark), "{}: it still runs", w.shell);
        w.until("nothing is left running", || !World::lives(&w.token));
    });
}

#[test]
fn a_session_whose_connection_is_lost_ends_and_so_does_one_that_is_forgotten() {
    each("lost", |w| {
        let post = ActionStatus { command: vec!["told".to_owned(), "also told".to_owned()], ..w.action("", 5) };
        let pre = w.action(HOLD, 10);
        // nobody reads or writes any more
        let (main, input, said) = held(w, &pre, &post, Duration::from_mins(1));
        drop((input, said));
        let main = std::cell::RefCell::new(main);
        w.until("it has ended", || main.borrow_mut().try_wait().unwrap().is_some());
        assert_eq!(w.read("log"), "hold\n", "{}", w.shell);
        drop(fs::remove_dir_all(format!("/dev/shm/borgherd.{}", w.token)));
        // connected, and never told to end
        let (main, _input, said) = held(w, &pre, &post, Duration::ZERO);
        assert_eq!(rest(main, said).0, 3, "{}", w.shell);
        assert_eq!(w.read("log"), "hold\nhold\ntold\nalso told\n", "{}", w.shell);
        w.until("nothing is left running", || !World::lives(&w.token));
    });
}

#[test]
fn a_session_is_ended_from_outside_and_none_begins_after_that() {
    each("outside", |w| {
        let post = ActionStatus { command: vec!["told".to_owned()], ..w.action("", 5) };
        let pre = w.action(HOLD, 10);
        let (main, _input, said) = held(w, &pre, &post, Duration::from_mins(1));
        assert_eq!(w.run(&wrapper::end_session(&post)).0, 0, "{}", w.shell);
        assert_eq!(rest(main, said).0, 3, "{}", w.shell);
        assert_eq!(w.read("log"), "hold\ntold\n", "{}", w.shell);
        assert_eq!(w.run(&wrapper::session(&pre, &post, Duration::ZERO)).0, wrapper::TOO_LATE, "{}", w.shell);
        drop(fs::remove_dir_all(format!("/dev/shm/borgherd.{}", w.token)));
        assert_eq!(w.run(&wrapper::end_session(&post)).0, 0, "{}: where none ever began", w.shell);
        assert_eq!(w.run(&wrapper::session(&pre, &post, Duration::ZERO)).0, wrapper::TOO_LATE, "{}", w.shell);
    });
}
