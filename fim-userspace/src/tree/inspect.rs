//! What stands under a name right now.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, OFlags, StatxFlags};

use super::flags::System;
use super::open::is_refused;
use super::root::{Root, TreeError, is_absent, open_name, read_error, reopen};
use super::{attributes, flags, hash};
use crate::core::entry::{Entry, FileType, Flags, Found, Identity, Xattrs};
use crate::core::path::RelPath;

pub use super::hash::hash_fd;
pub use super::open::open_content;

/// How often content that changes while it is read is read again before what was seen last is taken.
const ATTEMPTS: u32 = 3;

/// How far beyond its first size a file may grow while it is read.
const GROWTH: u64 = 64 << 20;

/// A file of this size and more, of which less than one part in [`HOLLOW_PARTS`] is stored, is not read: `truncate -s 16T`
/// costs its maker nothing, and would cost hours.
const HOLLOW_SIZE: u64 = 256 << 20;
const HOLLOW_PARTS: u64 = 16;

/// The state of `path`; `None` when nothing is there, or a folder on the way is none any more.
///
/// A regular file whose device, inode and change time equal those of `known` is not read: its digest is taken over.
/// A change time so fresh that a later write could still get the same one is told as `ctime_ns` 0, which equals none.
/// The digest is `None` where the file system refuses root the content, and of a huge file that is nearly all holes.
pub fn inspect(root: &Root, path: &RelPath, known: Option<&Found>) -> Result<Option<Found>, TreeError> {
    let found = present(root.open_path(path)).and_then(|fd| fd.map(|fd| describe(fd, known)).transpose());
    found.map(Option::flatten).map_err(|e| match path.is_root() {
        true => TreeError::Root { path: crate::core::path::display(root.path()), source: e },
        false => TreeError::Read { path: crate::core::path::display(&path.below(root.path())), source: e },
    })
}

/// As [`inspect`], for one name in an open folder on `system`.
pub fn inspect_at(
    system: Option<System>,
    dir: BorrowedFd<'_>,
    name: &[u8],
) -> Result<Option<Found>, TreeError> {
    let found = present(open_name(dir, name))
        .and_then(|fd| fd.map(|fd| inspect_on(system, fd.as_fd(), None)).transpose());
    found.map_err(|e| read_error(name, e))
}

fn present(fd: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match fd {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

fn describe(fd: OwnedFd, known: Option<&Found>) -> io::Result<Option<Found>> {
    inspect_fd(fd.as_fd(), known).map(Some)
}

/// The state of the object of an `O_PATH` descriptor.
pub fn inspect_fd(fd: BorrowedFd<'_>, known: Option<&Found>) -> io::Result<Found> {
    inspect_on(None, fd, known)
}

/// What statx(2) tells of one name in an open folder; a link is not followed.
pub fn glance(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<(Entry, Identity)> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(attributes::of_stat(&rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?))
}

/// As [`inspect_fd`], of something in a folder on `system`.
pub fn inspect_on(system: Option<System>, fd: BorrowedFd<'_>, known: Option<&Found>) -> io::Result<Found> {
    let mut attempt = 1;
    loop {
        let started = SystemTime::now();
        let stat = match attributes::stat(fd) {
            Ok(stat) => stat,
            Err(e) => return closed_mount(fd).ok_or(e),
        };
        let (mut entry, mut identity) = attributes::of_stat(&stat);
        match known.filter(|k| is_unchanged(k, &entry, &identity)) {
            Some(known) => {
                attributes::complete(fd, &mut entry)?;
                entry.sha256 = known.entry.sha256;
                entry.flags = entry.flags.completed_by(known.entry.flags);
            }
            None => read_whole(system, fd, &mut entry, identity.dev)?,
        }
        let after = attributes::stat(fd)?;
        let grown = entry.kind == FileType::Regular && after.stx_size != entry.size;
        let moved = attributes::of_stat(&after).1.ctime_ns != identity.ctime_ns;
        if !moved && !grown || attempt == ATTEMPTS {
            if moved || grown || is_fresh(identity.ctime_ns, started) {
                identity.ctime_ns = 0;
            }
            return Ok(Found { entry, identity });
        }
        attempt += 1;
    }
}

/// Adds what the object of `fd`, on the device `dev`, has to be opened for.
fn read_whole(system: Option<System>, fd: BorrowedFd<'_>, entry: &mut Entry, dev: u64) -> io::Result<()> {
    let open = match entry.kind {
        FileType::Regular => match open_content(fd) {
            Err(e) if is_refused(&e) && e.kind() != io::ErrorKind::WouldBlock => None,
            other => Some(other?),
        },
        FileType::Directory => match reopen(fd, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(e) if is_refused(&e) => None,
            other => Some(other?),
        },
        _ => None,
    };
    let Some(open) = open else { return attributes::complete(fd, entry) };
    entry.xattrs = attributes::open_xattrs(open.as_fd())?;
    entry.flags = flags::read_on(system, open.as_fd(), entry.kind, dev, entry.flags);
    match entry.kind {
        FileType::Regular => read_content(open.as_fd(), entry),
        _ => Ok(()),
    }
}

/// The root of a mount that tells even root nothing: FUSE without `allow_other`, where fstat(2) fails (fuse_getattr,
/// fs/fuse/dir.c). All that is known of it is that it is one.
fn closed_mount(fd: BorrowedFd<'_>) -> Option<Found> {
    let told = flags::told(fd);
    told.has(Flags::MOUNT).then(|| Found {
        entry: Entry {
            kind: FileType::Directory,
            sha256: None,
            size: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            xattrs: Xattrs::default(),
            target: None,
            rdev: 0,
            flags: told,
        },
        identity: Identity { dev: 0, ino: 0, ctime_ns: 0, nlink: 0 },
    })
}

/// Setting a flag changes the change time as well.
fn is_unchanged(known: &Found, entry: &Entry, now: &Identity) -> bool {
    let same =
        (known.identity.dev, known.identity.ino, known.identity.ctime_ns) == (now.dev, now.ino, now.ctime_ns);
    let whole =
        entry.kind != FileType::Regular || (known.entry.size == entry.size && known.entry.sha256.is_some());
    same && whole && known.entry.kind == entry.kind && now.ctime_ns != 0
}

/// Whether a write after `read_at` could leave the change time as it is. The kernel's clock for it advances by timer
/// ticks (10 ms at most) before Linux 6.13, and by seconds where the file system keeps no more.
fn is_fresh(ctime_ns: i64, read_at: SystemTime) -> bool {
    let grain = if ctime_ns % 1_000_000_000 == 0 { 2_000_000_000 } else { 20_000_000 };
    let now = read_at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64);
    now.saturating_sub(ctime_ns) < grain
}

/// Adds digest and size; no digest where the content is refused, or grows faster than it can be read.
fn read_content(file: BorrowedFd<'_>, entry: &mut Entry) -> io::Result<()> {
    if entry.size >= HOLLOW_SIZE && is_hollow(file)? {
        return Ok(());
    }
    match hash::hash_sized(file, entry.size, entry.size.saturating_mul(2).saturating_add(GROWTH)) {
        Ok(Some((digest, size))) => {
            entry.sha256 = Some(digest);
            entry.size = size;
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(e) if is_refused(&e) => Ok(()),
        Err(e) => Err(e),
    }
}

fn is_hollow(file: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    // Blocks of 512 bytes, whatever the file system's own are (inode(7)).
    Ok((stat.st_blocks as u64).saturating_mul(512) < stat.st_size as u64 / HOLLOW_PARTS)
}
