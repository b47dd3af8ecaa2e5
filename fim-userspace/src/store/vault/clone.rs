//! Keeping approved files by sharing their blocks, where vault and file lie on one file system that can (btrfs, xfs).

use std::fs::File;
use std::io::{self, Seek};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::batch::Unpublished;
use super::{Form, Vault, VaultError, object};
use crate::core::entry::Digest;

/// Below this, compressing is cheaper than the two extents that would be shared.
const CLONE_FROM: u64 = 64 * 1024;

impl Vault {
    /// As [`Vault::put_deferred`], for a whole regular file: by sharing its blocks where that is possible.
    pub fn keep_deferred(&self, file: &mut File) -> Result<Digest, VaultError> {
        let length = file.metadata().map_err(VaultError::Source)?.len();
        if length >= CLONE_FROM {
            self.room_for(length)?;
            let name = self.temporary_name();
            match self.clone_as(&name, file) {
                Ok(Some(digest)) => return Ok(digest),
                Ok(None) => {}
                Err(error) => {
                    let _ = rustix::fs::unlinkat(&self.dirs().tmp, &name, AtFlags::empty());
                    return Err(error);
                }
            }
        }
        file.rewind().map_err(VaultError::Source)?;
        self.put_deferred(file)
    }

    /// `None` where these two file systems share nothing. What was cloned is hashed afterwards, so that it does not
    /// matter who writes to the file meanwhile.
    fn clone_as(&self, name: &str, file: &File) -> Result<Option<Digest>, VaultError> {
        let dirs = self.dirs();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dirs.tmp, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(self.unusable("making a temporary file"))?;
        let drop_it = || rustix::fs::unlinkat(&dirs.tmp, name, AtFlags::empty());
        if let Err(error) = rustix::fs::ioctl_ficlone(&fd, file) {
            drop_it().map_err(self.unusable("removing a temporary file"))?;
            return match error {
                Errno::NOSPC | Errno::DQUOT => Err(self.failed("cloning", error.into())),
                // Whatever else stands against it, copying does not mind.
                _ => Ok(None),
            };
        }
        let mut copy = File::from(fd);
        let unreadable = |reason| VaultError::Source(io::Error::other(reason));
        let (digest, length) = object::copy(&mut copy, &mut io::sink(), &unreadable)?;
        if self.is_pending(&digest) || self.is_sound(&digest)? {
            drop_it().map_err(self.unusable("removing a temporary file"))?;
            return Ok(Some(digest));
        }
        self.room.add(length);
        self.defer(digest, Unpublished { name: name.to_owned(), form: Form::Raw, length });
        Ok(Some(digest))
    }
}
