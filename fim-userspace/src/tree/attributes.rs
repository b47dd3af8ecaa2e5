//! Everything about a file but its content: reading it from, and putting it back on, an `O_PATH` descriptor.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::flags;
pub use super::object::{NotApplied, file_type};
use super::open::{is_refused, open_content};
use super::root::{proc_path, reopen};
use crate::core::entry::{Entry, FileType, Flags, Identity, XattrName, XattrValue, Xattrs};

/// Longest list of names and longest value the kernel gives (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`, linux/limits.h).
const XATTR_MAX: usize = 65536;
/// So many bytes of values are kept of one object. XFS and btrfs take hundreds of megabytes.
const XATTRS_KEPT: usize = 1 << 20;

/// What the object of an `O_PATH` descriptor is: its entry without a digest, and its identity.
pub fn read(fd: BorrowedFd<'_>) -> io::Result<(Entry, Identity)> {
    let (mut entry, identity) = read_unopened(fd)?;
    if entry.kind == FileType::Directory {
        entry.flags = directory_flags(fd, entry.flags)?;
    } else if entry.kind == FileType::Regular
        && let Ok(file) = open_content(fd)
    {
        entry.flags = flags::read(file.as_fd(), entry.flags);
    }
    Ok((entry, identity))
}

/// The flags of a folder of which `told` is known.
pub fn directory_flags(fd: BorrowedFd<'_>, told: Flags) -> io::Result<Flags> {
    match reopen(fd, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(dir) => Ok(flags::read(dir.as_fd(), told)),
        Err(e) if is_refused(&e) => Ok(told),
        Err(e) => Err(e),
    }
}

/// As [`read`], without the flags that only an open file tells ([`Flags::completed_by`]).
pub fn read_unopened(fd: BorrowedFd<'_>) -> io::Result<(Entry, Identity)> {
    let stat = rustix::fs::fstat(fd)?;
    let kind = file_type(&stat);
    let target = match kind {
        FileType::Symlink => Some(rustix::fs::readlinkat(fd, c"", Vec::new())?.into_bytes()),
        _ => None,
    };
    let entry = Entry {
        kind,
        sha256: None,
        size: match kind {
            FileType::Regular => stat.st_size as u64,
            FileType::Symlink => target.as_ref().map_or(0, |t| t.len() as u64),
            _ => 0,
        },
        mode: if kind == FileType::Symlink { 0o777 } else { stat.st_mode & 0o7777 },
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime_ns: if kind == FileType::Directory { 0 } else { ns(stat.st_mtime, stat.st_mtime_nsec) },
        xattrs: read_xattrs(fd)?,
        target,
        rdev: if matches!(kind, FileType::CharDevice | FileType::BlockDevice) { stat.st_rdev } else { 0 },
        flags: match kind {
            FileType::Regular | FileType::Directory => flags::told(fd),
            _ => Flags::default(),
        },
    };
    Ok((entry, identity(&stat)))
}

pub fn identity(stat: &Stat) -> Identity {
    Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
        ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
        nlink: stat.st_nlink,
    }
}

/// Nanoseconds since the epoch; times beyond the years 1677 to 2262 become the nearest that can be told.
fn ns(seconds: impl Into<i64>, nanoseconds: impl TryInto<i64>) -> i64 {
    let nanoseconds = nanoseconds.try_into().unwrap_or(0);
    seconds.into().saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// All of them, or what stands for more than fim keeps ([`Xattrs::beyond`]).
fn read_xattrs(fd: BorrowedFd<'_>) -> io::Result<Xattrs> {
    let path = proc_path(fd);
    let names = match grown(|buffer| rustix::fs::listxattr(&path, buffer)) {
        Ok(names) => names,
        // More names than the kernel can list (listxattr(2), BUGS).
        Err(Errno::TOOBIG) => return Ok(Xattrs::beyond(b"")),
        // No support, or (procfs and the like) not for this kind of file.
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::ACCESS | Errno::PERM) => Vec::new(),
        Err(e) => return Err(e.into()),
    };
    let mut out = BTreeMap::new();
    let mut kept = 0;
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty() && !is_shadow(n)) {
        let Some(value) = read_xattr(&path, name)? else { continue };
        kept += value.len();
        if kept > XATTRS_KEPT {
            return digest_xattrs(&path, &names);
        }
        out.insert(XattrName(name.to_vec()), XattrValue(value));
    }
    Ok(Xattrs(out))
}

