//! Who may write to a file yet, past the look that found him there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::observation::WatchId;
use super::path::RelPath;
use super::witness::Witnessed;

pub(super) type Place = (WatchId, RelPath);

/// Paths of one watch that are remembered; the oldest are forgotten first.
const LIMIT: usize = 16_384;

#[derive(Default)]
pub(super) struct Holders {
    /// When it was reported, nanoseconds since boot, and who.
    known: HashMap<Place, (u64, Witnessed)>,
    watches: BTreeMap<WatchId, InWatch>,
}

#[derive(Default)]
struct InWatch {
    /// The same places by that time.
    order: BTreeSet<(u64, RelPath)>,
    /// Some were forgotten.
    too_many: bool,
}

impl Holders {
    pub fn of(&self, place: &Place) -> Option<&Witnessed> {
        self.known.get(place).map(|(_, who)| who)
    }

    /// Whether others may hold files of the watch who are not remembered.
    pub fn are_too_many(&self, watch: WatchId) -> bool {
        self.watches.get(&watch).is_some_and(|watch| watch.too_many)
    }

    /// Takes the place of what is known; nobody is not remembered.
    pub fn set(&mut self, place: Place, at_ns: u64, who: Witnessed) {
        self.remove(&place);
        if who.is_empty() {
            return;
        }
        let watch = self.watches.entry(place.0).or_default();
        watch.order.insert((at_ns, place.1.clone()));
        if watch.order.len() > LIMIT
            && let Some((_, oldest)) = watch.order.pop_first()
        {
            watch.too_many = true;
            self.known.remove(&(place.0, oldest));
        }
        self.known.insert(place, (at_ns, who));
    }

    pub fn remove(&mut self, place: &Place) -> Option<(u64, Witnessed)> {
        let known = self.known.remove(place)?;
        if let Some(watch) = self.watches.get_mut(&place.0) {
            watch.order.remove(&(known.0, place.1.clone()));
            // Whoever held so many has let go of most of them.
            watch.too_many &= watch.order.len() > LIMIT / 2;
        }
        Some(known)
    }

    /// What was held under the old name is so under the new one, with all that is in it. Who held what was there before holds
    /// nothing that has a name.
    pub fn renamed(&mut self, watch: WatchId, from: &RelPath, to: &RelPath, directory: bool) {
        if self.known.is_empty() {
            return;
        }
        let below =
            |place: &Place| place.0 == watch && (place.1 == *from || (directory && place.1.is_within(from)));
        let moved: Vec<Place> = match directory {
            true => self.known.keys().filter(|place| below(place)).cloned().collect(),
            false => vec![(watch, from.clone())],
        };
        let moved: Vec<_> =
            moved.into_iter().filter_map(|place| Some((self.remove(&place)?, place))).collect();
        for ((at_ns, mut who), place) in moved {
            let tail = place.1.as_bytes().get(from.as_bytes().len()..).unwrap_or_default();
            let Some(new) = RelPath::new([to.as_bytes(), tail].concat()) else { continue };
            let new = (watch, new);
            // In an exchange the other half is told of as well; until then both may be meant.
            if let Some(there) = self.of(&new) {
                who.merge(there);
            }
            self.set(new, at_ns, who);
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> (usize, usize) {
        (self.known.len(), self.watches.values().map(|watch| watch.order.len()).sum())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::actor::{Actor, Confidence};
    use crate::core::witness::Deeds;

    const WATCH: WatchId = WatchId(3);

    fn who(pid: u32) -> Witnessed {
        let mut who = Witnessed::default();
        let confidence = Confidence::Exact;
        who.add(
            Arc::new(Actor { pid: Some(pid), start_ns: Some(9), confidence, ..Actor::unknown() }),
            Deeds::MAPPED,
        );
        who
    }

    fn at(watch: WatchId, path: &str) -> Place {
        (watch, RelPath::new(path).expect("sound"))
    }

    fn pids(holders: &Holders, path: &str) -> Vec<u32> {
        let who = holders.of(&at(WATCH, path));
        who.into_iter()
            .flat_map(|who| who.writers().expect("few").into_iter().filter_map(|actor| actor.pid))
            .collect()
    }

    #[test]
    fn names_change_with_all_below_and_no_row_is_left() {
        let mut holders = Holders::default();
        for (number, path) in ["d", "d/f", "d/deep/f", "d2/f", "e/f"].into_iter().enumerate() {
            holders.set(at(WATCH, path), number as u64, who(number as u32 + 10));
        }
        let rel = |path: &str| RelPath::new(path).expect("sound");
        holders.renamed(WATCH, &rel("d"), &rel("e"), true);
        assert_eq!(pids(&holders, "e"), [10]);
        assert_eq!(pids(&holders, "e/f"), [11, 14]);
        assert_eq!(pids(&holders, "e/deep/f"), [12]);
        assert_eq!(pids(&holders, "d2/f"), [13]);
        assert!(pids(&holders, "d/f").is_empty());
        assert_eq!(holders.count(), (4, 4));
        holders.renamed(WATCH, &rel("d2/f"), &rel("g"), false);
        assert_eq!((pids(&holders, "g"), holders.count()), (vec![13], (4, 4)));
    }

    /// One user's open files made everybody's updates untrusted, for as long as fim ran.
    #[test]
    fn too_many_in_one_watch_are_nothing_to_another_and_not_for_ever() {
        let mut holders = Holders::default();
        let other = WatchId(4);
        holders.set(at(other, "f"), 0, who(7));
        for number in 0..=LIMIT as u64 {
            holders.set(at(WATCH, &number.to_string()), number, who(8));
        }
        assert_eq!(holders.count(), (LIMIT + 1, LIMIT + 1));
        assert!(holders.of(&at(WATCH, "0")).is_none() && holders.of(&at(other, "f")).is_some());
        assert!(holders.are_too_many(WATCH) && !holders.are_too_many(other));
        for number in 0..=LIMIT / 2 {
            holders.remove(&at(WATCH, &number.to_string()));
        }
        assert!(!holders.are_too_many(WATCH));
    }
}
