//! From observations to looks: which paths must be compared with their baseline, when, and who was there.
//!
//! fanotify reports after the operation, so a look is due at once; only a file that is still being written gets a few
//! milliseconds to be closed, so that the evidence is whole. eBPF reports before the operation and mostly says who;
//! alone it makes a look due a little later, so that nothing depends on the other witness.

use std::collections::{BTreeSet, HashMap};

use super::actor::Actor;
use super::holders::{Holders, Place};
use super::observation::{Deed, Observation, Source, WatchId};
use super::path::RelPath;
use super::witness::{Deeds, Sources, Witnessed};

/// Nanoseconds after which an operation that only eBPF reported is looked at: it has happened by then.
pub const EBPF_SETTLE_NS: u64 = 20_000_000;
/// Nanoseconds that a writer has to finish before its file is looked at all the same.
pub const UNFINISHED_SETTLE_NS: u64 = 10_000_000;
/// The same for a file that was merely opened or mapped for writing.
pub const OPENED_SETTLE_NS: u64 = 500_000_000;
/// Looks that may wait. They pile up while nothing can be recorded; a scan then costs less than the memory.
const WAITING_LIMIT: usize = 200_000;

/// One path to compare with its baseline.
#[derive(Clone, Debug)]
pub struct Look {
    pub watch: WatchId,
    pub path: RelPath,
    pub directory: bool,
    pub deeds: Deeds,
    /// Done for certain, not merely attempted: reported after the operation.
    pub happened: Deeds,
    /// The name it had before, in the same watch.
    pub moved_from: Option<RelPath>,
    /// The name it has now, in the same watch.
    pub moved_to: Option<RelPath>,
    pub witnessed: Witnessed,
    pub sources: Sources,
    /// First report, nanoseconds since boot.
    pub first_ns: u64,
    /// When a writer last closed it, nanoseconds since boot.
    pub closed_ns: Option<u64>,
    /// How often this look has been put off because the file did not keep still.
    pub attempts: u32,
    /// Reports that were under way when it was first examined have been waited for.
    pub caught_up: bool,
}

impl Look {
    /// A look nobody reported: an ancestor, a retry, a scan.
    pub fn new(watch: WatchId, path: RelPath, first_ns: u64) -> Self {
        Self {
            watch,
            path,
            directory: false,
            deeds: Deeds::default(),
            happened: Deeds::default(),
            moved_from: None,
            moved_to: None,
            witnessed: Witnessed::default(),
            sources: Sources::default(),
            first_ns,
            closed_ns: None,
            attempts: 0,
            caught_up: false,
        }
    }

    /// Takes in what another look at the same path knows.
    pub fn absorb(&mut self, other: Look) {
        self.directory |= other.directory;
        self.deeds = self.deeds.with(other.deeds);
        self.happened = self.happened.with(other.happened);
        self.moved_from = other.moved_from.or(self.moved_from.take());
        self.moved_to = other.moved_to.or(self.moved_to.take());
        self.witnessed.merge(&other.witnessed);
        self.sources.fanotify |= other.sources.fanotify;
        self.sources.ebpf |= other.sources.ebpf;
        self.sources.scan |= other.sources.scan;
        self.first_ns = self.first_ns.min(other.first_ns);
        self.closed_ns = self.closed_ns.max(other.closed_ns);
        self.attempts = self.attempts.max(other.attempts);
    }
}

struct Waiting {
    look: Look,
    due_ns: u64,
    /// When somebody who opened or mapped it will have written.
    written_ns: u64,
}

/// Collects observations into looks. Time is given from outside, nanoseconds since boot.
#[derive(Default)]
pub struct Correlator {
    waiting: HashMap<Place, Waiting>,
    /// The same places by time, so that nothing is searched for under load.
    order: BTreeSet<(u64, Place)>,
    /// Who had a path open or mapped for writing when it was last looked at, and may write still.
    writers: Holders,
}

