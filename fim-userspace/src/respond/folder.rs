//! The folder that a step works in, with its flags lifted.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::failure::{Failure, mounted_above};
use super::flags;
use crate::core::path::RelPath;
use crate::tree::Root;
use crate::tree::near::Near;
use crate::tree::root::is_absent;

pub struct Folder {
    near: Near,
    // Set again with the end of this.
    unlocked: Option<flags::Unlocked>,
}

impl Folder {
    /// The folder `path`: that of the step before where it is the same, or opened from the root down.
    pub fn of(root: &Root, path: RelPath, last: Option<Self>) -> Result<Self, Failure> {
        let near = Near::of(root, path, last.map(|folder| folder.near)).map_err(|e| match is_absent(&e) {
            true => Failure::ParentMissing,
            false => Failure::io("opening its folder", e),
        })?;
        let near = near.ok_or_else(mounted_above)?;
        let unlocked = flags::unlock_dir(near.fd())
            .map_err(|e| Failure::io("clearing the immutable flag of its folder", e))?;
        Ok(Self { near, unlocked })
    }

    /// One whose flags were lifted is let go: they are part of what other steps compare.
    pub fn for_the_next(self) -> Option<Self> {
        self.unlocked.is_none().then_some(self)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.near.fd()
    }

    pub fn shared(&self) -> Arc<OwnedFd> {
        self.near.shared()
    }
}
