//! Signs of life of the threads that must not stand still, for the watchdog.
//!
//! A thread begins a pulse and beats in every turn of its loop; long work inside a turn, such as reading a large file,
//! beats too. Who never began a pulse beats for nobody.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// A loop that has nothing to do turns at least this often.
pub const TURN: Duration = Duration::from_secs(1);

static ALL: Mutex<Vec<Weak<Pulse>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: RefCell<Option<Arc<Pulse>>> = const { RefCell::new(None) };
}

#[derive(Debug)]
pub struct Pulse {
    /// Of the loop.
    pub name: &'static str,
    beats: AtomicU64,
}

impl Pulse {
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}

/// The pulse of this thread, until it is dropped.
#[must_use]
pub struct Living(());

impl Drop for Living {
    fn drop(&mut self) {
        OWN.with_borrow_mut(|own| *own = None);
    }
}

pub fn begin(name: &'static str) -> Living {
    let pulse = Arc::new(Pulse { name, beats: AtomicU64::new(0) });
    ALL.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&pulse));
    OWN.with_borrow_mut(|own| *own = Some(pulse));
    Living(())
}

/// This thread is at work.
pub fn beat() {
    OWN.with_borrow(|own| {
        if let Some(own) = own {
            own.beats.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// The pulse of this thread, for those that work while it waits for them.
pub fn own() -> Option<Arc<Pulse>> {
    OWN.with_borrow(Clone::clone)
}

/// Beats for somebody who waits, until this thread ends.
pub fn lend(pulse: Option<Arc<Pulse>>) {
    OWN.with_borrow_mut(|own| *own = pulse);
}

/// All that live.
pub fn all() -> Vec<Arc<Pulse>> {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|pulse| pulse.strong_count() > 0);
    all.iter().filter_map(Weak::upgrade).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Option<u64> {
        all().iter().find(|pulse| pulse.name == name).map(|pulse| pulse.beats())
    }

    #[test]
    fn a_thread_beats_for_itself_and_for_who_waits_and_its_end_is_its_pulses_end() {
        beat();
        let living = begin("test-pulse");
        assert_eq!(named("test-pulse"), Some(0));
        beat();
        let waiting = own();
        // Joined: at the end of a scope what a thread holds for itself may not be dropped yet.
        let helper = std::thread::spawn(|| {
            lend(waiting);
            beat();
        });
        helper.join().expect("it ends");
        assert_eq!(named("test-pulse"), Some(2));
        drop(living);
        assert_eq!(named("test-pulse"), None);
    }
}
