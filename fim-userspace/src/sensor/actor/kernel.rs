//! Identity from the kernel's process table.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fim_common::ProcessRecord;

use super::Identify;
use super::proc::{Live, ProcReader, names};
use crate::core::actor::{Actor, Confidence, ProcessKey};
use crate::sensor::ebpf::ProcessTable;
use crate::sys::clock::boottime_ns;

/// Names processes even after their end, and after their id was used again.
pub struct KernelTable(pub Arc<ProcessTable>);

impl Identify for KernelTable {
    fn identify(&self, pid: u32, pidfd: Option<BorrowedFd<'_>>) -> Actor {
        let there = pidfd.map(|fd| names(fd, pid));
        let Some((key, record)) = self.of(pid, there == Some(false)) else {
            return ProcReader.identify(pid, pidfd);
        };
        if record.exit_ns != 0 || there == Some(false) {
            return self.0.actor(key, &record);
        }
        // Without a pidfd (before Linux 5.15) the report may be about the process that had the id a moment ago.
        let doubtful = pidfd.is_none() && is_newcomer(&record, key, boottime_ns());
        // It lives: it may have changed its ids since its exec, and /proc knows more. What /proc no longer tells, the
        // table has by then: the kernel notes it at the end, before it gives it up.
        let live = Live::read(pid).ok().filter(|live| live.started(key.start_ns));
        let record = self.0.record(key).unwrap_or(record);
        let mut actor = self.0.actor(key, &record);
        if let Some(live) = live {
            live.fill(&mut actor);
            actor.uid = live.uid.or(actor.uid);
            actor.gid = live.gid.or(actor.gid);
            actor.euid = live.euid.or(actor.euid);
            actor.fsuid = live.fsuid.or(actor.fsuid);
            actor.auid = live.auid;
            actor.session = live.session;
        }
        if doubtful {
            actor.confidence = Confidence::Several;
        }
        actor
    }

    fn identify_gone(&self, pid: u32) -> Actor {
        match self.of(pid, true) {
            Some((key, record)) => self.0.actor(key, &record),
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
    /// The process that a report with this id is about. `gone`: its pidfd shows that it was reaped.
    fn of(&self, pid: u32, gone: bool) -> Option<(ProcessKey, ProcessRecord)> {
        let key = self.0.current(pid)?;
        let record = self.0.record(key)?;
        if !gone || record.exit_ns != 0 {
            return Some((key, record));
        }
        // The one that has the id now lives, so the report is about the one before it.
        let before = ProcessKey { start_ns: record.previous_ns, ..key };
        Some((before, self.0.record(before)?))
    }
}
