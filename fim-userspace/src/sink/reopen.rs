//! A signal to log files that somebody else, logrotate for example, has renamed them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clones share the bell; each hears every ring once.
#[derive(Clone, Debug, Default)]
pub struct Reopen {
    rung: Arc<AtomicU64>,
    heard: u64,
}

impl Reopen {
    /// Never waits. The files are opened anew before the next line.
    pub fn ring(&self) {
        self.rung.fetch_add(1, Ordering::Release);
    }

    /// Whether it was rung since this clone last asked.
    pub(super) fn was_rung(&mut self) -> bool {
        let rung = self.rung.load(Ordering::Acquire);
        std::mem::replace(&mut self.heard, rung) != rung
    }
}
