//! The fanotify witness: says where to look the moment something was done there, on every kernel.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use rustix::fs::{Mode, OFlags};

use crate::core::observation::{Signal, WatchId};
use crate::core::path::RelPath;
use crate::sensor::actor::Identify;
use crate::sensor::dirs::{DirKey, Directories, FileHandle};
use crate::sensor::marks::{MarkError, Marks};
use crate::sensor::settle::Settle;
use crate::tree::Root;

mod adopt;
mod group;
mod interpret;
mod mounts;
mod outbox;
mod pump;
mod stray;
#[cfg(test)]
mod tests;

pub use group::{FanotifyError, Features};
pub use interpret::Exclude;

use group::Reporter;
use interpret::RootNames;

pub struct Options {
    /// Ask for a pidfd with each event (costs the kernel an open file each): the fanotify tier, which reads /proc.
    pub pidfd: bool,
    pub exclude: Exclude,
    /// Other witnesses that must be told of directories this one finds.
    pub also: Vec<Arc<dyn Marks>>,
    /// How many signals may wait for room in the channel before reports become a gap.
    pub backlog: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { pidfd: false, exclude: Arc::new(|_, _, _| false), also: Vec::new(), backlog: 65_536 }
    }
}

/// What the thread and the callers share.
struct Shared {
    reporter: Reporter,
    dirs: Arc<Directories>,
    roots: RwLock<HashMap<WatchId, Arc<Root>>>,
    root_names: Arc<RootNames>,
    exclude: Exclude,
    also: Vec<Arc<dyn Marks>>,
    own_pid: i32,
    seen: AtomicU64,
    settle: Settle,
}

impl Shared {
    fn root(&self, watch: WatchId) -> Option<Arc<Root>> {
        self.roots.read().unwrap_or_else(PoisonError::into_inner).get(&watch).cloned()
    }

    fn roots(&self) -> Vec<(WatchId, Arc<Root>)> {
        let roots = self.roots.read().unwrap_or_else(PoisonError::into_inner);
        roots.iter().map(|(watch, root)| (*watch, root.clone())).collect()
    }

    fn all_marks(&self) -> EveryMark<'_> {
        EveryMark(self)
    }
}

impl Marks for Shared {
    fn directory(&self, dir: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        let failed = |e| group::mark_error("the directory", dir, e);
        // Known before it is marked: no event may come from a directory nobody knows.
        let key = DirKey::of(dir).map_err(failed)?;
        self.dirs.register(watch, path, key, FileHandle::of(dir).ok());
        self.reporter.mark_directory(dir, path.is_root())
    }

    fn hard_linked(&self, file: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        let failed = |e| group::mark_error("the file", file, e);
        let key = DirKey::of(file).map_err(failed)?;
        self.dirs.register_file(watch, path, key, FileHandle::of(file).ok());
        self.reporter.mark_file(file)
    }
}

/// This witness and the others.
struct EveryMark<'a>(&'a Shared);

impl EveryMark<'_> {
    fn each(&self, tell: impl Fn(&dyn Marks) -> Result<(), MarkError>) -> Result<(), MarkError> {
        let own = tell(self.0);
        self.0.also.iter().fold(own, |first, marks| {
            let this = tell(&**marks);
            first.and(this)
        })
    }
}

impl Marks for EveryMark<'_> {
    fn directory(&self, dir: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        self.each(|marks| marks.directory(dir, watch, path))
    }

    fn hard_linked(&self, file: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        self.each(|marks| marks.hard_linked(file, watch, path))
    }
}

