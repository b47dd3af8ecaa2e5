//! Whole watches compared in the background: at the start, after a gap, and by interval.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};

use crate::core::entry::{Entry, FileType, Found, Identity};
use crate::core::observation::{Deed, Observation, Signal, Source, WatchId};
use crate::core::path::RelPath;
use crate::sensor::marks::Marks;
use crate::sensor::scan::{self, ScanProgress};
use crate::store::{Store, StoreError};

use super::clock::boottime_ns;
use super::outline::Outline;
use super::watch::Watch;

/// How often a thread that waits for room looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Default)]
struct State {
    running: bool,
    /// Asked for again while it ran.
    again: bool,
    /// The scan that runs closes a coverage gap.
    for_gap: bool,
}

/// Orders scans; the thread that carries them out reports through the signals.
pub struct Scanner {
    /// `None` once told to stop: its end ends the thread.
    requests: Option<Sender<WatchId>>,
    states: HashMap<WatchId, State>,
    /// Of the scan that runs; also tells it to end early.
    progress: Arc<ScanProgress>,
    thread: Option<JoinHandle<()>>,
}

/// What the scanning thread needs.
pub struct Context {
    pub watches: Vec<Arc<Watch>>,
    pub state_dir: PathBuf,
    pub marks: Option<Arc<dyn Marks>>,
    pub out: Sender<Signal>,
    /// After a restart of the machine: what changed after this moment (nanoseconds since the epoch) may not have reached
    /// the disk, so the first scan reads it, whatever its identity says.
    pub distrust_from_ns: Option<i64>,
}

impl Scanner {
    pub fn start(context: Context) -> std::io::Result<Self> {
        // Room for each watch once: a watch that is asked for twice is merely marked.
        let (requests, inbox) = bounded(context.watches.len());
        let progress = Arc::new(ScanProgress::default());
        let shared = progress.clone();
        let thread = std::thread::Builder::new()
            .name("fim-scan".into())
            .spawn(move || serve(&context, &inbox, &shared))?;
        Ok(Self { requests: Some(requests), states: HashMap::new(), progress, thread: Some(thread) })
    }

    /// The first scan of a watch: marks every directory and finds what changed while nobody watched.
    pub fn first(&mut self, watch: WatchId) {
        self.order(watch, false);
    }

    /// A scan that closes a coverage gap.
    pub fn rescan(&mut self, watch: WatchId) {
        self.order(watch, true);
    }

    /// A scan because its time has come.
    pub fn by_interval(&mut self, watch: WatchId) {
        if !self.states.get(&watch).is_some_and(|s| s.running) {
            self.order(watch, false);
        }
    }

    fn order(&mut self, watch: WatchId, for_gap: bool) {
        let state = self.states.entry(watch).or_default();
        if state.running {
            state.again |= for_gap;
            return;
        }
        *state = State { running: true, again: false, for_gap };
        // Never full: one place for each watch, and none is ordered while it runs.
        if self.requests.as_ref().is_none_or(|requests| requests.try_send(watch).is_err()) {
            tracing::error!("the scanning thread is gone; restart fim");
        }
    }

    /// A scan has ended; whether it closed a gap. A gap that opened meanwhile starts it again.
    pub fn finished(&mut self, watch: WatchId) -> bool {
        let Some(state) = self.states.get_mut(&watch) else {
            return false;
        };
        let ended = std::mem::take(state);
        if ended.again {
            self.order(watch, true);
        }
        ended.for_gap
    }

    /// A scan could not be made; whether it had to close a gap.
    pub fn failed(&mut self, watch: WatchId) -> bool {
        self.states.get_mut(&watch).map(std::mem::take).is_some_and(|state| state.for_gap || state.again)
    }

    /// Watches whose scan, which has not ended, would close a gap.
    pub fn owed(&self) -> Vec<WatchId> {
        let owed = |state: &State| state.running && (state.for_gap || state.again);
        self.states.iter().filter(|(_, state)| owed(state)).map(|(watch, _)| *watch).collect()
    }

