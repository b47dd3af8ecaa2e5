//! The thread that drains the kernel's queue.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::FileType;

use super::Shared;
use super::adopt::adopt;
use super::interpret::{Finding, Interpreter};
use super::mounts::{self, MountChange, MountTable};
use super::outbox::Outbox;
use super::stray::find_again;
use crate::core::actor::Actor;
use crate::core::observation::{Deed, Observation, Signal, Source, WatchId};
use crate::core::path::RelPath;
use crate::sensor::actor::Identify;
use crate::sensor::marks::Marks;
use crate::sys::clock::boottime_ns;
use crate::sys::fanotify::Batch;
use crate::sys::fanotify::records::{Event, Pidfd};
use crate::tree::Root;

/// Buffers read before anything else gets its turn.
const BUFFERS: usize = 8;
/// About a thousand events.
const BUFFER: usize = 128 * 1024;
/// No event takes more, with two names and three handles.
const LONGEST: usize = 4096;
/// A queue that held this many events is busy: reading it a little later lets the kernel merge the events of one file.
const BUSY: usize = 128;
const MERGE_MS: u8 = 3;
/// How soon to look again for room in the channel, or for the other half of a rename.
const RETRY_MS: u8 = 2;

/// What woke the thread.
struct Woken {
    stop: bool,
    mounts: bool,
}

pub struct Pump {
    pub shared: Arc<Shared>,
    pub identify: Arc<dyn Identify>,
    pub interpreter: Interpreter,
    pub outbox: Outbox,
    pub mounts: MountTable,
    pub stop: OwnedFd,
}

/// Tells the receiver if the thread panics.
struct Farewell(Sender<Signal>);

impl Drop for Farewell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the fanotify thread has failed; restart fim and report this".to_owned();
            // Nobody listens: nobody to tell.
            let _ = self.0.send(Signal::Stopped { source: Source::Fanotify, reason });
        }
    }
}

