//! Giving up a place and taking it, by renames within one folder.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::Evidence;
use super::act::Act;
use super::evidence::remove;
use super::failure::{Failure, not_mounted_over};
use super::flags::insist;
use super::object::{Built, Id};
use super::rename::{give_place_back, rename_to_free};
use crate::core::entry::{FileType, Flags, Found};
use crate::tree::inspect::inspect_fd;
use crate::tree::private::PrivateName;

impl Act<'_> {
    /// Gives a built object the name, where nothing is.
    pub fn place(&mut self, built: &Built) -> Result<(), Failure> {
        match rename_to_free(self.dir(), built.name.bytes(), &self.name) {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::NOENT | Errno::NOTEMPTY) => return Err(Failure::Moved),
            Err(e) => return Err(Failure::io("giving the approved version its name", e)),
        }
        self.stands(built)
    }

    /// Exchanges a built object with the one that has the name, which becomes evidence.
    pub fn exchange(&mut self, built: &Built, expected: Id) -> Result<(), Failure> {
        match self.swap(built) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(Failure::Moved),
            // No such flag on this file system, or not for these two kinds.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => return self.displace(built, expected),
            Err(e @ (Errno::BUSY | Errno::XDEV)) => return Err(Failure::InPlace(e.into())),
            Err(e) => return Err(Failure::io("exchanging it with the approved version", e)),
        }
        match self.look(built.name.bytes())? {
            Some((object, id)) if id == expected => self.set_aside(built.name.clone(), object, id, None),
            Some(_) => {
                // Something else had come there meanwhile; it gets its place back and is looked at by itself. What
                // comes out of this second exchange is removed, or kept, by `discard`.
                let _ = self.swap(built);
                return Err(Failure::Moved);
            }
            None => return Err(Failure::Moved),
        }
        self.righted = Some(Instant::now());
        self.stands(built)
    }

    /// The way for file systems that cannot exchange: for a moment there is no file, but nothing is ever lost.
    pub fn displace(&mut self, built: &Built, expected: Id) -> Result<(), Failure> {
        let aside = Arc::new(PrivateName::fresh());
        let object = self.move_aside(&aside, expected)?;
        if let Err(failure) = self.place(built) {
            self.put_back(&aside)?;
            return Err(failure);
        }
        self.righted = Some(Instant::now());
        self.set_aside(aside, object, expected, None);
        Ok(())
    }

    /// Takes what should not be there out of its place. It goes once the vault has it, or comes back.
    pub fn take_away(&mut self, expected: &Found) -> Result<(), Failure> {
        let id = Id::expected(expected);
        not_mounted_over(Flags::default(), expected)?;
        let (fd, actual) = self.look(&self.name)?.ok_or(Failure::Moved)?;
        if actual != id {
            return Err(Failure::Moved);
        }
        let directory = expected.entry.kind == FileType::Directory;
        if directory && !super::evidence::is_empty_dir(fd.as_fd())? {
            return Err(Failure::NotEmpty);
        }
        let aside = Arc::new(PrivateName::fresh());
        let object = self.move_aside(&aside, id)?;
        if directory {
            return self.remove_empty(&aside, &object, id);
        }
        self.righted = Some(Instant::now());
        self.set_aside(aside, object, id, Some(self.name.clone()));
        Ok(())
    }

    /// At once, since there is no content to keep, and as long as the folder stood under its private name, somebody who
    /// holds it open could fill it there.
    fn remove_empty(&mut self, aside: &Arc<PrivateName>, object: &OwnedFd, id: Id) -> Result<(), Failure> {
        let found = inspect_fd(object.as_fd(), None).map_err(|e| Failure::io("reading it", e))?;
        if let Err(failure) = remove(self.dir(), aside.bytes(), id) {
            self.put_back(aside)?;
            return Err(failure);
        }
        self.righted = Some(Instant::now());
        self.evidence.push(Evidence { path: self.path.clone(), found, digest: None });
        Ok(())
    }

    /// Renames what has the name to a private one. If it is not the expected object, it goes back.
    fn move_aside(&mut self, aside: &Arc<PrivateName>, expected: Id) -> Result<OwnedFd, Failure> {
        let Some((fd, _)) = self.look(&self.name)? else {
            return Err(Failure::Moved);
        };
        match insist(&[fd.as_fd()], || rename_to_free(self.dir(), &self.name, aside.bytes())) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(Failure::Moved),
            Err(e) => return Err(Failure::io("taking it out of its place", e)),
        }
        if let Some((object, id)) = self.look(aside.bytes())?
            && id == expected
        {
            return Ok(object);
        }
        self.put_back(aside)?;
        Err(Failure::Moved)
    }

    /// Undoes `move_aside`. If the place is taken by now, what was there before becomes evidence instead.
    fn put_back(&mut self, aside: &Arc<PrivateName>) -> Result<(), Failure> {
        match give_place_back(self.dir(), aside.bytes(), &self.name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                if let Some((object, id)) = self.look(aside.bytes())? {
                    self.set_aside(aside.clone(), object, id, None);
                }
                Ok(())
            }
            Err(e) => Err(Failure::io(format!("giving it back its place (it is beside it, as {aside})"), e)),
        }
    }

    fn swap(&self, built: &Built) -> Result<(), Errno> {
        let dir = self.dir();
        let call =
            || rustix::fs::renameat_with(dir, built.name.bytes(), dir, &self.name, RenameFlags::EXCHANGE);
        match call() {
            Err(Errno::PERM) => {
                // One of the two is immutable: the one that is there, or, when an exchange is undone, the other.
                let looked = [self.look(&self.name), self.look(built.name.bytes())];
                let both: Vec<OwnedFd> =
                    looked.into_iter().filter_map(|found| Some(found.ok()??.0)).collect();
                let both: Vec<BorrowedFd<'_>> = both.iter().map(OwnedFd::as_fd).collect();
                insist(&both, call)
            }
            other => other,
        }
    }

    /// The name must now stand for what was built; otherwise somebody exchanged it under its private name.
    fn stands(&self, built: &Built) -> Result<(), Failure> {
        match self.id_of(&self.name)? {
            Some(id) if id == built.id => Ok(()),
            _ => Err(Failure::Moved),
        }
    }
}