impl Correlator {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn observe(&mut self, seen: Observation, now_ns: u64) {
        let delay = match (seen.source, &seen.deed) {
            (Source::Ebpf, Deed::OpenedForWrite | Deed::MappedForWrite) => OPENED_SETTLE_NS,
            (Source::Ebpf, _) => EBPF_SETTLE_NS,
            (Source::Fanotify, Deed::Written) => UNFINISHED_SETTLE_NS,
            (Source::Fanotify, Deed::Created) if !seen.directory => UNFINISHED_SETTLE_NS,
            _ => 0,
        };
        let deeds = Deeds::of(&seen.deed);
        let mut look = Look::new(seen.watch, seen.path.clone(), seen.at_ns);
        look.directory = seen.directory;
        look.deeds = deeds;
        look.closed_ns = matches!(seen.deed, Deed::Closed).then_some(seen.at_ns);
        if seen.source == Source::Fanotify {
            look.happened = deeds;
        }
        look.sources.add(seen.source);
        if let Some(actor) = &seen.actor {
            let attempt = seen.source == Source::Ebpf && seen.deed == Deed::Attributes;
            look.witnessed.add(actor.clone(), if attempt { Deeds::TRIED } else { deeds });
        }
        if seen.source == Source::Fanotify
            && matches!(seen.deed, Deed::MovedHere { .. })
            && let Some(waiting) = self.waiting.get_mut(&(seen.watch, seen.path.clone()))
        {
            waiting.look.witnessed.of_the_one_before();
        }
        match seen.deed {
            Deed::MovedHere { from: Some(from) } => {
                let before = (seen.watch, from.clone());
                // Who wrote it under its old name, and has not been looked at there, wrote what is here now.
                let wrote = self.waiting.get(&before).map(|waiting| waiting.look.witnessed.as_writers());
                let holders = self.writers.of(&before).cloned();
                // Only what fanotify tells has happened.
                if seen.source == Source::Fanotify {
                    self.writers.renamed(seen.watch, &from, &seen.path, seen.directory);
                }
                let mut old = look.clone();
                old.path = from.clone();
                old.moved_to = Some(seen.path.clone());
                (old.deeds, old.happened) = (Deeds::MOVED_AWAY, Deeds::default());
                old.witnessed = Witnessed::default();
                if let Some(actor) = seen.actor {
                    old.witnessed.add(actor, Deeds::MOVED_AWAY);
                }
                look.moved_from = Some(from);
                if let Some(wrote) = wrote {
                    look.witnessed.merge(&wrote);
                }
                if let Some(holders) = holders {
                    look.witnessed.merge(&holders);
                }
                self.schedule(old, now_ns + delay);
            }
            Deed::Linked { to: Some(to) } => {
                // A link that is made in the place of a file creates, as far as that name is concerned.
                let mut new = look.clone();
                new.path = to;
                (new.deeds, new.witnessed) = (Deeds::CREATED, Witnessed::default());
                if let Some(actor) = &seen.actor {
                    new.witnessed.add(actor.clone(), Deeds::CREATED);
                }
                self.schedule(new, now_ns + delay);
            }
            _ => {}
        }
        let place = (look.watch, look.path.clone());
        self.schedule(look, now_ns + delay);
        if delay == OPENED_SETTLE_NS
            && let Some(waiting) = self.waiting.get_mut(&place)
        {
            waiting.written_ns = now_ns + delay;
        }
    }

    /// Puts a look off until `due_ns`, or adds it to one that waits already; the earlier time holds.
    pub fn schedule(&mut self, look: Look, due_ns: u64) {
        let place = (look.watch, look.path.clone());
        match self.waiting.get_mut(&place) {
            Some(waiting) => {
                if due_ns < waiting.due_ns {
                    self.order.remove(&(waiting.due_ns, place.clone()));
                    self.order.insert((due_ns, place));
                    waiting.due_ns = due_ns;
                }
                waiting.look.absorb(look);
            }
            None => {
                self.order.insert((due_ns, place.clone()));
                self.waiting.insert(place, Waiting { look, due_ns, written_ns: 0 });
            }
        }
    }

