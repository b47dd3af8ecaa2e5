//! A file that a command writes: whole under its name, or not there at all.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::core::path::display;

/// What may have the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Nothing,
    /// A regular file, which is replaced.
    File,
    /// Also a symbolic link, which is replaced itself, not what it points to.
    FileOrLink,
}

/// A new file of its maker, readable by nobody else, under a name that cannot be guessed.
pub struct Output {
    dir: OwnedFd,
    name: OsString,
    temporary: String,
    taken: Taken,
    pub file: File,
}

impl Output {
    /// Makes the file beside its place.
    pub fn beside(to: &Path, taken: Taken) -> anyhow::Result<Self> {
        let name = to.file_name().with_context(|| format!("{} names no file", display(to)))?;
        let folder = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(folder, flags, Mode::empty())
            .with_context(|| format!("the folder {} cannot be opened", display(folder)))?;
        let found = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        match (found.map(|stat| FileType::from_raw_mode(stat.st_mode)), taken) {
            (None, _)
            | (Some(FileType::RegularFile), Taken::File | Taken::FileOrLink)
            | (Some(FileType::Symlink), Taken::FileOrLink) => {}
            (Some(FileType::RegularFile | FileType::Symlink), Taken::Nothing) => {
                bail!("{} is there already; choose another name, or replace it with --force", display(to))
            }
            (Some(_), _) => bail!("{} is no regular file; name another", display(to)),
        }
        // Keyed with random numbers of the kernel. No private name, which a daemon would take for a leftover.
        let temporary = format!(".fim-output-{:016x}", RandomState::new().hash_one(0));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, &temporary, flags, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("no file can be made in {}", display(folder)))?;
        Ok(Self { dir, name: name.to_owned(), temporary, taken, file: File::from(fd) })
    }

    /// Gives the file its name, once it is whole on the disk.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        self.give_name().map_err(io::Error::from)
    }

    fn give_name(&self) -> Result<(), Errno> {
        let (dir, temporary, name) = (&self.dir, &self.temporary, &self.name);
        if self.taken != Taken::Nothing {
            return rustix::fs::renameat(dir, temporary, dir, name);
        }
        match rustix::fs::renameat_with(dir, temporary, dir, name, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                rustix::fs::linkat(dir, temporary, dir, name, AtFlags::empty())
            }
            other => other,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Its own file: it exists only where this made it. Once it has its name there is nothing under this one.
        let _ = rustix::fs::unlinkat(&self.dir, &self.temporary, AtFlags::empty());
    }
}
