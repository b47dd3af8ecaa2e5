//! From looks to findings: every path that was touched is compared with its baseline, parents and children included.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::core::change::{Change, ChangeKind, compare_but, mounted_over};
use crate::core::correlate::{Correlator, Look};
use crate::core::entry::{Aspect, Entry, FileType, Found};
use crate::core::path::RelPath;
use crate::core::witness::Deeds;
use crate::store::{Store, StoreError};
use crate::tree::private::is_in_flight;
use crate::tree::{TreeError, inspect};

use super::apart;
use super::sight::Sight;
use super::watch::Watch;

/// The kernel tells of a removal a moment after the name is gone: that long a report about one is waited for.
const REMOVAL_ROUNDS: u32 = 12;
const REMOVAL_STEP: Duration = Duration::from_millis(2);
/// Paths in one round; what a directory brings beyond that waits for a later one.
const ROUND_LIMIT: usize = 16_384;

/// A path that differs from its baseline, with everything that is known of how it came to be.
pub struct Finding {
    pub look: Look,
    pub change: Change,
}

/// What one round of looks found.
#[derive(Default)]
pub struct Round {
    pub findings: Vec<Finding>,
    /// Equal to the baseline, though something was certainly done in between.
    pub transient: Vec<(Look, ChangeKind)>,
    /// Equal to the baseline; the identity is what it has now.
    pub right: Vec<(Look, Option<Found>)>,
    /// Could not be read; to be tried again.
    pub unreadable: Vec<(Look, TreeError)>,
    seen: HashSet<RelPath>,
    /// Files read already, many at once.
    read: HashMap<RelPath, Found>,
    /// What is approved in their places.
    approved: HashMap<RelPath, Option<Found>>,
}

/// Compares the paths of one watch.
pub struct Examiner<'a> {
    pub watch: &'a Watch,
    pub store: &'a Store,
    pub correlator: &'a mut Correlator,
    pub sight: &'a Sight,
    /// Takes in everything that the kernel had reported by the time of the call.
    pub catch_up: &'a mut dyn FnMut(&mut Correlator),
}

