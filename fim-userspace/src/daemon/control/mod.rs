//! The control sockets, one request a connection: `<state.dir>/control` for root, who may act, and one for the members of
//! a group, who may read.
//!
//! The thread `fim-control` accepts; each client has a short-lived thread, a few dozen at most, so that one that stands
//! still holds nobody. What acts is handed to the reconciler.

mod client;
mod readers;
mod session;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{AtFlags, Gid, Mode, OFlags};

use crate::control::{Act, Answer, SOCKET};
use crate::metrics::Metrics;

use super::hands::Person;
pub use client::{Client, ClientError};
use readers::Readers;
pub use readers::{Reader, offer};

/// Clients served at once.
const CLIENTS: usize = 32;
/// Members of a group that are served at once: they can take no place from root.
const READERS: usize = 8;
/// Requests that may wait for the reconciler.
pub const WAITING: usize = 16;

/// A request on its way to the reconciler. Answers are as many as the request has items, and one more.
pub struct Job {
    pub act: Act,
    pub person: Person,
    pub reply: Sender<Answer>,
}

/// Whom a socket serves, and with what.
#[derive(Clone)]
enum Desk {
    /// Root alone.
    Acting(Sender<Job>, Arc<Metrics>),
    /// Root, and members of a group.
    Reading(Readers),
}

impl Desk {
    fn metrics(&self) -> &Metrics {
        match self {
            Self::Acting(_, metrics) => metrics,
            Self::Reading(readers) => &readers.metrics,
        }
    }
}

/// The socket in service. Dropped, it is closed and its name removed.
pub struct Control {
    dir: OwnedFd,
    name: OsString,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Serves `dir`, whose lock the caller holds: a socket that is there already is a dead daemon's, and is replaced.
    pub fn start(dir: &Path, jobs: Sender<Job>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let dir = open_dir(dir)?;
        let listener = bind(&dir, SOCKET.as_ref(), None)?;
        Self::serve(dir, SOCKET.into(), listener, Desk::Acting(jobs, metrics))
    }

    fn serve(dir: OwnedFd, name: OsString, listener: UnixListener, desk: Desk) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let told = stop.clone();
        let thread = std::thread::Builder::new()
            .name("fim-control".into())
            .spawn(move || serve(&listener, &told, &desk))?;
        Ok(Self { dir, name, stop, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The name goes first: who comes now finds no daemon, rather than one that does not answer.
        let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        if rustix::io::write(&*self.stop, &1u64.to_ne_bytes()).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Where the socket is, in few bytes: a socket's path may have 107 (unix(7)), the state directory's may have more.
fn address(dir: &OwnedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)
}

/// Binds beside and renames, so that the name never stands for a socket that others may write to. Only members of
/// `group` may besides root.
fn bind(dir: &OwnedFd, name: &OsStr, group: Option<Gid>) -> io::Result<UnixListener> {
    let mut beside = name.to_owned();
    beside.push(".new");
    match rustix::fs::unlinkat(dir, &beside, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let listener = UnixListener::bind(address(dir, &beside))?;
    let owner = Mode::RUSR | Mode::WUSR;
    rustix::fs::chmodat(dir, &beside, owner, AtFlags::empty())?;
    if group.is_some() {
        rustix::fs::chownat(dir, &beside, None, group, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::chmodat(dir, &beside, owner | Mode::RGRP | Mode::WGRP, AtFlags::empty())?;
    }
    rustix::fs::renameat(dir, &beside, dir, name)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn serve(listener: &UnixListener, stop: &OwnedFd, desk: &Desk) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let mut fds =
            [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => {
                return tracing::error!("the control socket is given up ({e}); restart fim to have it back");
            }
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => admit(stream, &clients, desk),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => {
                // Out of descriptors, most likely: the client that waits would make this loop spin.
                tracing::warn!(
                    "a command could not be answered ({e}); raise the limit on open files (LimitNOFILE=)"
                );
                std::thread::park_timeout(std::time::Duration::from_millis(100));
            }
        }
    }
}

/// Counts a client for as long as it lives.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(clients: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |n| (n < most).then_some(n + 1);
        clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(clients.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn admit(stream: UnixStream, clients: &Arc<AtomicUsize>, desk: &Desk) {
    let most = match desk {
        Desk::Acting(..) => CLIENTS,
        Desk::Reading(_) => READERS,
    };
    let Some(place) = Place::take(clients, most) else {
        return session::turn_away(
            stream,
            "too many commands talk to the daemon at once; try again in a moment",
        );
    };
    let desk = desk.clone();
    let spawned = std::thread::Builder::new().name("fim-client".into()).spawn(move || {
        let _place = place;
        session::serve(stream, &desk);
    });
    if let Err(e) = spawned {
        tracing::warn!("a command could not be answered ({e}); raise the limits on processes and memory");
    }
}
