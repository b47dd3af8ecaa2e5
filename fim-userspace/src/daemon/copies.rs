//! Copies of what is only told of: what stands there goes into the vault too, so that every version of a file can be had
//! and compared. It is done after everything that has to be put right.

use std::collections::HashSet;
use std::sync::Arc;

use crate::core::entry::{FileType, Found};
use crate::core::event::State;
use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::core::quarantine::Reason;
use crate::respond::Evidence;

use super::act::Act;
use super::reconcile::{RESTLESS, Reconciler};
use super::watch::Watch;

/// Paths that were muted and are left alone now: what stands there at the end is kept, though it was told of.
#[derive(Default)]
pub struct LeftAlone(HashSet<(WatchId, RelPath)>);

/// Bytes of the largest file that is copied.
const LARGEST: u64 = 256 << 20;
/// Bytes of the largest that is copied while everything else waits.
const AT_ONCE: u64 = 1 << 20;
/// Paths that are remembered at a time; more than can be muted.
const LEFT_ALONE: usize = 4096;

impl LeftAlone {
    pub fn add(&mut self, key: (WatchId, RelPath)) {
        if self.0.len() < LEFT_ALONE {
            self.0.insert(key);
        }
    }
}

impl Reconciler {
    /// Notes which acts need a copy of what they leave where it is.
    pub(super) fn mark_copies(&mut self, watch: &Watch, acts: &mut [Act]) {
        for act in acts {
            act.keep = self.wants_copy(watch, act);
        }
    }

    fn wants_copy(&mut self, watch: &Watch, act: &Act) -> bool {
        let change = &act.finding.change;
        if act.grant.is_some() {
            return self.lacks_approved(act);
        }
        let Some(after) = change.after.as_ref().filter(|_| act.plan.steps.is_empty()) else { return false };
        let new = after.entry.kind == FileType::Regular
            && after.entry.sha256.is_some()
            && after.entry.size <= LARGEST
            && after.entry.sha256 != change.before.as_ref().and_then(|before| before.sha256);
        if !new
            || !act.policy.keeps(after.entry.size)
            || watch.root.is_mounted_over(&change.path, &after.entry)
        {
            return false;
        }
        let key = (watch.id, change.path.clone());
        if self.left_alone.0.remove(&key) {
            return true;
        }
        // A log that grows all the time would fill the vault with its versions.
        if self.repetition.mutes(&key) {
            return false;
        }
        let known = self.store.open_change(watch.path(), &change.path).ok().flatten();
        known.is_none_or(|known| known.and_then(|entry| entry.sha256) != after.entry.sha256)
    }

    /// Whether what is about to be approved has yet to be put into the vault.
    fn lacks_approved(&self, act: &Act) -> bool {
        let now = act.finding.change.after.as_ref().map(|found| &found.entry);
        let Some(now) = now.filter(|now| now.kind == FileType::Regular && act.policy.keeps(now.size)) else {
            return false;
        };
        now.sha256.is_some_and(|digest| !self.vault.contains(&digest))
    }

    /// Keeps the copies that were noted; where that is not possible the record says why. Large ones are left to the copier,
    /// with their acts; the others are given back.
    pub(super) fn keep_copies(&mut self, watch: &Arc<Watch>, acts: Vec<Act>) -> Vec<Act> {
        let mut others = Vec::with_capacity(acts.len());
        for act in acts {
            match self.large(&act) {
                Some(found) => self.copy_beside(watch.clone(), act, found),
                None => others.push(act),
            }
        }
        let mut kept: Vec<&mut Act> = others.iter_mut().filter(|act| act.keep).collect();
        let batch = kept.len() > 1;
        for act in &mut kept {
            let change = &act.finding.change;
            let Some(found) = change.after.clone() else { continue };
            let copy = self.copy(watch, &change.path, &found, batch);
            copied(act, &found, copy);
        }
        if batch && let Err(error) = self.vault.commit_batch() {
            for act in kept {
                act.evidence.retain(|(reason, _)| *reason != Reason::Recorded);
                not_kept(act, &error.to_string());
            }
        }
        // Nothing stays wrong for want of this room.
        self.vault.take_refused();
        others
    }

    /// What is to be copied, where that would hold up what has to be put right.
    fn large(&self, act: &Act) -> Option<Found> {
        let found =
            act.finding.change.after.as_ref().filter(|found| act.keep && found.entry.size > AT_ONCE)?;
        let there = found.entry.sha256.is_some_and(|digest| self.vault.contains(&digest));
        (!there).then(|| found.clone())
    }

    fn copy(&mut self, watch: &Watch, path: &RelPath, found: &Found, batch: bool) -> Copy {
        let digest = found.entry.sha256;
        if digest.is_some_and(|digest| self.vault.contains(&digest)) {
            return Ok(Some(Evidence { path: path.clone(), found: found.clone(), digest }));
        }
        self.make_room_for(found.entry.size);
        self.responder.copy(&watch.root, path, found, batch)
    }

    pub(super) fn make_room_for(&mut self, size: u64) {
        if self.vault.room_for(size).is_err() {
            self.make_room(size);
        }
    }
}

/// What became of a copy; `None` when something else stands there.
pub(super) type Copy = Result<Option<Evidence>, String>;

/// Takes in what became of the copy of what `act` leaves where it is.
pub(super) fn copied(act: &mut Act, found: &Found, copy: Copy) {
    match copy {
        Ok(Some(evidence)) if same_content(&evidence.found, found) => {
            act.evidence.push((Reason::Recorded, evidence));
        }
        // Who wrote what is there now has not been judged.
        Ok(_) if act.grant.is_some() => act.again = true,
        // It is looked at again before anything is said; what does not keep still is told as it is now.
        Ok(other) => match other.filter(|_| act.finding.look.attempts >= RESTLESS) {
            None if act.finding.look.attempts < RESTLESS => act.again = true,
            None => {}
            Some(evidence) => {
                act.event.after = Some(State::from(&evidence.found.entry));
                act.finding.change.after = Some(evidence.found.clone());
                act.evidence.push((Reason::Recorded, evidence));
            }
        },
        Err(why) => not_kept(act, &why),
    }
}

fn same_content(kept: &Found, found: &Found) -> bool {
    kept.entry.sha256 == found.entry.sha256
}

fn not_kept(act: &mut Act, why: &str) {
    act.event.message.get_or_insert_with(|| format!("no copy of what is there could be kept: {why}"));
}