    /// Takes the looks that are due, the longest due first and `limit` at most, in path order.
    pub fn due(&mut self, now_ns: u64, limit: usize) -> Vec<Look> {
        let ready: Vec<Place> = self
            .order
            .iter()
            .take(limit)
            .take_while(|(due_ns, _)| *due_ns <= now_ns)
            .map(|(_, place)| place.clone())
            .collect();
        let mut looks: Vec<Look> = ready.iter().filter_map(|place| self.take(place)).collect();
        looks.sort_by(|a, b| (a.watch, &a.path).cmp(&(b.watch, &b.path)));
        looks
    }

    /// Takes the look that waits for this path, due or not: the other name of a rename, an ancestor.
    pub fn claim(&mut self, watch: WatchId, path: &RelPath) -> Option<Look> {
        self.take(&(watch, path.clone()))
    }

    fn take(&mut self, place: &Place) -> Option<Look> {
        let Waiting { mut look, due_ns, written_ns } = self.waiting.remove(place)?;
        self.order.remove(&(due_ns, place.clone()));
        match self.writers.of(place) {
            Some(writers) => look.witnessed.merge(writers),
            None if self.writers.are_too_many(place.0) => look.witnessed.not_all(),
            None => {}
        }
        let holders = look.witnessed.holders();
        if written_ns > due_ns && !holders.is_empty() {
            // Something else made it due, perhaps before he wrote: of his writing nobody else need report.
            let mut again = Look::new(place.0, place.1.clone(), look.first_ns);
            (again.witnessed, again.sources) = (holders.clone(), look.sources);
            self.schedule(again, written_ns);
        }
        self.writers.set(place.clone(), look.first_ns, holders);
        Some(look)
    }

    pub fn next_due(&self) -> Option<u64> {
        self.order.first().map(|(due_ns, _)| *due_ns)
    }

    /// Whether anything waits that was first reported before then.
    pub fn waits_since_before(&self, ns: u64) -> bool {
        self.waiting.values().any(|waiting| waiting.look.first_ns < ns)
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When too many looks wait, those of the watch with the most are given up. Which watch, and how many: it has to be
    /// scanned.
    pub fn shed(&mut self) -> Option<(WatchId, usize)> {
        self.shed_beyond(WAITING_LIMIT)
    }

    fn shed_beyond(&mut self, limit: usize) -> Option<(WatchId, usize)> {
        if self.waiting.len() <= limit {
            return None;
        }
        let mut counts: HashMap<WatchId, usize> = HashMap::new();
        self.waiting.keys().for_each(|(watch, _)| *counts.entry(*watch).or_default() += 1);
        let (watch, count) = counts.into_iter().max_by_key(|(watch, count)| (*count, *watch))?;
        self.waiting.retain(|(of, _), _| *of != watch);
        self.order.retain(|(_, (of, _))| *of != watch);
        Some((watch, count))
    }

    /// Another file is in that place: whoever had the old one open cannot write to it.
    pub fn forget_writers(&mut self, watch: WatchId, path: &RelPath) {
        self.writers.remove(&(watch, path.clone()));
    }

    /// All that was reported of the path is known now; `holds` tells of one who opened or mapped it whether he still does.
    pub fn known_at(&mut self, look: &Look, holds: impl Fn(&Actor, Deeds) -> bool) {
        let mut holders = look.witnessed.holders();
        holders.keep_those_who(holds);
        self.writers.set((look.watch, look.path.clone()), look.first_ns, holders);
    }

    /// Whether somebody has the file mapped for writing: what he stores there need not show in its times.
    pub fn is_mapped(&self, watch: WatchId, path: &RelPath) -> bool {
        let known = self.writers.of(&(watch, path.clone()));
        known.is_some_and(|writers| writers.did(Deeds::MAPPED))
    }
}

#[cfg(test)]
mod tests;
