//! Whether an archive looks as if something had gone wrong with the volume: emptied, or all of it written anew. Pure.

use borgherd_api::crd::Progress;

/// With fewer files it is usual that all of them have changed, as in a database.
const MANY: u64 = 100;

/// From when on an archive is suspect, in per cent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Less than this is left of the files or bytes of the one before.
    pub(super) left: u64,
    /// This much of it or more is new to the repository.
    pub(super) new: u64,
}

/// What is suspect about an archive, beside the last one that was right.
pub(super) fn judge(before: Progress, now: Progress, limits: Limits) -> Option<String> {
    let shrunk = |before: u64, now: u64| before > 0 && now.saturating_mul(100) < before.saturating_mul(limits.left);
    if shrunk(before.files, now.files) {
        return Some(format!("the newest archive has {} files, and the one before had {}", now.files, before.files));
    }
    if shrunk(before.bytes, now.bytes) {
        return Some(format!("the newest archive has {} bytes, and the one before had {}", now.bytes, before.bytes));
    }
    let (new, all) = (now.deduplicated_bytes?, now.compressed_bytes?);
    let anew = now.files >= MANY && all > 0 && limits.new <= 100 && new.saturating_mul(100) >= all.saturating_mul(limits.new);
    anew.then(|| format!("of the {} files of the newest archive nearly everything has changed", now.files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_suspect() {
        let limits = Limits { left: 50, new: 95 };
        let archive = |files, bytes, compressed, new| Progress {
            files,
            bytes,
            total_bytes: None,
            compressed_bytes: Some(compressed),
            deduplicated_bytes: Some(new),
        };
        let before = archive(1000, 10_000, 9000, 9000);
        for (now, suspect) in [
            (archive(0, 0, 0, 0), true),
            (archive(499, 10_000, 9000, 10), true),
            (archive(500, 5000, 4000, 10), false),
            (archive(1000, 4999, 4000, 10), true),
            (archive(1000, 10_000, 9000, 8550), true),
            (archive(1000, 10_000, 9000, 8549), false),
            (archive(5000, 90_000, 80_000, 70_000), false),
        ] {
            assert_eq!(judge(before, now, limits).is_some(), suspect, "{now:?}");
        }
        assert_eq!(judge(archive(99, 100, 90, 90), archive(99, 100, 90, 90), limits), None, "few files may well change");
        assert_eq!(judge(archive(0, 0, 0, 0), archive(0, 0, 0, 0), limits), None, "an empty volume stays one");
        assert_eq!(judge(before, archive(1000, 10_000, 9000, 9000), Limits { new: 101, ..limits }), None);
    }
}
