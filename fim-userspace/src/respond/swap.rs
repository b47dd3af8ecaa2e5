//! Giving up a place and taking it, by renames within one folder.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::act::{Act, Failure};
use super::flags::insist;
use super::object::{Built, Id};
use crate::core::entry::{FileType, Found};
use crate::tree::private::PrivateName;

impl Act<'_> {
    /// Gives a built object the name, where nothing is.
    pub fn place(&mut self, built: &Built) -> Result<(), Failure> {
        match self.rename_to_free(built.name.bytes(), &self.name) {
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
            Err(e) => return Err(Failure::io("exchanging it with the approved version", e)),
        }
        match self.id_of(built.name.bytes())? {
            Some(id) if id == expected => {}
            Some(_) => {
                // Something else had come there meanwhile; it gets its place back and is looked at by itself. What
                // comes out of this second exchange is removed, or kept, by `discard`.
                let _ = self.swap(built);
                return Err(Failure::Moved);
            }
            None => return Err(Failure::Moved),
        }
        self.righted = Some(Instant::now());
        self.preserve(built.name.bytes(), self.path).map_err(|f| f.kept(&built.name))?;
        self.stands(built)
    }

    /// The way for file systems that cannot exchange: for a moment there is no file, but nothing is ever lost.
    pub fn displace(&mut self, built: &Built, expected: Id) -> Result<(), Failure> {
        let aside = PrivateName::fresh();
        self.move_aside(&aside, expected)?;
        if let Err(failure) = self.place(built) {
            self.put_back(&aside)?;
            return Err(failure);
        }
        self.righted = Some(Instant::now());
        self.preserve(aside.bytes(), self.path).map_err(|f| f.kept(&aside))
    }

    /// Takes what should not be there out of its place, into the vault, and away.
    pub fn take_away(&mut self, expected: &Found) -> Result<(), Failure> {
        let id = Id::expected(expected);
        let (fd, actual) = self.look(&self.name)?.ok_or(Failure::Moved)?;
        if actual != id {
            return Err(Failure::Moved);
        }
        let directory = expected.entry.kind == FileType::Directory;
        if directory && !super::evidence::is_empty_dir(fd.as_fd())? {
            return Err(Failure::NotEmpty);
        }
        let aside = PrivateName::fresh();
        self.move_aside(&aside, id)?;
        self.righted = Some(Instant::now());
        let result = match directory {
            true => self.preserve_empty_dir(aside.bytes(), self.path),
            false => self.preserve(aside.bytes(), self.path),
        };
        if result.is_err() {
            self.put_back(&aside)?;
        }
        result
    }

    /// Renames what has the name to a private one. If it is not the expected object, it goes back.
    fn move_aside(&mut self, aside: &PrivateName, expected: Id) -> Result<(), Failure> {
        let Some((fd, _)) = self.look(&self.name)? else {
            return Err(Failure::Moved);
        };
        match insist(fd.as_fd(), || self.rename_to_free(&self.name, aside.bytes())) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(Failure::Moved),
            Err(e) => return Err(Failure::io("taking it out of its place", e)),
        }
        if self.id_of(aside.bytes())? == Some(expected) {
            return Ok(());
        }
        self.put_back(aside)?;
        Err(Failure::Moved)
    }

    /// Undoes `move_aside`. If the place is taken by now, what was there before becomes evidence instead.
    fn put_back(&mut self, aside: &PrivateName) -> Result<(), Failure> {
        match self.rename_to_free(aside.bytes(), &self.name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::EXIST | Errno::NOTEMPTY) => self.preserve(aside.bytes(), self.path),
            Err(e) => Err(Failure::io(format!("giving it back its place (it is beside it, as {aside})"), e)),
        }
    }

    fn swap(&self, built: &Built) -> Result<(), Errno> {
        let dir = self.dir();
        let call =
            || rustix::fs::renameat_with(dir, built.name.bytes(), dir, &self.name, RenameFlags::EXCHANGE);
        match call() {
            Err(Errno::PERM) => match self.look(&self.name) {
                Ok(Some((fd, _))) => insist(fd.as_fd(), call),
                _ => Err(Errno::PERM),
            },
            other => other,
        }
    }

    /// Renames within the folder and never over anything.
    fn rename_to_free(&self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        let dir = self.dir();
        match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.rename_without_flags(from, to),
            other => other,
        }
    }

    /// A plain rename replaces silently, a link does not; folders cannot be linked, but a folder only ever replaces an
    /// empty one.
    pub(super) fn rename_without_flags(&self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        let dir = self.dir();
        match rustix::fs::linkat(dir, from, dir, to, AtFlags::empty()) {
            Ok(()) => rustix::fs::unlinkat(dir, from, AtFlags::empty()),
            Err(Errno::PERM | Errno::NOTSUP) if self.is_free(to) => rustix::fs::renameat(dir, from, dir, to),
            Err(Errno::PERM | Errno::NOTSUP) => Err(Errno::EXIST),
            other => other,
        }
    }

    fn is_free(&self, name: &[u8]) -> bool {
        matches!(self.look(name), Ok(None))
    }

    /// The name must now stand for what was built; otherwise somebody exchanged it under its private name.
    fn stands(&self, built: &Built) -> Result<(), Failure> {
        match self.id_of(&self.name)? {
            Some(id) if id == built.id => Ok(()),
            _ => Err(Failure::Moved),
        }
    }
}
