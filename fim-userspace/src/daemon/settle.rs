//! What comes after a response: the record, the notes, and another look where it is needed.

use crate::core::correlate::{Correlator, Look};
use crate::core::entry::{Entry, FileType, Found, Identity};
use crate::core::event::{Response, State};
use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::core::plan::Step;
use crate::core::quarantine::Reason;
use crate::core::witness::Deeds;
use crate::respond::Evidence;
use crate::sensor::actor::proc::{has_open, is_still};
use crate::store::{EvidenceRow, StoreError, Upkeep};
use crate::tree::inspect;

use super::act::Act;
use super::clock::boottime_ns;
use super::examine::kept_by_excluded;
use super::journal;
use super::reconcile::{RESTLESS, Reconciler};
use super::record::conclude;
use super::watch::Watch;

impl Reconciler {
    /// Records how an act ended, and makes sure that the file is right now.
    pub(super) fn settle(&mut self, watch: &Watch, mut act: Act, upkeep: &mut Upkeep) {
        let now = boottime_ns();
        if act.void()
            && act.filled
            && let Some(keeper) = kept_by_excluded(watch, &act.finding.change.path)
        {
            // No further look would find it empty.
            act.again = false;
            act.error = Some(format!(
                "the folder cannot be removed while it holds {keeper}, which `exclude` says not to touch; remove that by hand"
            ));
        }
        if act.void() {
            let mut look = act.finding.look;
            look.directory |= act.filled;
            if act.filled {
                look.deeds = look.deeds.with(Deeds::CAME_ALONG);
            }
            upkeep.closed_intents.extend(act.intent);
            let told = look.attempts == RESTLESS && act.grant.is_none();
            let path = look.path.clone();
            self.retry(look, now);
            if told {
                act.event.message = Some("it does not keep still; fim goes on restoring it".into());
                conclude(&mut act.event, &Look::new(watch.id, path, now), Response::Pending, None, None);
                let change = &act.finding.change;
                self.tell(watch, &change.path, change.kind, &act.policy, journal::Entry::plain(act.event));
            }
            return;
        }
        if act.grant.is_some() {
            return self.approve(watch, act, upkeep);
        }
        let response = act.response();
        let (look, change) = (&act.finding.look, &act.finding.change);
        note_holders(&mut self.correlator, look, change.after.as_ref());
        conclude(&mut act.event, look, response, act.righted, act.error.clone());
        let after = change.after.as_ref().map(|found| found.entry.clone());
        let handled = matches!(response, Response::Restored | Response::Quarantined | Response::Deleted);
        let as_known = |known: &Option<Entry>| match (known, &after) {
            (Some(known), Some(after)) => act.policy.satisfied(known, after),
            (known, after) => known == after,
        };
        let known = match handled {
            true => None,
            false => self.store.open_change(watch.path(), &change.path).ok().flatten(),
        };
        let told = known.as_ref().is_some_and(as_known);
        act.event.previous = known
            .filter(|known| *known != change.before && *known != after)
            .map(|known| known.as_ref().map(State::from));
        if handled {
            self.recent.note(watch.id, &change.path, now);
            upkeep.resolved.push(change.path.clone());
            self.verify(watch, &act, upkeep);
        } else {
            upkeep.open.push((change.path.clone(), after));
            if response == Response::None {
                self.leave_renamed(watch, &act, upkeep);
            }
        }
        if act.again || (response == Response::Failed && !act.plan.steps.is_empty()) {
            self.retry(act.finding.look.clone(), now);
        }
        // Its intent stays open until what was taken out of its place is gone: a crash before is healed at the next start.
        let closes = act.intent.filter(|_| !act.unreleased);
        upkeep.closed_intents.extend(act.intent.filter(|_| act.unreleased));
        if told && act.evidence.is_empty() {
            upkeep.closed_intents.extend(closes);
        } else {
            let evidence = evidence_rows(watch, act.evidence);
            let entry = journal::Entry { event: act.event, closes, evidence, approved: Vec::new() };
            self.tell(watch, &act.finding.change.path, act.finding.change.kind, &act.policy, entry);
        }
    }

    /// Records an authorised change; with its record the baseline holds what is there.
    fn approve(&mut self, watch: &Watch, mut act: Act, upkeep: &mut Upkeep) {
        note_holders(&mut self.correlator, &act.finding.look, act.finding.change.after.as_ref());
        let path = act.finding.change.path.clone();
        if let Some(found) = &mut act.finding.change.after {
            found.identity = self.identity_of(watch.id, &path, found);
        }
        let change = &act.finding.change;
        conclude(&mut act.event, &act.finding.look, Response::None, None, None);
        let known = self.store.open_change(watch.path(), &change.path).ok().flatten();
        let after = change.after.as_ref().map(|found| found.entry.clone());
        act.event.previous = known
            .filter(|known| *known != change.before && *known != after)
            .map(|known| known.as_ref().map(State::from));
        upkeep.resolved.push(change.path.clone());
        upkeep.resolved.extend(change.old_path.clone());
        let approved = self.approvals(watch, &act.finding.change);
        let entry = journal::Entry { event: act.event, closes: None, evidence: Vec::new(), approved };
        self.journal.add(entry);
    }

