//! The status file: what the daemon says about itself, for `fim status`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::core::event::rfc3339;
use crate::core::path::display as show;
use crate::store::Store;
use crate::store::status::{AttachedHook, GapStatus, HookCounters, RefusedTier, Status, WatchStatus};
use crate::store::vault::Vault;

use super::clock::realtime_ns;
use super::progress::Progress;
use super::sensors::Sensors;
use super::watch::Watch;

pub struct Reporter {
    pub state_dir: PathBuf,
    pub watches: Vec<Arc<Watch>>,
    pub progress: Arc<Progress>,
    pub sensors: Arc<Sensors>,
    pub started: String,
    pub coverage: Vec<String>,
    pub vault: Arc<Vault>,
}

impl Reporter {
    /// Writes the status as it is now. A failure is logged: the daemon's work goes on.
    pub fn write(&self, store: &Store) {
        if let Err(error) = self.status(store).write(&self.state_dir) {
            tracing::warn!(
                "the status file in {} cannot be written ({error}); `fim status` shows an older state",
                show(&self.state_dir)
            );
        }
    }

    fn status(&self, store: &Store) -> Status {
        let (waiting, unwritten) = self.progress.queued();
        let refused = self.sensors.refused.iter();
        let gaps = self.progress.gaps();
        let head = store.ledger_head().unwrap_or(crate::store::Head { seq: 0, hash: [0; 32] });
        let sealed = store.last_seal().ok().flatten();
        Status {
            started: self.started.clone(),
            written: rfc3339(realtime_ns()),
            ready: self.progress.ready(),
            tier: self.sensors.tier.as_str().into(),
            refused: refused
                .map(|r| RefusedTier { tier: r.tier.as_str().into(), reason: r.reason.clone() })
                .collect(),
            attach: self.attach(),
            counters: self.counters(),
            watches: self.watches(store),
            gaps: GapStatus { count: gaps.count, lost: gaps.lost, last: gaps.last, open: gaps.open },
            ledger_head: head.seq,
            ledger_hash: crate::core::entry::Digest(head.hash).to_string(),
            ledger_sealed: sealed.map(|seal| rfc3339(seal.time_us.saturating_mul(1_000))),
            sinks: store.sink_states().unwrap_or_default(),
            vault_bytes: self.vault.used().unwrap_or_default(),
            vault_trouble: self.progress.vault_troubles(),
            waiting: waiting as u64,
            unwritten: unwritten as u64,
            open_changes: store.open_changes().unwrap_or_default(),
            trouble: self.progress.troubled(),
            self_test_passed: self.progress.self_test().passed,
            self_test_trouble: self.progress.self_test().trouble,
            ..Status::of_this_process()
        }
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
