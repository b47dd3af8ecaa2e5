//! Making, dressing and removing objects of any type by descriptors, so that names and depth do not matter.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use fim::core::path::RelPath;
use fim::tree::Root;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType as Kind, IFlags, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags,
    makedev,
};

/// All flags that some file system lets people set (linux/fs.h): besides those that have names here `m`, and `x`.
pub const FLAGS: IFlags = IFlags::IMMUTABLE
    .union(IFlags::APPEND)
    .union(IFlags::NODUMP)
    .union(IFlags::NOATIME)
    .union(IFlags::SYNC)
    .union(IFlags::DIRSYNC)
    .union(IFlags::NOCOW)
    .union(IFlags::COMPRESSED)
    .union(IFlags::JOURNALING)
    .union(IFlags::NOTAIL)
    .union(IFlags::TOPDIR)
    .union(IFlags::PROJECT_INHERIT)
    .union(IFlags::SECURE_REMOVAL)
    .union(IFlags::UNRM)
    .union(IFlags::from_bits_retain(0x400))
    .union(IFlags::from_bits_retain(0x0200_0000));

/// Data lies in `islands`, in thousandths of `size`: where each begins and how long it is. The rest are holes.
#[derive(Clone, Debug)]
pub struct Content {
    pub size: u64,
    pub islands: Vec<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub enum Make {
    File(Content),
    Directory,
    Symlink(Vec<u8>),
    Fifo,
    CharDevice(u32),
    BlockDevice(u32),
}

/// Attributes; what a file system or a type does not take is left out.
#[derive(Clone, Debug)]
pub struct Dress {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub mtime: (i64, i64),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub flags: u32,
}

/// A name in an open folder.
pub struct Place {
    pub dir: OwnedFd,
    pub name: Vec<u8>,
}

impl Content {
    pub fn write(&self, file: &File) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        file.set_len(self.size).expect("set");
        for (at, length) in &self.islands {
            let start = self.size * at / 1000;
            let end = (start + (self.size * length).div_ceil(1000)).min(self.size);
            let mut bytes: Vec<u8> = (start..end).map(|i| (i % 251 + 1) as u8).collect();
            // No two are equal, so that the vault cannot hold one from before.
            let stamp = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
            let stamped = bytes.len().min(stamp.len());
            bytes[..stamped].copy_from_slice(&stamp[..stamped]);
            file.write_all_at(&bytes, start).expect("written");
        }
    }
}

impl Place {
    pub fn of(root: &Root, path: &RelPath) -> Option<Self> {
        root.parent(path).ok().map(|(dir, name)| Self { dir, name })
    }

    /// The object itself, whatever it is.
    pub fn object(&self) -> Option<OwnedFd> {
        rustix::fs::openat(
            &self.dir,
            &*self.name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()
    }

    pub fn kind(&self) -> Option<Kind> {
        self.object().map(|fd| kind(&stat(fd.as_fd())))
    }

    /// Whether it could be made: not where the name is taken or too long.
    pub fn make(&self, make: &Make) -> bool {
        let (dir, name, mode) = (&self.dir, &*self.name, Mode::from(0o640));
        let made = match make {
            Make::File(content) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                rustix::fs::openat(dir, name, flags, mode).map(|fd| content.write(&fd.into()))
            }
            Make::Directory => rustix::fs::mkdirat(dir, name, Mode::from(0o750)),
            Make::Symlink(target) => rustix::fs::symlinkat(&**target, dir, name),
            Make::Fifo => rustix::fs::mknodat(dir, name, Kind::Fifo, mode, 0),
            Make::CharDevice(minor) => {
                rustix::fs::mknodat(dir, name, Kind::CharacterDevice, mode, makedev(1, *minor))
            }
            Make::BlockDevice(minor) => {
                rustix::fs::mknodat(dir, name, Kind::BlockDevice, mode, makedev(7, *minor))
            }
        };
        made.is_ok()
    }