/// The running sensor. Stops when dropped, having handed on what the kernel had queued.
pub struct Fanotify {
    shared: Arc<Shared>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Fanotify {
    /// Opens fanotify with all this kernel can do and starts its thread. Nothing is watched yet: see [`Self::watch`].
    pub fn start(
        dirs: Arc<Directories>,
        identify: Arc<dyn Identify>,
        out: Sender<Signal>,
        options: Options,
    ) -> Result<Self, FanotifyError> {
        let stop =
            OwnedFd::from(nix::sys::eventfd::EventFd::new().map_err(|e| FanotifyError::Thread(e.into()))?);
        let shared = Arc::new(Shared {
            reporter: Reporter::open(options.pidfd)?,
            dirs: dirs.clone(),
            roots: RwLock::default(),
            root_names: Arc::default(),
            exclude: options.exclude.clone(),
            also: options.also,
            own_pid: std::process::id() as i32,
            seen: AtomicU64::new(0),
            settle: Settle::new().map_err(|e| FanotifyError::Thread(e.into()))?,
        });
        let pump = pump::Pump {
            shared: shared.clone(),
            identify,
            interpreter: interpret::Interpreter::new(dirs, shared.root_names.clone(), options.exclude),
            outbox: outbox::Outbox::new(out, options.backlog),
            mounts: mounts::MountTable::open().map_err(FanotifyError::Mounts)?,
            stop: stop.try_clone().map_err(FanotifyError::Thread)?,
        };
        let thread = pump.spawn().map_err(FanotifyError::Thread)?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// Makes the root of a watch known, so that new directories below it can be reached. Before the first mark there.
    pub fn watch(&self, watch: WatchId, root: Arc<Root>) {
        if let Err(e) = self.watch_root_name(watch, &root) {
            tracing::warn!("that the watched directory itself is removed will be found by scans only: {e}");
        }
        self.shared.roots.write().unwrap_or_else(PoisonError::into_inner).insert(watch, root);
    }

    /// Lets a watch go; marks that are left over go with the next event from there.
    pub fn unwatch(&self, watch: WatchId) {
        self.shared.roots.write().unwrap_or_else(PoisonError::into_inner).remove(&watch);
        self.shared.root_names.remove(watch);
        self.shared.dirs.removed(watch, &RelPath::root());
    }

    fn watch_root_name(&self, watch: WatchId, root: &Root) -> Result<(), MarkError> {
        let failed = |e| group::mark_error("the removal", root.fd(), e);
        let path = pump::place_of(root.fd()).unwrap_or_default();
        // The root of the file system cannot be removed.
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above =
            rustix::fs::openat(root.fd(), c"..", flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let handle = FileHandle::of(above.as_fd()).map_err(failed)?;
        self.shared.root_names.add(watch, handle, name.as_bytes());
        self.shared.reporter.mark_above_root(above.as_fd())
    }

    /// Waits until everything that the kernel reported before this call has been handed on, for `patience` at most; whether
    /// it came in time.
    pub fn settle(&self, patience: std::time::Duration) -> bool {
        self.shared.settle.wait(patience)
    }

    pub fn features(&self) -> Features {
        self.shared.reporter.features
    }

    /// Events read from the kernel so far, own ones included.
    pub fn events_seen(&self) -> u64 {
        self.shared.seen.load(Ordering::Relaxed)
    }

    /// What fanotify can do on the file system of an open directory, without watching anything; for `fim doctor`.
    pub fn probe(
        dir: BorrowedFd<'_>,
        pidfd: bool,
    ) -> Result<(Features, Result<(), MarkError>), FanotifyError> {
        let reporter = Reporter::open(pidfd)?;
        let marked = reporter.mark_directory(dir, true);
        Ok((reporter.features, marked))
    }
}

impl Marks for Fanotify {
    fn directory(&self, dir: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        self.shared.directory(dir, watch, path)
    }

    fn hard_linked(&self, file: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        self.shared.hard_linked(file, watch, path)
    }
}

impl Drop for Fanotify {
    fn drop(&mut self) {
        let told = rustix::io::write(self.stop.as_fd(), &1u64.to_ne_bytes());
        if let (Ok(_), Some(thread)) = (told, self.thread.take()) {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}
