//! Identity from the kernel's process table.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fim_common::ProcessRecord;

use super::Identify;
use super::proc::{Live, Mutable, ProcReader, names};
use crate::core::actor::{Actor, Confidence, ProcessKey};
use crate::sensor::ebpf::ProcessTable;
use crate::sys::clock::boottime_ns;

/// How long what was read of a process is believed, as far as it cannot be seen to have changed: its control group, its
/// arguments, its ancestors.
const FRESH: Duration = Duration::from_secs(1);
/// Processes that are remembered.
const KNOWN: usize = 256;

/// Names processes even after their end, and after their id was used again.
pub struct KernelTable {
    table: Arc<ProcessTable>,
    known: Mutex<HashMap<ProcessKey, Known>>,
}

/// A living process as it was a moment ago.
struct Known {
    at: Instant,
    /// The exec that made it what it is.
    exec: (u32, u64),
    mutable: Mutable,
    actor: Actor,
}

impl Identify for KernelTable {
    fn identify(&self, pid: u32, pidfd: Option<BorrowedFd<'_>>) -> Actor {
        let there = pidfd.map(|fd| names(fd, pid));
        let Some((key, record)) = self.of(pid, there == Some(false)) else {
            return ProcReader.identify(pid, pidfd);
        };
        if record.exit_ns != 0 || there == Some(false) {
            return self.table.actor(key, &record);
        }
        // Without a pidfd (before Linux 5.15) the report may be about the process that had the id a moment ago.
        let doubtful = pidfd.is_none() && is_newcomer(&record, key, boottime_ns());
        let mut actor = self.living(key, record);
        if doubtful {
            actor.confidence = Confidence::Several;
        }
        actor
    }

    fn identify_gone(&self, pid: u32) -> Actor {
        match self.of(pid, true) {
            Some((key, record)) => self.table.actor(key, &record),
            None => Actor { pid: Some(pid), ..Actor::unknown() },
        }
    }
}

/// Nanoseconds that a report may wait before it is read.
const LAG_NS: u64 = 10_000_000_000;

/// Whether the process has its id so recently that a report with it may be about the one before.
fn is_newcomer(record: &ProcessRecord, key: ProcessKey, now_ns: u64) -> bool {
    record.previous_ns != 0 && now_ns.saturating_sub(key.start_ns) < LAG_NS
}

impl KernelTable {
    pub fn new(table: Arc<ProcessTable>) -> Self {
        Self { table, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ProcessKey, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It lives: it may have changed its ids since its exec, and /proc knows more.
    fn living(&self, key: ProcessKey, record: ProcessRecord) -> Actor {
        let mutable = Live::read_mutable(key.tgid).ok();
        if let Some(known) = mutable.as_ref().and_then(|mutable| self.recall(key, &record, mutable)) {
            return known;
        }
        let live = Live::read(key.tgid).ok().filter(|live| live.started(key.start_ns));
        // What /proc no longer tells, the table has by then: the kernel notes it at the end, before it gives it up.
        let exec = |record: &ProcessRecord| (record.exec_id, record.exec_ns);
        let before = exec(&record);
        let record = self.table.record(key).unwrap_or(record);
        let mut actor = self.table.actor(key, &record);
        let Some(live) = live else { return actor };
        live.fill(&mut actor);
        actor.uid = live.uid.or(actor.uid);
        actor.gid = live.gid.or(actor.gid);
        actor.euid = live.euid.or(actor.euid);
        actor.fsuid = live.fsuid.or(actor.fsuid);
        actor.auid = live.auid;
        actor.session = live.session;
        if let Some(mutable) = mutable.filter(|_| record.exit_ns == 0 && exec(&record) == before) {
            self.remember(key, before, mutable, &actor);
        }
        actor
    }

    /// The actor as it was told last, if nothing has changed since that can be seen to.
    fn recall(&self, key: ProcessKey, record: &ProcessRecord, mutable: &Mutable) -> Option<Actor> {
        let all = self.known();
        let known = all.get(&key).filter(|known| known.at.elapsed() < FRESH)?;
        (known.exec == (record.exec_id, record.exec_ns) && known.mutable == *mutable)
            .then(|| known.actor.clone())
    }

    fn remember(&self, key: ProcessKey, exec: (u32, u64), mutable: Mutable, actor: &Actor) {
        let mut all = self.known();
        if all.len() >= KNOWN {
            all.clear();
        }
        all.insert(key, Known { at: Instant::now(), exec, mutable, actor: actor.clone() });
    }

    /// The process that a report with this id is about. `gone`: its pidfd shows that it was reaped.
    fn of(&self, pid: u32, gone: bool) -> Option<(ProcessKey, ProcessRecord)> {
        let key = self.table.current(pid)?;
        let record = self.table.record(key)?;
        if !gone || record.exit_ns != 0 {
            return Some((key, record));
        }
        // The one that has the id now lives, so the report is about the one before it.
        let before = ProcessKey { start_ns: record.previous_ns, ..key };
        Some((before, self.table.record(before)?))
    }
}
