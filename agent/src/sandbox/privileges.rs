//! What borg may do: the capabilities of its operation, and never more again.
//!
//! Invariant: with `no_new_privs` a program that root executes gets no capability that the process did not have, so clearing the permitted set
//! is enough; the bounding set is cleared too where that is allowed (it needs `CAP_SETPCAP`, which the agent does not have).

use super::{Capabilities, SandboxError};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::io;

/// Borg opens few files at once; whoever closes "all" descriptors in a loop must not have to close a thousand million.
const OPEN_FILES: u64 = 65_536;
/// Well above the agent's.
const OOM_SCORE: i32 = 500;

impl Capabilities {
    fn set(self) -> CapsHashSet {
        match self {
            Self::Repository => CapsHashSet::new(),
            Self::Archive => [Capability::CAP_DAC_READ_SEARCH].into(),
            Self::Restore => [
                Capability::CAP_CHOWN,
                Capability::CAP_DAC_OVERRIDE,
                Capability::CAP_FOWNER,
                Capability::CAP_FSETID,
                Capability::CAP_MKNOD,
                Capability::CAP_SETFCAP,
            ]
            .into(),
        }
    }
}

/// No core file with a key in it, no endless number of descriptors, and the first to go when memory is short.
pub(super) fn limit() -> Result<(), SandboxError> {
    let failed = |error| SandboxError::new("limit resources", error);
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed)?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(OPEN_FILES), hard).map_err(failed)?;
    raise_oom_score().map_err(|error| SandboxError::new("raise the OOM score", error))
}

/// Raised only: lowering needs `CAP_SYS_RESOURCE`, and the kubelet may have given the container more than this.
fn raise_oom_score() -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let score: i32 = fs::read_to_string(FILE)?.trim().parse().map_err(io::Error::other)?;
    if score < OOM_SCORE {
        fs::write(FILE, OOM_SCORE.to_string())?;
    }
    Ok(())
}

/// Gives up all capabilities but those of the operation.
pub(super) fn reduce(capabilities: Capabilities) -> Result<(), SandboxError> {
    let keep = capabilities.set();
    let failed = |error| SandboxError::new("give up capabilities", error);
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let mut missing: Vec<String> = keep.difference(&permitted).map(ToString::to_string).collect();
    missing.sort();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(SandboxError::new(
            "keep capabilities",
            format!("the agent does not have {missing}; its securityContext must add them"),
        ));
    }
    prctl::set_no_new_privs().map_err(|error| SandboxError::new("set no_new_privs", error))?;
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding).map_err(failed)?.difference(&keep) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(failed)?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    caps::set(None, CapSet::Effective, &keep).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &keep).map_err(failed)
}