/// `None` for one that was removed since it was listed, or a label that its security module shows nobody.
fn read_xattr(path: &str, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match grown(|buffer| rustix::fs::getxattr(path, name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// One value at a time: nothing but the digest stays in memory.
fn digest_xattrs(path: &str, names: &[u8]) -> io::Result<Xattrs> {
    let mut sorted: Vec<&[u8]> =
        names.split(|b| *b == 0).filter(|n| !n.is_empty() && !is_shadow(n)).collect();
    sorted.sort_unstable();
    let mut digest = Sha256::new();
    for name in sorted {
        let value = read_xattr(path, name)?.unwrap_or_default();
        for part in [name, &value] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    Ok(Xattrs::beyond(&digest.finalize()))
}

/// XFS lists each ACL a second time under the name it has on disk (fs/xfs/xfs_xattr.c).
fn is_shadow(name: &[u8]) -> bool {
    name.starts_with(b"trusted.SGI_ACL_")
}

/// Runs a call that fills a buffer, first with a small one.
fn grown(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 512];
    match call(&mut small) {
        Ok(n) => return Ok(small[..n].to_vec()),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e),
    }
    let mut large = vec![0; XATTR_MAX];
    let n = call(&mut large)?;
    large.truncate(n);
    Ok(large)
}

fn not_applied(what: impl Into<String>) -> impl FnOnce(Errno) -> NotApplied {
    move |e| NotApplied { what: what.into(), source: e.into() }
}

/// Makes the attributes of the object of `fd` equal to those of `approved`, touching only what differs.
///
/// The order matters: a change of owner drops set-id bits and capabilities (chown(2)), an ACL rewrites the group's
/// permission bits (acl(5)), and everything but utimensat(2) itself may move the times.
pub fn apply(fd: BorrowedFd<'_>, approved: &Entry) -> Result<(), NotApplied> {
    let io_error = |source: io::Error| NotApplied { what: "its attributes".into(), source };
    let (now, _) = read_unopened(fd).map_err(io_error)?;
    if (now.uid, now.gid) != (approved.uid, approved.gid) {
        chown(fd, approved).map_err(not_applied("owner and group"))?;
    }
    let path = proc_path(fd);
    for name in now.xattrs.0.keys().filter(|n| !approved.xattrs.0.contains_key(n)) {
        match rustix::fs::removexattr(&path, &*name.0) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(e) => return Err(not_applied(xattr_label(name))(e)),
        }
    }
    if approved.kind != FileType::Symlink {
        chmod(fd, &path, approved.mode).map_err(not_applied("mode"))?;
    }
    // What chown dropped has to be looked at again.
    let held =
        if approved.xattrs.0.is_empty() { Xattrs::default() } else { read_xattrs(fd).map_err(io_error)? };
    for (name, value) in approved.xattrs.0.iter().filter(|(n, v)| held.0.get(n) != Some(v)) {
        rustix::fs::setxattr(&path, &*name.0, &value.0, XattrFlags::empty())
            .map_err(not_applied(xattr_label(name)))?;
    }
    if approved.kind != FileType::Symlink {
        chmod(fd, &path, approved.mode).map_err(not_applied("mode"))?;
    }
    if approved.kind != FileType::Directory {
        set_mtime(&path, approved.mtime_ns).map_err(not_applied("modification time"))?;
    }
    Ok(())
}

fn xattr_label(name: &XattrName) -> String {
    format!("extended attribute {}", crate::core::path::escape(&name.0))
}

fn chown(fd: BorrowedFd<'_>, approved: &Entry) -> Result<(), Errno> {
    let uid = rustix::fs::Uid::from_raw(approved.uid);
    let gid = rustix::fs::Gid::from_raw(approved.gid);
    rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
}

/// chmod(2) refuses `O_PATH` descriptors, hence the path; nothing happens where the mode is right already.
fn chmod(fd: BorrowedFd<'_>, path: &str, mode: u32) -> Result<(), Errno> {
    if rustix::fs::fstat(fd)?.st_mode & 0o7777 == mode {
        return Ok(());
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
}

fn set_mtime(path: &str, mtime_ns: i64) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
        },
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::empty())
}
