//! A sink's place in the ledger and how it fares, in memory and in the database.
//!
//! The cursor is moved through a connection of its own, not the daemon's writer: nothing that a sink does can then
//! queue in front of a restore, and the update holds the database's write lock for a fraction of a millisecond.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Backoff, now, open};
use crate::core::event::Record;
use crate::store::{SinkState, Store, StoreError};

/// A receiver cannot ask for more patience than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// How the error of a receiver begins that refuses for good.
const REFUSED: &str = "refused for good";

pub struct Cursor {
    store: Arc<Mutex<Store>>,
    state: SinkState,
    backoff: Backoff,
    /// The last attempt failed, in this run or the one before.
    failing: bool,
}

impl Cursor {
    /// Finds the cursor of `name`. A new one begins where `after` stands, if that is known, else at the ledger's present
    /// end.
    pub fn open(dir: &Path, name: &str, after: Option<&str>) -> Result<Self, StoreError> {
        let mut store = open(dir)?;
        let elsewhere = after.map(|other| store.cursor_get(other)).transpose()?.flatten();
        if let (None, Some(seq)) = (store.cursor_get(name)?, elsewhere) {
            store.cursor_set(name, seq)?;
        }
        let cursor = store.cursor_or_head(name)?;
        let known = store.sink_states()?.into_iter().find(|s| s.name == name);
        let state = known.unwrap_or_else(|| SinkState { name: name.into(), cursor, ..SinkState::default() });
        let failing = state.error.is_some();
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        Ok(Self { store: Arc::new(Mutex::new(store)), state, backoff, failing })
    }

    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    pub fn seq(&self) -> u64 {
        self.state.cursor
    }

    /// When something last got through.
    pub fn last_success(&self) -> Option<jiff::Timestamp> {
        self.state.last_success.as_deref()?.parse().ok()
    }

    /// Up to `limit` records after `seq`. A failure is noted.
    pub async fn read(&mut self, seq: u64, limit: usize) -> Option<Vec<Record>> {
        match self.with_store(move |store| store.ledger_after(seq, limit)).await {
            Ok(records) => Some(records),
            Err(e) => {
                self.fail(format!("cannot read the ledger: {e}"), false).await;
                None
            }
        }
    }

    /// Goes past what was not for this sink.
    pub async fn pass(&mut self, seq: u64) {
        self.state.cursor = seq;
        self.save().await;
    }

    /// Everything up to `seq` is done with; of these records the receiver refused `parked`, with a reason each, and took
    /// others if `taken`.
    pub async fn done(&mut self, seq: u64, taken: bool, parked: &[String]) {
        self.backoff.reset();
        self.works_again();
        self.state.cursor = seq;
        if taken {
            self.state.last_success = Some(now());
        }
        for reason in parked {
            let name = &self.state.name;
            tracing::error!("the sink {name:?} gave up a record, which stays in the ledger: {reason}");
        }
        if let Some(reason) = parked.last() {
            self.state.parked += parked.len() as u64;
            self.state.parked_reason = Some(reason.clone());
        }
        self.save().await;
    }

    /// The receiver refused everything up to `seq`, `count` records, for good. That stands as the sink's error until
    /// something gets through.
    pub async fn refused(&mut self, seq: u64, count: u64, reason: String) {
        self.backoff.reset();
        let standing = self.state.error.as_ref().is_some_and(|error| error.starts_with(REFUSED));
        if !(self.failing && standing) {
            let name = &self.state.name;
            tracing::error!(
                "the sink {name:?} gives up what is refused, which stays in the ledger: {reason}"
            );
        }
        self.failing = true;
        self.state.cursor = seq;
        self.state.parked += count;
        self.state.idle = false;
        self.state.error = Some(format!("{REFUSED}: {reason}"));
        self.state.error_at = Some(now());
        self.state.parked_reason = Some(reason);
        self.save().await;
    }

    /// The receiver heard from us, though not of a record.
    pub async fn heard(&mut self) {
        if self.works_again() {
            self.save().await;
        }
    }

    fn works_again(&mut self) -> bool {
        if self.failing {
            tracing::info!("the sink {:?} works again", self.state.name);
            self.failing = false;
            self.state.error = None;
            self.state.error_at = None;
            self.state.idle = false;
            return true;
        }
        false
    }

    /// `idle`: there is no receiver on this machine, which is no fault.
    pub async fn fail(&mut self, reason: String, idle: bool) {
        if !idle {
            super::failures::count(&self.state.name);
        }
        if self.failing && self.state.error.as_ref() == Some(&reason) {
            return;
        }
        match idle {
            true => tracing::info!("the sink {:?} is idle: {reason}", self.state.name),
            false => tracing::warn!("the sink {:?} failed and tries again: {reason}", self.state.name),
        }
        self.failing = true;
        self.state.idle = idle;
        self.state.error = Some(reason);
        self.state.error_at = Some(now());
        self.save().await;
    }

    /// How long to wait before the next attempt, not less than the receiver asked for.
    pub fn patience(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.backoff.delay();
        asked.map_or(own, |time| time.min(LONGEST_RETRY_AFTER).max(own))
    }

    /// A cursor that cannot be written costs repeats after a restart and nothing else.
    async fn save(&mut self) {
        let state = self.state.clone();
        if let Err(e) = self.with_store(move |store| store.sink_state_set(&state)).await {
            tracing::warn!("the sink {:?} cannot note how far it has come: {e}", self.state.name);
        }
    }

    /// SQLite may wait for a lock or the disk, which no async thread should.
    pub async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, String> {
        with_store(&self.store, work).await
    }
}

pub(super) async fn with_store<T: Send + 'static>(
    store: &Arc<Mutex<Store>>,
    work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, String> {
    let store = store.clone();
    let work = move || work(&mut store.lock().unwrap_or_else(PoisonError::into_inner));
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    }
}
