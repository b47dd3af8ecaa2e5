//! What the daemon tells about itself while it works.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::core::observation::WatchId;

#[derive(Default)]
pub struct Progress {
    gaps: AtomicU64,
    waiting: AtomicUsize,
    unwritten: AtomicUsize,
    ready: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    files: Vec<Option<u64>>,
    trouble: Option<String>,
}

impl Progress {
    pub fn new(watches: usize) -> Self {
        let inner = Inner { files: vec![None; watches], trouble: None };
        Self { inner: Mutex::new(inner), ..Self::default() }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    pub fn queue(&self, waiting: usize, unwritten: usize) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.unwritten.store(unwritten, Ordering::Relaxed);
    }

    /// Looks that wait, and records that are not written yet.
    pub fn queued(&self) -> (usize, usize) {
        (self.waiting.load(Ordering::Relaxed), self.unwritten.load(Ordering::Relaxed))
    }

    /// A scan of the whole watch has ended.
    pub fn scanned(&self, watch: WatchId, files: u64) {
        if let Some(slot) = self.inner().files.get_mut(watch.0 as usize) {
            *slot = Some(files);
        }
    }

    pub fn files(&self, watch: WatchId) -> Option<u64> {
        self.inner().files.get(watch.0 as usize).copied().flatten()
    }

    /// Whether each watch has been scanned once, and so is marked throughout.
    pub fn all_scanned(&self) -> bool {
        self.inner().files.iter().all(Option::is_some)
    }

    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// What keeps the daemon from recording, if anything.
    pub fn trouble(&self, trouble: Option<String>) {
        self.inner().trouble = trouble;
    }

    pub fn troubled(&self) -> Option<String> {
        self.inner().trouble.clone()
    }
}