    pub fn idle(&self) -> bool {
        self.states.values().all(|s| !s.running)
    }

    pub fn stop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.requests = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the scanning thread had failed; please report this");
        }
    }
}

fn serve(context: &Context, inbox: &Receiver<WatchId>, progress: &ScanProgress) {
    let stop = &progress.stop;
    let mut scanned = HashSet::new();
    for id in inbox {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Some(watch) = context.watches.get(id.0 as usize) else {
            continue;
        };
        let distrust = context.distrust_from_ns.filter(|_| !scanned.contains(&id));
        let compared = compare_watch(context, watch, progress, distrust);
        crate::sys::memory::give_back();
        let ended = match compared {
            Ok(Report { files, different, unreadable, unmarked, unmarked_why }) => {
                scanned.insert(id);
                Signal::Scanned { watch: id, files, different, unreadable, unmarked, unmarked_why }
            }
            Err(reason) => Signal::ScanFailed { watch: id, reason },
        };
        send(&context.out, ended, stop);
    }
}

#[derive(Default)]
struct Report {
    files: u64,
    different: u64,
    unreadable: Vec<String>,
    unmarked: u64,
    unmarked_why: Option<String>,
}

/// The baseline of one watch, with a mark for each path that was met.
pub struct Approved(HashMap<RelPath, (Found, AtomicBool)>);

impl Approved {
    pub fn load(store: &Store, watch: &Path) -> Result<Self, StoreError> {
        let entries = store.baseline_children(watch, &RelPath::root())?;
        Ok(Self(entries.into_iter().map(|(path, found)| (path, (found, AtomicBool::new(false)))).collect()))
    }

    pub fn get(&self, path: &RelPath) -> Option<&Found> {
        self.0.get(path).map(|(found, _)| found)
    }

    /// The approved state of a path that has been met.
    pub fn meet(&self, path: &RelPath) -> Option<&Found> {
        self.0.get(path).map(|(found, met)| {
            met.store(true, Ordering::Relaxed);
            found
        })
    }

    /// Approved paths that were not met, in path order.
    pub fn missing(&self) -> Vec<&RelPath> {
        let mut missing: Vec<&RelPath> = self
            .0
            .iter()
            .filter(|(_, (_, met))| !met.load(Ordering::Relaxed))
            .map(|(path, _)| path)
            .collect();
        missing.sort();
        missing
    }

    /// Size of all regular files.
    pub fn bytes(&self) -> u64 {
        let regular = self.0.values().filter(|(f, _)| f.entry.kind == crate::core::entry::FileType::Regular);
        regular.map(|(found, _)| found.entry.size).sum()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of so many unchanged files a scan opens one.
const SAMPLE: u64 = 512;

/// The baseline as a scan needs it: its outline in memory, and the rest of what the outline does not settle from the database.
struct Reader<'a> {
    outline: Outline,
    watch: &'a Path,
    state_dir: &'a Path,
    /// Connections that nobody uses right now.
    idle: Mutex<Vec<Store>>,
    /// The first that went wrong: the scan has to be made again.
    failure: Mutex<Option<StoreError>>,
}

thread_local! {
    /// What was read last: each path is asked for before it is looked at, and again afterwards.
    static LAST: RefCell<Option<(RelPath, Option<Found>)>> = const { RefCell::new(None) };
}

impl<'a> Reader<'a> {
    fn open(
        state_dir: &'a Path,
        watch: &'a Watch,
        distrust_from_ns: Option<i64>,
    ) -> Result<Self, StoreError> {
        LAST.set(None);
        let (store, watch) = (Store::open_for_walk(state_dir)?, watch.path());
        let outline = Outline::load(&store, watch, distrust_from_ns)?;
        let (idle, failure) = (Mutex::new(vec![store]), Mutex::default());
        Ok(Self { outline, watch, state_dir, idle, failure })
    }

