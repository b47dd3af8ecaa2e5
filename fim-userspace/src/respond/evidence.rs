//! Taking what was out of place into the vault.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::Evidence;
use super::failure::Failure;
use super::flags::{insist, insist_on_removal};
use super::object::Id;
use crate::core::entry::{FileType, Found};
use crate::core::path::RelPath;
use crate::store::vault::Vault;
use crate::tree::attributes;
use crate::tree::flags;
use crate::tree::inspect::{inspect_fd, open_content};
use crate::tree::private::{PrivateName, is_in_flight};
use crate::tree::root::{is_absent, open_name, reopen};

/// How often content that a writer still holding the file changes meanwhile is stored again, and a folder that
/// somebody keeps filling is emptied again.
const ATTEMPTS: u32 = 3;

/// How far beyond its first size a file that is still being written is followed.
const GROWTH: u64 = 64 << 20;

/// Puts what stands in one folder under private names into the vault.
pub struct Keeper<'a> {
    vault: &'a Vault,
    dir: BorrowedFd<'a>,
    /// Content is durable only once the vault's batch is committed.
    batch: bool,
    pub evidence: Vec<Evidence>,
}

impl<'a> Keeper<'a> {
    pub fn new(vault: &'a Vault, dir: BorrowedFd<'a>, batch: bool) -> Self {
        Self { vault, dir, batch, evidence: Vec::new() }
    }

    /// Makes evidence of an object that is no folder.
    pub fn store(&mut self, fd: BorrowedFd<'_>, path: &RelPath) -> Result<(), Failure> {
        let evidence = self.stored(fd, path, self.batch)?;
        self.evidence.push(evidence);
        Ok(())
    }

    /// Takes everything below a folder into the vault and away, and the folder itself. `path` is where it was found.
    ///
    /// Never goes down: each folder inside one is first renamed to a private name beside it. So neither depth nor a
    /// folder moved elsewhere meanwhile matters.
    pub fn empty(
        &mut self,
        top: &PrivateName,
        fd: BorrowedFd<'_>,
        id: Id,
        path: &RelPath,
    ) -> Result<(), Failure> {
        let mut queue = VecDeque::new();
        self.empty_one(top.bytes(), fd, id, path, &mut queue)?;
        while let Some((name, path)) = queue.pop_front() {
            let (fd, id) = look(self.dir, name.bytes())?.ok_or(Failure::Moved)?;
            self.empty_one(name.bytes(), fd.as_fd(), id, &path, &mut queue)?;
        }
        Ok(())
    }

    fn empty_one(
        &mut self,
        name: &[u8],
        fd: BorrowedFd<'_>,
        id: Id,
        path: &RelPath,
        queue: &mut VecDeque<(PrivateName, RelPath)>,
    ) -> Result<(), Failure> {
        let found = inspect_fd(fd, None).map_err(|e| Failure::io("reading a folder", e))?;
        self.evidence.push(Evidence { path: path.clone(), found, digest: None });
        let dir =
            reopen(fd, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| Failure::io("opening a folder", e))?;
        super::flags::clear(fd);
        for _ in 0..ATTEMPTS {
            for child in names(dir.as_fd())? {
                let path = path.join(&child).unwrap_or_else(|| path.clone());
                if let Some(below) = self.empty_child(dir.as_fd(), &child, &path)? {
                    queue.push_back((below, path));
                }
            }
            match remove(self.dir, name, id) {
                Err(Failure::NotEmpty) => {}
                other => return other,
            }
        }
        Err(Failure::Other("somebody keeps making files in the folder found there".into()))
    }

    /// Stores and removes one object inside a folder that is being emptied; a folder becomes a private name beside it.
    fn empty_child(
        &mut self,
        dir: BorrowedFd<'_>,
        child: &[u8],
        path: &RelPath,
    ) -> Result<Option<PrivateName>, Failure> {
        let Some((fd, id)) = look(dir, child)? else {
            return Ok(None);
        };
        if id.kind() == FileType::Directory {
            let name = PrivateName::fresh();
            insist(&[fd.as_fd()], || rustix::fs::renameat(dir, child, self.dir, name.bytes()))
                .map_err(|e| Failure::io("emptying a folder", e))?;
            return Ok(Some(name));
        }
        let evidence = self.stored(fd.as_fd(), path, false)?;
        self.evidence.push(evidence);
        remove(dir, child, id)?;
        Ok(None)
    }

    /// Content to the vault, durably or with its batch, and the state.
    fn stored(&self, fd: BorrowedFd<'_>, path: &RelPath, batch: bool) -> Result<Evidence, Failure> {
        let io = |e| Failure::io("reading what was there", e);
        let mut attempt = 1;
        loop {
            let (mut entry, identity) = attributes::read_unopened(fd).map_err(io)?;
            if entry.kind != FileType::Regular {
                let found = inspect_fd(fd, None).map_err(io)?;
                return Ok(Evidence { path: path.clone(), found, digest: None });
            }
            let file = File::from(open_content(fd).map_err(io)?);
            entry.flags = flags::read_on(None, file.as_fd(), entry.kind, identity.dev, entry.flags);
            let mut content = file.take(entry.size.saturating_add(GROWTH));
            let stored =
                if batch { self.vault.put_deferred(&mut content) } else { self.vault.put(&mut content) };
            let digest = stored.map_err(Failure::Vault)?;
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

/// The object under a name of a folder, and which one it is.
pub fn look(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<(OwnedFd, Id)>, Failure> {
    let fd = match open_name(dir, name) {
        Ok(fd) => fd,
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(Failure::io("looking at it", e)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| Failure::io("fstat", e))?;
    let id = Id::of(&stat);
    Ok(Some((fd, id)))
}

/// Which object a name of a folder stands for.
pub fn id_under(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Id>, Failure> {
    // What is no name of this folder is refused with the error that says so.
    if RelPath::root().join(name).is_none() {
        return Ok(look(dir, name)?.map(|(_, id)| id));
    }
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
        Ok(stat) => Ok(Some(Id::of(&stat))),
        Err(e) if is_absent(&e.into()) => Ok(None),
        Err(e) => Err(Failure::io("looking at it", e)),
    }
}

/// Removes a name if it still stands for that object.
///
/// Between the check and the removal somebody who may write in the folder can put another file under the name. Who may
/// do that may remove that file as well (the kernel asks the same of rename and unlink), so it gains him nothing, and
/// what was found is in the vault by then.
pub fn remove(dir: BorrowedFd<'_>, name: &[u8], id: Id) -> Result<(), Failure> {
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
    match insist_on_removal(fd.as_fd(), || rustix::fs::unlinkat(dir, name, flags)) {
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

/// Whether the folder of an `O_PATH` descriptor holds nothing but what is about to be removed.
pub fn is_empty_dir(fd: BorrowedFd<'_>) -> Result<bool, Failure> {
    let dir: OwnedFd =
        reopen(fd, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| Failure::io("opening a folder", e))?;
    Ok(names(dir.as_fd())?.iter().all(|name| is_in_flight(name)))
}
