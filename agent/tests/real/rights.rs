//! What a process in a sandbox may do: its capabilities, its system calls, and nothing to others.

use crate::machine::{Machine, PASSPHRASE, exe, probe, run_as, said, soon, unconfined};
use borgherd_agent::sandbox::{self, Capabilities, Plan, Sandbox};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Capabilities as the kernel numbers them. Rule: linux/capability.h
const READ_SEARCH: u64 = 1 << 2;
const RESTORE: u64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

/// The five sets of capabilities, `no_new_privs` and the mode of seccomp, asked without /proc.
const SETS: &str = r"
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc.capget(header, data)
PR_GET_SECCOMP, PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS, PR_CAP_AMBIENT, IS_SET = 21, 23, 39, 47, 1
say({
    'effective': data[0] | data[3] << 32, 'permitted': data[1] | data[4] << 32, 'inheritable': data[2] | data[5] << 32,
    'bounding': sum(1 << c for c in range(41) if libc.prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1),
    'ambient': sum(1 << c for c in range(41) if libc.prctl(PR_CAP_AMBIENT, IS_SET, c, 0, 0) == 1),
    'no_new_privs': libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 'seccomp': libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0),
    'uid': os.getuid(),
})
";

fn sets(capabilities: u64, bounding: u64) -> Value {
    json!({
        "effective": capabilities, "permitted": capabilities, "inheritable": 0, "bounding": bounding, "ambient": 0,
        "no_new_privs": 1, "seccomp": 2, "uid": 0,
    })
}

/// One plan a kind, with the capabilities that it is to have.
fn kinds(machine: &Machine, code: &str) -> [(Plan, u64); 3] {
    let volume = machine.volume("uid-1", "pvc-1");
    [(machine.archive(&volume, code), READ_SEARCH), (machine.restore(&volume, code), RESTORE), (machine.plan(code), 0)]
}

#[tokio::test]
async fn borg_has_the_capabilities_of_its_operation_and_no_other() {
    let machine = Machine::new();
    for (plan, capabilities) in kinds(&machine, SETS) {
        assert_eq!(probe(&plan).await, sets(capabilities, capabilities), "{:?}", plan.capabilities);
    }
}

