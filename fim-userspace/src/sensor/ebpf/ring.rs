//! Empties the ring: bytes become observations, drops become gaps.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use crossbeam_channel::{Sender, TrySendError};
use fim_common::{EventHead, Hook};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::decode::Event;
use super::marks::WatchedInodes;
use super::table::ProcessTable;
use super::tally::{HookTally, Tally};
use crate::core::actor::{Actor, Confidence, ProcessKey};
use crate::core::observation::{Observation, Signal, Source, WatchId};
use crate::sensor::actor::derive;
use crate::sensor::actor::proc::Live;
use crate::sensor::dirs::Directories;
use crate::sensor::settle::Settle;

/// How long an event waits for its directory to become known to the daemon.
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(20);
/// A folder that the configuration excludes stays unknown, however busy it is.
const RETRY_MANY: Duration = Duration::from_millis(200);
const FEW: usize = 512;
const IDLE: Duration = Duration::from_secs(1);
/// Events kept waiting at most; beyond that the oldest give way and are counted.
const WAITING: usize = 16384;
/// Events read before gaps and waiting events get their turn.
const BATCH: usize = 8192;
/// Counting takes a few dozen system calls.
const COUNTED_EVERY: Duration = Duration::from_millis(200);
const ACTORS: usize = 1024;

/// What the thread shares with its owner.
#[derive(Default)]
pub struct Shared {
    pub stop: AtomicBool,
    /// Events whose directory never became known: it was gone again at once.
    pub unplaced: AtomicU64,
}

pub struct Reader {
    pub ring: RingBuf<MapData>,
    pub tally: Arc<Tally>,
    pub table: Arc<ProcessTable>,
    pub dirs: Arc<Directories>,
    pub watched: Arc<WatchedInodes>,
    pub out: Sender<Signal>,
    pub settle: Arc<Settle>,
    pub shared: Arc<Shared>,
}

struct Waiting {
    since: Instant,
    event: Event,
    actor: Arc<Actor>,
}

/// Lost reports that could not be told of yet.
#[derive(Default)]
struct Gaps {
    waiting: HashMap<(Option<WatchId>, String), u64>,
    dropped_before: u64,
    skipped_before: HashMap<Hook, u64>,
    /// When the losses were last counted.
    counted: Option<Instant>,
}

/// Who an actor is, for the cache: a process that changes its ids or its program is another actor.
#[derive(PartialEq, Eq, Hash)]
struct ActorKey {
    process: ProcessKey,
    tid: u32,
    ids: [u32; 4],
    /// Of the moment of the operation, and of the table's record.
    exec: [u32; 2],
}

impl Reader {
    /// Runs until told to stop or the receiver is gone.
    pub fn run(mut self) {
        let _living = crate::pulse::begin("fim-ebpf");
        let mut waiting = VecDeque::new();
        let mut gaps = Gaps::default();
        let mut actors = HashMap::new();
        while !self.shared.stop.load(Ordering::Acquire) {
            crate::pulse::beat();
            let pause = match waiting.len() {
                0 if gaps.waiting.is_empty() => IDLE,
                0..FEW => RETRY,
                _ => RETRY_MANY,
            };
            if let Err(error) = self.pause(pause) {
                let reason = format!("the ring of events cannot be waited for ({error}); restart fim");
                let _ = self.out.send(Signal::Stopped { source: Source::Ebpf, reason });
                return;
            }
            let asked = self.settle.asked();
            if self.settle.is_to_count() {
                gaps.counted = None;
            }
            self.retry(&mut waiting, &mut gaps);
            let emptied = self.drain(&mut waiting, &mut gaps, &mut actors);
            self.tell_gaps(&mut gaps);
            if emptied {
                self.settle.answer(asked);
            }
        }
        // What the kernel had queued is handed on before the end.
        self.drain(&mut waiting, &mut gaps, &mut actors);
        for held in &waiting {
            self.send(&held.event, &held.actor, &mut gaps);
        }
        gaps.counted = None;
        self.tell_gaps(&mut gaps);
    }

