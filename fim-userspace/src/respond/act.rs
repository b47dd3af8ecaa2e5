//! One step being carried out: the folder it happens in, the name, and the evidence so far.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::evidence::{id_under, look, remove};
use super::failure::{Failure, not_mounted_over};
use super::folder::Folder;
use super::object::{Built, Id};
use super::pending::{Aside, Pending};
use super::{Evidence, flags};
use crate::core::entry::{Aspect, Entry, FileType, Flags, Found, XattrName};
use crate::core::path::RelPath;
use crate::store::vault::Vault;
use crate::tree::attributes::{self, NotApplied};
use crate::tree::flags as tree_flags;
use crate::tree::inspect::inspect_fd;
use crate::tree::private::PrivateName;
use crate::tree::root::{Root, reopen};

/// What became of a step.
pub struct Ended {
    pub evidence: Vec<Evidence>,
    pub righted: Instant,
    pub method: Option<&'static str>,
    pub pending: Option<Pending>,
}

pub struct Act<'a> {
    vault: &'a Vault,
    folder: Folder,
    pub name: Vec<u8>,
    pub path: &'a RelPath,
    pub evidence: Vec<Evidence>,
    /// When the place was right again.
    pub righted: Option<Instant>,
    /// A new file in its place, not durable yet.
    pub fresh: Option<OwnedFd>,
    pub asides: Vec<Aside>,
    /// Has the approved content, which the vault has not.
    pub standing: Option<OwnedFd>,
    /// How it was done, where not in the usual way.
    pub method: Option<&'static str>,
}

impl<'a> Act<'a> {
    /// `folder`: the one of the step before; taken if it is this one's as well.
    pub fn begin(
        vault: &'a Vault,
        root: &Root,
        path: &'a RelPath,
        folder: &mut Option<Folder>,
    ) -> Result<Self, Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(Failure::Other(
                "it is the watched folder itself, which fim neither replaces nor removes; do that by hand"
                    .into(),
            ));
        };
        Ok(Self {
            vault,
            folder: Folder::of(root, parent, folder.take())?,
            name: name.to_vec(),
            path,
            evidence: Vec::new(),
            righted: None,
            fresh: None,
            asides: Vec::new(),
            standing: None,
            method: None,
        })
    }

    /// The folder is left to the next step.
    pub fn end(self, folder: &mut Option<Folder>) -> Ended {
        let righted = self.righted.unwrap_or_else(Instant::now);
        let pending = Pending::new(self.path, self.folder.shared(), self.fresh, self.asides);
        *folder = self.folder.for_the_next();
        Ended { evidence: self.evidence, righted, method: self.method, pending }
    }

    /// Whether the folder has no name any more (inode(7): `st_nlink` 0).
    pub fn folder_is_gone(&self) -> bool {
        rustix::fs::fstat(self.dir()).is_ok_and(|stat| stat.st_nlink == 0)
    }

    pub fn dir(&self) -> BorrowedFd<'_> {
        self.folder.fd()
    }

    pub fn vault(&self) -> &'a Vault {
        self.vault
    }

    pub fn look(&self, name: &[u8]) -> Result<Option<(OwnedFd, Id)>, Failure> {
        look(self.dir(), name)
    }

    pub fn id_of(&self, name: &[u8]) -> Result<Option<Id>, Failure> {
        id_under(self.dir(), name)
    }

    /// Puts the approved version in the place of what is there.
    pub fn replace(&mut self, approved: &Entry, expected: Option<&Found>) -> Result<(), Failure> {
        if self.id_of(&self.name)? != expected.map(Id::expected) {
            return Err(Failure::Moved);
        }
        if let Some(found) = expected {
            not_mounted_over(approved.flags, found)?;
        }
        if let Some(found) = expected
            && approved.kind == FileType::Directory
            && found.entry.kind == FileType::Directory
        {
            // Never exchanged: everything in it would go.
            return self.reattribute(approved, found);
        }
        let built = self.build(approved)?;
        let result = match expected {
            None => self.place(&built),
            Some(found) => self.exchange(&built, Id::expected(found)),
        };
        match result {
            Ok(()) => {
                let last = match approved.flags.has(Flags::BLOCKING) {
                    true => tree_flags::apply(built.held.as_fd(), approved),
                    false => Ok(()),
                };
                let flagged = built.flagged.and(last);
                self.fresh = Some(built.held).filter(|_| approved.kind == FileType::Regular);
                flagged.map_err(Failure::attribute)
            }
            Err(Failure::InPlace(_)) if expected.is_some_and(|found| may_be_in_place(approved, found)) => {
                self.discard(&built);
                self.write_over(approved, expected)
            }
            Err(Failure::InPlace(source)) => {
                self.discard(&built);
                Err(Failure::io("exchanging it with the approved version", source))
            }
            Err(failure) => {
                self.discard(&built);
                Err(failure)
            }
        }
    }

    /// Puts the attributes back on the file that is there.
    ///
    /// Not on a file that is to be set-id or to have capabilities: somebody may hold it open and alter its content in the
    /// very moment it gets its privileges back. Nor on one with other names: it may be somebody else's, linked into the
    /// place of the approved one. These get a new file.
    pub fn reattribute(&mut self, approved: &Entry, expected: &Found) -> Result<(), Failure> {
        let privileged = approved.kind == FileType::Regular && is_privileged(approved);
        let anew = tree_flags::need_a_new_file(approved, &expected.entry);
        let linked = approved.kind != FileType::Directory && expected.identity.nlink > 1;
        if approved.kind == FileType::Socket && linked {
            return Err(Failure::Other(
                "it has other names and may be somebody else's socket, linked there; remove it, and start the program that \
                 listens on the approved one"
                    .into(),
            ));
        }
        if (privileged && approved.sha256.is_some()) || anew || linked {
            if approved.kind == FileType::Regular && !approved.sha256.is_some_and(|d| self.vault.contains(&d))
            {
                let (fd, id) = self.look(&self.name)?.ok_or(Failure::Moved)?;
                if id != Id::expected(expected) {
                    return Err(Failure::Moved);
                }
                self.standing = Some(fd);
            }
            return self.replace(approved, Some(expected));
        }
        let (fd, _) = self.look(&self.name)?.ok_or(Failure::Moved)?;
        let evidence = put_attributes(&fd, approved, expected, self.path)?;
        self.evidence.push(evidence);
        Ok(())
    }

    /// Removes a half-finished version. Should something else stand under its name, that becomes evidence.
    pub fn discard(&mut self, built: &Built) {
        let name = built.name.bytes();
        let result = match self.look(name) {
            Ok(None) => Ok(()),
            Ok(Some((_, id))) if id == built.id => remove(self.dir(), name, id),
            Ok(Some((object, id))) => {
                // After a failure behind the exchange it is set aside already.
                if !self.asides.iter().any(|aside| aside.name.bytes() == name) {
                    self.set_aside(built.name.clone(), object, id, None);
                }
                Ok(())
            }
            Err(e) => Err(e),
        };
        if let Err(failure) = result {
            tracing::warn!(name = %built.name, ?failure, "left behind; the next scan takes it into the vault");
        }
    }

    /// What stands under a private name now becomes evidence, and then goes.
    pub fn set_aside(&mut self, name: Arc<PrivateName>, object: OwnedFd, id: Id, back: Option<Vec<u8>>) {
        let path = self.path.clone();
        self.asides.push(Aside { name, object: Some(object), id, path, back });
    }

    /// Takes everything under a leftover's private name into the vault and away.
    pub fn clear_private(&mut self, name: &[u8]) -> Result<(), Failure> {
        if let Some((object, id)) = self.look(name)? {
            self.set_aside(Arc::new(PrivateName::adopt(name)), object, id, None);
        }
        Ok(())
    }
}

