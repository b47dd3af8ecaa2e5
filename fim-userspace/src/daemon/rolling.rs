//! The third witness: every file's digest read again within a period, spread out, at idle priority.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::core::observation::Signal;
use crate::core::path::RelPath;
use crate::store::Store;
use crate::tree::inspect;

use super::scanner::{found_different, send};
use super::watch::Watch;

pub struct Rolling {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rolling {
    /// Reads every approved file again within `period`, for ever.
    pub fn start(
        watches: Vec<Arc<Watch>>,
        state_dir: PathBuf,
        period: Duration,
        out: Sender<Signal>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::Builder::new().name("fim-rolling".into()).spawn(move || {
            crate::sys::priority::idle();
            while !flag.load(Ordering::Relaxed) {
                turn(&watches, &state_dir, period, &out, &flag);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the rolling scan had failed; please report this");
        }
    }
}

/// Once around everything.
fn turn(
    watches: &[Arc<Watch>],
    state_dir: &std::path::Path,
    period: Duration,
    out: &Sender<Signal>,
    stop: &AtomicBool,
) {
    let store = match Store::open_for_walk(state_dir) {
        Ok(store) => store,
        Err(error) => {
            tracing::error!("the rolling scan waits: {error}");
            return pause(period.min(Duration::from_secs(60)), stop);
        }
    };
    let total: u64 = watches.iter().map(|w| store.baseline_count(w.path()).unwrap_or(0)).sum();
    // Nothing is read in one go: each file has its share of the period.
    let share = period / u32::try_from(total.max(1)).unwrap_or(u32::MAX);
    let mut read = false;
    for watch in watches {
        let mut after: Option<RelPath> = None;
        while let Ok(Some((path, approved))) = store.baseline_next(watch.path(), after.as_ref()) {
            pause(share, stop);
            if stop.load(Ordering::Relaxed) {
                return;
            }
            read = true;
            let now = inspect::inspect(&watch.root, &path, None).ok();
            let equal = now.flatten().is_some_and(|now| watch.satisfied(&path, &approved.entry, &now.entry));
            if !equal {
                send(out, found_different(watch.id, path.clone()), stop);
            }
            after = Some(path);
        }
    }
    if !read {
        pause(period, stop);
    }
}

/// Waits, unless told to stop meanwhile.
fn pause(time: Duration, stop: &AtomicBool) {
    let until = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) {
        match until.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => std::thread::park_timeout(left),
            _ => return,
        }
    }
}
