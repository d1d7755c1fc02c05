//! A volume that is read in place, by the mount of a pod of its application, or of a holder where no pod uses it: `Pending → Waiting → Cloning → Queued → Archiving → …`.
//!
//! Its run waits with slot and repository in hand until the applications are held still, then the moment is written to the status, then the
//! run is told it. So each attempt has a moment, a freeze and an archive's name of its own.
//! Invariant: an attempt whose pod is gone, or leaves, is never a success. Its moment is in doubt (`repository::record`) from before the run
//! is let go until the attempt has ended well, so what a read that came to nothing may have left never counts, whatever dies.

mod apply;
pub mod decide;
pub mod find;
pub mod hold;

use borgherd_api::crd::VolumeStatus;

/// As many moments as a status has room for.
const REMEMBERED: usize = 16;

/// The volume after a failed attempt: what its reading may have left does not count.
pub(super) fn void(volume: VolumeStatus) -> VolumeStatus {
    let Some(mut live) = volume.live.clone() else { return volume };
    live.void.extend(volume.cut);
    let surplus = live.void.len().saturating_sub(REMEMBERED);
    live.void.drain(..surplus);
    VolumeStatus { live: Some(live), cut: None, ..volume }
}