/// Regular files on both sides: anything else has no content that could be written over.
fn may_be_in_place(approved: &Entry, found: &Found) -> bool {
    approved.kind == FileType::Regular && found.entry.kind == FileType::Regular
}

fn is_privileged(entry: &Entry) -> bool {
    entry.mode & 0o6000 != 0 || entry.xattrs.0.contains_key(&XattrName(b"security.capability".to_vec()))
}

/// Applies `approved` to the object of an `O_PATH` descriptor, if that is still the expected one with the approved
/// content. Returns the state before.
pub fn put_attributes(
    fd: &OwnedFd,
    approved: &Entry,
    expected: &Found,
    path: &RelPath,
) -> Result<Evidence, Failure> {
    let before = inspect_fd(fd.as_fd(), Some(expected)).map_err(|e| Failure::io("reading it", e))?;
    not_mounted_over(approved.flags, &before)?;
    let same = Id::expected(&before) == Id::expected(expected);
    let content = approved.differences(&before.entry).iter().all(|a| !is_content(*a));
    if !same || !content {
        return Err(Failure::Moved);
    }
    let apply = || {
        if approved.flags.differ(before.entry.flags) && before.entry.kind == FileType::Directory {
            let dir = reopen(fd.as_fd(), OFlags::RDONLY).map_err(NotApplied::opening)?;
            tree_flags::prepare(dir.as_fd(), approved)?;
        }
        attributes::apply(fd.as_fd(), approved)
    };
    let mut applied = apply();
    let refused = |e: &NotApplied| e.source.raw_os_error() == Some(Errno::PERM.raw_os_error());
    let lifted = applied.as_ref().err().filter(|e| refused(e)).and_then(|_| flags::lift_for_work(fd.as_fd()));
    if lifted.is_some() {
        applied = apply();
    }
    applied.and_then(|()| tree_flags::apply(fd.as_fd(), approved)).map_err(Failure::attribute)?;
    if let Some(lifted) = lifted {
        lifted.stays_off();
    }
    Ok(Evidence { path: path.clone(), found: before, digest: None })
}

fn is_content(aspect: Aspect) -> bool {
    matches!(aspect, Aspect::Type | Aspect::Content | Aspect::Target | Aspect::Device)
}
