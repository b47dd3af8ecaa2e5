//! Reading and setting flags of chattr(1).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, IFlags, OFlags, Statx, StatxAttributes, StatxFlags, XattrFlags};
use rustix::io::Errno;

use super::object::{NotApplied, file_type};
use super::root::{proc_path, reopen};
use crate::core::entry::{Entry, FileType, Flags, XattrName};

/// Magic numbers of statfs(2) (linux/magic.h).
const EXT: u32 = 0xef53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683e;
const TMPFS: u32 = 0x0102_1994;

/// Of these the kernel lets only some stand together, and wants one gone before it takes another (btrfs:
/// `check_fsflags`, ext4: `dax_compatible`).
const EXCLUSIVE: u32 = EARLY | Flags::DAX.bits() | Flags::JOURNAL_DATA.bits();

/// What decides how content is stored, so that it has to be right before there is any.
const EARLY: u32 = Flags::NOCOW.bits() | Flags::COMPRESS.bits() | Flags::NOCOMPRESS.bits();

/// What a file system that is none of the four refused, by device: an overlay has what the one below it has.
static REFUSED: Mutex<BTreeMap<u64, u32>> = Mutex::new(BTreeMap::new());

/// What statx(2) tells without anything being opened; of the other flags it is not known whether they are set.
pub fn told(fd: BorrowedFd<'_>) -> Flags {
    match rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::empty()) {
        Ok(stat) => told_by(&stat),
        Err(_) => Flags::default().of_supported(Flags::default()),
    }
}

/// As [`told`], out of an answer that is there already.
pub fn told_by(stat: &Statx) -> Flags {
    let pairs = [
        (Flags::IMMUTABLE, StatxAttributes::IMMUTABLE),
        (Flags::APPEND, StatxAttributes::APPEND),
        (Flags::NODUMP, StatxAttributes::NODUMP),
        (Flags::MOUNT, StatxAttributes::MOUNT_ROOT),
    ];
    let of = |attributes: StatxAttributes| {
        pairs.iter().fold(Flags::default(), |all, (flag, bit)| all.with(*flag, attributes.contains(*bit)))
    };
    of(stat.stx_attributes).of_supported(of(stat.stx_attributes_mask))
}

/// All flags of an open regular file or folder, which `kind` says; what is `told` of it where its file system knows no flags.
/// `dev` is its device number, `system` that of the folder it was looked at in.
pub fn read_on(system: Option<System>, file: BorrowedFd<'_>, kind: FileType, dev: u64, told: Flags) -> Flags {
    let own = || rustix::fs::fstatfs(file).ok().map(|own| System { dev, magic: own.f_type as u32 });
    let system = || system.filter(|system| system.dev == dev).or_else(own);
    all(file, told, || system().map_or(Flags::SETTABLE, |system| system.supports(kind)))
}

fn all(file: BorrowedFd<'_>, told: Flags, supported: impl FnOnce() -> Flags) -> Flags {
    match rustix::fs::ioctl_getflags(file) {
        Ok(all) => Flags::from_bits(all.bits() & Flags::SETTABLE.bits())
            .with(Flags::MOUNT, told.has(Flags::MOUNT))
            .of_supported(supported()),
        Err(_) => told,
    }
}

/// The file system of an open folder. What is in it and has the same device number lies on it too.
#[derive(Clone, Copy, Debug)]
pub struct System {
    dev: u64,
    magic: u32,
}

impl System {
    pub fn of(folder: BorrowedFd<'_>) -> io::Result<Self> {
        let (system, stat) = (rustix::fs::fstatfs(folder)?, rustix::fs::fstat(folder)?);
        Ok(Self { dev: stat.st_dev, magic: system.f_type as u32 })
    }

    /// Whether a change of an extended attribute moves the change time. tmpfs left it alone before Linux 6.3, and of others
    /// it is not known.
    pub fn times_xattrs(self) -> bool {
        matches!(self.magic, EXT | XFS | BTRFS)
    }

    pub fn holds(self, dev: u64) -> bool {
        self.dev == dev
    }

    // Of XFS and btrfs what their ioctls let pass; of ext4 EXT4_FL_USER_MODIFIABLE, of tmpfs SHMEM_FL_USER_MODIFIABLE.
    fn supports(self, kind: FileType) -> Flags {
        let directory = kind == FileType::Directory;
        Flags::from_bits(match self.magic {
            EXT if directory => 0x2203_c0ff,
            EXT => 0x0200_c0ff,
            XFS if directory => 0x2200_00f8,
            XFS => 0x0200_00f8,
            BTRFS if directory => 0x0081_04fc,
            BTRFS => 0x0080_04fc,
            TMPFS => 0xf0,
            _ => Flags::SETTABLE.bits() & !refused(self.dev),
        })
    }
}

/// What the file system can hold for this file. Some give more than they take, or take what they then pass over.
fn supported(file: BorrowedFd<'_>) -> Flags {
    match (System::of(file), rustix::fs::fstat(file)) {
        (Ok(system), Ok(stat)) => system.supports(file_type(&stat)),
        _ => Flags::SETTABLE,
    }
}

fn refused(dev: u64) -> u32 {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner).get(&dev).copied().unwrap_or(0)
}