    /// With everything below.
    pub fn remove(&self) {
        clear_flags(self.dir.as_fd());
        let Some(fd) = self.object() else { return };
        clear_flags(fd.as_fd());
        let flags = if kind(&stat(fd.as_fd())) == Kind::Directory {
            empty(fd.as_fd());
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        rustix::fs::unlinkat(&self.dir, &*self.name, flags).expect("removed");
    }
}

/// Removes everything in a folder.
pub fn empty(dir: BorrowedFd<'_>) {
    clear_flags(dir);
    for name in names(dir) {
        let dir = open_dir(dir);
        Place { dir, name }.remove();
    }
}

pub fn open_dir(fd: BorrowedFd<'_>) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(fd, c".", flags, Mode::empty()).expect("it opens")
}

pub fn names(dir: BorrowedFd<'_>) -> Vec<Vec<u8>> {
    let items = Dir::read_from(open_dir(dir)).expect("readable");
    let all = items.map(|item| item.expect("readable").file_name().to_bytes().to_vec());
    let mut all: Vec<_> = all.filter(|name| !matches!(&**name, b"." | b"..")).collect();
    all.sort();
    all
}

pub fn stat(fd: BorrowedFd<'_>) -> Stat {
    rustix::fs::fstat(fd).expect("it is open")
}

pub fn kind(stat: &Stat) -> Kind {
    Kind::from_raw_mode(stat.st_mode)
}

pub fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens a regular file or a folder of which only the place is known; nothing else can be opened harmlessly.
pub fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Option<OwnedFd> {
    matches!(kind(&stat(fd)), Kind::RegularFile | Kind::Directory)
        .then(|| rustix::fs::open(proc_path(fd), flags | OFlags::CLOEXEC, Mode::empty()).ok())?
}

/// The chattr(1) flags; `None` where there are none to have.
pub fn flags(fd: BorrowedFd<'_>) -> Option<IFlags> {
    reopen(fd, OFlags::RDONLY).and_then(|file| rustix::fs::ioctl_getflags(&file).ok())
}

/// One by one, as far as the file system has them and lets them stand together.
pub fn set_flags(fd: BorrowedFd<'_>, wanted: IFlags) {
    let Some(file) = flags(fd).and_then(|_| reopen(fd, OFlags::RDONLY)) else { return };
    let set = |flag: IFlags, on: bool| {
        let now = rustix::fs::ioctl_getflags(&file).expect("readable");
        if now.contains(flag) != on {
            let _ = rustix::fs::ioctl_setflags(&file, if on { now | flag } else { now - flag });
        }
    };
    let blocking = IFlags::IMMUTABLE | IFlags::APPEND;
    for flag in each(FLAGS - wanted) {
        set(flag, false);
    }
    for flag in each(wanted & (FLAGS - blocking)).chain(each(wanted & blocking)) {
        set(flag, true);
    }
}

/// Also those without a name, which `IFlags::iter` gives in one.
pub fn each(flags: IFlags) -> impl Iterator<Item = IFlags> {
    (0..u32::BITS).map(|bit| IFlags::from_bits_retain(1 << bit)).filter(move |flag| flags.contains(*flag))
}

/// What an attacker does first.
pub fn clear_flags(fd: BorrowedFd<'_>) {
    let now = flags(fd).unwrap_or(IFlags::empty());
    if now.intersects(IFlags::IMMUTABLE | IFlags::APPEND) {
        set_flags(fd, now - IFlags::IMMUTABLE - IFlags::APPEND);
    }
}

impl Dress {
    /// All but the flags, which stop everything that comes after.
    pub fn put_on(&self, fd: BorrowedFd<'_>) {
        let path = proc_path(fd);
        chown(fd, self.uid, self.gid);
        chmod(fd, self.mode);
        for (name, value) in &self.xattrs {
            let _ = rustix::fs::setxattr(&path, &**name, value, XattrFlags::empty());
        }
        touch(fd, self.mtime);
    }
}

pub fn chown(fd: BorrowedFd<'_>, uid: u32, gid: u32) {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH).expect("set");
}

pub fn chmod(fd: BorrowedFd<'_>, mode: u32) {
    if kind(&stat(fd)) != Kind::Symlink {
        rustix::fs::chmod(proc_path(fd), Mode::from(mode)).expect("set");
    }
}

pub fn touch(fd: BorrowedFd<'_>, (tv_sec, tv_nsec): (i64, i64)) {
    let time = Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, proc_path(fd), &times, AtFlags::empty()).expect("set");
}
