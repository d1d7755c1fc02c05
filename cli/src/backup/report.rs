//! What `backup --wait` shows: a step for each volume while it goes on, a summary at its end. Pure.

use crate::duration::precise;
use crate::instant::Here;
use crate::output::{self, Tone, paint, printable};
use crate::progress::{Step, numbers};
use borgherd_api::crd::{Backup, Durations, Outcome, Progress, VolumePhase, VolumeStatus};
use kube::ResourceExt as _;

/// Where a volume stands, in words.
pub(super) fn step(volume: &VolumeStatus, here: Here) -> Step {
    let ended = volume.phase == VolumePhase::Finished;
    let reason = volume.reason.filter(|_| !ended).map(|r| format!(" ({r})")).unwrap_or_default();
    Step {
        name: volume.pvc.clone(),
        at: position(volume.phase),
        of: position(VolumePhase::Finished),
        doing: doing(volume, here) + &reason,
        numbers: numbers(volume.progress.filter(|_| volume.phase >= VolumePhase::Archiving)),
        ended,
    }
}

const fn position(phase: VolumePhase) -> u64 {
    match phase {
        VolumePhase::Pending => 0,
        VolumePhase::Cutting => 1,
        VolumePhase::Cut => 2,
        VolumePhase::Waiting => 3,
        VolumePhase::Cloning => 4,
        VolumePhase::Queued => 5,
        VolumePhase::Archiving => 6,
        VolumePhase::Cleaning => 7,
        VolumePhase::Finished => 8,
    }
}

fn doing(volume: &VolumeStatus, here: Here) -> String {
    let on_node = volume.node.as_ref().map(|n| format!(" on {n}")).unwrap_or_default();
    let again = if volume.attempt > 1 { format!(", attempt {}", volume.attempt) } else { String::new() };
    let cut = volume.cut.map(|cut| format!("cut at {}, ", here.local(cut))).unwrap_or_default();
    match volume.phase {
        VolumePhase::Pending => "waiting to be cut".to_owned(),
        VolumePhase::Cutting => "taking the snapshot".to_owned(),
        VolumePhase::Cut => format!("{cut}snapshot not ready yet"),
        VolumePhase::Waiting => format!("{cut}waiting to be archived{again}"),
        VolumePhase::Cloning if volume.live.as_ref().is_some_and(|live| live.held) => {
            format!("mounting it, since no pod uses it{again}")
        }
        VolumePhase::Cloning if volume.live.is_some() => format!("finding the pod that has it mounted{again}"),
        VolumePhase::Cloning => format!("mounting a clone{on_node}{again}"),
        VolumePhase::Queued => format!("waiting for a slot{on_node}{again}"),
        VolumePhase::Archiving => format!("archiving{on_node}{again}"),
        VolumePhase::Cleaning => "cleaning up".to_owned(),
        VolumePhase::Finished => volume.outcome.map_or("ended", word).to_owned(),
    }
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Incomplete => "incomplete",
        Outcome::Superseded => "superseded",
        Outcome::Failed => "failed",
    }
}

const fn tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Succeeded => Tone::Good,
        Outcome::Incomplete | Outcome::Superseded => Tone::Warn,
        Outcome::Failed => Tone::Bad,
    }
}

/// What was made of each volume, how large it is and how long each phase took.
pub(super) fn summary(backup: &Backup, here: Here, colours: bool) -> String {
    let namespace = backup.namespace().unwrap_or_default();
    let status = backup.status.clone().unwrap_or_default();
    let mut text = Vec::new();
    for volume in &status.volumes {
        let outcome = volume.outcome.map_or_else(|| "ended".to_owned(), |o| paint(word(o), tone(o), colours));
        text.push(format!("{namespace}/{}: {outcome}\n", printable(&volume.pvc)));
        for (left, right) in lines(volume, here) {
            text.push(format!("  {left:10} {}\n", printable(&right)));
        }
    }
    if let Some((from, to)) = status.started_at.zip(status.finished_at) {
        text.push(format!("took {}\n", precise((to - from).as_seconds_f64())));
    }
    text.concat()
}

fn lines(volume: &VolumeStatus, here: Here) -> Vec<(&'static str, String)> {
    let why = match (volume.reason, &volume.message) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (Some(reason), None) => Some(reason.to_string()),
        (None, message) => message.clone(),
    };
    let repository = volume.repository.as_ref().map(|r| format!(" in {r}")).unwrap_or_default();
    let found = [
        ("why", why),
        (if volume.live.is_some() { "read from" } else { "cut" }, volume.cut.map(|cut| here.full(cut))),
        ("snapshot", volume.snapshot.clone()),
        ("archive", volume.archive.as_ref().map(|a| format!("{a}{repository}"))),
        ("size", volume.progress.map(sizes)),
        ("phases", volume.durations.map(phases).filter(|p| !p.is_empty())),
    ];
    found.into_iter().filter_map(|(left, right)| Some((left, right?))).collect()
}

/// `12,000 files, 1.2 GB, 800 MB compressed, 1 MB new`.
fn sizes(progress: Progress) -> String {
    let compressed = progress.compressed_bytes.map(|b| format!("{} compressed", output::bytes(b)));
    let new = progress.deduplicated_bytes.map(|b| format!("{} new to the repository", output::bytes(b)));
    let all = [Some(numbers(Some(progress))), compressed, new];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `cut 0.3 s, ready 1.2 s, …`: the phases that were measured, in their order.
fn phases(durations: Durations) -> String {
    let Durations { cut_visible, cut_to_ready, admission, clone, slot_wait, borg, clean } = durations;
    let phases = [
        ("cut", cut_visible),
        ("ready", cut_to_ready),
        ("admission", admission),
        ("clone", clone),
        ("slot", slot_wait),
        ("borg", borg),
        ("clean", clean),
    ];
    let told: Vec<String> =
        phases.into_iter().filter_map(|(name, seconds)| Some(format!("{name} {}", precise(seconds?.max(0.0))))).collect();
    told.join(", ")
}
