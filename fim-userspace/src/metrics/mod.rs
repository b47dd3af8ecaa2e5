//! What fim tells Prometheus: counts of what was recorded, and how the daemon fares, as text for `fim metrics` and for a
//! port on loopback. No path and no user is in it: whoever reads the port may be anybody on this machine, and each value of a
//! label is a series to keep.

mod counts;
mod facts;
mod page;
pub mod serve;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use crate::core::event::Record;

use counts::Counts;
pub use facts::{Facts, sink_labels};
pub use page::Page;

/// How the daemon fares now; asked at each reading.
pub type Source = Box<dyn Fn() -> Facts + Send>;

/// Lives as long as the daemon, across reloads.
pub struct Metrics {
    counts: Counts,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    source: Option<Source>,
    /// What the source said last: told while one session follows another.
    last: Option<Facts>,
}

impl Metrics {
    /// # Errors
    /// When the table of metrics breaks Prometheus' rules.
    pub fn new() -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self { counts: Counts::new()?, state: Mutex::default() }))
    }

    /// Counts what has just become part of the ledger, at `now_ns` since boot.
    pub fn recorded(&self, records: &[Record], now_ns: u64) {
        records.iter().for_each(|record| self.counts.count(&record.event, now_ns));
    }

    pub fn attach(&self, source: Source) {
        self.state().source = Some(source);
    }

    /// The source is not asked any more once this returns.
    pub fn detach(&self) {
        self.state().source = None;
    }

    /// Everything as it is now; one sentence where there is nothing yet.
    pub fn page(&self) -> Result<Page, String> {
        let mut state = self.state();
        if let Some(source) = &state.source {
            state.last = Some(source());
        }
        let Some(facts) = &state.last else {
            return Err("fim is still starting; ask again in a moment".into());
        };
        let mut page = Page::default();
        facts.put(&mut page);
        self.counts.put(&mut page);
        Ok(page)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
