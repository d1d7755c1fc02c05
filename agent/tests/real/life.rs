//! Start, end and failure of sandboxes and holders as processes.

use crate::machine::{Machine, end, exe, probe, run, run_as, soon};
use borgherd_agent::sandbox::{self, Capabilities, Plan, SandboxVolume, failure};
use borgherd_agent::slot::{Identity, Slots};
use chrono::DateTime;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

fn slots(dir: &Path) -> Slots {
    let identity =
        Identity { pid: std::process::id(), started: DateTime::UNIX_EPOCH, boot_id: String::new(), clock: || DateTime::UNIX_EPOCH };
    Slots::open(dir, 1, identity, StdRng::seed_from_u64(1)).unwrap()
}

const LINGER: &str = "open('/run/borg/state/started', 'w').close(); open('/run/borg/state/end').close(); say('ended by itself')";

fn lingering(machine: &Machine) -> Plan {
    let plan = machine.plan(LINGER);
    for fifo in ["started", "end"] {
        mkfifo(&plan.state.join(fifo), Mode::S_IRWXU).unwrap();
    }
    plan
}

/// The agent of the next test, in its folder: takes the slot, starts the sandbox, waits to be killed.
#[tokio::test]
#[ignore = "a process that another test starts"]
async fn an_agent_that_will_be_killed() {
    let plan: Plan = serde_json::from_slice(&fs::read("plan").unwrap()).unwrap();
    let slot = slots(Path::new("slots")).acquire("run").await.unwrap();
    let sandbox = sandbox::spawn(exe(), &plan, vec![slot.try_clone().unwrap()]).await.unwrap();
    end(sandbox).await;
}

#[tokio::test]
async fn a_slot_is_held_until_borg_is_gone_though_the_agent_was_killed_before() {
    let machine = Machine::new();
    let plan = lingering(&machine);
    fs::write(machine.path().join("plan"), serde_json::to_vec(&plan).unwrap()).unwrap();
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "life::an_agent_that_will_be_killed", "--ignored"])
        .current_dir(machine.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    soon(tokio::fs::read(plan.state.join("started"))).await.unwrap();
    agent.kill().unwrap();
    assert_eq!(agent.wait().unwrap().signal(), Some(9));

    let file = machine.path().join("slots/1.lock");
    let free = || Command::new("flock").arg("--nonblock").arg(&file).arg("true").status().unwrap().success();
    assert!(!free());
    let slots = slots(&machine.path().join("slots"));
    let mut next = Box::pin(slots.acquire("next"));
    assert!(futures::poll!(next.as_mut()).is_pending());
    soon(tokio::fs::write(plan.state.join("end"), "")).await.unwrap();
    drop(soon(next).await.unwrap());
    assert!(free());
}

