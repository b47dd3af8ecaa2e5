//! Work shared by the threads of one scan.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Last in, first out, which keeps few directories open and follows the disk's order best.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    work: Vec<T>,
    /// Threads that hold a piece and may add more.
    busy: usize,
}

impl<T> Queue<T> {
    pub fn new(first: T) -> Self {
        Self { state: Mutex::new(State { work: vec![first], busy: 0 }), changed: Condvar::new() }
    }

    pub fn push(&self, pieces: impl IntoIterator<Item = T>) {
        self.lock().work.extend(pieces);
        self.changed.notify_all();
    }

    /// Does pieces until there are none and nobody can add any. `step` may push more.
    pub fn work(&self, mut step: impl FnMut(T)) {
        while let Some(piece) = self.take() {
            // A panic in `step` must not leave the other threads waiting for ever.
            let _done = Done(self);
            step(piece);
        }
    }

    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(piece) = state.work.pop() {
                state.busy += 1;
                return Some(piece);
            }
            if state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Done<'a, T>(&'a Queue<T>);

impl<T> Drop for Done<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.busy -= 1;
        if state.busy == 0 && state.work.is_empty() {
            self.0.changed.notify_all();
        }
    }
}
