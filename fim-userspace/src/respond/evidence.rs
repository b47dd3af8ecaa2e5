//! Taking what was out of place into the vault, and only then away.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::Evidence;
use super::act::{Act, Failure};
use super::flags::insist;
use super::object::Id;
use crate::core::entry::{FileType, Found};
use crate::core::path::RelPath;
use crate::tree::attributes;
use crate::tree::inspect::{inspect_fd, open_content};
use crate::tree::private::PrivateName;
use crate::tree::root::{open_name, reopen};

/// How often content that a writer still holding the file changes meanwhile is stored again, and a folder that
/// somebody keeps filling is emptied again.
const ATTEMPTS: u32 = 3;

/// How far beyond its first size a file that is still being written is followed.
const GROWTH: u64 = 64 << 20;

impl Act<'_> {
    /// Stores what stands under a name of this folder, whatever it is, and removes it. `path` is where it was found.
    pub fn preserve(&mut self, name: &[u8], path: &RelPath) -> Result<(), Failure> {
        let (fd, id) = self.look(name)?.ok_or(Failure::Moved)?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| Failure::io("fstat", e))?;
        if attributes::file_type(&stat) == FileType::Directory {
            return self.preserve_tree(PrivateName::adopt(name), path);
        }
        let evidence = self.store(fd.as_fd(), path)?;
        self.evidence.push(evidence);
        self.unlink(name, id)
    }

    /// As `preserve`, for a folder that has to be empty.
    pub fn preserve_empty_dir(&mut self, name: &[u8], path: &RelPath) -> Result<(), Failure> {
        let (fd, id) = self.look(name)?.ok_or(Failure::Moved)?;
        let found = inspect_fd(fd.as_fd(), None).map_err(|e| Failure::io("reading it", e))?;
        self.unlink(name, id)?;
        self.evidence.push(Evidence { path: path.clone(), found, digest: None });
        Ok(())
    }

    /// Removes a name of this folder if it still stands for that object.
    pub fn unlink(&self, name: &[u8], id: Id) -> Result<(), Failure> {
        remove(self.dir(), name, id)
    }

    /// Empties folders without ever going down: each folder inside one is first renamed to a private name beside it.
    /// So neither depth nor a folder moved elsewhere meanwhile matters.
    fn preserve_tree(&mut self, top: PrivateName, path: &RelPath) -> Result<(), Failure> {
        let mut queue = VecDeque::from([(top, path.clone())]);
        while let Some((name, path)) = queue.pop_front() {
            let (fd, id) = self.look(name.bytes())?.ok_or(Failure::Moved)?;
            let found = inspect_fd(fd.as_fd(), None).map_err(|e| Failure::io("reading a folder", e))?;
            self.evidence.push(Evidence { path: path.clone(), found, digest: None });
            let dir = reopen(fd.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|e| Failure::io("opening a folder", e))?;
            super::flags::clear(fd.as_fd());
            let mut attempt = 1;
            loop {
                for child in names(dir.as_fd())? {
                    let path = path.join(&child).unwrap_or_else(|| path.clone());
                    if let Some(below) = self.preserve_child(dir.as_fd(), &child, &path)? {
                        queue.push_back((below, path));
                    }
                }
                match self.unlink(name.bytes(), id) {
                    Err(Failure::NotEmpty) if attempt < ATTEMPTS => attempt += 1,
                    Err(Failure::NotEmpty) => {
                        return Err(Failure::Other(
                            "somebody keeps making files in the folder found there".into(),
                        ));
                    }
                    other => break other?,
                }
            }
        }
        Ok(())
    }

    /// Stores and removes one object inside a folder that is being emptied; a folder becomes a private name beside it.
    fn preserve_child(
        &mut self,
        dir: BorrowedFd<'_>,
        child: &[u8],
        path: &RelPath,
    ) -> Result<Option<PrivateName>, Failure> {
        let fd = match open_name(dir, child) {
            Ok(fd) => fd,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::io("looking into a folder", e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| Failure::io("fstat", e))?;
        if attributes::file_type(&stat) == FileType::Directory {
            let name = PrivateName::fresh();
            insist(fd.as_fd(), || rustix::fs::renameat(dir, child, self.dir(), name.bytes()))
                .map_err(|e| Failure::io("emptying a folder", e))?;
            return Ok(Some(name));
        }
        let evidence = self.store(fd.as_fd(), path)?;
        self.evidence.push(evidence);
        remove(dir, child, Id::of(&stat))?;
        Ok(None)
    }

    /// Makes evidence of an object: its content in the vault, durably, and its state.
    fn store(&self, fd: BorrowedFd<'_>, path: &RelPath) -> Result<Evidence, Failure> {
        let io = |e| Failure::io("reading what was there", e);
        let (entry, _) = attributes::read(fd).map_err(io)?;
        if entry.kind != FileType::Regular {
            let found = inspect_fd(fd, None).map_err(io)?;
            return Ok(Evidence { path: path.clone(), found, digest: None });
        }
        let mut attempt = 1;
        loop {
            let (mut entry, identity) = attributes::read(fd).map_err(io)?;
            let file = File::from(open_content(fd).map_err(io)?);
            let mut content = file.take(entry.size.saturating_add(GROWTH));
            let digest = self.vault().put(&mut content).map_err(Failure::Vault)?;
            let now = rustix::fs::fstat(fd).map_err(|e| io(e.into()))?;
            if attributes::identity(&now).ctime_ns == identity.ctime_ns || attempt == ATTEMPTS {
                entry.sha256 = Some(digest);
                entry.size = entry.size.saturating_add(GROWTH) - content.limit();
                return Ok(Evidence {
                    path: path.clone(),
                    found: Found { entry, identity },
                    digest: Some(digest),
                });
            }
            attempt += 1;
        }
    }
}

fn remove(dir: BorrowedFd<'_>, name: &[u8], id: Id) -> Result<(), Failure> {
    let fd = match open_name(dir, name) {
        Ok(fd) => fd,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Failure::io("looking at what is to be removed", e)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| Failure::io("fstat", e))?;
    if Id::of(&stat) != id {
        return Err(Failure::Moved);
    }
    let flags = match attributes::file_type(&stat) {
        FileType::Directory => AtFlags::REMOVEDIR,
        _ => AtFlags::empty(),
    };
    match insist(fd.as_fd(), || rustix::fs::unlinkat(dir, name, flags)) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Failure::NotEmpty),
        Err(e) => Err(Failure::io("removing what is in the vault now", e)),
    }
}

fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Failure> {
    let mut out = Vec::new();
    for item in rustix::fs::Dir::read_from(dir).map_err(|e| Failure::io("reading a folder", e))? {
        let item = item.map_err(|e| Failure::io("reading a folder", e))?;
        let name = item.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            out.push(name.to_vec());
        }
    }
    Ok(out)
}

/// Whether the folder of an `O_PATH` descriptor is empty.
pub fn is_empty_dir(fd: BorrowedFd<'_>) -> Result<bool, Failure> {
    let dir: OwnedFd =
        reopen(fd, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| Failure::io("opening a folder", e))?;
    Ok(names(dir.as_fd())?.is_empty())
}
