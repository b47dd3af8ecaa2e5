//! A watch root and the only ways down from it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::path::DecInt;

use super::reach::reach;
use crate::core::path::{RelPath, display, escape};

/// Longest path given to one system call; the kernel's own limit (`PATH_MAX`) is 4096 with the final NUL.
const CHUNK: usize = 4000;

/// A watched tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("the watched folder {path} cannot be opened ({source}); {}", advice(.source))]
    Root { path: String, source: io::Error },
    #[error("{path} cannot be read ({source}); {}", advice(.source))]
    Read { path: String, source: io::Error },
}

impl TreeError {
    pub fn io(&self) -> &io::Error {
        match self {
            Self::Root { source, .. } | Self::Read { source, .. } => source,
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => "create it, or correct the path in the configuration",
        Some(Errno::NOTDIR) => "a watch needs a folder; correct the path in the configuration",
        Some(Errno::ACCESS | Errno::PERM) => "run fim as root, and check that the file system lets root in",
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit on open files (LimitNOFILE=)",
        Some(Errno::NOMEM) => "free some memory",
        Some(Errno::IO) => "check the disk and the kernel log",
        Some(Errno::LOOP) => {
            "a symbolic link on the way to it is not root's, or others may write where it lies; name the folder itself in `path`"
        }
        Some(Errno::STALE) => "mount the file system again and restart fim",
        Some(Errno::NOSYS) => "fim needs Linux 5.6 or later, and /proc mounted",
        _ => "check the file system and the kernel log",
    }
}

/// The top folder of a watch, held open. Everything below is reached from its descriptor and never leaves it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    pub(super) mounts: super::mounts::Approved,
}

impl Root {
    /// Opens a folder. Symbolic links in `path` itself are followed here and never again, and only root's own ([`reach`]).
    pub fn open(path: &Path) -> Result<Root, TreeError> {
        let error = |source: io::Error| TreeError::Root { path: display(path), source };
        let absolute = std::path::absolute(path).map_err(error)?;
        let reached = reach(&absolute).map_err(error)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&reached, ".", flags, Mode::empty()).map_err(|e| error(e.into()))?;
        Ok(Root { fd, path: absolute, mounts: super::mounts::Approved::default() })
    }

    /// A folder that is open for reading already; `path` is where it was found.
    pub fn from_fd(fd: OwnedFd, path: PathBuf) -> Root {
        Root { fd, path, mounts: super::mounts::Approved::default() }
    }

    /// The absolute path it was configured with, for messages and as a key; not for system calls.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a folder for reading. Fails with `ELOOP` where any component is a symbolic link, `ENOTDIR` where one is
    /// something else.
    pub fn open_dir(&self, path: &RelPath) -> io::Result<OwnedFd> {
        self.descend(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    }

    /// An `O_PATH` descriptor of the object itself, whatever it is; a symbolic link is not followed.
    pub fn open_path(&self, path: &RelPath) -> io::Result<OwnedFd> {
        self.descend(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// The folder that holds `path`, open for reading, and the name in it. `EINVAL` for the root.
    pub fn parent(&self, path: &RelPath) -> io::Result<(OwnedFd, Vec<u8>)> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(rustix::io::Errno::INVAL.into());
        };
        Ok((self.open_dir(&parent)?, name.to_vec()))
    }

    fn descend(&self, path: &RelPath, flags: OFlags) -> io::Result<OwnedFd> {
        let bytes = path.as_bytes();
        if bytes.is_empty() {
            return open_beneath(self.fd(), b".", flags);
        }
        let mut at = None;
        let mut rest = bytes;
        while rest.len() > CHUNK {
            // A component is at most 255 bytes long, so there is a slash unless the path cannot exist.
            let cut = rest[..CHUNK].iter().rposition(|b| *b == b'/').ok_or(rustix::io::Errno::NAMETOOLONG)?;
            let from = at.as_ref().map_or(self.fd(), OwnedFd::as_fd);
            at = Some(open_beneath(from, &rest[..cut], OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW)?);
            rest = &rest[cut + 1..];
        }
        open_beneath(at.as_ref().map_or(self.fd(), OwnedFd::as_fd), rest, flags)
    }
}

/// Opens a folder that somebody names, for reading. `ELOOP` where any part of `path` is a symbolic link (openat2(2)).
pub fn open_unlinked(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve)
}

/// Opens something below `dir` without following any link or leaving it (openat2(2)).
fn open_beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel could not prove that a rename elsewhere did not lead it out; it wants to be asked again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// An `O_PATH` descriptor of one name in an open folder. `EINVAL` when `name` is not a single component.
pub fn open_name(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    if RelPath::root().join(name).is_none() {
        return Err(rustix::io::Errno::INVAL.into());
    }
    open_beneath(dir, name, OFlags::PATH | OFlags::NOFOLLOW)
}

/// Where the kernel finds the object of a descriptor again; following it leads to that very object and no further.
pub fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens the object of an `O_PATH` descriptor. The caller has checked on `fd` that it is a regular file or a folder.
pub fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(rustix::fs::openat(descriptors()?, DecInt::from_fd(fd).as_c_str(), flags, Mode::empty())?)
}

/// Where the kernel shows this process's descriptors. Opened once: the way through /proc costs as much as what is opened.
fn descriptors() -> io::Result<BorrowedFd<'static>> {
    static FOLDER: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(folder) = FOLDER.get() {
        return Ok(folder.as_fd());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    Ok(FOLDER.get_or_init(|| folder).as_fd())
}

/// Whether an error of reaching a path means that there is nothing under it: it is gone, or a folder on the way is.
pub fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}

pub(crate) fn read_error(path: &[u8], source: io::Error) -> TreeError {
    TreeError::Read { path: escape(path), source }
}
