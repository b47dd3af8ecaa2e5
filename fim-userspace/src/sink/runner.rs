//! Drives one sink: reads the ledger after its cursor, delivers, moves the cursor.
//!
//! The cursor is moved through the sink's own connection, not the daemon's writer: nothing that a sink does can then
//! queue in front of a restore, and the update holds the database's write lock for a fraction of a millisecond.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Backoff, Delivered, Sink, SinkError, now, open};
use crate::core::event::Record;
use crate::store::{SinkState, Store, StoreError};

/// Records read from the ledger at once.
const BATCH: usize = 256;
/// A receiver cannot ask for more patience than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// How often a sink without a receiver looks whether there is one now.
const IDLE: Duration = Duration::from_secs(60);

pub struct Runner<S> {
    sink: S,
    store: Arc<Mutex<Store>>,
    state: SinkState,
    backoff: Backoff,
    /// The last attempt failed, in this run or the one before.
    failing: bool,
}

enum Next {
    /// Look again at once.
    Go,
    /// Wait until the ledger grows.
    Rest,
    /// Wait so long, whatever happens.
    Pause(Duration),
}

impl<S: Sink> Runner<S> {
    /// Finds the sink's cursor; a new one is put at the ledger's present end.
    pub fn new(sink: S, dir: &Path) -> Result<Self, StoreError> {
        let mut store = open(dir)?;
        let cursor = store.cursor_or_head(sink.name())?;
        let known = store.sink_states()?.into_iter().find(|s| s.name == sink.name());
        let state =
            known.unwrap_or_else(|| SinkState { name: sink.name().into(), cursor, ..SinkState::default() });
        let failing = state.error.is_some();
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        Ok(Self { sink, store: Arc::new(Mutex::new(store)), state, backoff, failing })
    }

    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Works until `stop` turns true. Then what is there is still delivered, unless the sink is failing.
    pub async fn run(mut self, mut grown: watch::Receiver<u64>, mut stop: watch::Receiver<bool>) {
        loop {
            // Before the ledger is read: what is appended meanwhile wakes us again.
            grown.borrow_and_update();
            let pause = match self.step().await {
                Next::Go => continue,
                Next::Rest => None,
                Next::Pause(time) => Some(time),
            };
            if *stop.borrow() {
                return;
            }
            match pause {
                None => {
                    let quiet = tokio::select! {
                        alive = grown.changed() => if alive.is_err() { return } else { false },
                        _ = stop.wait_for(|stop| *stop) => false,
                        () = after(self.sink.pulse_period()) => true,
                    };
                    if quiet {
                        self.pulse().await;
                    }
                }
                Some(time) => tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                },
            }
        }
    }

    async fn step(&mut self) -> Next {
        let cursor = self.state.cursor;
        let records = match with_store(&self.store, move |store| store.ledger_after(cursor, BATCH)).await {
            Ok(records) => records,
            Err(e) => {
                self.fail(format!("cannot read the ledger: {e}"), false).await;
                return Next::Pause(self.backoff.delay());
            }
        };
        if records.is_empty() {
            return Next::Rest;
        }
        let mut rest = &records[..];
        while !rest.is_empty() {
            // What is muted stays in the ledger, and with those who keep records; the cursor goes past it.
            let all = self.sink.keeps_records();
            let passed_over = move |record: &&Record| record.event.muted && !all;
            let muted = rest.iter().take_while(passed_over).count();
            if muted > 0 {
                self.state.cursor = rest[muted - 1].seq;
                self.save().await;
                rest = &rest[muted..];
                continue;
            }
            let told = rest.iter().take_while(|r| !passed_over(r)).count();
            match self.sink.deliver(&rest[..told]).await {
                Ok(delivered) => {
                    let count = delivered.count.clamp(1, told);
                    self.delivered(&rest[..count], delivered).await;
                    rest = &rest[count..];
                }
                Err(SinkError::Idle(reason)) => {
                    self.fail(reason, true).await;
                    return Next::Pause(IDLE);
                }
                Err(SinkError::Failed { reason, retry_after }) => {
                    self.fail(reason, false).await;
                    let own = self.backoff.delay();
                    let asked = retry_after.map(|time| time.min(LONGEST_RETRY_AFTER));
                    return Next::Pause(asked.map_or(own, |time| time.max(own)));
                }
            }
        }
        Next::Go
    }

    async fn pulse(&mut self) {
        match self.sink.pulse().await {
            Ok(()) if self.failing => {
                self.works_again();
                self.save().await;
            }
            Ok(()) => {}
            Err(SinkError::Idle(reason)) => self.fail(reason, true).await,
            Err(SinkError::Failed { reason, .. }) => self.fail(reason, false).await,
        }
    }

    fn works_again(&mut self) {
        if self.failing {
            tracing::info!("the sink {:?} works again", self.state.name);
            self.failing = false;
            self.state.error = None;
            self.state.error_at = None;
            self.state.idle = false;
        }
    }

    async fn delivered(&mut self, records: &[Record], delivered: Delivered) {
        self.backoff.reset();
        let Some(last) = records.last() else { return };
        self.works_again();
        let name = &self.state.name;
        self.state.cursor = last.seq;
        if delivered.parked.len() < records.len() {
            self.state.last_success = Some(now());
        }
        for reason in &delivered.parked {
            tracing::error!("the sink {name:?} gave up a record, which stays in the ledger: {reason}");
        }
        if let Some(reason) = delivered.parked.last() {
            self.state.parked += delivered.parked.len() as u64;
            self.state.parked_reason = Some(reason.clone());
        }
        self.save().await;
    }

    async fn fail(&mut self, reason: String, harmless: bool) {
        if self.failing && self.state.error.as_ref() == Some(&reason) {
            return;
        }
        match harmless {
            true => tracing::info!("the sink {:?} is idle: {reason}", self.state.name),
            false => tracing::warn!("the sink {:?} failed and tries again: {reason}", self.state.name),
        }
        self.failing = true;
        self.state.idle = harmless;
        self.state.error = Some(reason);
        self.state.error_at = Some(now());
        self.save().await;
    }

    /// A cursor that cannot be written costs repeats after a restart and nothing else.
    async fn save(&mut self) {
        let state = self.state.clone();
        if let Err(e) = with_store(&self.store, move |store| store.sink_state_set(&state)).await {
            tracing::warn!("the sink {:?} cannot note how far it has come: {e}", self.state.name);
        }
    }
}

/// Never, without a period.
async fn after(period: Option<Duration>) {
    match period {
        Some(period) => tokio::time::sleep(period).await,
        None => std::future::pending().await,
    }
}

/// SQLite may wait for a lock or the disk, which no async thread should.
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
