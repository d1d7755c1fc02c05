//! `borgherd-agent hold`, the holder pod's process: does nothing until it is told to end, so that the kubelet keeps the claim mounted.
//!
//! Invariant: it ends at once and with success on SIGTERM. As process 1 of its container it has no default action for signals,
//! so it waits for them explicitly.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};

/// Returns when SIGTERM or SIGINT has arrived.
pub fn hold() -> Result<Signal, Errno> {
    let mut ending = SigSet::empty();
    ending.add(Signal::SIGTERM);
    ending.add(Signal::SIGINT);
    ending.thread_block()?;
    ending.wait()
}
