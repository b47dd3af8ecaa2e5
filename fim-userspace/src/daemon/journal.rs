//! The way into the ledger: batches, and patience when the disk is full.

use crate::core::event::{Event, EventKind, Record};
use crate::store::{Approved, EvidenceRow, IntentId, Store, StoreError};

use super::clock::boottime_ns;
use super::portrait::Portrait;
use super::progress::Progress;
use super::record::Stamp;

/// Nanoseconds between attempts to write when the database refuses.
const RETRY_NS: u64 = 1_000_000_000;

/// Nanoseconds between two records about times without records.
const ACCOUNT_NS: u64 = 60_000_000_000;

/// A record on its way into the ledger.
pub struct Entry {
    pub event: Event,
    pub closes: Option<IntentId>,
    pub evidence: Vec<EvidenceRow>,
    /// What becomes the approved state with it.
    pub approved: Vec<Approved>,
}

impl Entry {
    /// A record without response.
    pub fn plain(event: Event) -> Self {
        Self { event, closes: None, evidence: Vec::new(), approved: Vec::new() }
    }
}

/// Called with what has just become part of the ledger.
pub type Announce = Box<dyn FnMut(&[Record]) + Send>;

pub struct Journal {
    entries: Vec<Entry>,
    announce: Announce,
    stamp: Stamp,
    portrait: Portrait,
    /// How many of `entries` are complete.
    complete: usize,
    blocked: Option<Blocked>,
    /// When a time without records was last accounted for, nanoseconds since boot.
    accounted_ns: Option<u64>,
    written: u64,
}

/// The database does not take anything.
struct Blocked {
    since_ns: u64,
    /// When to try again.
    until_ns: u64,
    why: String,
}

impl Journal {
    pub fn new(announce: Announce, stamp: Stamp, portrait: Portrait) -> Self {
        let entries = Vec::new();
        Self {
            entries,
            announce,
            stamp,
            portrait,
            complete: 0,
            blocked: None,
            accounted_ns: None,
            written: 0,
        }
    }

    /// What is not written yet goes on under another configuration.
    pub fn carried_on(self, stamp: Stamp, portrait: Portrait) -> Self {
        Self { stamp, portrait, ..self }
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
        self.blocked.is_none()
    }

    /// The next writing is tried at once, whatever happened before.
    pub fn insist(&mut self) {
        if let Some(blocked) = &mut self.blocked {
            blocked.until_ns = 0;
        }
    }

    /// When writing is tried again, nanoseconds since boot.
    pub fn retry_at(&self) -> Option<u64> {
        self.blocked.as_ref().map(|blocked| blocked.until_ns)
    }

    /// The database refused; says so once and waits.
    pub fn failed(&mut self, error: &StoreError) {
        let now = boottime_ns();
        if self.blocked.is_none() {
            tracing::error!("{error}; responses wait until it works again, nothing is forgotten");
        }
        let since_ns = self.blocked.as_ref().map_or(now, |b| b.since_ns);
        self.blocked = Some(Blocked { since_ns, until_ns: now + RETRY_NS, why: error.to_string() });
    }

    /// The record of a time without records; also the probe whether it is over.
    fn account(&self) -> Option<Event> {
        let blocked = self.blocked.as_ref()?;
        // A disk that takes a little and then nothing again would get a record each second.
        if self.accounted_ns.is_some_and(|at| boottime_ns() < at + ACCOUNT_NS) && !self.entries.is_empty() {
            return None;
        }
        let seconds = boottime_ns().saturating_sub(blocked.since_ns) / 1_000_000_000;
        let message = format!(
            "nothing could be recorded or put right for {seconds} s ({}); {} records were kept back and are written now",
            blocked.why,
            self.entries.len()
        );
        Some(self.stamp.about_fim(EventKind::Trouble, message))
    }

    /// Makes known what has become part of the ledger without the journal.
    pub fn wrote(&mut self, records: &[Record]) {
        self.written += records.len() as u64;
        if !records.is_empty() {
            (self.announce)(records);
        }
    }

    /// Writes what has gathered, as one transaction. With `durably` it outlasts a power cut from then on: what the records
    /// tell of is about to be removed.
    pub fn write(&mut self, store: &mut Store, progress: &Progress, durably: bool) {
        if self.blocked.as_ref().is_some_and(|blocked| boottime_ns() < blocked.until_ns) {
            return;
        }
        if self.entries.is_empty() && self.blocked.is_none() {
            return;
        }
        for entry in self.entries.iter_mut().skip(self.complete) {
            self.portrait.complete(&mut entry.event, store);
        }
        self.complete = self.entries.len();
        let mut events: Vec<Event> = self.entries.iter().map(|e| e.event.clone()).collect();
        events.extend(self.account());
        let closes: Vec<IntentId> = self.entries.iter().filter_map(|e| e.closes).collect();
        let evidence: Vec<(usize, EvidenceRow)> = self
            .entries
            .iter()
            .enumerate()
            .flat_map(|(index, e)| e.evidence.iter().map(move |row| (index, row.clone())))
            .collect();
        let approved: Vec<(usize, Approved)> = self
            .entries
            .iter()
            .enumerate()
            .flat_map(|(index, e)| e.approved.iter().map(move |approved| (index, approved.clone())))
            .collect();
        let append = |store: &mut Store| store.append_approving(&events, &closes, &evidence, &approved);
        let appended = store.durably(durably, append);
        match appended {
            Ok(records) => {
                if self.blocked.take().is_some() {
                    self.accounted_ns = Some(boottime_ns());
                    tracing::info!(
                        "the database can be written again; {} records were kept back",
                        records.len()
                    );
                }
                progress.trouble(None);
                self.entries.clear();
                self.complete = 0;
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
