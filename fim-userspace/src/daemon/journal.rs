//! The way into the ledger: batches, and patience when the disk is full.

use crate::core::event::{Event, Record};
use crate::store::{EvidenceRow, IntentId, Store, StoreError};

use super::clock::boottime_ns;
use super::progress::Progress;

/// Nanoseconds between attempts to write when the database refuses.
const RETRY_NS: u64 = 1_000_000_000;

/// A record on its way into the ledger.
pub struct Entry {
    pub event: Event,
    pub closes: Option<IntentId>,
    pub evidence: Vec<EvidenceRow>,
}

impl Entry {
    /// A record without response.
    pub fn plain(event: Event) -> Self {
        Self { event, closes: None, evidence: Vec::new() }
    }
}

/// Called with what has just become part of the ledger.
pub type Announce = Box<dyn FnMut(&[Record]) + Send>;

pub struct Journal {
    entries: Vec<Entry>,
    announce: Announce,
    /// When to try again, nanoseconds since boot; `None` while all is well.
    blocked_until: Option<u64>,
    written: u64,
}

impl Journal {
    pub fn new(announce: Announce) -> Self {
        Self { entries: Vec::new(), announce, blocked_until: None, written: 0 }
    }

    pub fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    pub fn unwritten(&self) -> usize {
        self.entries.len()
    }

    /// Records written since the start.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether records can be written, as far as is known. While they cannot, nothing is acted on.
    pub fn healthy(&self) -> bool {
        self.blocked_until.is_none()
    }

    /// The database refused; says so once and waits.
    pub fn failed(&mut self, error: &StoreError) {
        if self.blocked_until.is_none() {
            tracing::error!("{error}; responses wait until it works again, nothing is forgotten");
        }
        self.blocked_until = Some(boottime_ns() + RETRY_NS);
    }

    /// Writes what has gathered, as one transaction.
    pub fn write(&mut self, store: &mut Store, progress: &Progress) {
        if self.blocked_until.is_some_and(|until| boottime_ns() < until) {
            return;
        }
        if self.entries.is_empty() && self.blocked_until.is_none() {
            return;
        }
        let events: Vec<Event> = self.entries.iter().map(|e| e.event.clone()).collect();
        let closes: Vec<IntentId> = self.entries.iter().filter_map(|e| e.closes).collect();
        let evidence: Vec<(usize, EvidenceRow)> = self
            .entries
            .iter()
            .enumerate()
            .flat_map(|(index, e)| e.evidence.iter().map(move |row| (index, row.clone())))
            .collect();
        match store.append_with(&events, &closes, &evidence) {
            Ok(records) => {
                if self.blocked_until.take().is_some() {
                    tracing::info!(
                        "the database can be written again; {} records were kept back",
                        records.len()
                    );
                }
                progress.trouble(None);
                self.entries.clear();
                self.written += records.len() as u64;
                if !records.is_empty() {
                    (self.announce)(&records);
                }
            }
            Err(error) => {
                progress.trouble(Some(error.to_string()));
                self.failed(&error);
            }
        }
    }
}
