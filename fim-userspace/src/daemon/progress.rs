//! What the daemon tells about itself while it works.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::core::event::rfc3339;
use crate::core::observation::WatchId;

use super::clock::realtime_ns;

#[derive(Default)]
pub struct Progress {
    waiting: AtomicUsize,
    unwritten: AtomicUsize,
    ready: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    scans: Vec<Option<String>>,
    gaps: Gaps,
    trouble: Option<String>,
    vault: Vec<String>,
    self_test: SelfTest,
}

/// How the sensors fare.
#[derive(Clone, Default)]
pub struct SelfTest {
    /// When the last one succeeded, RFC 3339.
    pub passed: Option<String>,
    /// What was wrong with the last one.
    pub trouble: Option<String>,
}

/// Coverage gaps since the start.
#[derive(Clone, Default)]
pub struct Gaps {
    pub count: u64,
    /// Reports lost, as far as known.
    pub lost: u64,
    /// RFC 3339.
    pub last: Option<String>,
    /// Not yet closed by a scan.
    pub open: u64,
}

impl Progress {
    pub fn new(watches: usize) -> Self {
        let inner = Inner { scans: vec![None; watches], ..Inner::default() };
        Self { inner: Mutex::new(inner), ..Self::default() }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn gap(&self) {
        let gaps = &mut self.inner().gaps;
        gaps.count += 1;
        gaps.open += 1;
        gaps.last = Some(rfc3339(realtime_ns()));
    }

    pub fn lost(&self, reports: u64) {
        self.inner().gaps.lost += reports;
    }

    pub fn gaps_closed(&self) {
        self.inner().gaps.open = 0;
    }

    pub fn gaps(&self) -> Gaps {
        self.inner().gaps.clone()
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
    pub fn scanned(&self, watch: WatchId) {
        if let Some(slot) = self.inner().scans.get_mut(watch.0 as usize) {
            *slot = Some(rfc3339(realtime_ns()));
        }
    }

    /// When the last scan of the whole watch ended, RFC 3339.
    pub fn last_scan(&self, watch: WatchId) -> Option<String> {
        self.inner().scans.get(watch.0 as usize).cloned().flatten()
    }

    /// Whether each watch has been scanned once, and so is marked throughout.
    pub fn all_scanned(&self) -> bool {
        self.inner().scans.iter().all(Option::is_some)
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

    pub fn self_tested(&self, outcome: SelfTest) {
        self.inner().self_test = outcome;
    }

    pub fn self_test(&self) -> SelfTest {
        self.inner().self_test.clone()
    }

    /// What is wrong with the vault, one sentence each.
    pub fn vault_trouble(&self, problems: Vec<String>) {
        self.inner().vault = problems;
    }

    pub fn vault_troubles(&self) -> Vec<String> {
        self.inner().vault.clone()
    }
}
