//! Who was seen at a path, and doing what.

use std::sync::Arc;

use super::actor::{Actor, Confidence};
use super::change::ChangeKind;
use super::observation::{Deed, Source};

/// What was seen being done to one path, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deeds(u32);

impl Deeds {
    pub const OPENED: Self = Self(1);
    pub const MAPPED: Self = Self(2);
    pub const WRITTEN: Self = Self(4);
    pub const CLOSED: Self = Self(8);
    pub const CREATED: Self = Self(16);
    pub const DELETED: Self = Self(32);
    pub const ATTRIBUTES: Self = Self(64);
    pub const MOVED_HERE: Self = Self(128);
    pub const MOVED_AWAY: Self = Self(256);
    pub const LINKED: Self = Self(512);
    pub const MOUNTED: Self = Self(1024);
    pub const SCANNED: Self = Self(2048);
    /// It lies in a folder that came, or that something else lies on now.
    pub const CAME_ALONG: Self = Self(4096);
    /// Attributes, as only the kernel's hook reports, which runs before anybody asks whether it is allowed.
    pub const TRIED: Self = Self(8192);
    /// The process had ended when it was last asked for.
    pub const ENDED: Self = Self(16384);
    /// It wrote what was there before another file came in its place.
    pub const ONE_BEFORE: Self = Self(32768);

    pub fn of(deed: &Deed) -> Self {
        match deed {
            Deed::OpenedForWrite => Self::OPENED,
            Deed::MappedForWrite => Self::MAPPED,
            Deed::Written => Self::WRITTEN,
            Deed::Closed => Self::CLOSED,
            Deed::Created => Self::CREATED,
            Deed::Deleted => Self::DELETED,
            Deed::Attributes => Self::ATTRIBUTES,
            Deed::MovedHere { .. } => Self::MOVED_HERE,
            Deed::MovedAway => Self::MOVED_AWAY,
            Deed::Linked { .. } => Self::LINKED,
            Deed::MountedOver => Self::MOUNTED,
            Deed::FoundDifferent => Self::SCANNED,
        }
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

/// Which witnesses reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub fanotify: bool,
    pub ebpf: bool,
    pub scan: bool,
}

impl Sources {
    pub(super) fn add(&mut self, source: Source) {
        match source {
            Source::Fanotify => self.fanotify = true,
            Source::Ebpf => self.ebpf = true,
            Source::Scan => self.scan = true,
        }
    }

    pub fn list(self) -> Vec<Source> {
        [(self.fanotify, Source::Fanotify), (self.ebpf, Source::Ebpf), (self.scan, Source::Scan)]
            .into_iter()
            .filter_map(|(seen, source)| seen.then_some(source))
            .collect()
    }
}

/// Everybody who was seen at one path, with what they did.
#[derive(Clone, Debug, Default)]
pub struct Witnessed {
    seen: Vec<(Arc<Actor>, Deeds)>,
    /// There were more than fit in.
    crowded: bool,
    /// Others may have it open whom nobody remembers.
    partial: bool,
}

/// So many processes are named at one path: the first and the latest. A record must not grow with whoever wants it to.
const CROWD: usize = 16;

impl Witnessed {
    pub(super) fn add(&mut self, actor: Arc<Actor>, deeds: Deeds) {
        match self.seen.iter_mut().find(|(known, _)| known.same_process(&actor)) {
            Some((known, done)) => {
                *done = done.with(deeds);
                // The kernel's own word, taken at the event, beats what was read afterwards.
                let exact = |actor: &Actor| actor.confidence == Confidence::Exact;
                let more = exact(&actor) && actor.tid.is_some() && known.tid.is_none();
                if !exact(known) || known.exe.is_none() || more {
                    *known = actor;
                }
            }
            None => {
                if self.seen.len() == CROWD {
                    self.seen.remove(CROWD / 2);
                    self.crowded = true;
                }
                self.seen.push((actor, deeds));
            }
        }
    }

