//! By what a run is told to judge archives: the one way from its options to verdicts, for what is carried out and for what is only shown.

use super::accept::Accepted;
use super::archive::{Archive, ArchivePlan, ArchiveRule, plan_archives};
use crate::crd::{PruneOptions, Subject};
use crate::policy::Keep;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::collections::BTreeSet;

/// What [`ArchiveRule`] borrows.
#[derive(Clone, Debug)]
pub struct ToldRule<'a> {
    keep: Keep,
    zone: Tz,
    cluster: &'a str,
    incomplete: BTreeSet<DateTime<Utc>>,
    in_use: BTreeSet<String>,
    accepted: Accepted,
}

impl<'a> ToldRule<'a> {
    /// As the options say it, by the clock of `zone`, an IANA name.
    ///
    /// # Errors
    /// What of it cannot be.
    pub fn of(options: &'a PruneOptions, zone: &str) -> Result<Self, String> {
        let PruneOptions { keep, cluster_uid, incomplete, in_use, accepted } = options;
        Ok(Self {
            keep: Keep::parse(keep).map_err(|error| format!("archive-keep '{keep}' {error}"))?,
            zone: zone.parse().map_err(|_| format!("'{zone}' is no IANA time zone"))?,
            cluster: cluster_uid,
            incomplete: incomplete.iter().copied().collect(),
            in_use: in_use.iter().cloned().collect(),
            accepted: Accepted::parse(accepted),
        })
    }

    /// The verdicts about all archives whose names begin as those of `subject` do.
    pub fn plan<'b>(&self, subject: &Subject, archives: &'b [Archive]) -> ArchivePlan<'b> {
        let Self { keep, zone, cluster, incomplete, in_use, accepted } = self;
        let rule = ArchiveRule { keep: *keep, zone: *zone, cluster, incomplete, in_use, accepted };
        plan_archives(&subject.namespace, &subject.pvc, archives, &rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_cannot_be_judges_nothing() {
        for (keep, zone) in [("daily=0", "UTC"), ("", "UTC"), ("daily=1", "Mars/Olympus")] {
            assert!(ToldRule::of(&PruneOptions { keep: keep.into(), ..PruneOptions::default() }, zone).is_err(), "{keep} {zone}");
        }
    }
}
