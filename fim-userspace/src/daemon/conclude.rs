//! After places are right: the disk is waited for, records are written, and only then what was there is removed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::act::{Act, Unfinished};
use super::clock::boottime_ns;
use super::descriptors;
use super::reconcile::Reconciler;
use super::shortage::takes_at_most;
use super::watch::Watch;
use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::store::Upkeep;

/// Nanoseconds for which records may wait while there is still something to put right.
const LONGEST_NS: u64 = 2_000_000_000;

/// So many responses are concluded as soon as there is nothing else to do.
const FEW: usize = 32;
/// Nanoseconds without anything new that end a burst.
const PAUSE_NS: u64 = 20_000_000;

/// Responses of one round whose places are right.
struct Round {
    watch: Arc<Watch>,
    acts: Vec<Act>,
    unfinished: Unfinished,
    since_ns: u64,
    /// Bytes that the vault will have to take, at most.
    owed: u64,
}

/// Rounds that wait for the disk, the oldest first.
#[derive(Default)]
pub struct Begun {
    rounds: VecDeque<Round>,
    /// Paths that are told of only once their copy is kept.
    untold: HashSet<(WatchId, RelPath)>,
    /// How often each path is to be told of.
    waiting: HashMap<(WatchId, RelPath), u32>,
}

impl Begun {
    /// Takes the acts that have something to wait for; gives the others back, to be settled at once.
    pub fn add(&mut self, watch: &Arc<Watch>, acts: Vec<Act>, mut unfinished: Unfinished) -> Vec<Act> {
        let (mut waiting, mut others) = (Vec::new(), Vec::new());
        let mut places = Vec::with_capacity(acts.len());
        for act in acts {
            places.push(waiting.len());
            if act.waits() {
                self.untold.insert((watch.id, act.finding.change.path.clone()));
            }
            if act.unreleased || act.waits() { waiting.push(act) } else { others.push(act) }
        }
        for path in waiting.iter().flat_map(paths) {
            *self.waiting.entry((watch.id, path.clone())).or_default() += 1;
        }
        if !waiting.is_empty() {
            unfinished.renumber(&places);
            let owed = waiting.iter().flat_map(|act| &act.plan.steps).map(takes_at_most).sum();
            let (watch, since_ns) = (watch.clone(), boottime_ns());
            self.rounds.push_back(Round { watch, acts: waiting, unfinished, since_ns, owed });
        }
        others
    }

    fn pop(&mut self) -> Option<Round> {
        let round = self.rounds.pop_front()?;
        for act in &round.acts {
            if act.waits() {
                self.untold.remove(&(round.watch.id, act.finding.change.path.clone()));
            }
            for path in paths(act) {
                let key = (round.watch.id, path.clone());
                let left = self.waiting.get(&key).map_or(0, |count| count - 1);
                if left == 0 {
                    self.waiting.remove(&key)
                } else {
                    self.waiting.insert(key, left)
                };
            }
        }
        Some(round)
    }

    /// Whether something that happened to `path` earlier is not told yet.
    pub fn is_behind(&self, watch: WatchId, path: &RelPath) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&(watch, path.clone()))
    }

    /// Whether something about `path` has still to be told before anything else can be decided.
    pub fn has_to_tell(&self, watch: WatchId, path: &RelPath) -> bool {
        !self.untold.is_empty() && self.untold.contains(&(watch, path.clone()))
    }

    fn descriptors(&self) -> usize {
        self.rounds.iter().map(|round| round.unfinished.descriptors()).sum()
    }

    /// Too much to go on with, in number or time.
    pub fn is_full(&self) -> bool {
        self.descriptors() >= descriptors::for_steps() / 4 * 3
            || self.rounds.front().is_some_and(|r| boottime_ns().saturating_sub(r.since_ns) > LONGEST_NS)
    }

    /// Descriptors that further steps may hold.
    pub fn room(&self) -> usize {
        descriptors::for_steps().saturating_sub(self.descriptors())
    }

    /// Bytes that the vault will have to take for what waits here, at most.
    pub fn owed(&self) -> u64 {
        self.rounds.iter().map(|round| round.owed).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// When the oldest round is concluded, if nothing more comes; nanoseconds since boot. A few at once; many only after a
    /// pause, since what comes meanwhile would wait for all of them.
    pub fn due_ns(&self) -> Option<u64> {
        let (first, last) = (self.rounds.front()?, self.rounds.back()?);
        let few = self.rounds.len() == 1 && first.acts.len() <= FEW;
        Some(if few { 0 } else { (last.since_ns + PAUSE_NS).min(first.since_ns + LONGEST_NS) })
    }
}

/// The paths that the record of an act is about.
pub(super) fn paths(act: &Act) -> impl Iterator<Item = &RelPath> {
    let change = &act.finding.change;
    std::iter::once(&change.path).chain(&change.old_path)
}

impl Reconciler {
    /// Records are told in the order in which things happened to a path.
    pub(super) fn catch_up_with(&mut self, watch: WatchId, path: &RelPath) {
        if self.begun.is_behind(watch, path) {
            self.conclude();
        }
        self.await_copy(watch, path);
    }

    /// Concludes what it is time for: as long as more is known to be wrong, putting it right comes first.
    pub(super) fn conclude_due(&mut self, calm: bool) {
        let now = boottime_ns();
        let mut calm = calm && self.begun.due_ns().is_some_and(|due| due <= now);
        while !self.begun.is_empty() && (calm || self.begun.is_full()) {
            self.conclude_oldest();
            calm &= self.inbox.is_empty();
        }
    }

    /// Makes everything durable that was begun, and records it.
    pub(super) fn conclude(&mut self) {
        while !self.begun.is_empty() {
            self.conclude_oldest();
        }
    }

    /// As [`conclude`](Self::conclude), for the round that has waited longest.
    pub(super) fn conclude_oldest(&mut self) {
        if self.begun.rounds.len() > 1 {
            // One sync is enough for all of them.
            self.responder.sync(self.begun.rounds.iter_mut().flat_map(|round| round.unfinished.insecure()));
        }
        let Some(Round { watch, mut acts, mut unfinished, .. }) = self.begun.pop() else { return };
        unfinished.secure(&self.responder, &watch, &mut acts);
        self.after_storing(&watch);
        let mut acts = self.keep_copies(&watch, acts);
        self.vouch(&watch, &mut acts);
        self.unreleased.push((watch.id, unfinished.secured()));
        let mut upkeep = Upkeep::default();
        for act in acts {
            self.settle(&watch, act, &mut upkeep);
        }
        self.upkeep.push((watch.id, upkeep));
        self.write();
    }
}
