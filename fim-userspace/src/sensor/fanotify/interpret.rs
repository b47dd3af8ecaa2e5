//! From the kernel's records to deeds at paths. Keeps the registry of directories true to what the events say.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::core::observation::{Deed, WatchId};
use crate::core::path::RelPath;
use crate::sensor::dirs::{Directories, FileHandle};
use crate::sys::fanotify::records::{Event, Place};

/// Whether a path is not watched; the flag says that it is a directory.
pub type Exclude = Arc<dyn Fn(WatchId, &RelPath, bool) -> bool + Send + Sync>;

/// What one event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Deed {
        watch: WatchId,
        path: RelPath,
        deed: Deed,
        directory: bool,
        /// Thread group id; 0 when it lies outside the pid namespace.
        pid: i32,
    },
    /// The top directory of the watch is gone or elsewhere.
    RootLost { watch: WatchId, deed: Deed, pid: i32 },
    /// The kernel's queue was full.
    Overflow,
}

/// How long the second half of a rename may take to show up. Both are queued in one system call.
const PAIRING: Duration = Duration::from_millis(5);

/// Where the watch roots themselves have their names.
#[derive(Default)]
pub struct RootNames(RwLock<Vec<RootName>>);

struct RootName {
    watch: WatchId,
    above: FileHandle,
    name: Box<[u8]>,
}

impl RootNames {
    /// The watch's root is `name` in the directory `above`.
    pub fn add(&self, watch: WatchId, above: FileHandle, name: &[u8]) {
        self.remove(watch);
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.push(RootName { watch, above, name: name.into() });
    }

    pub fn remove(&self, watch: WatchId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|root| root.watch != watch);
    }

    /// Whether the directory holds a root, and the watches whose root has this name there.
    fn at(&self, place: &Place<'_>) -> (bool, Vec<WatchId>) {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let here: Vec<_> = names.iter().filter(|root| root.above == place.dir).collect();
        let named = here.iter().filter(|root| *root.name == *place.name).map(|root| root.watch);
        (!here.is_empty(), named.collect())
    }
}

type Paths = Vec<(WatchId, RelPath)>;

/// The first half of a rename on kernels without `FAN_RENAME`.
struct Moving {
    from: Paths,
    object: Option<FileHandle>,
    directory: bool,
    pid: i32,
    since: Instant,
}

pub struct Interpreter {
    dirs: Arc<Directories>,
    root_names: Arc<RootNames>,
    exclude: Exclude,
    moving: Vec<Moving>,
}

impl Interpreter {
    pub fn new(dirs: Arc<Directories>, root_names: Arc<RootNames>, exclude: Exclude) -> Self {
        Self { dirs, root_names, exclude, moving: Vec::new() }
    }

    /// Half a rename is waiting for the other half.
    pub fn waiting(&self) -> bool {
        !self.moving.is_empty()
    }

    /// Gives up waiting for halves older than the pairing time, or than anything when `all`.
    pub fn expire(&mut self, all: bool, findings: &mut Vec<Finding>) {
        let (old, young) =
            std::mem::take(&mut self.moving).into_iter().partition(|m| all || m.since.elapsed() > PAIRING);
        self.moving = young;
        for moving in old {
            self.moved_away(moving, findings);
        }
    }

    pub fn event(&mut self, event: &Event<'_>, findings: &mut Vec<Finding>) {
        if event.mask & libc::FAN_Q_OVERFLOW != 0 {
            self.expire(true, findings);
            findings.push(Finding::Overflow);
            return;
        }
        let directory = event.mask & libc::FAN_ONDIR != 0;
        let object = event.object.as_ref();
        if event.mask & libc::FAN_RENAME != 0 {
            let (old, new) = (self.resolve(event.old.as_ref()), self.resolve(event.new.as_ref()));
            self.renamed(&old, &new, object, directory, event.pid, findings);
            return;
        }
        let paths = self.resolve(event.place.as_ref());
        if self.pair(event, &paths, findings) {
            return;
        }
        self.root_lost(event, &paths, findings);
        self.at_paths(event, &paths, findings);
        if !directory {
            self.other_links(event, &paths, findings);
        }
    }