impl Examiner<'_> {
    pub fn examine(&mut self, looks: Vec<Look>) -> Result<Round, StoreError> {
        let store = self.store;
        store.at_one_moment(|| self.compare(looks))
    }

    fn compare(&mut self, looks: Vec<Look>) -> Result<Round, StoreError> {
        let mut round = Round::default();
        let mut queue: BTreeMap<RelPath, Look> = looks.into_iter().map(|l| (l.path.clone(), l)).collect();
        // Renames first: they explain both of their names.
        let renamed: Vec<RelPath> =
            queue.values().filter(|l| l.moved_from.is_some()).map(|l| l.path.clone()).collect();
        for path in renamed {
            let Some(look) = queue.remove(&path) else { continue };
            if let Err(look) = self.as_rename(look, &mut queue, &mut round)? {
                queue.insert(path, look);
            }
        }
        self.read_at_once(&queue, &mut round)?;
        while let Some((_, look)) = queue.pop_first() {
            self.one(look, &mut queue, &mut round)?;
        }
        Ok(round)
    }

    /// Reads the files that somebody reported on.
    fn read_at_once(&self, queue: &BTreeMap<RelPath, Look>, round: &mut Round) -> Result<(), StoreError> {
        let policy = &self.watch.policy;
        let plain = |look: &&Look| {
            is_reported(look)
                && !look.directory
                && !look.path.name().is_some_and(is_in_flight)
                && !round.seen.contains(&look.path)
                && !policy.exclude.excludes(&look.path, false)
        };
        let paths: Vec<RelPath> = queue.values().filter(plain).map(|look| look.path.clone()).collect();
        let mut approved: Result<HashMap<RelPath, Option<Found>>, StoreError> = Ok(HashMap::new());
        let get = |path: &RelPath| {
            self.store.baseline_get(self.watch.path(), path).map(|found| (path.clone(), found))
        };
        let besides = || approved = paths.iter().map(get).collect();
        round.read = apart::read(self.watch, &paths, besides);
        round.approved = approved?;
        Ok(())
    }

    /// Takes the look for `path` wherever it waits.
    fn claim(&mut self, path: &RelPath, queue: &mut BTreeMap<RelPath, Look>) -> Option<Look> {
        queue.remove(path).or_else(|| self.correlator.claim(self.watch.id, path))
    }

    /// As [`claim`](Self::claim) for many; when some are missing, reports that are still under way are waited for, since
    /// only they say who was there.
    fn claim_all(
        &mut self,
        paths: &[RelPath],
        rounds: u32,
        queue: &mut BTreeMap<RelPath, Look>,
    ) -> HashMap<RelPath, Look> {
        let mut claimed = HashMap::new();
        for round in 0..=rounds {
            let missing: Vec<&RelPath> = paths.iter().filter(|path| !claimed.contains_key(*path)).collect();
            if missing.is_empty() {
                break;
            }
            if round > 1 {
                std::thread::sleep(REMOVAL_STEP);
            }
            if round > 0 {
                (self.catch_up)(self.correlator);
            }
            for path in missing {
                if let Some(look) = self.claim(path, queue) {
                    claimed.insert(path.clone(), look);
                }
            }
        }
        claimed
    }

    /// Records a rename as one change; gives the look back when it turns out to be something else.
    fn as_rename(
        &mut self,
        look: Look,
        queue: &mut BTreeMap<RelPath, Look>,
        round: &mut Round,
    ) -> Result<Result<(), Look>, StoreError> {
        let Some(old) = look.moved_from.clone() else {
            return Ok(Err(look));
        };
        let root = &self.watch.root;
        let own = |path: &RelPath| matches!(root.mounted_above(path), Ok(None));
        if !own(&old) || !own(&look.path) {
            return Ok(Err(look));
        }
        let approved = self.store.baseline_get(self.watch.path(), &old)?;
        let taken = self.store.baseline_get(self.watch.path(), &look.path)?.is_some();
        let gone = matches!(inspect::inspect(root, &old, None), Ok(None));
        let (Some(approved), Ok(Some(now))) = (approved, inspect::inspect(root, &look.path, None)) else {
            return Ok(Err(look));
        };
        let directory = now.entry.kind == FileType::Directory;
        let policy = &self.watch.policy;
        if taken
            || !gone
            || approved.entry.kind != now.entry.kind
            || policy.exclude.excludes(&look.path, directory)
            || !policy.renames_as_one(&old, &look.path, directory)
        {
            return Ok(Err(look));
        }
        let mut look = look;
        if let Some(left) = self.claim(&old, queue) {
            look.witnessed.merge(&left.witnessed);
        }
        round.seen.extend([old.clone(), look.path.clone()]);
        let aspects = approved.entry.differences_but(&now.entry, policy.of(&old, directory).ignore);
        let change = Change {
            kind: ChangeKind::Renamed,
            path: look.path.clone(),
            old_path: Some(old),
            before: Some(approved.entry),
            after: Some(now),
            aspects,
        };
        round.findings.push(Finding { look, change });
        Ok(Ok(()))
    }

    fn one(
        &mut self,
        look: Look,
        queue: &mut BTreeMap<RelPath, Look>,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        // What a response has set aside is fim's own until it is released.
        if look.path.name().is_some_and(is_in_flight) || !round.seen.insert(look.path.clone()) {
            return Ok(());
        }
        let read = round.read.remove(&look.path);
        // Its folder is there, with nothing mounted over it.
        let in_its_folder = read.is_some();
        let look = if in_its_folder { Some(look) } else { self.unless_hidden(look, queue, round) };
        let Some(look) = look else { return Ok(()) };
        let approved = match round.approved.remove(&look.path) {
            Some(approved) => approved,
            None => self.store.baseline_get(self.watch.path(), &look.path)?,
        };
        let is_dir = |found: &Found| found.entry.kind == FileType::Directory;
        // What was approved decides: a folder in a file's place does not hide behind a pattern for folders.
        let was_dir = approved.as_ref().map(is_dir);
        if self.watch.policy.exclude.excludes(&look.path, was_dir.unwrap_or(look.directory)) {
            return Ok(());
        }
        let known = approved.as_ref().filter(|_| !is_reported(&look));
        let now = match read {
            Some(read) => Ok(Some(read)),
            None => inspect::inspect(&self.watch.root, &look.path, known),
        };
        let now = match now {
            Ok(now) => now,
            Err(error) => {
                round.unreadable.push((look, error));
                return Ok(());
            }
        };
        let is_dir_now = now.as_ref().is_some_and(is_dir);
        if was_dir.is_none() && now.is_some() && self.watch.policy.exclude.excludes(&look.path, is_dir_now) {
            return Ok(());
        }
        let over = now.as_ref().filter(|now| self.watch.root.is_mounted_over(&look.path, &now.entry));
        if look.deeds.any(Deeds::DELETED) && is_dir_now && over.is_none() {
            self.sight.adopt(self.watch, &look.path);
        }
        let policy = self.watch.policy.of(&look.path, was_dir.unwrap_or(is_dir_now));
        let before = approved.as_ref().map(|f| &f.entry);
        let change = match over {
            Some(over) => Some(mounted_over(&look.path, before, over)),
            None => compare_but(&look.path, before, now.as_ref(), policy.ignore),
        };
        if over.is_none() {
            self.expand(&look, change.as_ref(), now.as_ref(), queue, round)?;
        }
        match change {
            Some(change) => self.differs(look, change, in_its_folder, queue, round)?,
            None => equals(look, before, now, round),
        }
        Ok(())
    }

    /// A difference is to be told with all that is known of who made it.
    fn differs(
        &mut self,
        mut look: Look,
        change: Change,
        in_its_folder: bool,
        queue: &mut BTreeMap<RelPath, Look>,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        // eBPF knows the thread, and the ids of the very moment.
        let better = self.sight.hooks_files() && !look.sources.ebpf;
        let named = look.witnessed.names_one(change.kind) && !better;
        if is_live(&look) && !look.caught_up && !named {
            (self.catch_up)(self.correlator);
            if let Some(own) = self.correlator.claim(self.watch.id, &look.path) {
                look.absorb(own);
            }
        }
        if change.before.is_some() && !in_its_folder {
            self.ancestors(&look, queue, round)?;
        }
        round.findings.push(Finding { look, change });
        Ok(())
    }

    /// What lies in something that was mounted over a folder is not looked at; the folder is. Gives the look back where
    /// nothing of that kind is above it.
    fn unless_hidden(
        &self,
        look: Look,
        queue: &mut BTreeMap<RelPath, Look>,
        round: &mut Round,
    ) -> Option<Look> {
        match self.watch.root.mounted_above(&look.path) {
            Ok(None) => return Some(look),
            Ok(Some(over)) => {
                let mut above = Look::new(look.watch, over.clone(), look.first_ns);
                (above.directory, above.sources) = (true, look.sources);
                queue.entry(over).or_insert(above);
            }
            Err(source) => {
                let path = crate::core::path::display(&look.path.below(self.watch.path()));
                round.unreadable.push((look, TreeError::Read { path, source }));
            }
        }
        None
    }

    /// A directory that came, went or was replaced takes everything below it along.
    fn expand(
        &mut self,
        look: &Look,
        change: Option<&Change>,
        now: Option<&Found>,
        queue: &mut BTreeMap<RelPath, Look>,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        let is_dir = |kind: Option<FileType>| kind == Some(FileType::Directory);
        let was = is_dir(change.and_then(|c| c.before.as_ref()).map(|e| e.kind));
        let is = is_dir(now.map(|f| f.entry.kind));
        let came = is && (change.is_some_and(|c| c.before.is_none() || c.kind == ChangeKind::Type));
        let came_back = Deeds::CREATED.with(Deeds::MOVED_HERE).with(Deeds::MOUNTED).with(Deeds::CAME_ALONG);
        let returned = is && look.deeds.any(came_back);
        let went = was && !is;
        if !(came || returned || went) {
            return Ok(());
        }
        if is {
            self.sight.adopt(self.watch, &look.path);
        }
        let mut below = self.names_below(&look.path, went || returned, is)?;
        // Moving a directory away takes what is in it along: its mover is the author, not merely a possible one.
        let inherited = if went { look.witnessed.clone() } else { look.witnessed.as_possible() };
        below.retain(|path| !round.seen.contains(path));
        // What moved away took its content along without a word about it; what was removed was emptied first.
        let rounds = match (is_live(look), went && !look.deeds.any(Deeds::MOVED_AWAY)) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => REMOVAL_ROUNDS,
        };
        let mut own = self.claim_all(&below, rounds, queue);
        for path in below {
            let mut child = Look::new(look.watch, path.clone(), look.first_ns);
            (child.sources, child.attempts) = (look.sources, look.attempts);
            match own.remove(&path) {
                Some(own) => {
                    child = own;
                    if child.witnessed.is_empty() {
                        child.witnessed = inherited.clone();
                    }
                }
                None => child.witnessed = inherited.clone(),
            }
            child.caught_up = true;
            // It was read before its folder came or went.
            round.read.remove(&path);
            // A directory inside is as new as this one.
            child.deeds = child.deeds.with(if is { Deeds::CAME_ALONG } else { Deeds::MOVED_AWAY });
            if queue.len() + round.findings.len() < ROUND_LIMIT {
                queue.insert(path, child);
            } else {
                self.correlator.schedule(child, look.first_ns);
            }
        }
        Ok(())
    }

    /// What is approved in a folder, and what lies there now, in order.
    fn names_below(&self, path: &RelPath, approved: bool, now: bool) -> Result<Vec<RelPath>, StoreError> {
        let mut below = Vec::new();
        if approved {
            let approved = self.store.baseline_list_dir(self.watch.path(), path)?;
            below.extend(approved.into_iter().map(|(path, _)| path));
        }
        if now {
            below.extend(names_in(self.watch, path));
        }
        below.sort();
        below.dedup();
        Ok(below)
    }

    /// Nothing can be put back into a folder that is gone: the folders above are looked at as well.
    fn ancestors(
        &mut self,
        look: &Look,
        queue: &mut BTreeMap<RelPath, Look>,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        let rounds = if is_live(look) { REMOVAL_ROUNDS } else { 0 };
        let mut missing = Vec::new();
        let mut at = look.path.parent();
        while let Some(path) = at.filter(|p| !p.is_root() && !round.seen.contains(p)) {
            if matches!(inspect::inspect(&self.watch.root, &path, None),
                Ok(Some(found)) if found.entry.kind == FileType::Directory)
            {
                break;
            }
            let own = self.claim_all(std::slice::from_ref(&path), rounds, queue).remove(&path);
            let above = own.unwrap_or_else(|| {
                let mut above = Look::new(look.watch, path.clone(), look.first_ns);
                above.witnessed = look.witnessed.as_possible();
                (above.sources, above.caught_up) = (look.sources, true);
                above
            });
            at = path.parent();
            missing.push(above);
        }
        // From the top: each then finds the one above it seen, however deep the tree.
        while let Some(above) = missing.pop() {
            self.one(above, queue, round)?;
        }
        Ok(())
    }
}

