//! Drives one sink that keeps records: reads the ledger after its cursor, delivers, moves the cursor.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use super::cursor::Cursor;
use super::{Backoff, Sink, SinkError};
use crate::core::event::Record;
use crate::store::StoreError;

/// Records read from the ledger at once.
const BATCH: usize = 256;
/// How often a sink without a receiver looks whether there is one now.
const IDLE: Duration = Duration::from_secs(60);

pub struct Runner<S> {
    sink: S,
    cursor: Cursor,
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
        let cursor = Cursor::open(dir, sink.name(), None)?;
        Ok(Self { sink, cursor })
    }

    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.cursor = self.cursor.with_backoff(backoff);
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
        let Some(records) = self.cursor.read(self.cursor.seq(), BATCH).await else {
            return Next::Pause(self.cursor.patience(None));
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
                self.cursor.pass(rest[muted - 1].seq).await;
                rest = &rest[muted..];
                continue;
            }
            let told = rest.iter().take_while(|r| !passed_over(r)).count();
            match self.sink.deliver(&rest[..told]).await {
                Ok(delivered) => {
                    let count = delivered.count.clamp(1, told);
                    let taken = delivered.parked.len() < count;
                    self.cursor.done(rest[count - 1].seq, taken, &delivered.parked).await;
                    rest = &rest[count..];
                }
                Err(SinkError::Idle(reason)) => {
                    self.cursor.fail(reason, true).await;
                    return Next::Pause(IDLE);
                }
                Err(SinkError::Failed { reason, retry_after }) => {
                    self.cursor.fail(reason, false).await;
                    return Next::Pause(self.cursor.patience(retry_after));
                }
            }
        }
        Next::Go
    }

    async fn pulse(&mut self) {
        match self.sink.pulse().await {
            Ok(()) => self.cursor.heard().await,
            Err(SinkError::Idle(reason)) => self.cursor.fail(reason, true).await,
            Err(SinkError::Failed { reason, .. }) => self.cursor.fail(reason, false).await,
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
