//! Keeping the vault within its limits. The daemon does it by its own clock; `fim vault prune` while no daemon runs.

use std::time::Duration;

use crate::control::Pruned;
use crate::core::event::{Event, Record};
use crate::core::retention::{Candidate, Decision, Hold, Rules, decide};
use crate::core::size::show;
use crate::store::vault::{Vault, VaultError};
use crate::store::{References, Store, StoreError};

/// An object that nobody refers to yet may be evidence whose record is on its way.
const IN_HAND_NS: i64 = 600 * 1_000_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long evidence and former versions are kept.
    pub max_age: Option<Duration>,
    /// Bytes that all objects together may take.
    pub max_size: Option<u64>,
}

/// What was removed, and what could not be.
pub struct Report {
    pub decision: Decision,
    /// Objects that are gone, and the bytes that they took.
    pub removed: usize,
    pub freed: u64,
    /// One sentence for each object that would not go.
    pub failed: Vec<String>,
    /// What the ledger says of it; `None` when nothing had to go.
    pub record: Option<Record>,
}

#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// What would go now; nothing is changed. `now_ns`: nanoseconds since the epoch.
pub fn look(
    store: &Store,
    vault: &Vault,
    retention: &Retention,
    now_ns: i64,
) -> Result<Decision, UpkeepError> {
    let objects = vault.objects()?;
    let references = store.references()?;
    let candidates = objects.into_iter().map(|object| {
        let refs = references.get(&object.digest);
        let hold = match refs {
            Some(refs) if refs.baseline > 0 => Hold::Baseline,
            None if object.stored_ns > now_ns - IN_HAND_NS => Hold::InHand,
            _ => Hold::Free,
        };
        let time_ns = refs.map_or(object.stored_ns, |refs| newest_ns(refs).unwrap_or(now_ns));
        Candidate { digest: object.digest, size: object.size, time_ns, hold }
    });
    let age_ns = retention.max_age.map(|age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
    let rules =
        Rules { before_ns: age_ns.map(|age| now_ns.saturating_sub(age)), max_size: retention.max_size };
    Ok(decide(candidates.collect(), &rules))
}

fn newest_ns(refs: &References) -> Option<i64> {
    let time: jiff::Timestamp = refs.newest.as_deref()?.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// Removes what `retention` does not keep, and says so in one record, which `event` makes of a sentence. Nobody else may
/// store into the vault meanwhile: the caller is the daemon, or holds its lock.
pub fn prune(
    store: &mut Store,
    vault: &Vault,
    retention: &Retention,
    now_ns: i64,
    event: impl FnOnce(String) -> Event,
) -> Result<Report, UpkeepError> {
    let decision = look(store, vault, retention, now_ns)?;
    carry_out(store, vault, decision, event)
}

/// As [`prune`], for what was decided just now.
pub fn carry_out(
    store: &mut Store,
    vault: &Vault,
    decision: Decision,
    event: impl FnOnce(String) -> Event,
) -> Result<Report, UpkeepError> {
    let mut report = Report { decision, removed: 0, freed: 0, failed: Vec::new(), record: None };
    if report.decision.remove.is_empty() {
        return Ok(report);
    }
    let digests: Vec<_> = report.decision.remove.iter().map(|object| object.digest).collect();
    // Noted first: an object that stays after a crash in between is nobody's and goes next time.
    report.record = Some(store.evict(&digests, &event(sentence(&report.decision)))?);
    for digest in &digests {
        crate::pulse::beat();
        match vault.remove(digest) {
            Ok(freed) => (report.removed, report.freed) = (report.removed + 1, report.freed + freed),
            Err(error) => report.failed.push(error.to_string()),
        }
    }
    Ok(report)
}

impl Report {
    pub fn told(&self) -> Pruned {
        Pruned {
            removed: self.removed as u64,
            failed: self.failed.clone(),
            seq: self.record.as_ref().map(|record| record.seq),
            ..told(&self.decision)
        }
    }
}

/// What is decided and not done.
pub fn told(decision: &Decision) -> Pruned {
    Pruned {
        removed: 0,
        by_age: decision.by_age as u64,
        freed: decision.before - decision.after,
        left: decision.after,
        baseline: decision.baseline,
        over: decision.over,
        failed: Vec::new(),
        seq: None,
        sentence: sentence(decision),
    }
}

/// What goes, and what is still too much, in one sentence.
pub fn sentence(decision: &Decision) -> String {
    let (count, by_age) = (decision.remove.len(), decision.by_age);
    let freed = show(decision.before - decision.after);
    let why = match (by_age, count - by_age) {
        (0, 0) => "nothing had to go".into(),
        (_, 0) => format!("{count} objects ({freed}) for their age"),
        (0, _) => format!("{count} objects ({freed}) for the size of all, the oldest first"),
        (_, by_size) => {
            format!("{count} objects ({freed}), {by_age} for their age and {by_size} for the size of all")
        }
    };
    let left = format!("removed from the vault: {why}; {} are left", show(decision.after));
    match over(decision) {
        Some(over) => format!("{left}, {over}"),
        None => left,
    }
}

/// What is above the limit and cannot go, and why.
pub fn over(decision: &Decision) -> Option<String> {
    (decision.over > 0).then(|| {
        format!(
            "{} above max_size, since the present baseline needs {} and the rest is in use",
            show(decision.over),
            show(decision.baseline)
        )
    })
}

#[cfg(test)]
mod tests;