/// No difference that counts: perhaps one that is ignored, perhaps one that was and is no more.
fn equals(look: Look, before: Option<&Entry>, now: Option<Found>, round: &mut Round) {
    let ignored = match (before, &now) {
        (Some(before), Some(now)) => before.differences(&now.entry),
        _ => Vec::new(),
    };
    let undone = done_and_undone(&look, before.is_some(), now.is_some());
    if let Some(kind) = undone.filter(|kind| !explains(&ignored, *kind)) {
        round.transient.push((look.clone(), kind));
    }
    // The identity of a file that differs in what is ignored is no proof that it equals its baseline.
    round.right.push((look, now.filter(|_| ignored.is_empty())));
}

/// What lies in the folder `path` now; nothing when it cannot be read.
pub(super) fn names_in(watch: &Watch, path: &RelPath) -> Vec<RelPath> {
    let Ok(dir) = watch.root.open_dir(path) else {
        return Vec::new();
    };
    let Ok(entries) = rustix::fs::Dir::read_from(&dir) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| path.join(entry.file_name().to_bytes())).collect()
}

/// Whether the folder `path` cannot become empty, because all that keeps it is excluded. One such name.
pub(super) fn kept_by_excluded(watch: &Watch, path: &RelPath) -> Option<RelPath> {
    let is_dir = |path: &RelPath| {
        let found = inspect::inspect(&watch.root, path, None).ok().flatten();
        found.is_some_and(|found| found.entry.kind == FileType::Directory)
    };
    let (mut folders, mut keeper) = (vec![path.clone()], None);
    while let Some(folder) = folders.pop() {
        let names = names_in(watch, &folder);
        if names.is_empty() {
            return None;
        }
        for name in names {
            let directory = is_dir(&name);
            match (watch.policy.exclude.excludes(&name, directory), directory) {
                (true, _) => keeper = Some(name),
                (false, true) => folders.push(name),
                (false, false) => return None,
            }
        }
    }
    keeper
}

