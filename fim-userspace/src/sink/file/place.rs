//! Opening a log file as root in a folder that may be somebody else's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, StatxFlags, fstat, mkdirat, openat, statat, statx,
};
use rustix::io::Errno;

use crate::core::path::display;
use crate::tree::root::open_unlinked;

/// The file and the folder it lies in, both held by descriptor.
pub(super) struct Open {
    dir: OwnedFd,
    pub name: std::ffi::OsString,
    pub file: File,
    id: Id,
    /// When the file's first line was written, as near as can be known.
    began: SystemTime,
}

/// Device and inode.
type Id = (u64, u64);

fn id(stat: &Stat) -> Id {
    (stat.st_dev, stat.st_ino)
}

impl Open {
    /// Opens the file for appending and makes it, and its folder, where they are missing. The file is regular, has one
    /// name and was reached without a symbolic link.
    pub fn at(path: &Path) -> Result<Self, String> {
        let shown = display(path);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(format!("{shown} names no file; correct the path of this [[log]]"));
        };
        let dir = open_folder(folder)?;
        match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => sound(&stat, &shown)?,
            Err(Errno::NOENT) => {}
            Err(e) => return Err(format!("cannot examine {shown}: {e}")),
        }
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        let file = openat(&dir, name, flags, Mode::from_raw_mode(0o640))
            .map_err(|e| format!("cannot open {shown}: {e}; check the folder's permissions and the disk"))?;
        // It may have been exchanged since it was looked at.
        let stat = fstat(&file).map_err(|e| format!("cannot examine {shown}: {e}"))?;
        sound(&stat, &shown)?;
        let now = SystemTime::now();
        let began = if stat.st_size == 0 { now } else { birth(&file).unwrap_or(now) };
        Ok(Self { dir, name: name.to_owned(), file: File::from(file), id: id(&stat), began })
    }

    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub fn age(&self) -> Duration {
        self.began.elapsed().unwrap_or_default()
    }

    /// Whether this is still the file at `path`, and the folder still the one there.
    pub fn is_in_place(&self, path: &Path) -> bool {
        let found = statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let folder = path.parent().and_then(|folder| statat(CWD, folder, AtFlags::empty()).ok());
        found.is_ok_and(|stat| id(&stat) == self.id && stat.st_nlink == 1)
            && folder.zip(fstat(&self.dir).ok()).is_some_and(|(there, held)| id(&there) == id(&held))
    }
}

fn sound(stat: &Stat, shown: &str) -> Result<(), String> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink > 1 => Err(format!(
            "{shown} has {} names (hard links), and one of them may be another's file; remove it or name another",
            stat.st_nlink
        )),
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(format!(
            "{shown} is a symbolic link, which a log never follows; write the real path, or remove the link"
        )),
        _ => Err(format!("{shown} is no regular file; remove it or name another")),
    }
}

/// The folder, reached without any symbolic link; its last part is made where it is missing.
fn open_folder(folder: &Path) -> Result<OwnedFd, String> {
    match open_unlinked(folder) {
        Err(Errno::NOENT) => {
            let parent = folder.parent().zip(folder.file_name());
            let made = parent.map(|(above, name)| {
                let above = open_unlinked(above)?;
                match mkdirat(&above, name, Mode::from_raw_mode(0o750)) {
                    Ok(()) | Err(Errno::EXIST) => open_unlinked(folder),
                    Err(e) => Err(e),
                }
            });
            made.unwrap_or(Err(Errno::NOENT)).map_err(|e| sentence(folder, e))
        }
        other => other.map_err(|e| sentence(folder, e)),
    }
}

fn sentence(folder: &Path, error: Errno) -> String {
    let shown = display(folder);
    match error {
        Errno::LOOP => {
            let real = std::fs::canonicalize(folder).map_or("the real one".into(), |real| display(&real));
            format!(
                "the log folder {shown} is reached through a symbolic link, which somebody else could turn; \
                 write {real} in the configuration"
            )
        }
        Errno::NOENT => format!("there is no folder {shown} for the log; make it"),
        e => format!("the log folder {shown} cannot be opened: {e}"),
    }
}

/// When the file was made, where the file system knows.
fn birth(file: impl AsFd) -> Option<SystemTime> {
    let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    let since = Duration::new(u64::try_from(found.stx_btime.tv_sec).ok()?, found.stx_btime.tv_nsec);
    known.then(|| SystemTime::UNIX_EPOCH + since)
}