    /// The directories that the event comes from and that nobody knows, though they are marked.
    pub fn strays<'e>(&self, event: &'e Event<'_>) -> impl Iterator<Item = &'e FileHandle> {
        // A file with other names is marked itself, and the directory of its other name is not.
        let file = event.object.as_ref().is_some_and(|o| !self.dirs.file_by_handle(o).is_empty());
        let place = event.place.as_ref().filter(|_| !file);
        [place, event.old.as_ref(), event.new.as_ref()]
            .into_iter()
            .flatten()
            .filter(|place| !self.dirs.knows(&place.dir) && !self.root_names.at(place).0)
            .map(|place| &place.dir)
    }

    fn resolve(&self, place: Option<&Place<'_>>) -> Paths {
        let Some(place) = place else { return Vec::new() };
        let dirs = self.dirs.by_handle(&place.dir);
        if place.name == b"." {
            return dirs;
        }
        dirs.into_iter().filter_map(|(watch, dir)| Some((watch, dir.join(place.name)?))).collect()
    }

    fn excluded(&self, watch: WatchId, path: &RelPath, directory: bool) -> bool {
        (self.exclude)(watch, path, directory)
    }

    /// The deeds of one record, the kernel having merged several events of the same process and name into it. Their
    /// order is not told; this is the one that makes sense most often.
    fn at_paths(&self, event: &Event<'_>, paths: &Paths, findings: &mut Vec<Finding>) {
        const DEEDS: [(u64, Deed); 7] = [
            (libc::FAN_CREATE, Deed::Created),
            (libc::FAN_MOVED_TO, Deed::MovedHere { from: None }),
            (libc::FAN_MODIFY, Deed::Written),
            (libc::FAN_ATTRIB, Deed::Attributes),
            (libc::FAN_CLOSE_WRITE, Deed::Closed),
            (libc::FAN_MOVED_FROM, Deed::MovedAway),
            (libc::FAN_DELETE, Deed::Deleted),
        ];
        let directory = event.mask & libc::FAN_ONDIR != 0;
        for (watch, path) in paths {
            self.keep_true(event, *watch, path);
            if self.excluded(*watch, path, directory) {
                continue;
            }
            for (_, deed) in DEEDS.iter().filter(|(bit, _)| event.mask & bit != 0) {
                findings.push(deed_at(*watch, path, deed.clone(), directory, event.pid));
            }
        }
    }

    /// Forgets what the event says is no longer under this name.
    fn keep_true(&self, event: &Event<'_>, watch: WatchId, path: &RelPath) {
        let holds = self.dirs.holds(watch, path, event.object.as_ref());
        let comes = event.mask & (libc::FAN_CREATE | libc::FAN_MOVED_TO) != 0;
        let goes = event.mask & (libc::FAN_DELETE | libc::FAN_MOVED_FROM) != 0;
        // Something else came to this name, or the very thing known went away. A scan may have been quicker than the
        // event and know the new object already: that stays.
        if (goes && holds == Some(true)) || (comes && holds == Some(false)) {
            self.dirs.removed(watch, path);
        }
    }

    /// Content and attributes belong to the file, so they changed under each of its names.
    fn other_links(&self, event: &Event<'_>, paths: &Paths, findings: &mut Vec<Finding>) {
        const DEEDS: [(u64, Deed); 3] = [
            (libc::FAN_MODIFY, Deed::Written),
            (libc::FAN_ATTRIB, Deed::Attributes),
            (libc::FAN_CLOSE_WRITE, Deed::Closed),
        ];
        if event.mask & (libc::FAN_MODIFY | libc::FAN_ATTRIB | libc::FAN_CLOSE_WRITE) == 0 {
            return;
        }
        let Some(object) = &event.object else { return };
        for (watch, path) in self.dirs.file_by_handle(object) {
            let told = paths.iter().any(|(w, p)| *w == watch && *p == path);
            if told || self.excluded(watch, &path, false) {
                continue;
            }
            for (_, deed) in DEEDS.iter().filter(|(bit, _)| event.mask & bit != 0) {
                findings.push(deed_at(watch, &path, deed.clone(), false, event.pid));
            }
        }
    }