    fn get(&self, path: &RelPath) -> Option<Found> {
        let last =
            LAST.with_borrow(|last| last.as_ref().filter(|last| last.0 == *path).map(|last| last.1.clone()));
        if let Some(found) = last {
            return found;
        }
        let found = self.with_store(|store| store.baseline_get(self.watch, path)).unwrap_or_else(|error| {
            lock(&self.failure).get_or_insert(error);
            None
        });
        LAST.set(Some((path.clone(), found.clone())));
        found
    }

    /// The approved state of a path that has been met.
    fn meet(&self, path: &RelPath) -> Option<Found> {
        self.outline.meet(path);
        self.get(path)
    }

    fn missing(&self) -> Result<Vec<RelPath>, StoreError> {
        self.with_store(|store| self.outline.missing(store, self.watch))
    }

    fn failure(self) -> Option<StoreError> {
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_store<T>(&self, read: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = lock(&self.idle).pop();
        let store = idle.map_or_else(|| Store::open_for_walk(self.state_dir), Ok)?;
        let out = read(&store);
        lock(&self.idle).push(store);
        out
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn compare_watch(
    context: &Context,
    watch: &Watch,
    progress: &ScanProgress,
    distrust_from_ns: Option<i64>,
) -> Result<Report, String> {
    let approved = Reader::open(&context.state_dir, watch, distrust_from_ns).map_err(|e| e.to_string())?;
    let different = AtomicU64::new(0);
    let tell = |path: RelPath| {
        different.fetch_add(1, Ordering::Relaxed);
        send(&context.out, found_different(watch.id, path), &progress.stop);
    };
    let trusted = |found: &Found| distrust_from_ns.is_none_or(|from| found.identity.ctime_ns < from);
    let known = |path: &RelPath| approved.get(path).filter(trusted);
    let settling = AtomicU64::new(0);
    let settled = |path: &RelPath, entry: &Entry, identity: &Identity| {
        // statx(2) answers from memory even where the disk has failed, so some files are opened all the same.
        let sample = entry.kind == FileType::Regular
            && settling.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE);
        !sample && approved.outline.settles(path, entry, identity) && !watch.root.is_mounted_over(path, entry)
    };
    let mut job = watch.scan(context.marks.as_deref(), &known, progress);
    job.settled = Some(&settled);
    let visit = |path: RelPath, found: Found| match approved.meet(&path) {
        Some(was)
            if watch.satisfied(&path, &was.entry, &found.entry)
                && !watch.root.is_mounted_over(&path, &found.entry) => {}
        _ => tell(path),
    };
    let report = scan::walk(&job, &visit).map_err(|e| e.to_string())?;
    // Ended early, nothing can be said of what was not met.
    let missing = if report.stopped { Vec::new() } else { approved.missing().map_err(|e| e.to_string())? };
    for path in missing {
        // What has been excluded since the baseline was taken is not missing.
        let folder = approved.get(&path).is_some_and(|f| f.entry.kind == FileType::Directory);
        if !watch.policy.exclude.excludes(&path, folder) && !report.hides(&path) {
            tell(path);
        }
    }
    if let Some(error) = approved.failure() {
        return Err(error.to_string());
    }
    Ok(Report {
        files: report.files,
        different: different.load(Ordering::Relaxed),
        unreadable: report.unreadable.into_iter().map(|(path, why)| format!("{path}: {why}")).collect(),
        unmarked: report.unmarked,
        unmarked_why: report.unmarked_why.into_iter().next().map(|(_, why)| why),
    })
}

pub fn found_different(watch: WatchId, path: RelPath) -> Signal {
    Signal::Observed(Observation {
        source: Source::Scan,
        watch,
        path,
        deed: Deed::FoundDifferent,
        directory: false,
        actor: None,
        at_ns: boottime_ns(),
    })
}

/// Waits for room: a scan has time, and what it found must not be lost.
pub fn send(out: &Sender<Signal>, signal: Signal, stop: &AtomicBool) {
    let mut signal = signal;
    loop {
        match out.send_timeout(signal, STOP_CHECK) {
            Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
            Err(SendTimeoutError::Timeout(back)) => signal = back,
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}
