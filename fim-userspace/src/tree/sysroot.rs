//! Another system's root folder, mounted somewhere: every path means what it would mean there, links included, and none
//! leads out of it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

#[derive(Debug)]
pub struct Sysroot {
    fd: OwnedFd,
    path: PathBuf,
}

impl Sysroot {
    /// Links in `path` itself are this system's, and followed.
    pub fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())?, path: std::path::absolute(path)? })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens `path` as after chroot(2): `/` and `..` end at this root (openat2(2), `RESOLVE_IN_ROOT`).
    pub fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // The kernel could not prove that a rename elsewhere did not lead it out; it wants to be asked again.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    pub fn is_dir(&self, path: &Path) -> io::Result<bool> {
        let stat = rustix::fs::fstat(self.open(path, OFlags::PATH)?)?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// A regular file, open for reading. `EINVAL` where it is something else, which is not opened.
    pub fn file(&self, path: &Path) -> io::Result<File> {
        let found = self.open(path, OFlags::PATH)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::RegularFile {
            return Err(rustix::io::Errno::INVAL.into());
        }
        Ok(super::root::reopen(std::os::fd::AsFd::as_fd(&found), OFlags::RDONLY)?.into())
    }

    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.file(path)?.read_to_end(&mut content)?;
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_means_what_it_means_there_and_never_leads_out() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("srv/etc")).expect("made");
        std::fs::write(dir.path().join("secret"), "outside").expect("written");
        std::fs::write(root.join("srv/etc/f"), "inside").expect("written");
        symlink("/srv/etc", root.join("etc")).expect("linked");
        symlink("../secret", root.join("up")).expect("linked");
        symlink(dir.path().join("secret"), root.join("away")).expect("linked");
        let system = Sysroot::at(&root).expect("opens");
        assert_eq!(system.read(Path::new("/etc/f")).expect("read"), b"inside");
        assert!(system.is_dir(Path::new("/etc")).expect("there"));
        for path in ["/up", "/away", "/../secret", "/etc/../../secret"] {
            let error = system.read(Path::new(path)).expect_err(path);
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path}: {error}");
        }
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), Mode::RUSR).expect("made");
        assert_eq!(system.read(Path::new("/pipe")).expect_err("no file").kind(), io::ErrorKind::InvalidInput);
    }
}
