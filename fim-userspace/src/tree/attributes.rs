//! Everything about a file but its content: reading it from, and putting it back on, an `O_PATH` descriptor.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Mode, OFlags, Stat, Statx, StatxFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::flags;
use super::object::type_of_mode;
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
        entry.flags = directory_flags(fd, identity.dev, entry.flags)?;
    } else if entry.kind == FileType::Regular
        && let Ok(file) = open_content(fd)
    {
        entry.flags = flags::read_on(None, file.as_fd(), entry.kind, identity.dev, entry.flags);
    }
    Ok((entry, identity))
}

/// The flags of a folder with the device number `dev`, of which `told` is known.
pub fn directory_flags(fd: BorrowedFd<'_>, dev: u64, told: Flags) -> io::Result<Flags> {
    match reopen(fd, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(dir) => Ok(flags::read_on(None, dir.as_fd(), FileType::Directory, dev, told)),
        Err(e) if is_refused(&e) => Ok(told),
        Err(e) => Err(e),
    }
}

/// As [`read`], without the flags that only an open file tells ([`Flags::completed_by`]).
pub fn read_unopened(fd: BorrowedFd<'_>) -> io::Result<(Entry, Identity)> {
    let (mut entry, identity) = of_stat(&stat(fd)?);
    complete(fd, &mut entry)?;
    Ok((entry, identity))
}

/// What statx(2) tells of the object of `fd`.
pub fn stat(fd: BorrowedFd<'_>) -> io::Result<Statx> {
    Ok(rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?)
}

/// What needs the object itself: link target and extended attributes.
pub fn complete(fd: BorrowedFd<'_>, entry: &mut Entry) -> io::Result<()> {
    if entry.kind == FileType::Symlink {
        let target = rustix::fs::readlinkat(fd, c"", Vec::new())?.into_bytes();
        entry.size = target.len() as u64;
        entry.target = Some(target);
    }
    entry.xattrs = read_xattrs(&Holder::Path(proc_path(fd)))?;
    Ok(())
}

/// The extended attributes of an open file or folder; not of an `O_PATH` descriptor.
pub fn open_xattrs(file: BorrowedFd<'_>) -> io::Result<Xattrs> {
    read_xattrs(&Holder::Open(file))
}

/// An entry without digest, link target and extended attributes, and only with the flags that statx(2) tells.
pub fn of_stat(stat: &Statx) -> (Entry, Identity) {
    let kind = type_of_mode(stat.stx_mode.into());
    let dev = |major, minor| rustix::fs::makedev(major, minor);
    let entry = Entry {
        kind,
        sha256: None,
        size: if kind == FileType::Regular { stat.stx_size } else { 0 },
        mode: if kind == FileType::Symlink { 0o777 } else { u32::from(stat.stx_mode) & 0o7777 },
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime_ns: match kind {
            FileType::Directory => 0,
            _ => ns(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        },
        xattrs: Xattrs::default(),
        target: None,
        rdev: match kind {
            FileType::CharDevice | FileType::BlockDevice => dev(stat.stx_rdev_major, stat.stx_rdev_minor),
            _ => 0,
        },
        flags: match kind {
            FileType::Regular | FileType::Directory => flags::told_by(stat),
            _ => Flags::default(),
        },
    };
    let identity = Identity {
        dev: dev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        ctime_ns: ns(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        nlink: stat.stx_nlink.into(),
    };
    (entry, identity)
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

/// Who has extended attributes: a path of [`proc_path`], or an open file, which is quicker.
enum Holder<'a> {
    Path(String),
    Open(BorrowedFd<'a>),
}

impl Holder<'_> {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Path(path) => rustix::fs::listxattr(path, buffer),
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
        }
    }

    fn get(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Path(path) => rustix::fs::getxattr(path, name, buffer),
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
        }
    }
}

/// All of them, or what stands for more than fim keeps ([`Xattrs::beyond`]).
fn read_xattrs(holder: &Holder<'_>) -> io::Result<Xattrs> {
    let names = match grown(|buffer| holder.list(buffer)) {
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
        let Some(value) = read_xattr(holder, name)? else { continue };
        kept += value.len();
        if kept > XATTRS_KEPT {
            return digest_xattrs(holder, &names);
        }
        out.insert(XattrName(name.to_vec()), XattrValue(value));
    }
    Ok(Xattrs(out))
}

/// `None` for one that was removed since it was listed, or a label that its security module shows nobody.
fn read_xattr(holder: &Holder<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match grown(|buffer| holder.get(name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// One value at a time: nothing but the digest stays in memory.
fn digest_xattrs(holder: &Holder<'_>, names: &[u8]) -> io::Result<Xattrs> {
    let mut sorted: Vec<&[u8]> =
        names.split(|b| *b == 0).filter(|n| !n.is_empty() && !is_shadow(n)).collect();
    sorted.sort_unstable();
    let mut digest = Sha256::new();
    for name in sorted {
        let value = read_xattr(holder, name)?.unwrap_or_default();
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
    let held = if approved.xattrs.0.is_empty() {
        Xattrs::default()
    } else {
        read_xattrs(&Holder::Path(path.clone())).map_err(io_error)?
    };
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