#[tokio::test]
async fn signals_go_to_borg_alone_and_the_kill_to_all_it_started() {
    let machine = Machine::new();
    let mut plan = lingering(&machine);
    let code = r"
signal.signal(signal.SIGINT, lambda *_: (open('/run/borg/state/end', 'w').close()))
child = os.fork()
if child == 0:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    open('/run/borg/state/started', 'w').close()
    while True: signal.pause()
while True: signal.pause()
";
    plan.argv.clone_from(&machine.plan(code).argv);
    let mut sandbox = sandbox::spawn(exe(), &plan, Vec::new()).await.unwrap();
    soon(tokio::fs::read(plan.state.join("started"))).await.unwrap();
    sandbox.signal(Signal::SIGINT).unwrap();
    soon(tokio::fs::read(plan.state.join("end"))).await.unwrap();
    let pid = sandbox.pid().unwrap();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let child = format!("/proc/{}", children.trim());
    let state =
        || fs::read_to_string(format!("{child}/stat")).ok().and_then(|stat| stat.rsplit(") ").next().map(|rest| rest[..1].to_owned()));
    // SIGINT did not reach the child, or it would be gone
    soon(async {
        while state().as_deref() != Some("S") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    sandbox.kill().unwrap();
    assert_eq!(soon(sandbox.wait()).await.unwrap().signal(), Some(9));
    soon(async {
        while state().is_some_and(|state| state != "Z") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(sandbox.pid().is_none());
    sandbox.signal(Signal::SIGINT).unwrap();
    sandbox.kill().unwrap();
}

#[tokio::test]
async fn a_step_that_fails_is_reported_and_nothing_runs() {
    let machine = Machine::new();
    let volume = machine.volume("uid-1", "pvc-1");
    let touch = "open('/run/borg/state/ran', 'w').close()";
    let unmounted = machine.folder("pods/uid-2/volumes/kubernetes.io~csi/pvc-2/mount");
    let on = |source: &Path, read_only| Some(SandboxVolume { source: source.to_owned(), beneath: None, read_only });
    let failing = [
        ("find the volume", "is no mount point", machine.archive(&unmounted, touch)),
        ("find the volume", "is no mount point", machine.archive(&machine.path().join("nowhere"), touch)),
        ("check the plan", "Archive needs its volume", Plan { volume: None, ..machine.archive(&volume, touch) }),
        ("check the plan", "read-only to archive", Plan { volume: on(&volume, false), ..machine.archive(&volume, touch) }),
        ("check the plan", "writable to restore", Plan { volume: on(&volume, true), ..machine.restore(&volume, touch) }),
        (
            "check the plan",
            "none for the repository alone",
            Plan { capabilities: Capabilities::Repository, ..machine.archive(&volume, touch) },
        ),
        ("find program \"no-borg\"", "there is none in PATH", Plan { argv: vec!["no-borg".to_owned()], ..machine.plan(touch) }),
        ("find program \"\"", "there is none in PATH", Plan { argv: Vec::new(), ..machine.plan(touch) }),
        ("execute /etc/passwd", "Permission denied", Plan { argv: vec!["/etc/passwd".to_owned()], ..machine.plan(touch) }),
        ("write file \"../x\"", "no plain name", Plan { files: [("../x".to_owned(), String::new())].into(), ..machine.plan(touch) }),
        ("open folder", "No such file", Plan { state: machine.path().join("nowhere"), ..machine.plan(touch) }),
        ("pass the passphrase on", "longer than 4096", {
            let mut plan = machine.plan(touch);
            plan.secrets.passphrase = "x".repeat(4097);
            plan
        }),
    ];
    for (step, error, plan) in failing {
        let ended = run(&plan).await;
        assert_eq!(ended.status.code(), Some(i32::from(sandbox::EXIT_CODE)), "{ended:?}");
        let failed = failure(&ended.stderr).unwrap_or_else(|| panic!("{ended:?}"));
        assert!(failed.step.starts_with(step) && failed.error.contains(error), "{step}: {failed}");
        assert!(!machine.path().join("borgherd/state/own/ran").exists(), "{step}");
    }
    assert!(run(&machine.plan(touch)).await.status.success());
    assert!(machine.path().join("borgherd/state/own/ran").exists());
}

#[tokio::test]
async fn a_lock_that_does_not_arrive_and_a_plan_that_is_none_are_failures() {
    for (order, step) in [("", "read the plan"), ("{}", "read the plan"), ("not json", "read the plan")] {
        let mut child = Command::new(exe()).arg("sandbox").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), order.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert_eq!(failure(&String::from_utf8(output.stderr).unwrap()).unwrap().step, step);
    }
    let machine = Machine::new();
    let order = json!({"plan": machine.plan("say(0)"), "inherited": 1});
    let mut child = Command::new(exe()).arg("sandbox").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), order.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        failure(&String::from_utf8(output.stderr).unwrap()).unwrap().to_string(),
        "cannot set up the sandbox: inherit descriptor 3: it is not open"
    );
}

#[test]
fn only_the_sandboxs_own_line_is_a_failure() {
    let error = sandbox::failure(r#"{"borgherd_sandbox_failed":{"step":"s","error":"e"}}"#).unwrap();
    assert_eq!(error.to_string(), "cannot set up the sandbox: s: e");
    for line in ["", "borg: error", r#"{"type":"log_message","message":"borgherd_sandbox_failed"}"#, r#"{"borgherd_sandbox_failed":"no"}"#]
    {
        assert_eq!(sandbox::failure(line), None);
    }
}

/// More than a pipe holds: a plan with many exclude patterns.
#[tokio::test]
async fn a_plan_may_be_large() {
    let machine = Machine::new();
    let mut plan = machine.plan("say(len(open('/run/borg/files/exclude').read()))");
    plan.files.insert("exclude".to_owned(), "x".repeat(4 << 20));
    assert_eq!(probe(&plan).await, json!(4 << 20));
    let script = machine.path().join("ends-at-once");
    fs::write(&script, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(run_as(&script, &plan, Vec::new()).await.status.code(), Some(3), "who does not read it is no hanging agent");
}

#[test]
fn a_holder_sleeps_until_sigterm_and_ends_well_at_once() {
    for signal in ["TERM", "INT"] {
        let mut holder = Command::new(exe()).arg("hold").spawn().unwrap();
        let pid = holder.id();
        // It waits in sigtimedwait once its signals are blocked.
        while !fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap().contains("sigtimedwait") {
            assert_eq!(holder.try_wait().unwrap(), None);
            std::thread::yield_now();
        }
        assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
        assert!(holder.wait().unwrap().success());
    }
}