/// Whether somebody says that something was done. An unchanged identity proves nothing then: a change time is no finer
/// than a clock tick, and what the scan read again may have changed without one.
fn is_reported(look: &Look) -> bool {
    look.happened != Deeds::default() || look.deeds.any(Deeds::SCANNED)
}

/// Whether the kernel's sensors had part in it, so that more may be under way.
fn is_live(look: &Look) -> bool {
    look.sources.fanotify || look.sources.ebpf
}

/// Whether a difference that is ignored accounts for what was seen being done.
fn explains(ignored: &[Aspect], kind: ChangeKind) -> bool {
    let content = |a: &Aspect| matches!(a, Aspect::Content | Aspect::Target | Aspect::Device);
    match kind {
        ChangeKind::Modified => ignored.iter().any(content),
        ChangeKind::Attributes => ignored.iter().any(|a| !content(a)),
        _ => false,
    }
}

/// The kind of a change that certainly happened and is no more.
fn done_and_undone(look: &Look, approved: bool, there: bool) -> Option<ChangeKind> {
    let did = |deeds: Deeds| look.happened.any(deeds);
    if !approved && !there {
        // A temporary file that was renamed goes on under its new name.
        return (did(Deeds::CREATED.with(Deeds::MOVED_HERE)) && look.moved_to.is_none())
            .then_some(ChangeKind::Created);
    }
    if did(Deeds::DELETED) {
        Some(ChangeKind::Deleted)
    } else if did(Deeds::WRITTEN) {
        Some(ChangeKind::Modified)
    } else if did(Deeds::ATTRIBUTES) && !look.deeds.any(Deeds::LINKED) {
        // Linking touches the link count, which is no part of the approved state.
        Some(ChangeKind::Attributes)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