impl Pump {
    /// Runs on a thread of its own. That it fails is told as loudly as that it ends.
    pub fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        let farewell = Farewell(self.outbox.sender());
        std::thread::Builder::new().name("fim-fanotify".into()).spawn(move || {
            let _farewell = farewell;
            self.run();
        })
    }

    /// Runs until told to stop, until nobody listens, or until the kernel fails it.
    fn run(mut self) {
        let _living = crate::pulse::begin("fim-fanotify");
        let mut buffer = vec![0; BUFFER];
        let mut unread = false;
        loop {
            crate::pulse::beat();
            let settled = self.outbox.flush();
            if self.outbox.closed {
                return;
            }
            let soon = !settled || self.interpreter.waiting();
            let timeout = match (unread, soon) {
                (true, _) => PollTimeout::ZERO,
                (false, true) => PollTimeout::from(RETRY_MS),
                (false, false) => PollTimeout::try_from(crate::pulse::TURN).unwrap_or(PollTimeout::MAX),
            };
            let Woken { stop: stopping, mounts } = self.wait(timeout);
            if mounts {
                self.look_at_mounts();
            }
            let asked = self.shared.settle.asked();
            let drained = self.drain(&mut buffer);
            self.expire(stopping);
            self.outbox.flush();
            unread = drained.as_ref().is_ok_and(|(_, emptied)| !emptied);
            if !unread {
                self.shared.settle.answer(asked);
            }
            match drained {
                Err(e) => {
                    self.outbox.stopped(format!(
                        "fanotify cannot be read ({e}); live events have stopped, restart fim"
                    ));
                    self.finish();
                    return;
                }
                Ok(_) if stopping => {
                    self.finish();
                    return;
                }
                Ok((events, true)) if events >= BUSY => self.pause(),
                Ok(_) => {}
            }
        }
    }

    fn wait(&self, timeout: PollTimeout) -> Woken {
        let mut fds = [
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.mounts.fd(), PollFlags::POLLPRI),
            PollFd::new(self.shared.reporter.group.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.settle.wake.as_fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait looks at the queue once more, which is harmless.
        let waited = poll(&mut fds, timeout).is_ok();
        let ready = |fd: &PollFd<'_>| waited && fd.any().unwrap_or(false);
        Woken { stop: ready(&fds[0]), mounts: ready(&fds[1]) }
    }

    /// What was mounted over watched paths, or is no longer. Nobody says who did it.
    fn look_at_mounts(&mut self) {
        let changes = match self.mounts.changes() {
            Ok(changes) => changes,
            Err(e) => return self.outbox.gap(None, format!("the mount table cannot be read ({e})")),
        };
        let roots = self.shared.roots();
        for change in changes {
            for (watch, root) in &roots {
                let path = place_of(root.fd()).and_then(|root| mounts::place_in(&root, &change.at));
                let Some(path) = path.filter(|path| !(self.shared.exclude)(*watch, path, true)) else {
                    continue;
                };
                self.mount_changed(*watch, path, &change);
            }
        }
    }

    fn mount_changed(&mut self, watch: WatchId, path: RelPath, change: &MountChange) {
        take_under_watch(&self.shared, &mut self.outbox, watch, &path, false);
        let at = crate::core::path::display(&change.at);
        // Nothing is missed in what is not watched.
        let root = self.shared.root(watch);
        let foreign = |root: &Root| {
            let top = root.open_path(&path).and_then(|top| root.owns(top.as_fd(), &path));
            top.is_ok_and(|owned| !owned)
        };
        let foreign = change.mounted && root.as_deref().is_some_and(foreign);
        if !change.mounted {
            self.outbox.gap(Some(watch), format!("something was unmounted from {at}"));
        }
        // Whether it came or went, the path is looked at.
        self.outbox.observed(Observation {
            source: Source::Fanotify,
            watch,
            path,
            deed: Deed::MountedOver,
            directory: true,
            actor: None,
            at_ns: boottime_ns(),
        });
        if change.mounted && !foreign {
            self.outbox.gap(Some(watch), format!("something was mounted over {at}"));
        }
    }

    fn pause(&self) {
        let mut wake = [
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.settle.wake.as_fd(), PollFlags::POLLIN),
        ];
        let _ = poll(&mut wake, PollTimeout::from(MERGE_MS));
    }

    /// Hands on what can be handed on without waiting for anyone for long.
    fn finish(&mut self) {
        for _ in 0..50 {
            if self.outbox.flush() {
                return;
            }
            std::thread::sleep(Duration::from_millis(u64::from(RETRY_MS)));
        }
    }

    /// Reads what the kernel has queued, but no more than a few buffers at once, since others wait for this thread. How
    /// many events there were, and whether the queue was emptied.
    fn drain(&mut self, buffer: &mut [u8]) -> std::io::Result<(usize, bool)> {
        let mut events = 0;
        for _ in 0..BUFFERS {
            let Some(batch) = self.shared.reporter.group.read(buffer)? else { return Ok((events, true)) };
            events += self.batch(&batch);
            self.outbox.flush();
            // The kernel gives all that there is room for (fanotify_read, fs/notify/fanotify/fanotify_user.c).
            if batch.len() + LONGEST < buffer.len() {
                return Ok((events, true));
            }
        }
        Ok((events, false))
    }

    fn batch(&mut self, batch: &Batch) -> usize {
        let mut findings = Vec::new();
        let mut cast = Cast { identify: &*self.identify, known: HashMap::new() };
        let now = boottime_ns();
        let mut count = 0;
        for event in batch.events() {
            count += 1;
            // What the daemon does itself, it makes known itself. An overflow is nobody's.
            if event.pid == self.shared.own_pid && event.mask & libc::FAN_Q_OVERFLOW == 0 {
                continue;
            }
            for stray in self.interpreter.strays(&event) {
                find_again(&self.shared, &mut self.outbox, stray, now);
            }
            self.interpreter.event(&event, &mut findings);
            for finding in findings.drain(..) {
                let actor = |pid| cast.actor(pid, Some((batch, &event)));
                handle_finding(&self.shared, &mut self.outbox, finding, actor, now);
            }
        }
        self.shared.seen.fetch_add(count as u64, Ordering::Relaxed);
        count
    }

    fn expire(&mut self, all: bool) {
        let mut findings = Vec::new();
        self.interpreter.expire(all, &mut findings);
        let mut cast = Cast { identify: &*self.identify, known: HashMap::new() };
        for finding in findings {
            handle_finding(
                &self.shared,
                &mut self.outbox,
                finding,
                |pid| cast.actor(pid, None),
                boottime_ns(),
            );
        }
    }
}

