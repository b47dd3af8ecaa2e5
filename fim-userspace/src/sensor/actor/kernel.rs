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
        let mut actor = self.0.actor(key, &record);
        if record.exit_ns != 0 || there == Some(false) {
            return actor;
        }
        // It lives: it may have changed its ids since its exec, and /proc knows more.
        if let Some(live) = Live::read(pid).ok().filter(|live| live.started(key.start_ns)) {
            live.fill(&mut actor);
            actor.uid = live.uid.or(actor.uid);
            actor.gid = live.gid.or(actor.gid);
            actor.euid = live.euid.or(actor.euid);
            actor.fsuid = live.fsuid.or(actor.fsuid);
            actor.auid = live.auid;
            actor.session = live.session;
            return actor;
        }
        // It ended while we looked: its last ids are in the table by now.
        match self.0.record(key) {
            Some(record) => self.0.actor(key, &record),
            None => actor,
        }
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
