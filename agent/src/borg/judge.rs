//! What pruning would do with the archives of a PVC: the same listing and the same verdicts, and nothing is deleted.

use super::execute::Execution;
use super::outcome::{self, Failure};
use borgherd_api::Reason;
use borgherd_api::crd::{ArchiveVerdict, Judged, PruneOptions, RunPhase, Subject};
use borgherd_api::names;
use borgherd_api::retention::{Archive, ArchivePlan, ArchiveWhy, ToldRule};

/// Verdicts that a status shows.
const SHOWN: usize = 2000;

impl Execution<'_> {
    pub(super) fn rule<'a>(&self, options: &'a PruneOptions) -> Result<ToldRule<'a>, Failure> {
        let invalid = |detail: String| outcome::failure(Reason::Invalid, &self.target, &detail);
        ToldRule::of(options, &self.job.spec.time_zone).map_err(invalid)
    }

    pub(super) async fn judge(&mut self, options: &PruneOptions) -> Result<RunPhase, Failure> {
        let rule = self.rule(options)?;
        let archives = self.all_archives().await?;
        let subject = &self.job.spec.subject;
        let plan = rule.plan(subject, &archives);
        let stop = plan.stop.as_ref().map(|stop| self.stopped(stop));
        let (reason, message) = stop.map(|Failure { phase: _, reason, message }| (reason, message)).unzip();
        self.report.judged = Some(Judged { reason, message, ..shown(&plan, subject) });
        Ok(RunPhase::Succeeded)
    }
}

fn shown(plan: &ArchivePlan<'_>, subject: &Subject) -> Judged {
    let left_out = plan.verdicts.len().saturating_sub(SHOWN);
    let verdict = |(archive, why): &(&Archive, ArchiveWhy)| ArchiveVerdict {
        name: archive.name.clone(),
        cut: names::cut_of_archive(&subject.namespace, &subject.pvc, &archive.name),
        goes: why.deletes(),
        why: why.to_string(),
    };
    let archives = plan.verdicts.iter().skip(left_out).map(verdict).collect();
    Judged { archives, left_out: u32::try_from(left_out).unwrap_or(u32::MAX), ..Judged::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use chrono::{DateTime, Utc};

    #[test]
    fn of_very_many_archives_the_last_are_shown_and_how_many_are_not() {
        let options = PruneOptions { keep: "last=2".into(), cluster_uid: "c".into(), ..PruneOptions::default() };
        let subject = Subject { namespace: "shop".into(), pvc: "db".into() };
        let cut = |n: i64| DateTime::<Utc>::from_timestamp(1_700_000_000 + n, 0).unwrap();
        let archive = |n| Archive { name: names::archive("shop", "db", cut(n)), cluster: Some("c".into()) };
        let archives: Vec<Archive> = (0..2500).map(archive).collect();
        let shown = shown(&ToldRule::of(&options, "UTC").unwrap().plan(&subject, &archives), &subject);
        assert_eq!((shown.archives.len(), shown.left_out), (SHOWN, 500));
        let last = shown.archives.last().unwrap();
        assert_eq!((last.cut, last.goes), (Some(cut(2499)), false));
        assert_eq!(shown.archives.iter().filter(|verdict| !verdict.goes).count(), 2);
    }
}