/// As in the agent's container: `drop: [ALL]`, eight added, hence no SETPCAP, and `no_new_privs` already set.
#[tokio::test]
async fn that_needs_no_more_capabilities_than_the_agent_has_in_its_container() {
    let machine = Machine::new();
    let contained = |capabilities: &str| {
        let path = machine.path().join(format!("as-in-the-container-{}", capabilities.len()));
        let script = format!(
            "#!/bin/sh\nexec /usr/bin/setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,{capabilities} {} \"$@\"\n",
            exe().display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let agents = "+sys_admin,+dac_read_search,+chown,+dac_override,+fowner,+fsetid,+mknod,+setfcap";
    let bounding = READ_SEARCH | RESTORE | 1 << 21;
    for (plan, capabilities) in kinds(&machine, SETS) {
        let seen = said(&run_as(&contained(agents), &plan, Vec::new()).await);
        assert_eq!(seen, sets(capabilities, bounding), "{:?}", plan.capabilities);
    }
    for (plan, _) in kinds(&machine, "say('it ran')") {
        let ended = run_as(&contained("+sys_admin,+fowner"), &plan, Vec::new()).await;
        match plan.capabilities {
            Capabilities::Repository => assert_eq!(said(&ended), json!("it ran")),
            Capabilities::Archive | Capabilities::Restore => {
                let error = sandbox::failure(&ended.stderr).unwrap().to_string();
                assert!(
                    error.contains("the agent does not have CAP_")
                        && error.contains("DAC_READ_SEARCH") == (plan.capabilities == Capabilities::Archive),
                    "{error}"
                );
                assert!(!error.contains("FOWNER"), "it has that: {error}");
            }
        }
    }
}

/// By name: calls that fail otherwise, or succeed, when nothing forbids them; arguments are such that they do no harm.
const CALLS: &str = r"
none = ctypes.c_void_p(None)
buffer = ctypes.create_string_buffer(256)
own = os.getpid()
calls = {
    'unshare mounts': (272, 97, [0x20000]), 'setns': (308, 268, [-1, 0]),
    'mount': (165, 40, [none, none, none, 0, none]), 'umount2': (166, 39, [none, 0]), 'pivot_root': (155, 41, [none, none]),
    'chroot': (161, 51, [none]), 'open_tree': (428, 428, [-100, b'/etc', 0]), 'move_mount': (429, 429, [-1, none, -1, none, 0]),
    'fsopen': (430, 430, [none, 0]), 'fspick': (433, 433, [-1, none, 0]), 'mount_setattr': (442, 442, [-1, none, 0, none, 0]),
    'statmount': (457, 457, [none, none, 0, 0]), 'listmount': (458, 458, [none, none, 0, 0]),
    'open_tree_attr': (467, 467, [-1, none, 0, none, 0]),
    'name_to_handle_at': (303, 264, [-100, none, none, none, 0]), 'open_by_handle_at': (304, 265, [-1, none, 0]),
    'ptrace': (101, 117, [0, 0, none, none]), 'process_vm_readv': (310, 270, [own, none, 0, none, 0, 0]),
    'process_vm_writev': (311, 271, [own, none, 0, none, 0, 0]), 'kcmp': (312, 272, [own, own, 1, 0, 0]),
    'pidfd_getfd': (438, 438, [-1, 0, 0]), 'pidfd_send_signal': (424, 424, [-1, 0, none, 0]),
    'rt_sigqueueinfo': (129, 138, [own, 0, none]),
    'bpf': (321, 280, [-1, none, 0]), 'perf_event_open': (298, 241, [none, 0, -1, -1, 0]), 'userfaultfd': (323, 282, [0xffff]),
    'io_uring_setup': (425, 425, [1, none]), 'keyctl': (250, 219, [0, -3, 0]), 'add_key': (248, 217, [none, none, none, 0, -3]),
    'request_key': (249, 218, [none, none, none, 0]), 'personality': (135, 92, [0xffffffff]), 'syslog': (103, 116, [10, none, 0]),
    'fanotify_init': (300, 262, [0xffff, 0]), 'quotactl': (179, 60, [-1, none, 0, none]), 'acct': (163, 89, [b'/nowhere/at/all']),
    'kexec_load': (246, 104, [0, 99, none, 0]), 'finit_module': (313, 273, [-1, none, 0]), 'delete_module': (176, 106, [none, 0]),
    'clone into a namespace': (56, 220, [0x10000000 | 0x800, none, none, none, none]),
    # last: there it would lose its rights over the others
    'unshare user': (272, 97, [0x10000000]),
}
say({name: call(numbers[0] if X86 else numbers[1], *numbers[2]) for name, numbers in calls.items()})
";

#[tokio::test]
async fn calls_that_lead_out_are_denied() {
    let machine = Machine::new();
    let unconfined = unconfined(CALLS);
    for (plan, _) in kinds(&machine, CALLS) {
        let inside = probe(&plan).await;
        for (name, result) in inside.as_object().unwrap() {
            assert_eq!(result, "EPERM", "{name} in {:?}", plan.capabilities);
            assert_ne!(unconfined[name], "EPERM", "{name} fails in any case, so this test would not see the filter");
        }
        assert_eq!(inside.as_object().unwrap().len(), 40);
    }
}

#[tokio::test]
async fn clone3_does_not_exist_and_threads_and_children_do() {
    let machine = Machine::new();
    let code = r"
import subprocess, threading
results = []
thread = threading.Thread(target=lambda: results.append(1))
thread.start(); thread.join()
say([call(435, ctypes.c_void_p(None), 0), results, subprocess.run(['/bin/echo', 'child'], capture_output=True, text=True).stdout])
";
    assert_eq!(unconfined(code), json!(["EINVAL", [1], "child\n"]));
    assert_eq!(probe(&machine.plan(code)).await, json!(["ENOSYS", [1], "child\n"]));
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn no_other_abi_gets_past_the_filter() {
    let machine = Machine::new();
    // x32: getpid; and one of its own numbers, ptrace.
    let x32 = "say([call(0x40000000 | 39), call(0x40000000 | 521, 0, 0, 0, 0)])";
    assert!(!unconfined(x32).to_string().contains("EPERM"));
    assert_eq!(probe(&machine.plan(x32)).await, json!(["EPERM", "EPERM"]));
    // 32 bits: `mov eax, 20 (getpid); int 0x80; ret`, in a child that may be killed.
    let int80 = r"
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex('b814000000cd80c3'))
child = os.fork()
if child == 0:
    ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    os._exit(0)
status = os.waitpid(child, 0)[1]
say(signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else 'ok')
";
    assert!(["ok", "SIGSEGV"].contains(&unconfined(int80).as_str().unwrap()), "with or without 32-bit code in this kernel");
    assert_eq!(probe(&machine.plan(int80)).await, json!("SIGSYS"));
}

/// The attack: volumes of one file system, and a handle that was made while the other one could be seen.
#[tokio::test]
async fn a_file_handle_of_another_volume_of_the_file_system_opens_nothing() {
    let machine = Machine::new();
    let own = machine.volume("uid-1", "pvc-1");
    let other = machine.volume("uid-2", "pvc-2");
    let name_to_handle = r"
handle = ctypes.create_string_buffer(8 + 128)
ctypes.c_uint32.from_buffer(handle).value = 128
mount_id = ctypes.c_int()
assert call(303 if X86 else 264, -100, PATH, handle, ctypes.byref(mount_id), 0) == 0
say(handle.raw.hex())
";
    let path = format!("PATH = b'{}/marker-of-pvc-2'\n", other.display());
    let handle = unconfined(&format!("{path}{name_to_handle}"));
    let open = |volume: &str| {
        format!(
            r"
handle = ctypes.create_string_buffer(bytes.fromhex({handle}))
mount = os.open('{volume}', os.O_RDONLY)
fd = call(304 if X86 else 265, mount, handle, 0)
say([fd if isinstance(fd, str) else os.read(fd, 99).decode(), os.listdir(mount)])
"
        )
    };
    let seen = unconfined(&open(own.to_str().unwrap()));
    assert_eq!(seen, json!(["pvc-2", ["marker-of-pvc-1"]]), "by handle the other volume's file opens through this one");
    for plan in [machine.archive(&own, &open(sandbox::VOLUME)), machine.restore(&own, &open(sandbox::VOLUME))] {
        assert_eq!(probe(&plan).await, json!(["EPERM", ["marker-of-pvc-1"]]));
    }
}

/// A sandbox that says when it has begun and stays until it is told to end.
async fn lingering(machine: &Machine) -> (Sandbox, Plan) {
    let mut plan = machine.plan("open('/run/borg/state/started', 'w').close(); open('/run/borg/state/end').close()");
    plan.state = machine.folder("borgherd/state/lingering");
    plan.env.insert("OTHERS_SECRET".to_owned(), PASSPHRASE.to_owned());
    for fifo in ["started", "end"] {
        mkfifo(&plan.state.join(fifo), Mode::S_IRWXU).unwrap();
    }
    let sandbox = sandbox::spawn(exe(), &plan, Vec::new()).await.unwrap();
    soon(tokio::fs::read(plan.state.join("started"))).await.unwrap();
    (sandbox, plan)
}

#[tokio::test]
async fn two_sandboxes_at_once_cannot_reach_each_other() {
    let machine = Machine::new();
    let (mut other, others_plan) = lingering(&machine).await;
    let pid = other.pid().unwrap();
    let volume = machine.volume("uid-1", "pvc-1");
    let code = format!(
        r"
other = {pid}
vector = ctypes.create_string_buffer(16)
pidfd = os.pidfd_open(other)
say({{
    'proc': os.listdir('/proc'),
    'environ': attempt(open, f'/proc/{{other}}/environ'),
    'root': attempt(os.listdir, f'/proc/{{other}}/root/run/borg/state'),
    'self': attempt(open, '/proc/self/environ'),
    'seize': call(101 if X86 else 117, 0x4206, other, 0, 0),
    'read': call(310 if X86 else 270, other, vector, 1, vector, 1, 0),
    'getfd': call(438, pidfd, 0, 0),
    'setns': call(308 if X86 else 268, pidfd, 0x20000),
    'kill': attempt(os.kill, other, signal.SIGTERM),
    'kill group': attempt(os.killpg, other, signal.SIGTERM),
    'tgkill': call(234 if X86 else 131, other, other, 15),
    'pidfd kill': attempt(signal.pidfd_send_signal, pidfd, signal.SIGTERM),
    'limits': call(302 if X86 else 261, other, 7, 0, 0),
    'is it there': attempt(os.kill, other, 0),
    'kill itself': attempt(os.kill, os.getpid(), signal.SIGCONT),
}})"
    );
    let outside = format!("say([open('/proc/{pid}/environ').read(), os.listdir('/proc/{pid}/root/run/borg/state')])");
    let outside = unconfined(&outside).to_string();
    assert!(outside.contains("OTHERS_SECRET=correct") && outside.contains("started"), "root outside reads it all: {outside}");
    let seen = probe(&machine.archive(&volume, &code)).await;
    let denied = ["seize", "read", "getfd", "setns", "kill", "kill group", "tgkill", "pidfd kill", "limits"];
    for name in denied {
        assert_eq!(seen[name], "EPERM", "{name}");
    }
    assert_eq!(
        (&seen["proc"], &seen["environ"], &seen["root"], &seen["self"]),
        (&json!([]), &json!("ENOENT"), &json!("ENOENT"), &json!("ENOENT"))
    );
    assert_eq!((&seen["is it there"], &seen["kill itself"]), (&json!("ok"), &json!("ok")), "borg asks the first for its locks");
    soon(tokio::fs::write(others_plan.state.join("end"), "")).await.unwrap();
    assert!(soon(other.wait()).await.unwrap().success(), "nothing has happened to it");
}
