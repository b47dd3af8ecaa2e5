//! Copies of large files that are only told of, made by a thread of its own: what has to be put right does not wait for them.
//!
//! A record waits for its copy, and whatever comes to be told of the same path waits for that record.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, bounded, never};

use super::act::Act;
use super::conclude::paths;
use super::copies::{Copy, copied};
use super::reconcile::Reconciler;
use super::watch::Watch;
use crate::core::correlate::Look;
use crate::core::entry::Found;
use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::pulse;
use crate::respond::{Evidence, Responder};
use crate::store::Upkeep;

/// An act that waits for its copy.
struct Waiting {
    watch: Arc<Watch>,
    act: Act,
    /// What is to be copied.
    found: Found,
    /// Looks at its path that came since: they are due once it is told.
    looks: Vec<Look>,
}

/// Acts whose copies are made, one after the other.
pub struct Copier {
    at_work: Option<Waiting>,
    queue: VecDeque<Waiting>,
    /// What becomes of the one at work.
    pub done: Receiver<Copy>,
}

impl Default for Copier {
    fn default() -> Self {
        Self { at_work: None, queue: VecDeque::new(), done: never() }
    }
}

impl Copier {
    /// How many acts wait for their copies.
    pub fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.at_work.is_some())
    }

    /// Whether something about `path` waits for its copy.
    pub fn has(&self, watch: WatchId, path: &RelPath) -> bool {
        let about = |w: &Waiting| w.watch.id == watch && paths(&w.act).any(|p| p == path);
        self.at_work.as_ref().is_some_and(about) || self.queue.iter().any(about)
    }

    /// The act that `path` waits for, if there is one; it is done next.
    fn hurry(&mut self, watch: WatchId, path: &RelPath) -> Option<&mut Waiting> {
        let about = |w: &Waiting| w.watch.id == watch && paths(&w.act).any(|p| p == path);
        if self.at_work.as_ref().is_some_and(about) {
            return self.at_work.as_mut();
        }
        let at = self.queue.iter().position(about)?;
        let act = self.queue.remove(at)?;
        self.queue.push_front(act);
        self.queue.front_mut()
    }

    /// Gives back the looks that need not wait for a copy.
    pub fn hold(&mut self, looks: Vec<Look>) -> Vec<Look> {
        if self.waiting() == 0 {
            return looks;
        }
        let mut free = Vec::with_capacity(looks.len());
        for look in looks {
            match self.hurry(look.watch, &look.path) {
                Some(waiting) => waiting.looks.push(look),
                None => free.push(look),
            }
        }
        free
    }
}

impl Reconciler {
    pub(super) fn copy_beside(&mut self, watch: Arc<Watch>, act: Act, found: Found) {
        self.copier.queue.push_back(Waiting { watch, act, found, looks: Vec::new() });
        self.copy_next();
    }

    fn copy_next(&mut self) {
        while self.copier.at_work.is_none() {
            let Some(next) = self.copier.queue.pop_front() else { return };
            match self.begin_copy(&next) {
                Ok(done) => (self.copier.done, self.copier.at_work) = (done, Some(next)),
                Err(error) => self.tell_copied(next, Err(format!("no thread can be started ({error})"))),
            }
        }
    }

    fn begin_copy(&mut self, next: &Waiting) -> std::io::Result<Receiver<Copy>> {
        self.make_room_for(next.found.entry.size);
        let (out, done) = bounded(1);
        let (responder, root) = (Responder::new(self.vault.clone()), next.watch.root.clone());
        let (path, found) = (next.act.finding.change.path.clone(), next.found.clone());
        std::thread::Builder::new().name("fim-copy".into()).spawn(move || {
            // The daemon may have ended meanwhile.
            let _ = out.send(responder.copy(&root, &path, &found, false));
        })?;
        Ok(done)
    }

    /// The copy at work is made, or failed: its act is told, and the next one begun.
    pub(super) fn copied(&mut self, copy: Result<Copy, RecvError>) {
        self.copier.done = never();
        let copy = copy.unwrap_or_else(|_| Err("the thread that made it failed".into()));
        if let Some(waiting) = self.copier.at_work.take() {
            self.tell_copied(waiting, copy);
        }
        self.copy_next();
    }

    fn tell_copied(&mut self, waiting: Waiting, copy: Copy) {
        let Waiting { watch, mut act, found, looks } = waiting;
        // Removed for its age or size since: it is looked at again.
        let there = |e: &Evidence| e.digest.is_none_or(|digest| self.vault.contains(&digest));
        copied(&mut act, &found, copy.map(|evidence| evidence.filter(there)));
        self.vouch(&watch, std::slice::from_mut(&mut act));
        // Nothing stays wrong for want of this room.
        self.vault.take_refused();
        let mut upkeep = Upkeep::default();
        self.settle(&watch, act, &mut upkeep);
        self.upkeep.push((watch.id, upkeep));
        self.write();
        looks.into_iter().for_each(|look| self.correlator.schedule(look, 0));
    }

    /// Waits until what has to be told of `path` before anything else has its copy. Only where nobody has looked at the path
    /// itself, but at a folder above or at its other name: those looks are [held](Copier::hold).
    pub(super) fn await_copy(&mut self, watch: WatchId, path: &RelPath) {
        while self.copier.hurry(watch, path).is_some() {
            self.await_one();
        }
    }

    /// As [`await_copy`](Self::await_copy), for all.
    pub(super) fn await_copies(&mut self) {
        while self.copier.waiting() > 0 {
            self.await_one();
        }
    }

    fn await_one(&mut self) {
        // However long it takes, this thread waits for a reason.
        let copy = loop {
            match self.copier.done.recv_timeout(pulse::TURN) {
                Ok(copy) => break Ok(copy),
                Err(RecvTimeoutError::Timeout) => pulse::beat(),
                Err(RecvTimeoutError::Disconnected) => break Err(RecvError),
            }
        };
        self.copied(copy);
    }
}
