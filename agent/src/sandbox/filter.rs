//! The system calls that borg may not make: those by which a process reaches other files, processes or parts of the kernel than it was given.
//!
//! Invariant: a denied call fails with EPERM, so that a program which merely tries goes on; a call of another ABI cannot slip past the numbers
//! of this one: 32-bit code is killed, x32 is denied as a whole. A list of denied calls and not of allowed ones, since what borg, python,
//! libc and ssh call changes with their versions; the container's own profile (`RuntimeDefault`) lies beneath it.

use super::SandboxError;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;
use std::env::consts::ARCH;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Denied whatever the arguments.
const DENIED: &[libc::c_long] = &[
    // files by handle: around every mount
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // mounts and namespaces
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    STATMOUNT,
    LISTMOUNT,
    OPEN_TREE_ATTR,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // the kernel
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

// Newer than what the libc crate names; the same number everywhere. Rule: the kernel's scripts/syscall.tbl.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;
const OPEN_TREE_ATTR: libc::c_long = 467;

/// Each flag of clone(2) that makes a namespace. (`CLONE_NEWTIME` shares its bit with the exit signal and is only for clone3 and unshare.)
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Installs the filter for this process and all that it becomes or starts. `pid` is its own: borg may signal itself and nobody else.
pub(super) fn install(pid: u32) -> Result<(), SandboxError> {
    let program = program(pid).map_err(|error| SandboxError::new("write the system call filter", error))?;
    seccompiler::apply_filter(&program).map_err(|error| SandboxError::new("install the system call filter", error))
}

fn program(pid: u32) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(ARCH)?;
    let filter = SeccompFilter::new(rules(pid)?, SeccompAction::Allow, SeccompAction::Errno(EPERM), arch)?;
    let mut program = prelude();
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

fn rules(pid: u32) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = DENIED.iter().chain(DENIED_HERE).map(|call| (*call, Vec::new())).collect();
    let clone = NAMESPACES.iter().map(|flag| {
        let flag = u64::from(flag.unsigned_abs());
        rule(&[(0, SeccompCmpOp::MaskedEq(flag), flag)])
    });
    rules.insert(libc::SYS_clone, clone.collect::<Result<_, _>>()?);
    // (call, argument that is the process, argument that is the signal); signal 0 only asks whether a process is there
    for (call, process, signal) in [(libc::SYS_kill, 0, 1), (libc::SYS_tkill, 0, 1), (libc::SYS_tgkill, 0, 2)] {
        let other = rule(&[(process, SeccompCmpOp::Ne, pid.into()), (signal, SeccompCmpOp::Ne, 0)])?;
        rules.insert(call, vec![other]);
    }
    // limits of another process; 0 is the caller
    let other = rule(&[(0, SeccompCmpOp::Ne, 0), (0, SeccompCmpOp::Ne, pid.into())])?;
    rules.insert(libc::SYS_prlimit64, vec![other]);
    Ok(rules)
}

/// A rule that matches where all of (argument, comparison, value) do.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions
        .iter()
        .map(|(argument, operator, value)| SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value));
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

const EPERM: u32 = libc::EPERM.unsigned_abs();
const ENOSYS: u32 = libc::ENOSYS.unsigned_abs();
/// Bit that marks the numbers of the x32 ABI. Rule: `__X32_SYSCALL_BIT`.
const X32: u32 = 0x4000_0000;

/// Before the rules, which know numbers below 512 only and one answer: x32 is denied; clone3 does not exist, because a filter cannot see the flags
/// that it keeps in memory, and libc then uses clone. The number of clone3 is the same in every ABI.
fn prelude() -> BpfProgram {
    // Rule: linux/bpf_common.h
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    // Where the number of the call is in seccomp_data.
    const NUMBER: u32 = 0;
    const CLONE3: u32 = 435;
    const { assert!(libc::SYS_clone3 == CLONE3 as libc::c_long) };
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, 0, 0, NUMBER),
        step(IF_AT_LEAST, 0, 1, X32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | EPERM),
        step(IF_EQUAL, 0, 1, CLONE3),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | ENOSYS),
    ]
}
