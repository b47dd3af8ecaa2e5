//! The vault's folders, held open: `objects/` with one shelf for each first byte of a digest, and `tmp/`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub struct Dirs {
    pub top: OwnedFd,
    pub objects: OwnedFd,
    pub tmp: OwnedFd,
    /// Device and inode of `top`.
    id: (u64, u64),
}

/// What could not be done, and why.
pub type Refused = (&'static str, Errno);

/// The folder itself, without its inner ones, and who owns it.
pub fn open_top(path: &Path) -> Result<(OwnedFd, u32), Refused> {
    let top = rustix::fs::open(path, FLAGS, Mode::empty()).map_err(|e| ("opening it", e))?;
    let owner = rustix::fs::fstat(&top).map_err(|e| ("fstat", e))?.st_uid;
    Ok((top, owner))
}

impl Dirs {
    /// Opens the inner folders and makes those that are missing. What a crash left unfinished is cleared away.
    pub fn make(top: OwnedFd) -> Result<Self, Refused> {
        rustix::fs::fchmod(&top, Mode::RWXU).map_err(|e| ("chmod", e))?;
        for name in ["objects", "tmp"] {
            make_dir(&top, name).map_err(|e| ("making its folders", e))?;
        }
        let dirs = Self::open(top)?;
        make_fan(&dirs.objects).map_err(|e| ("making objects/", e))?;
        clear_unfinished(&dirs.tmp).map_err(|e| ("clearing tmp/", e))?;
        Ok(dirs)
    }

    /// Opens the inner folders as they are.
    pub fn open(top: OwnedFd) -> Result<Self, Refused> {
        let sub = |name: &str| rustix::fs::openat(&top, name, FLAGS, Mode::empty());
        let objects = sub("objects").map_err(|e| ("opening objects/", e))?;
        let tmp = sub("tmp").map_err(|e| ("opening tmp/", e))?;
        let stat = rustix::fs::fstat(&top).map_err(|e| ("fstat", e))?;
        Ok(Self { top, objects, tmp, id: (stat.st_dev, stat.st_ino) })
    }

    /// Whether `path` still names this folder, and the inner ones have not been removed.
    pub fn stand_at(&self, path: &Path) -> bool {
        let named = rustix::fs::lstat(path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.id);
        let linked = |dir: &OwnedFd| rustix::fs::fstat(dir).is_ok_and(|stat| stat.st_nlink > 0);
        named && linked(&self.objects) && linked(&self.tmp)
    }

    pub fn shelf(&self, first_byte: u8) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.objects, shelf_name(first_byte), flags, Mode::empty())
    }

    /// Moves a finished temporary file to its place. A shelf that somebody removed is made again.
    pub fn publish(&self, name: &str, place: &str, first_byte: u8) -> Result<(), Errno> {
        let rename = || rustix::fs::renameat(&self.tmp, name, &self.objects, place);
        match rename() {
            Err(Errno::NOENT) => {
                make_dir(&self.objects, &shelf_name(first_byte))?;
                rename()
            }
            other => other,
        }
    }
}

pub fn shelf_name(first_byte: u8) -> String {
    format!("{first_byte:02x}")
}

fn make_dir(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// All shelves are made at once, so that storing hardly ever has to.
fn make_fan(objects: &OwnedFd) -> Result<(), Errno> {
    if rustix::fs::statat(objects, "ff", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    for i in 0..=255 {
        make_dir(objects, &shelf_name(i))?;
    }
    rustix::fs::fsync(objects)
}

/// Removes leftovers, unless another vault is open on the same folder: then they may be its work in hand.
fn clear_unfinished(tmp: &OwnedFd) -> Result<(), Errno> {
    if rustix::fs::flock(tmp, FlockOperation::NonBlockingLockExclusive).is_ok() {
        for name in names(tmp)? {
            rustix::fs::unlinkat(tmp.as_fd(), &*name, AtFlags::empty())?;
        }
    }
    rustix::fs::flock(tmp, FlockOperation::LockShared)
}

/// What lies in a folder.
pub fn names(dir: &OwnedFd) -> Result<Vec<std::ffi::CString>, Errno> {
    let mut names = Vec::new();
    for item in rustix::fs::Dir::read_from(dir)? {
        let name = item?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}
