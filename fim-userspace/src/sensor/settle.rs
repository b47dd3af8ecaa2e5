//! Waiting until a sensor's thread has handed on everything that the kernel had reported by then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

#[derive(Default)]
struct Count {
    asked: u64,
    answered: u64,
}

/// One side asks and waits; the sensor's thread polls [`Settle::wake`], reads its queue empty, and answers.
pub struct Settle {
    count: Mutex<Count>,
    answered: Condvar,
    pub wake: EventFd,
    counting: AtomicBool,
}

impl Settle {
    pub fn new() -> nix::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { count: Mutex::default(), answered: Condvar::new(), wake, counting: AtomicBool::new(false) })
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what was reported before this call, for `patience` at most; whether it came in time.
    pub fn wait(&self, patience: Duration) -> bool {
        let mut count = self.count();
        count.asked += 1;
        let mine = count.asked;
        if self.wake.write(1).is_err() {
            return false;
        }
        let waited = self.answered.wait_timeout_while(count, patience, |c| c.answered < mine);
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }

    /// Wants what was lost by the next answer to be told before it.
    pub fn count_losses(&self) {
        self.counting.store(true, Ordering::Release);
    }

    /// Whether that is wanted; only once for each wish.
    pub fn is_to_count(&self) -> bool {
        self.counting.swap(false, Ordering::AcqRel)
    }

    /// To be called before the queue is read; what it returns is the answer afterwards.
    pub fn asked(&self) -> u64 {
        // Nothing to read when something else woke the thread.
        let _ = self.wake.read();
        self.count().asked
    }

    pub fn answer(&self, asked: u64) {
        let mut count = self.count();
        if count.answered < asked {
            count.answered = asked;
            self.answered.notify_all();
        }
    }
}
