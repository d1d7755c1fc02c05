//! Retention: which snapshots stay, which are marked, which are swept. Facts in, verdicts out: what executes and what previews is handed
//! the same list.
//!
//! A snapshot that becomes ready gets a label for each tier (hour, day, week, month, year of its cut by the policy's clock) that no other
//! ready snapshot of its PVC has: so the first of a period stands for it. The newest N of a tier keep their label. What holds no tier is
//! marked with today's date; what was marked on an earlier day and a day ago or more is swept.
//!
//! Invariants, each a property in `tests`: the last ready snapshot of a PVC is never swept; one that is not ready neither counts nor
//! evicts; the order of the facts means nothing; carried out, a plan leaves nothing to do; a policy that keeps more keeps all that one
//! that keeps less does; PVCs have nothing to do with each other, but for the breaker over the cluster.

mod accept;
mod archive;
mod breaker;
mod period;
mod plan;
mod prefix;
mod rule;
mod snapshot;
mod told;
mod verdict;

#[cfg(test)]
mod tests;

pub use accept::{Accepted, foreign_token, prune_token, repaired_token, suspect_token};
pub use archive::{Archive, ArchivePlan, ArchiveRule, ArchiveWhy, Stop, plan_archives};
pub use breaker::{Hold, Token, Total, hold};
pub use period::Period;
pub use plan::plan;
pub use prefix::Prefix;
pub use rule::{Rule, Said};
pub use snapshot::{Change, Field, Restored, Retain, Snapshot, restored};
pub use told::ToldRule;
pub use verdict::{Fate, Verdict, Why};

use chrono::{DateTime, Utc};

/// Those of each PVC together, by namespace and name.
pub fn by_pvc(snapshots: &[Snapshot]) -> Vec<Vec<&Snapshot>> {
    let mut all: Vec<&Snapshot> = snapshots.iter().collect();
    all.sort_by(|one, other| (&one.namespace, &one.pvc).cmp(&(&other.namespace, &other.pvc)));
    all.chunk_by(|one, other| one.pvc == other.pvc && one.namespace == other.namespace).map(<[_]>::to_vec).collect()
}

/// The verdicts about all `snapshots`, PVC by PVC; `said` tells what is said about a PVC (namespace, name) now.
pub fn judge(snapshots: &[Snapshot], said: impl Fn(&str, &str) -> Said, now: DateTime<Utc>) -> Vec<Vec<Verdict<'_>>> {
    judge_by(snapshots, |namespace, pvc, snapshots| Rule::of(&said(namespace, pvc), snapshots), now)
}

/// The same by rules that are known already: to try others.
pub fn judge_by<'a>(
    snapshots: &'a [Snapshot],
    rule: impl Fn(&str, &str, &[&Snapshot]) -> Rule,
    now: DateTime<Utc>,
) -> Vec<Vec<Verdict<'a>>> {
    let one = |snapshots: Vec<&'a Snapshot>| {
        let whose = snapshots.first().map_or(("", ""), |first| (first.namespace.as_str(), first.pvc.as_str()));
        plan(&snapshots, &rule(whose.0, whose.1, &snapshots), now)
    };
    by_pvc(snapshots).into_iter().map(one).collect()
}