/// The processes of one batch. Not kept longer: a process can change its ids and its executable.
struct Cast<'a> {
    identify: &'a dyn Identify,
    known: HashMap<i32, Option<Arc<Actor>>>,
}

impl Cast<'_> {
    fn actor(&mut self, pid: i32, event: Option<(&Batch, &Event<'_>)>) -> Option<Arc<Actor>> {
        self.known
            .entry(pid)
            .or_insert_with(|| {
                let number = u32::try_from(pid).ok().filter(|pid| *pid != 0)?;
                let event = event.filter(|(_, event)| event.pid == pid);
                let gone = event.is_some_and(|(_, event)| event.pidfd == Pidfd::Gone);
                if gone {
                    return Some(Arc::new(self.identify.identify_gone(number)));
                }
                let pidfd = event.and_then(|(batch, event)| batch.pidfd(event));
                Some(Arc::new(self.identify.identify(number, pidfd)))
            })
            .clone()
    }
}

fn handle_finding(
    shared: &Shared,
    outbox: &mut Outbox,
    finding: Finding,
    mut actor: impl FnMut(i32) -> Option<Arc<Actor>>,
    at_ns: u64,
) {
    let mut tell = |outbox: &mut Outbox, watch, path, deed, directory, pid| {
        if pid != shared.own_pid {
            let actor = actor(pid);
            let source = Source::Fanotify;
            outbox.observed(Observation { source, watch, path, deed, directory, actor, at_ns });
        }
    };
    match finding {
        Finding::Deed { watch, path, deed, directory, pid } => {
            if directory && matches!(deed, Deed::Created | Deed::MovedHere { .. } | Deed::Deleted) {
                let renamed = matches!(deed, Deed::MovedHere { from: Some(_) });
                take_under_watch(shared, outbox, watch, &path, renamed);
            }
            if !directory
                && pid != shared.own_pid
                && matches!(deed, Deed::Created | Deed::MovedHere { from: None })
            {
                mark_other_links(shared, watch, &path);
            }
            tell(outbox, watch, path, deed, directory, pid);
        }
        Finding::RootLost { watch, deed, pid } => {
            let how = if deed == Deed::Deleted { "deleted" } else { "moved" };
            tell(outbox, watch, RelPath::root(), deed, true, pid);
            outbox.gap(
                Some(watch),
                format!("the watched directory itself was {how}; put it back and restart fim"),
            );
        }
        Finding::Overflow => outbox.gap(None, "the kernel's fanotify queue was full".into()),
    }
}

/// A new name of a file that has others, perhaps where nothing is watched.
fn mark_other_links(shared: &Shared, watch: WatchId, path: &RelPath) {
    let Some(file) = shared.root(watch).and_then(|root| root.open_path(path).ok()) else { return };
    let linked = rustix::fs::fstat(&file).is_ok_and(|stat| {
        stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
    });
    if linked {
        // Its name was marked with its directory; what is missing is the view from elsewhere, which the scan makes up for.
        if let Err(e) = shared.all_marks().hard_linked(file.as_fd(), watch, path) {
            tracing::debug!("{e}");
        }
    }
}

/// Also after a deletion: the kernel may have merged it with the creation of another directory of that name.
pub fn take_under_watch(shared: &Shared, outbox: &mut Outbox, watch: WatchId, path: &RelPath, renamed: bool) {
    let Some(root) = shared.root(watch) else { return };
    let marks = shared.all_marks();
    if let Err(e) = adopt(&root, watch, path, &shared.dirs, &marks, &shared.exclude, renamed) {
        outbox.gap(Some(watch), e.to_string());
    }
}

/// Where an open directory is now.
pub fn place_of(fd: BorrowedFd<'_>) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
}
