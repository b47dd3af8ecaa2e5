//! The witness in the kernel: programs that see every operation on watched files, and every process.

pub mod attach;
mod btf;
pub mod decode;
mod load;
mod marks;
mod ring;
mod table;
mod tally;

#[cfg(test)]
#[path = "ebpf_tests.rs"]
mod tests;

use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use fim_common::Hook;

pub use attach::{Attachment, HookState};
pub use table::ProcessTable;
pub use tally::HookTally;

use crate::core::observation::{Signal, WatchId};
use crate::core::path::RelPath;
use crate::core::tier::Tier;
use crate::sensor::actor::{Identify, KernelTable};
use crate::sensor::dirs::{DirKey, Directories};
use crate::sensor::marks::{MarkError, Marks};
use crate::sensor::settle::Settle;

/// Size of the ring between kernel and daemon unless set otherwise, bytes: over 50,000 events.
pub const RING_BYTES: u32 = 8 << 20;

/// Why a tier cannot be had, and what would change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub tier: Tier,
    pub reason: String,
}

/// The running programs. Dropping it detaches them.
pub struct Ebpf {
    tier: Tier,
    loaded: Programs,
    table: Arc<ProcessTable>,
    watched: Arc<marks::WatchedInodes>,
    tally: Arc<tally::Tally>,
    shared: Arc<ring::Shared>,
    settle: Arc<Settle>,
    reader: Option<JoinHandle<()>>,
}

/// What must stay alive for the programs to stay attached.
struct Programs {
    hooks: Vec<HookState>,
    _object: aya::Ebpf,
}

impl Ebpf {
    /// Starts in the best tier that the kernel gives, not above `highest`: by loading and attaching, never by version.
    /// Events go to `out`, which is never waited for. Beside it come the higher tiers that could not be had.
    ///
    /// # Errors
    /// When no tier with eBPF can be had; fanotify remains.
    pub fn start(
        highest: Tier,
        dirs: Arc<Directories>,
        out: Sender<Signal>,
    ) -> Result<(Self, Vec<Refused>), Vec<Refused>> {
        Self::start_with_ring(highest, RING_BYTES, dirs, out)
    }

    /// The same with a ring of another size: a power of two, at least one page, bytes.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_ring(
        highest: Tier,
        ring_bytes: u32,
        dirs: Arc<Directories>,
        out: Sender<Signal>,
    ) -> Result<(Self, Vec<Refused>), Vec<Refused>> {
        let mut refused = Vec::new();
        let Some((tier, loaded)) = best(highest, ring_bytes, &mut refused) else { return Err(refused) };
        match Self::run(tier, loaded, out, dirs) {
            Ok(ebpf) => Ok((ebpf, refused)),
            Err(error) => {
                let reason = format!("the thread that reads events cannot be started ({error})");
                refused.push(Refused { tier, reason });
                Err(refused)
            }
        }
    }

    fn run(
        tier: Tier,
        loaded: load::Loaded,
        out: Sender<Signal>,
        dirs: Arc<Directories>,
    ) -> std::io::Result<Self> {
        let (object, hooks, maps) = loaded.split();
        let table = ProcessTable::new(maps.process, maps.current);
        let tally = Arc::new(maps.tally);
        let watched = Arc::new(marks::WatchedInodes::new(maps.watched));
        let shared = Arc::new(ring::Shared::default());
        let settle = Arc::new(Settle::new()?);
        let reader = ring::Reader {
            ring: maps.events,
            tally: tally.clone(),
            table: table.clone(),
            dirs,
            watched: watched.clone(),
            out,
            settle: settle.clone(),
            shared: shared.clone(),
        };
        let reader = if tier.hooks_files() {
            Some(std::thread::Builder::new().name("fim-ebpf".into()).spawn(|| reader.run())?)
        } else {
            None
        };
        Ok(Self {
            tier,
            loaded: Programs { hooks, _object: object },
            table,
            watched,
            tally,
            shared,
            settle,
            reader,
        })
    }

    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// What became of every hook.
    pub fn attach_table(&self) -> Vec<HookState> {
        self.loaded.hooks.clone()
    }

    /// For each hook: seen, sent on, lost, skipped.
    pub fn counters(&self) -> Vec<(Hook, HookTally)> {
        Hook::ALL.iter().map(|hook| (*hook, self.tally.of(*hook))).collect()
    }

    /// Events that were dropped because their directory was gone before it became known.
    pub fn unplaced(&self) -> u64 {
        self.shared.unplaced.load(Ordering::Relaxed)
    }

    /// Waits until everything that the kernel reported before this call has been handed on, for `patience` at most; whether
    /// it came in time.
    pub fn settle(&self, patience: std::time::Duration) -> bool {
        !self.tier.hooks_files() || self.settle.wait(patience)
    }

    /// The next [`settle`](Self::settle) tells of all that was lost, too.
    pub fn count_losses(&self) {
        self.settle.count_losses();
    }

    /// Who every process is.
    pub fn table(&self) -> Arc<ProcessTable> {
        self.table.clone()
    }

    /// Names processes by the kernel's table.
    pub fn identify(&self) -> Arc<dyn Identify> {
        Arc::new(KernelTable::new(self.table.clone()))
    }

    /// These inodes are watched no more, so that others that get their numbers are not taken for them.
    pub fn forget(&self, keys: &[DirKey]) {
        self.watched.forget(keys);
    }

    /// Whether the programs watch this inode, by our mark or by their own.
    pub fn watches(&self, key: DirKey) -> bool {
        self.watched.holds(key)
    }
}

/// In the tracepoint tier, which watches no files, nothing needs marking.
impl Marks for Ebpf {
    fn directory(&self, dir: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        if self.tier.hooks_files() { self.watched.directory(dir, watch, path) } else { Ok(()) }
    }

    fn hard_linked(&self, file: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        if self.tier.hooks_files() { self.watched.hard_linked(file, watch, path) } else { Ok(()) }
    }
}

impl Drop for Ebpf {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Err(error) = self.settle.wake.write(1) {
            tracing::debug!(%error, "the reader wakes by itself within a second");
        }
        if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
            tracing::error!("the thread that reads the kernel's events had died; report this");
        }
    }
}

fn best(highest: Tier, ring_bytes: u32, refused: &mut Vec<Refused>) -> Option<(Tier, load::Loaded)> {
    let tiers = [Tier::Lsm, Tier::Fentry, Tier::Tracepoint].into_iter().filter(|tier| *tier >= highest);
    let kernel = own_pids_are_the_kernels()
        .and_then(|()| btf::Btf::of_running_kernel().map_err(|error| error.to_string()));
    for tier in tiers {
        match kernel.as_ref().map_err(String::clone).and_then(|kernel| load::load(tier, kernel, ring_bytes)) {
            Ok(loaded) => return Some((tier, loaded)),
            Err(reason) => refused.push(Refused { tier, reason }),
        }
    }
    None
}

/// The programs see the ids of the first pid namespace; in another one none of them would match.
///
/// # Errors
/// A sentence, where fim runs in another one.
pub fn own_pids_are_the_kernels() -> Result<(), String> {
    // PROC_PID_INIT_INO of include/linux/proc_ns.h.
    const FIRST: u64 = 0xeffffffc;
    match std::fs::metadata("/proc/self/ns/pid") {
        Ok(ns) if ns.ino() == FIRST => Ok(()),
        Ok(_) => Err("fim runs in a container's pid namespace; start it with the host's (--pid=host)".into()),
        Err(error) => Err(format!("/proc/self/ns/pid cannot be read ({error}); mount /proc")),
    }
}