    pub fn merge(&mut self, other: &Witnessed) {
        other.seen.iter().for_each(|(actor, deeds)| self.add(actor.clone(), *deeds));
        self.crowded |= other.crowded;
        self.partial |= other.partial;
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether anybody did any of these.
    pub fn did(&self, deeds: Deeds) -> bool {
        self.seen.iter().any(|(_, done)| done.any(deeds))
    }

    /// Those who may write yet: who has not closed what he opened, and who has a mapping, which outlives the descriptor it
    /// was made with.
    pub(super) fn holders(&self) -> Witnessed {
        let mapping = Deeds::MAPPED.0 | Deeds::ENDED.0;
        let of = |(actor, done): &(Arc<Actor>, Deeds)| {
            let open = if done.any(Deeds::CLOSED) { 0 } else { Deeds::OPENED.0 };
            let deeds = done.0 & (mapping | open);
            (deeds & !Deeds::ENDED.0 != 0).then(|| (actor.clone(), Deeds(deeds)))
        };
        let seen: Vec<_> = self.seen.iter().filter_map(of).collect();
        Self { crowded: self.crowded && !seen.is_empty(), partial: self.partial && !seen.is_empty(), seen }
    }

    /// Leaves out who holds nothing any more, as `holds` tells of one who opened or mapped it. What was stored in a mapping just
    /// before the end shows at the next look, so that such a one is named once more.
    pub(super) fn keep_those_who(&mut self, holds: impl Fn(&Actor, Deeds) -> bool) {
        self.seen.retain_mut(|(actor, deeds)| {
            if holds(actor, *deeds) {
                return true;
            }
            let once_more = deeds.any(Deeds::MAPPED) && !deeds.any(Deeds::ENDED);
            *deeds = deeds.with(Deeds::ENDED);
            once_more
        });
        self.crowded &= !self.seen.is_empty();
        self.partial &= !self.seen.is_empty();
    }

    /// Another file is in that place now. Only fanotify tells of writes, in the order of things; who merely opened or mapped it
    /// may have done so just after.
    pub(super) fn of_the_one_before(&mut self) {
        for (_, deeds) in self.seen.iter_mut().filter(|(_, deeds)| deeds.any(Deeds::WRITTEN)) {
            *deeds = Deeds(deeds.0 & !Deeds::WRITTEN.0).with(Deeds::ONE_BEFORE);
        }
    }

    /// Others who are not remembered may have it open.
    pub(super) fn not_all(&mut self) {
        self.partial = true;
    }

    /// Everybody who may have had a part in what is there now, whatever is told of him; `None` when there were more than
    /// are remembered.
    pub fn writers(&self) -> Option<Vec<&Actor>> {
        // Making a link to it, or mounting something over it, alters nothing of the file itself; and anybody can try what
        // is then refused.
        let none = Deeds::LINKED.0 | Deeds::MOUNTED.0 | Deeds::SCANNED.0 | Deeds::TRIED.0 | Deeds::ENDED.0;
        let had_part = |done: &Deeds| done.0 & !none != 0;
        (!self.crowded && !self.partial)
            .then(|| self.seen.iter().filter(|(_, done)| had_part(done)).map(|(actor, _)| &**actor).collect())
    }

    /// Who made a change of this kind, and who else may have. Those who certainly did such a thing come before those
    /// who merely could have.
    pub fn attribute(&self, kind: ChangeKind) -> (Actor, Vec<Actor>) {
        let (written, closed, opened) = (Deeds::WRITTEN.with(Deeds::MAPPED), Deeds::CLOSED, Deeds::OPENED);
        let (moved, created) = (Deeds::MOVED_HERE, Deeds::CREATED);
        let gone = Deeds::DELETED.with(Deeds::MOVED_AWAY);
        let ranks: &[Deeds] = match kind {
            ChangeKind::Modified => &[moved, written, closed, opened, created, gone],
            ChangeKind::Created => &[moved, created, written, closed, opened],
            ChangeKind::Deleted => &[gone],
            ChangeKind::Renamed => &[moved],
            ChangeKind::Attributes => {
                &[Deeds::ATTRIBUTES, Deeds::TRIED, moved, written, closed, opened, created, gone]
            }
            ChangeKind::Type => &[moved, created, gone],
        };
        let of = |rank: Deeds| -> Vec<&Arc<Actor>> {
            self.seen.iter().filter(|(_, done)| done.any(rank)).map(|(actor, _)| actor).collect()
        };
        // Somebody who was merely near, such as the maker of a link, is not named at all.
        let chosen = ranks.iter().map(|rank| of(*rank)).find(|found| !found.is_empty()).unwrap_or_default();
        let Some((last, others)) = chosen.split_last() else {
            return (Actor::unknown(), Vec::new());
        };
        // Who made what is there has a part in it, whoever moved it here or touched it last.
        let makers = match kind {
            ChangeKind::Deleted | ChangeKind::Renamed => Vec::new(),
            _ => of(Deeds::WRITTEN.with(Deeds::MAPPED).with(moved)),
        };
        let apart = |maker: &&Arc<Actor>| !chosen.iter().any(|known| known.same_process(maker));
        let others: Vec<&Arc<Actor>> =
            others.iter().copied().chain(makers.into_iter().filter(apart)).collect();
        let mut actor = Actor::clone(last);
        if !others.is_empty() || self.crowded {
            actor.confidence = Confidence::Several;
        }
        (actor, others.iter().map(|a| Actor::clone(a)).collect())
    }

    /// Those who wrote, or could have written, without what they did to the name.
    pub(super) fn as_writers(&self) -> Witnessed {
        let content = Deeds::OPENED.0 | Deeds::MAPPED.0 | Deeds::WRITTEN.0 | Deeds::CLOSED.0;
        let of = |(actor, deeds): &(Arc<Actor>, Deeds)| {
            let done = deeds.0 & (content | Deeds::ATTRIBUTES.0);
            (done != 0).then(|| (actor.clone(), Deeds(done)))
        };
        Self { seen: self.seen.iter().filter_map(of).collect(), crowded: self.crowded, partial: self.partial }
    }

    /// Whether one process is known for certain to have made a change of this kind, and no report of another one can be under
    /// way: whoever has the file open may have written, too.
    pub fn names_one(&self, kind: ChangeKind) -> bool {
        let (author, _) = self.attribute(kind);
        let holds = |done: &Deeds| {
            done.any(Deeds::OPENED.with(Deeds::MAPPED)) && !done.any(Deeds::CLOSED.with(Deeds::WRITTEN))
        };
        let open = kind == ChangeKind::Modified
            && self.seen.iter().any(|(actor, done)| holds(done) && !actor.same_process(&author));
        author.confidence == Confidence::Exact && !open
    }

    /// The same people as merely possible authors: for what was found inside a directory they made.
    pub fn as_possible(&self) -> Witnessed {
        let demote = |(actor, deeds): &(Arc<Actor>, Deeds)| {
            let mut actor = Actor::clone(actor);
            if actor.confidence == Confidence::Exact {
                actor.confidence = Confidence::Several;
            }
            (Arc::new(actor), *deeds)
        };
        Self { seen: self.seen.iter().map(demote).collect(), crowded: self.crowded, partial: self.partial }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(pid: u32) -> Arc<Actor> {
        let confidence = Confidence::Exact;
        Arc::new(Actor { pid: Some(pid), start_ns: Some(9), confidence, ..Actor::unknown() })
    }

    /// Anybody can call chmod on a file of root's while a package manager replaces it.
    #[test]
    fn what_was_merely_tried_is_no_part_in_it() {
        let mut seen = Witnessed::default();
        seen.add(exact(7), Deeds::MOVED_HERE);
        seen.add(exact(8), Deeds::TRIED);
        let writers = seen.writers().expect("few");
        assert_eq!(writers.iter().filter_map(|actor| actor.pid).collect::<Vec<_>>(), [7]);
        seen.add(exact(8), Deeds::ATTRIBUTES);
        assert_eq!(seen.writers().expect("few").len(), 2);
        // Where nobody else tells of it, the attempt is all there is.
        let mut flags = Witnessed::default();
        flags.add(exact(8), Deeds::TRIED);
        assert_eq!(flags.attribute(ChangeKind::Attributes).0.pid, Some(8));
    }

    /// Root's logrotate renames what an attacker wrote: it must not be laid to root alone.
    #[test]
    fn who_wrote_it_is_named_beside_who_moved_it_here() {
        for (kind, done) in
            [(ChangeKind::Modified, Deeds::MOVED_HERE), (ChangeKind::Attributes, Deeds::ATTRIBUTES)]
        {
            let mut seen = Witnessed::default();
            seen.add(exact(7), Deeds::WRITTEN);
            seen.add(exact(8), done);
            let (actor, others) = seen.attribute(kind);
            assert_eq!((actor.pid, actor.confidence), (Some(8), Confidence::Several));
            assert_eq!(others.iter().filter_map(|actor| actor.pid).collect::<Vec<_>>(), [7]);
        }
        let mut one = Witnessed::default();
        one.add(exact(7), Deeds::WRITTEN.with(Deeds::MOVED_HERE));
        assert!(one.names_one(ChangeKind::Modified));
    }

    /// The second of two writers was named by nobody when his report came after the file had been read.
    #[test]
    fn while_another_has_it_open_his_reports_are_waited_for() {
        let mut seen = Witnessed::default();
        seen.add(exact(8), Deeds::OPENED.with(Deeds::WRITTEN));
        assert!(seen.names_one(ChangeKind::Modified));
        seen.add(exact(7), Deeds::OPENED);
        assert!(!seen.names_one(ChangeKind::Modified));
        seen.add(exact(7), Deeds::CLOSED);
        assert!(seen.names_one(ChangeKind::Modified));
    }

    /// Records grew without end with whoever made processes enough.
    #[test]
    fn of_a_crowd_the_first_and_the_latest_are_named() {
        let actor = |pid: u32| {
            let confidence = Confidence::Exact;
            Arc::new(Actor { pid: Some(pid), start_ns: Some(9), confidence, ..Actor::unknown() })
        };
        let mut seen = Witnessed::default();
        (1..=500).for_each(|pid| seen.add(actor(pid), Deeds::WRITTEN));
        let (last, others) = seen.attribute(ChangeKind::Modified);
        let pids: Vec<u32> = others.iter().filter_map(|other| other.pid).collect();
        assert_eq!((last.pid, last.confidence), (Some(500), Confidence::Several));
        assert_eq!(pids, [1, 2, 3, 4, 5, 6, 7, 8, 493, 494, 495, 496, 497, 498, 499]);

        let mut other = Witnessed::default();
        (501..=520).for_each(|pid| other.add(actor(pid), Deeds::DELETED));
        other.add(actor(4711), Deeds::WRITTEN);
        assert!(!other.names_one(ChangeKind::Modified), "a forgotten one may have written too");
    }
}