/// To be called on a new file before it has any content. Whether that is all: no other flag is to be set on it.
pub fn prepare(file: BorrowedFd<'_>, approved: &Entry) -> Result<bool, NotApplied> {
    change(file, approved, EARLY)
}

/// Sets the flags that stop nobody. After the other attributes: a compression method is both.
pub fn apply_harmless(file: BorrowedFd<'_>, approved: &Entry) -> Result<(), NotApplied> {
    change(file, approved, Flags::SETTABLE.bits() & !Flags::BLOCKING.bits()).map(drop)
}

/// Sets all flags of the object of an `O_PATH` descriptor. To be called last: an immutable file takes nothing else.
pub fn apply(fd: BorrowedFd<'_>, approved: &Entry) -> Result<(), NotApplied> {
    if !matches!(approved.kind, FileType::Regular | FileType::Directory) {
        return Ok(());
    }
    let file = reopen(fd, OFlags::RDONLY).map_err(not_applied)?;
    change(file.as_fd(), approved, Flags::SETTABLE.bits()).map(drop)
}

/// Whether the file has to be made anew for its flags: the file system takes this one only while there is no content.
pub fn need_a_new_file(approved: &Entry, now: &Entry) -> bool {
    let nocow = Flags::NOCOW.bits();
    approved.kind == FileType::Regular
        && approved.flags.differ(now.flags)
        && (approved.flags.bits() ^ now.flags.bits()) & nocow != 0
}

/// Makes those of the flags `touched` right. Whether all others were right already, or the file system has none.
fn change(file: BorrowedFd<'_>, approved: &Entry, touched: u32) -> Result<bool, NotApplied> {
    let all = match rustix::fs::ioctl_getflags(file) {
        Ok(all) => all.bits(),
        Err(Errno::NOTTY | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => return Ok(true),
        Err(e) => return Err(not_applied(e)),
    };
    let wrong = (all ^ approved.flags.bits()) & Flags::SETTABLE.bits();
    let others_are_right = wrong & !touched == 0;
    let wrong = wrong & touched;
    if wrong == 0 {
        return Ok(others_are_right);
    }
    let wrong = wrong & supported(file).bits();
    let wanted = all ^ wrong;
    let mut in_the_way = if wrong & EXCLUSIVE != 0 { all & EXCLUSIVE } else { 0 };
    if wrong & !Flags::BLOCKING.bits() != 0 {
        in_the_way |= all & Flags::BLOCKING.bits();
    }
    if in_the_way != 0 {
        set(file, all & !in_the_way).map_err(not_applied)?;
    }
    if set(file, wanted).is_err() {
        one_by_one(file, wrong).map_err(not_applied)?;
    }
    compress_as(file, approved, wanted)?;
    let now = rustix::fs::ioctl_getflags(file).map_err(not_applied)?.bits();
    let missing = Flags::from_bits((now ^ wanted) & wrong);
    if missing.is_empty() || missing_for_ever(file, missing) {
        // Setting one may have taken another along.
        return Ok(false);
    }
    Err(NotApplied {
        what: format!("the chattr flag {missing}"),
        source: io::Error::other(
            "the file system passed over it in silence, as over some of a file that is not empty",
        ),
    })
}

fn set(file: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
    rustix::fs::ioctl_setflags(file, IFlags::from_bits_retain(flags))
}

/// Sets one flag after the other, as far as it goes. No error if nothing is missing but what the file system cannot hold.
fn one_by_one(file: BorrowedFd<'_>, wrong: u32) -> Result<(), Errno> {
    let mut failed = None;
    for bit in (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| wrong & bit != 0) {
        let now = rustix::fs::ioctl_getflags(file)?.bits();
        match set(file, now ^ bit) {
            Err(Errno::NOTSUP | Errno::NOTTY) if missing_for_ever(file, Flags::from_bits(bit)) => {}
            Err(error) => failed = Some(error),
            Ok(()) => {}
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Remembers what a file system of unknown abilities did not take, so that it is asked of it no more.
fn missing_for_ever(file: BorrowedFd<'_>, missing: Flags) -> bool {
    let (Ok(system), Ok(stat)) = (rustix::fs::fstatfs(file), rustix::fs::fstat(file)) else { return false };
    if matches!(system.f_type as u32, EXT | XFS | BTRFS | TMPFS)
        || missing.has(Flags::BLOCKING)
        || missing.has(Flags::NOCOW) && stat.st_size > 0
    {
        return false;
    }
    let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    *refused.entry(stat.st_dev).or_insert(0) |= missing.bits();
    true
}

/// btrfs keeps the method in an attribute, and takes its own choice whenever flags are set with "compress" among them.
fn compress_as(file: BorrowedFd<'_>, approved: &Entry, wanted: u32) -> Result<(), NotApplied> {
    const METHOD: &str = "btrfs.compression";
    let Some(method) = approved.xattrs.0.get(&XattrName(METHOD.into())) else { return Ok(()) };
    if wanted & Flags::COMPRESS.bits() == 0 || wanted & Flags::BLOCKING.bits() != 0 {
        return Ok(());
    }
    rustix::fs::setxattr(proc_path(file), METHOD, &method.0, XattrFlags::empty())
        .map_err(|e| NotApplied { what: format!("extended attribute {METHOD}"), source: e.into() })
}

fn not_applied(source: impl Into<io::Error>) -> NotApplied {
    NotApplied { what: "chattr flags".into(), source: source.into() }
}
