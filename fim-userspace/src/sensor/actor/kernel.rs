//! Identity from the kernel's process table.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fim_common::ProcessRecord;

use super::Identify;
use super::proc::{Live, ProcReader, names};
use crate::core::actor::{Actor, ProcessKey};
use crate::sensor::ebpf::ProcessTable;

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
        actor
    }

    fn identify_gone(&self, pid: u32) -> Actor {
        match self.of(pid, true) {
            Some((key, record)) => self.0.actor(key, &record),
            None => Actor { pid: Some(pid), ..Actor::unknown() },
        }
    }
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