    /// Looks again at what was put right: a writer may go on writing, and a folder has something in it.
    fn verify(&mut self, watch: &Watch, act: &Act, upkeep: &mut Upkeep) {
        let now = boottime_ns();
        for step in &act.plan.steps {
            let (path, folder) = match step {
                Step::Replace { path, approved, .. } => (path, approved.kind == FileType::Directory),
                Step::Reattribute { path, .. } => (path, false),
                Step::MoveBack { to, expected, .. } => (to, expected.entry.kind == FileType::Directory),
                Step::Quarantine { .. } | Step::Delete { .. } => continue,
            };
            let approved = self.store.baseline_get(watch.path(), path).ok().flatten();
            let found = inspect::inspect(&watch.root, path, None).ok().flatten();
            let (mut right, mut equal) = (false, false);
            if let (Some(a), Some(f)) = (&approved, &found) {
                equal = a.entry == f.entry;
                right = act.policy.satisfied(&a.entry, &f.entry);
            }
            // With its attributes put back it is still the same file, and may be open.
            if right && !matches!(step, Step::Reattribute { .. }) {
                self.correlator.forget_writers(watch.id, path);
            }
            if let Some(found) = found.filter(|_| equal) {
                let identity = self.identity_of(watch.id, path, &found);
                upkeep.seen.push((path.clone(), identity));
            }
            if !right || folder {
                let mut look = Look::new(watch.id, path.clone(), now);
                look.witnessed = act.finding.look.witnessed.as_possible();
                (look.directory, look.sources) = (folder, act.finding.look.sources);
                look.attempts = if right { 0 } else { act.finding.look.attempts };
                if folder {
                    look.deeds = Deeds::CAME_ALONG;
                }
                if right { self.correlator.schedule(look, now) } else { self.retry(look, now) }
            }
        }
    }

    /// A renamed folder that is only told about: what is in it is no news of its own.
    fn leave_renamed(&mut self, watch: &Watch, act: &Act, upkeep: &mut Upkeep) {
        let change = &act.finding.change;
        let Some(old) = &change.old_path else { return };
        for (path, approved) in self.store.baseline_children(watch.path(), old).unwrap_or_default() {
            let tail = path.as_bytes().get(old.as_bytes().len()..).unwrap_or_default();
            let new = [change.path.as_bytes(), tail].concat();
            let Some(new) = RelPath::new(new) else { continue };
            let found = inspect::inspect(&watch.root, &new, None).ok().flatten().map(|f| f.entry);
            let ignored = watch.policy.of(&path, approved.entry.kind == FileType::Directory).ignore;
            if found.as_ref().is_some_and(|now| approved.entry.differences_but(now, ignored).is_empty()) {
                upkeep.open.extend([(path, None), (new, found)]);
            } else if new != change.path {
                // Altered on the way: that is told of by itself.
                self.correlator.schedule(Look::new(watch.id, new, boottime_ns()), 0);
            }
        }
    }

    /// A path that equals its baseline.
    pub(super) fn right(
        &mut self,
        watch: &Watch,
        look: Look,
        found: Option<Found>,
        upkeep: &mut Upkeep,
    ) -> Result<(), StoreError> {
        note_holders(&mut self.correlator, &look, found.as_ref());
        if let Some(found) = &found {
            upkeep.seen.push((look.path.clone(), self.identity_of(watch.id, &look.path, found)));
        }
        if self.begun.has_to_tell(watch.id, &look.path) {
            self.conclude();
        }
        self.await_copy(watch.id, &look.path);
        let mut known = self.store.open_change(watch.path(), &look.path)?;
        if known.is_some() && self.begun.is_behind(watch.id, &look.path) {
            self.conclude();
            known = self.store.open_change(watch.path(), &look.path)?;
        }
        if let Some(known) = known {
            upkeep.resolved.push(look.path.clone());
            let mut event = self.stamp.resolved(watch, &look);
            event.previous = Some(known.as_ref().map(State::from));
            event.after = found.as_ref().map(|found| State::from(&found.entry));
            event.before = event.after.clone();
            event.muted = self.repetition.mutes(&(watch.id, look.path));
            self.journal.add(journal::Entry::plain(event));
        }
        Ok(())
    }
}

impl Reconciler {
    /// What a file is known again by. A store into a page that is dirty already moves no time, so that the content of a file
    /// that is mapped for writing is read again each time.
    fn identity_of(&self, watch: WatchId, path: &RelPath, found: &Found) -> Identity {
        match self.correlator.is_mapped(watch, path) {
            true => Identity { ctime_ns: 0, ..found.identity },
            false => found.identity,
        }
    }
}

/// What was seen of the path is all known; `found` is there now.
fn note_holders(correlator: &mut Correlator, look: &Look, found: Option<&Found>) {
    let Some(Identity { dev, ino, .. }) = found.map(|found| found.identity) else {
        return correlator.forget_writers(look.watch, &look.path);
    };
    correlator.known_at(look, |actor, deeds| {
        let (Some(pid), Some(start_ns)) = (actor.pid, actor.start_ns) else { return false };
        // A mapping cannot be looked up so easily: its process is taken to have it to its end.
        is_still(pid, start_ns) && (deeds.any(Deeds::MAPPED) || has_open(pid, dev, ino))
    });
}

pub(super) fn evidence_rows(watch: &Watch, evidence: Vec<(Reason, Evidence)>) -> Vec<EvidenceRow> {
    let row = |(reason, e): (Reason, Evidence)| EvidenceRow {
        watch: watch.path().to_path_buf(),
        path: e.path,
        found: e.found,
        digest: e.digest,
        reason,
    };
    evidence.into_iter().map(row).collect()
}
