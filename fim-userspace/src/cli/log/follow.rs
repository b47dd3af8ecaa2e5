//! `fim log --follow`: wakes when the database is written, ends with its reader.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify;

use super::{PAGE, Printer};
use crate::store::Store;
use crate::store::query::Criteria;

/// Milliseconds after which the database is looked at whatever inotify said: it may lie where that does not work.
const AT_LEAST_MS: u16 = 5_000;

/// Prints what comes after the record `last`. Ends when nobody reads any more, which `out` tells; a signal ends it as it ends
/// every program.
pub(super) fn follow<W: Write>(
    store: &Store,
    criteria: &Criteria,
    mut last: u64,
    printer: &mut Printer<W>,
    out: BorrowedFd<'_>,
) -> anyhow::Result<()> {
    let wakeful = watch(store).ok();
    let mut version = None;
    loop {
        let now = store.data_version()?;
        if version != Some(now) {
            version = Some(now);
            loop {
                let mut records = store.ledger_after(last, PAGE)?;
                let Some(newest) = records.last() else { break };
                last = newest.seq;
                records.retain(|record| criteria.met_by(&record.event));
                printer.print(&records)?;
            }
        }
        if !wait(wakeful.as_ref().map(AsFd::as_fd), out)? {
            return Ok(());
        }
    }
}

fn watch(store: &Store) -> io::Result<std::os::fd::OwnedFd> {
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    // The folder: the write-ahead log may come and go.
    inotify::add_watch(&inotify, store.dir(), inotify::WatchFlags::MODIFY)?;
    Ok(inotify)
}

/// Waits until something was written; false when who reads `out` has closed it.
fn wait(inotify: Option<BorrowedFd<'_>>, out: BorrowedFd<'_>) -> anyhow::Result<bool> {
    // Without events asked for, a closed reader is still told of (poll(2)): of a socket and a terminal by POLLHUP.
    let gone = PollFlags::POLLERR | PollFlags::POLLNVAL | PollFlags::POLLHUP;
    let mut fds = vec![PollFd::new(out, PollFlags::empty())];
    fds.extend(inotify.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    let wait = if inotify.is_some() { AT_LEAST_MS } else { 250 };
    match poll(&mut fds, PollTimeout::from(wait)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(e) => return Err(e.into()),
    }
    let closed = fds[0].revents().is_some_and(|r| r.intersects(gone));
    if let Some(fd) = inotify {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(fd, &mut buffer);
        while events.next().is_ok() {}
    }
    Ok(!closed)
}
