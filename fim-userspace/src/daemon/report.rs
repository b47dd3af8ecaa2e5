//! The status file: what the daemon says about itself, for `fim status`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::event::rfc3339;
use crate::core::path::display as show;
use crate::metrics::Facts;
use crate::store::Store;
use crate::store::status::{AttachedHook, GapStatus, HookCounters, RefusedTier, Status, WatchStatus};
use crate::store::vault::Vault;

use super::clock::realtime_ns;
use super::progress::Progress;
use super::sensors::Sensors;
use super::watch::Watch;

#[derive(Clone)]
pub struct Reporter {
    pub state_dir: PathBuf,
    pub watches: Vec<Arc<Watch>>,
    pub progress: Arc<Progress>,
    pub sensors: Arc<Sensors>,
    pub started: String,
    pub coverage: Vec<String>,
    pub vault: Arc<Vault>,
    /// What was written last.
    pub told: Arc<Mutex<Option<Status>>>,
}

impl Reporter {
    /// Writes the status as it is now. A failure is logged: the daemon's work goes on.
    pub fn write(&self, store: &Store) {
        let status = self.status(store);
        if let Err(error) = status.write(&self.state_dir) {
            tracing::warn!(
                "the status file in {} cannot be written ({error}); `fim status` shows an older state",
                show(&self.state_dir)
            );
        }
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// For a reader who comes every few seconds: what is counted in the whole baseline is as it was last written, at most
    /// a second before the last record. The rest is as it is now.
    pub fn facts(&self) -> Facts {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut facts = Facts { vault_room: self.vault.room_left().ok(), ..Facts::default() };
        let store = Store::open_read_only(&self.state_dir)
            .inspect_err(|error| tracing::warn!("the metrics lack what the database knows: {error}"))
            .ok();
        facts.status = told
            .or_else(|| store.as_ref().map(|store| self.status(store)))
            .unwrap_or_else(Status::of_this_process);
        if let Some(store) = store {
            facts.ledger_rows = store.ledger_rows().unwrap_or_default();
            facts.status.ledger_head = store.ledger_head().map_or(0, |head| head.seq);
            facts.status.sinks = store.sink_states().unwrap_or_default();
            facts.status.ledger_sealed = sealed(&store);
        }
        self.fill(&mut facts.status);
        facts
    }

    /// What the daemon has in memory.
    fn fill(&self, status: &mut Status) {
        let (waiting, unwritten) = self.progress.queued();
        (status.waiting, status.unwritten) = (waiting as u64, unwritten as u64);
        let gaps = self.progress.gaps();
        status.gaps = GapStatus { count: gaps.count, lost: gaps.lost, last: gaps.last, open: gaps.open };
        status.ready = self.progress.ready();
        status.attach = self.attach();
        status.counters = self.counters();
        status.vault_bytes = self.vault.used().unwrap_or_default();
        status.vault_trouble = self.progress.vault_troubles();
        status.trouble = self.progress.troubled();
        let self_test = self.progress.self_test();
        (status.self_test_passed, status.self_test_trouble) = (self_test.passed, self_test.trouble);
    }

    fn status(&self, store: &Store) -> Status {
        let refused = self.sensors.refused.iter();
        let head = store.ledger_head().unwrap_or(crate::store::Head { seq: 0, hash: [0; 32] });
        let mut status = Status {
            started: self.started.clone(),
            written: rfc3339(realtime_ns()),
            tier: self.sensors.tier.as_str().into(),
            refused: refused
                .map(|r| RefusedTier { tier: r.tier.as_str().into(), reason: r.reason.clone() })
                .collect(),
            watches: self.watches(store),
            ledger_head: head.seq,
            ledger_hash: crate::core::entry::Digest(head.hash).to_string(),
            ledger_sealed: sealed(store),
            sinks: store.sink_states().unwrap_or_default(),
            open_changes: store.open_changes().unwrap_or_default(),
            ..Status::of_this_process()
        };
        self.fill(&mut status);
        status
    }

    fn attach(&self) -> Vec<AttachedHook> {
        let table = self.sensors.ebpf.iter().flat_map(|ebpf| ebpf.attach_table());
        table
            .map(|hook| AttachedHook {
                hook: hook.hook.name().into(),
                state: hook.state().into(),
                reason: hook.reason().map(Into::into),
            })
            .collect()
    }

    fn counters(&self) -> BTreeMap<String, HookCounters> {
        let counters = self.sensors.ebpf.iter().flat_map(|ebpf| ebpf.counters());
        counters
            .map(|(hook, tally)| {
                let (c, skipped) = (tally.counted, tally.skipped);
                (hook.name().into(), HookCounters { seen: c.seen, kept: c.kept, dropped: c.dropped, skipped })
            })
            .collect()
    }

    fn watches(&self, store: &Store) -> Vec<WatchStatus> {
        let one = |(watch, coverage): (&Arc<Watch>, &String)| WatchStatus {
            path: show(watch.path()),
            files: store.baseline_count(watch.path()).unwrap_or_default(),
            coverage: coverage.clone(),
            last_scan: self.progress.last_scan(watch.id),
        };
        self.watches.iter().zip(&self.coverage).map(one).collect()
    }
}

/// When the ledger was last sealed, RFC 3339.
fn sealed(store: &Store) -> Option<String> {
    let seal = store.last_seal().ok().flatten()?;
    Some(rfc3339(seal.time_us.saturating_mul(1_000)))
}