    /// Whether a root is gone from its name.
    fn root_lost(&self, event: &Event<'_>, paths: &Paths, findings: &mut Vec<Finding>) {
        let Some(place) = &event.place else { return };
        let mut lost = |watch, deed| findings.push(Finding::RootLost { watch, deed, pid: event.pid });
        if event.mask & libc::FAN_MOVE_SELF != 0 {
            let roots = paths.iter().filter(|(_, path)| path.is_root());
            roots.for_each(|(watch, _)| lost(*watch, Deed::MovedAway));
        }
        if event.mask & libc::FAN_DELETE != 0 {
            let (_, named) = self.root_names.at(place);
            named.into_iter().for_each(|watch| lost(watch, Deed::Deleted));
        }
    }

    /// Both names of one move; either list may be empty.
    fn renamed(
        &self,
        old: &Paths,
        new: &Paths,
        object: Option<&FileHandle>,
        directory: bool,
        pid: i32,
        findings: &mut Vec<Finding>,
    ) {
        for (watch, to) in new {
            let from = old.iter().find(|(w, _)| w == watch).map(|(_, path)| path);
            let seen_from = from.filter(|path| !self.excluded(*watch, path, directory));
            if self.excluded(*watch, to, directory) {
                self.forget(*watch, from, object);
                if let Some(from) = seen_from {
                    findings.push(deed_at(*watch, from, Deed::MovedAway, directory, pid));
                }
                continue;
            }
            match from {
                Some(from) if self.dirs.holds(*watch, from, object) == Some(true) => {
                    self.dirs.renamed(*watch, from, to);
                }
                _ if self.dirs.holds(*watch, to, object) == Some(false) => {
                    self.dirs.removed(*watch, to);
                }
                _ => {}
            }
            let deed = Deed::MovedHere { from: seen_from.cloned() };
            findings.push(deed_at(*watch, to, deed, directory, pid));
        }
        for (watch, from) in old.iter().filter(|(w, _)| !new.iter().any(|(n, _)| n == w)) {
            self.forget(*watch, Some(from), object);
            if !self.excluded(*watch, from, directory) {
                findings.push(deed_at(*watch, from, Deed::MovedAway, directory, pid));
            }
        }
    }

    fn forget(&self, watch: WatchId, path: Option<&RelPath>, object: Option<&FileHandle>) {
        if let Some(path) = path.filter(|path| self.dirs.holds(watch, path, object) == Some(true)) {
            self.dirs.removed(watch, path);
        }
    }

    /// Kernels without `FAN_RENAME` queue a move as two events in a row, and say which object moved only since the same
    /// version: so a process's MOVED_TO right after its MOVED_FROM is the other half. Whether the event is used up.
    fn pair(&mut self, event: &Event<'_>, paths: &Paths, findings: &mut Vec<Finding>) -> bool {
        let directory = event.mask & libc::FAN_ONDIR != 0;
        let bits = event.mask & !libc::FAN_ONDIR;
        let before = self.moving.iter().position(|m| m.pid == event.pid).map(|i| self.moving.remove(i));
        if let Some(moving) = before {
            let same_object =
                moving.object.is_none() || event.object.is_none() || moving.object == event.object;
            if bits == libc::FAN_MOVED_TO && same_object && moving.directory == directory {
                let object = moving.object.or_else(|| event.object.clone());
                self.renamed(&moving.from, paths, object.as_ref(), directory, event.pid, findings);
                return true;
            }
            self.moved_away(moving, findings);
        }
        if bits != libc::FAN_MOVED_FROM {
            return false;
        }
        self.moving.push(Moving {
            from: paths.clone(),
            object: event.object.clone(),
            directory,
            pid: event.pid,
            since: Instant::now(),
        });
        true
    }

    fn moved_away(&self, moving: Moving, findings: &mut Vec<Finding>) {
        self.renamed(
            &moving.from,
            &Vec::new(),
            moving.object.as_ref(),
            moving.directory,
            moving.pid,
            findings,
        );
    }
}

fn deed_at(watch: WatchId, path: &RelPath, deed: Deed, directory: bool, pid: i32) -> Finding {
    Finding::Deed { watch, path: path.clone(), deed, directory, pid }
}
