//! From observations to looks: which paths must be compared with their baseline, when, and who was there.
//!
//! fanotify reports after the operation, so a look is due at once; only a file that is still being written gets a few
//! milliseconds to be closed, so that the evidence is whole. eBPF reports before the operation and mostly says who;
//! alone it makes a look due a little later, so that nothing depends on the other witness.

use std::collections::{BTreeSet, HashMap};

use super::observation::{Deed, Observation, Source, WatchId};
use super::path::RelPath;
use super::witness::{Deeds, Sources, Witnessed};

/// Nanoseconds after which an operation that only eBPF reported is looked at: it has happened by then.
pub const EBPF_SETTLE_NS: u64 = 20_000_000;
/// Nanoseconds that a writer has to finish before its file is looked at all the same.
pub const UNFINISHED_SETTLE_NS: u64 = 10_000_000;
/// The same for a file that was merely opened or mapped for writing.
pub const OPENED_SETTLE_NS: u64 = 500_000_000;
/// Paths whose possible writers are remembered; the oldest are forgotten first.
const WRITERS_LIMIT: usize = 16_384;
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

type Place = (WatchId, RelPath);

struct Waiting {
    look: Look,
    due_ns: u64,
}

/// Collects observations into looks. Time is given from outside, nanoseconds since boot.
#[derive(Default)]
pub struct Correlator {
    waiting: HashMap<Place, Waiting>,
    /// The same places by time, so that nothing is searched for under load.
    order: BTreeSet<(u64, Place)>,
    /// Who opened or mapped a path for writing, and may write as long as it is open.
    writers: HashMap<Place, (u64, Witnessed)>,
    /// The same places by the time of the last of them.
    writers_order: BTreeSet<(u64, Place)>,
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
            look.witnessed.add(actor.clone(), deeds);
            if matches!(seen.deed, Deed::OpenedForWrite | Deed::MappedForWrite) {
                let mut writer = Witnessed::default();
                writer.add(actor.clone(), deeds);
                self.remember_writers((seen.watch, seen.path.clone()), seen.at_ns, &writer);
            }
        }
        match seen.deed {
            Deed::MovedHere { from: Some(from) } => {
                let before = (seen.watch, from.clone());
                // Who wrote it under its old name, and has not been looked at there, wrote what is here now.
                let wrote = self.waiting.get(&before).map(|waiting| waiting.look.witnessed.as_writers());
                let holders = self.writers.get(&before).map(|(_, writers)| writers.clone());
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
                    self.remember_writers((seen.watch, seen.path.clone()), seen.at_ns, &holders);
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
        self.schedule(look, now_ns + delay);
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
                self.waiting.insert(place, Waiting { look, due_ns });
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
        let Waiting { mut look, due_ns } = self.waiting.remove(place)?;
        self.order.remove(&(due_ns, place.clone()));
        if let Some((_, writers)) = self.writers.get(place) {
            look.witnessed.merge(writers);
        }
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
        let place = (watch, path.clone());
        if let Some((at, _)) = self.writers.remove(&place) {
            self.writers_order.remove(&(at, place));
        }
    }

    /// The file's state is known now: those who had closed it by then have no part in what comes next.
    pub fn forget_closed(&mut self, look: &Look) {
        if !look.witnessed.did(Deeds::CLOSED) {
            return;
        }
        let place = (look.watch, look.path.clone());
        let Some((_, writers)) = self.writers.get_mut(&place) else { return };
        writers.forget_those_of(&look.witnessed, Deeds::CLOSED);
        if writers.is_empty() {
            self.forget_writers(look.watch, &look.path);
        }
    }

    fn remember_writers(&mut self, place: Place, at_ns: u64, writers: &Witnessed) {
        let slot = self.writers.entry(place.clone()).or_default();
        slot.1.merge(writers);
        let before = std::mem::replace(&mut slot.0, at_ns);
        self.writers_order.remove(&(before, place.clone()));
        self.writers_order.insert((at_ns, place));
        if self.writers.len() > WRITERS_LIMIT
            && let Some((_, oldest)) = self.writers_order.pop_first()
        {
            self.writers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::actor::{Actor, Confidence};
    use crate::core::change::ChangeKind;

    fn actor(pid: u32) -> Arc<Actor> {
        let mut actor = Actor::unknown();
        (actor.pid, actor.start_ns, actor.exe) = (Some(pid), Some(u64::from(pid) << 32), Some("/x".into()));
        actor.confidence = Confidence::Exact;
        Arc::new(actor)
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("sound")
    }

    fn seen(source: Source, at: &str, deed: Deed, pid: u32) -> Observation {
        Observation {
            source,
            watch: WatchId(3),
            path: path(at),
            deed,
            directory: false,
            actor: Some(actor(pid)),
            at_ns: 100,
        }
    }

    #[test]
    fn fanotify_is_looked_at_at_once_and_ebpf_a_little_later() {
        let mut c = Correlator::new();
        c.observe(seen(Source::Ebpf, "f", Deed::OpenedForWrite, 10), 0);
        assert!(c.due(EBPF_SETTLE_NS, usize::MAX).is_empty());
        c.observe(seen(Source::Fanotify, "f", Deed::Written, 10), 5);
        assert!(c.due(6, usize::MAX).is_empty(), "the writer is not done");
        c.observe(seen(Source::Fanotify, "f", Deed::Closed, 10), 7);
        let looks = c.due(7, usize::MAX);
        assert_eq!(looks.len(), 1);
        assert_eq!(looks[0].sources.list(), [Source::Fanotify, Source::Ebpf]);
        assert!(c.next_due().is_none());

        c.observe(seen(Source::Ebpf, "g", Deed::Deleted, 10), 0);
        assert_eq!(c.next_due(), Some(EBPF_SETTLE_NS));
        let looks = c.due(EBPF_SETTLE_NS, usize::MAX);
        assert_eq!(looks.len(), 1);
        assert!(!looks[0].happened.any(Deeds::DELETED), "an attempt is no deed");
    }

    #[test]
    fn the_author_is_who_did_it_not_who_could_have() {
        type Case = (&'static str, ChangeKind, Vec<(Source, Deed, u32)>, Option<u32>, Confidence, usize);
        let f = Source::Fanotify;
        let cases: Vec<Case> = vec![
            ("nobody", ChangeKind::Modified, vec![], None, Confidence::Unknown, 0),
            (
                "the writer, not another opener",
                ChangeKind::Modified,
                vec![(Source::Ebpf, Deed::OpenedForWrite, 1), (f, Deed::Written, 2), (f, Deed::Closed, 1)],
                Some(2),
                Confidence::Exact,
                0,
            ),
            (
                "two writers",
                ChangeKind::Modified,
                vec![(f, Deed::Written, 1), (f, Deed::Written, 2)],
                Some(2),
                Confidence::Several,
                1,
            ),
            (
                "a mapping is as good as a write",
                ChangeKind::Modified,
                vec![(Source::Ebpf, Deed::MappedForWrite, 1), (f, Deed::Written, 2)],
                Some(2),
                Confidence::Several,
                1,
            ),
            (
                "the deleter, not the writer before",
                ChangeKind::Deleted,
                vec![(f, Deed::Written, 1), (f, Deed::Deleted, 2)],
                Some(2),
                Confidence::Exact,
                0,
            ),
            (
                "who moved it here",
                ChangeKind::Modified,
                vec![(f, Deed::Written, 1), (f, Deed::MovedHere { from: None }, 2)],
                Some(2),
                Confidence::Exact,
                0,
            ),
            (
                "a link's maker wrote nothing",
                ChangeKind::Modified,
                vec![(Source::Ebpf, Deed::Linked { to: None }, 1)],
                None,
                Confidence::Unknown,
                0,
            ),
            (
                "both witnesses, one process",
                ChangeKind::Created,
                vec![(Source::Ebpf, Deed::Created, 7), (f, Deed::Created, 7)],
                Some(7),
                Confidence::Exact,
                0,
            ),
        ];
        for (name, kind, observations, pid, confidence, others) in cases {
            let mut c = Correlator::new();
            for (source, deed, pid) in observations {
                c.observe(seen(source, "f", deed, pid), 0);
            }
            let witnessed = c.due(u64::MAX, usize::MAX).pop().map(|l| l.witnessed).unwrap_or_default();
            let (actor, rest) = witnessed.attribute(kind);
            assert_eq!((actor.pid, actor.confidence, rest.len()), (pid, confidence, others), "{name}");
        }
    }

    #[test]
    fn a_rename_makes_both_names_due() {
        let mut c = Correlator::new();
        c.observe(seen(Source::Fanotify, "new", Deed::MovedHere { from: Some(path("old")) }, 5), 0);
        let looks = c.due(0, usize::MAX);
        let names: Vec<_> =
            looks.iter().map(|l| (l.path.clone(), l.moved_from.clone(), l.moved_to.clone())).collect();
        assert_eq!(names, [(path("new"), Some(path("old")), None), (path("old"), None, Some(path("new")))]);
        assert_eq!(looks[1].witnessed.attribute(ChangeKind::Deleted).0.pid, Some(5));
    }

    /// A full disk stops the looks from being taken, not the reports from coming.
    #[test]
    fn too_many_looks_become_a_scan_of_the_busiest_watch() {
        let mut c = Correlator::new();
        for n in 0..20 {
            let watch = WatchId(if n % 4 == 0 { 7 } else { 3 });
            c.observe(Observation { watch, ..seen(Source::Fanotify, &format!("f{n}"), Deed::Closed, 10) }, 0);
        }
        assert_eq!(c.shed_beyond(20), None);
        assert_eq!(c.shed_beyond(19), Some((WatchId(3), 15)));
        let left = c.due(1, usize::MAX);
        assert_eq!(left.len(), 5);
        assert!(left.iter().all(|look| look.watch == WatchId(7)));
        assert!(c.next_due().is_none(), "nothing of it is left in the order");
    }

    /// Somebody writes into a package manager's file before it gets its name.
    #[test]
    fn a_writer_under_the_old_name_is_one_under_the_new_name() {
        let mut c = Correlator::new();
        c.observe(seen(Source::Fanotify, "f.new", Deed::Written, 9), 0);
        c.observe(seen(Source::Fanotify, "f.new", Deed::Deleted, 8), 0);
        c.observe(seen(Source::Fanotify, "f", Deed::MovedHere { from: Some(path("f.new")) }, 5), 0);
        let mut looks = c.due(0, usize::MAX);
        let witnessed = looks.remove(0).witnessed;
        let (author, others) = witnessed.attribute(ChangeKind::Modified);
        assert_eq!((author.pid, author.confidence, others.len()), (Some(5), Confidence::Exact, 0));
        let writers: Vec<_> =
            witnessed.writers().expect("few").iter().filter_map(|actor| actor.pid).collect();
        assert_eq!(writers, [5, 9]);
    }

    #[test]
    fn who_holds_a_file_open_is_remembered_past_the_first_look() {
        for deed in [Deed::MappedForWrite, Deed::OpenedForWrite] {
            let mut c = Correlator::new();
            c.observe(seen(Source::Ebpf, "f", deed, 9), 0);
            let looks = c.due(u64::MAX, usize::MAX);
            c.forget_closed(&looks[0]);
            // Found by a scan: a store into a mapping makes no event.
            c.schedule(Look::new(WatchId(3), path("f"), 0), 0);
            let found = c.due(0, usize::MAX);
            assert_eq!(found[0].witnessed.attribute(ChangeKind::Modified).0.pid, Some(9));
            // Another's close says nothing of the first one.
            c.observe(seen(Source::Ebpf, "f", Deed::OpenedForWrite, 10), 1);
            c.observe(seen(Source::Fanotify, "f", Deed::Closed, 10), 2);
            let looks = c.due(u64::MAX, usize::MAX);
            c.forget_closed(&looks[0]);
            c.schedule(Look::new(WatchId(3), path("f"), 0), 0);
            let (writer, others) = c.due(0, usize::MAX)[0].witnessed.attribute(ChangeKind::Modified);
            assert_eq!((writer.pid, others.len()), (Some(9), 0));
            c.observe(seen(Source::Fanotify, "f", Deed::Closed, 9), 3);
            let looks = c.due(u64::MAX, usize::MAX);
            c.forget_closed(&looks[0]);
            c.schedule(Look::new(WatchId(3), path("f"), 0), 0);
            assert!(c.due(0, usize::MAX)[0].witnessed.is_empty());
            assert!(c.writers.is_empty() && c.writers_order.is_empty());
        }
    }

    #[test]
    fn every_writer_through_a_mapping_is_named_and_the_oldest_paths_give_way() {
        let mut c = Correlator::new();
        for pid in [7, 8] {
            c.observe(seen(Source::Ebpf, "f", Deed::MappedForWrite, pid), 0);
        }
        let (last, others) = c.due(u64::MAX, usize::MAX)[0].witnessed.attribute(ChangeKind::Modified);
        assert_eq!((last.pid, last.confidence, others[0].pid), (Some(8), Confidence::Several, Some(7)));
        for n in 0..=WRITERS_LIMIT as u64 {
            let at = Observation {
                at_ns: 200 + n,
                ..seen(Source::Ebpf, &format!("{n}"), Deed::OpenedForWrite, 9)
            };
            c.observe(at, 0);
        }
        assert_eq!((c.writers.len(), c.writers_order.len()), (WRITERS_LIMIT, WRITERS_LIMIT));
        assert!(!c.writers.contains_key(&(WatchId(3), path("f"))));
        c.forget_writers(WatchId(3), &path("7"));
        assert_eq!((c.writers.len(), c.writers_order.len()), (WRITERS_LIMIT - 1, WRITERS_LIMIT - 1));
    }
}