    fn pause(&self, time: Duration) -> nix::Result<()> {
        let mut fds = [
            PollFd::new(self.ring.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.settle.wake.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads the ring; `false` when a whole batch left something in it.
    fn drain(
        &mut self,
        waiting: &mut VecDeque<Waiting>,
        gaps: &mut Gaps,
        actors: &mut HashMap<ActorKey, Arc<Actor>>,
    ) -> bool {
        for _ in 0..BATCH {
            let Some(event) = self.ring.next().map(|bytes| Event::parse(&bytes)) else { return true };
            let Some(event) = event else {
                gaps.add(None, 1, "a record of the kernel could not be read");
                continue;
            };
            let actor = self.actor(&event.head, actors);
            if event.placed(&self.dirs) {
                self.send(&event, &actor, gaps);
                continue;
            }
            if waiting.len() >= WAITING {
                waiting.pop_front();
                self.shared.unplaced.fetch_add(1, Ordering::Relaxed);
            }
            waiting.push_back(Waiting { since: Instant::now(), event, actor });
        }
        false
    }

    fn retry(&self, waiting: &mut VecDeque<Waiting>, gaps: &mut Gaps) {
        waiting.retain(|held| {
            let placed = held.event.placed(&self.dirs);
            if !placed && held.since.elapsed() < PATIENCE {
                return true;
            }
            // Past its time, a rename is told as far as its places are known.
            if !self.send(&held.event, &held.actor, gaps) {
                self.shared.unplaced.fetch_add(1, Ordering::Relaxed);
            }
            // The folder is gone, and its number may be another's by now. If it comes yet, it is marked again.
            for key in held.event.unknown_directories(&self.dirs) {
                self.watched
                    .forget_unless(key, WatchId(held.event.head.watch), || !self.dirs.by_key(key).is_empty());
            }
            false
        });
    }

    /// Sends what the event means; `false` when it means nothing.
    fn send(&self, event: &Event, actor: &Arc<Actor>, gaps: &mut Gaps) -> bool {
        let meanings = event.meanings(&self.dirs);
        let directory = event.head.flags & EventHead::DIRECTORY != 0
            || matches!(event.hook, Hook::InodeMkdir | Hook::InodeRmdir);
        let placed = !meanings.is_empty();
        for meaning in meanings {
            let watch = meaning.watch;
            // Where fanotify does not tell that it is gone, its inode number may be another folder's before anybody looks.
            // Should it stay after all, the look makes it known again.
            if event.hook == Hook::InodeRmdir && self.dirs.without_handle(watch, &meaning.path) {
                self.dirs.removed(watch, &meaning.path);
            }
            let observation = Observation {
                source: Source::Ebpf,
                watch,
                path: meaning.path,
                deed: meaning.deed,
                directory,
                actor: Some(actor.clone()),
                at_ns: event.head.time_ns,
            };
            match self.out.try_send(Signal::Observed(observation)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => gaps.add(Some(watch), 1, "the daemon was too busy to take it"),
                Err(TrySendError::Disconnected(_)) => self.shared.stop.store(true, Ordering::Release),
            }
        }
        placed
    }

    /// Ids are those of the moment of the operation; the rest comes from the process table, and from /proc what that
    /// does not hold.
    fn actor(&self, head: &EventHead, actors: &mut HashMap<ActorKey, Arc<Actor>>) -> Arc<Actor> {
        let process = ProcessKey { tgid: head.tgid, start_ns: head.start_ns };
        let mut record = self.table.record(process);
        let exec = [head.exec_id, record.as_ref().map_or(head.exec_id, |record| record.exec_id)];
        let ids = [head.uid, head.gid, head.euid, head.fsuid];
        let key = ActorKey { process, tid: head.tid, ids, exec };
        if let Some(known) = actors.get(&key) {
            return known.clone();
        }
        // What /proc no longer tells, the table has by then: the kernel notes it at the end, before it gives it up.
        let live = Live::read(process.tgid).ok().filter(|live| live.started(process.start_ns));
        if live.as_ref().is_none_or(|live| live.cwd.is_none()) {
            record = self.table.record(process).or(record);
        }
        let mut actor = match &record {
            Some(record) => self.table.actor(process, record),
            None => Actor { pid: Some(process.tgid), start_ns: Some(process.start_ns), ..Actor::unknown() },
        };
        let stale = exec[0] != exec[1];
        if let Some(live) = live {
            live.fill(&mut actor);
        }
        if stale {
            // It has become another program since. What cannot be known is not guessed.
            let earlier = record
                .as_ref()
                .and_then(|record| self.table.before_exec(head.start_ns, record, head.exec_id));
            let image = earlier.unwrap_or_default();
            (actor.comm, actor.exe) = (image.comm, image.exe);
            (actor.exe_file, actor.cmdline) = (image.exe_file, image.cmdline);
            derive(&mut actor);
        }
        actor.tid = Some(head.tid);
        let id = |value: u32| Some(value).filter(|id| *id != u32::MAX);
        actor.uid = id(head.uid);
        actor.gid = id(head.gid);
        actor.euid = id(head.euid);
        actor.fsuid = id(head.fsuid);
        actor.auid = id(head.auid);
        actor.session = id(head.session);
        actor.confidence = Confidence::Exact;
        let actor = Arc::new(actor);
        if actors.len() >= ACTORS {
            actors.clear();
        }
        actors.insert(key, actor.clone());
        actor
    }

    fn tell_gaps(&self, gaps: &mut Gaps) {
        if gaps.counted.is_none_or(|at| at.elapsed() >= COUNTED_EVERY) {
            gaps.counted = Some(Instant::now());
            gaps.count(self.tally.of_files());
        }
        gaps.waiting.retain(|(watch, reason), lost| {
            let gap = Signal::Gap {
                source: Source::Ebpf,
                watch: *watch,
                lost: Some(*lost),
                reason: reason.clone(),
            };
            matches!(self.out.try_send(gap), Err(TrySendError::Full(_)))
        });
    }
}

impl Gaps {
    fn add(&mut self, watch: Option<WatchId>, lost: u64, reason: impl Into<String>) {
        *self.waiting.entry((watch, reason.into())).or_insert(0) += lost;
    }

    /// Adds what was lost since the last call.
    fn count(&mut self, hooks: impl Iterator<Item = (Hook, HookTally)>) {
        let (mut dropped, mut skipped, mut names) = (0, 0, Vec::new());
        for (hook, tally) in hooks {
            dropped += tally.counted.dropped;
            let before = self.skipped_before.insert(hook, tally.skipped).unwrap_or(0);
            if tally.skipped > before {
                skipped += tally.skipped - before;
                names.push(hook.name());
            }
        }
        if dropped > self.dropped_before {
            self.add(None, dropped - self.dropped_before, "the ring of reports was full");
            self.dropped_before = dropped;
        }
        if skipped > 0 {
            let reason = format!(
                "the kernel skipped calls of {}, which it does in no tier but fentry",
                names.join(", ")
            );
            self.add(None, skipped, reason);
        }
    }
}
