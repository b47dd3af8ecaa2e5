//! Undoing a rename by a rename: the very file gets its approved name back.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::Evidence;
use super::failure::{Failure, in_the_watch};
use super::flags;
use super::object::Id;
use crate::core::entry::Found;
use crate::core::path::RelPath;
use crate::tree::root::{Root, is_absent, open_name};

/// Gives the object under `from` the name `to`, if it is still the expected one and `to` is free.
pub fn move_back(root: &Root, from: &RelPath, to: &RelPath, expected: &Found) -> Result<Evidence, Failure> {
    let (old_dir, old_name) = folder(root, from).map_err(|f| match f {
        Failure::ParentMissing => Failure::Moved,
        other => other,
    })?;
    let (new_dir, new_name) = folder(root, to)?;
    let id = Id::expected(expected);
    let object = match open_name(old_dir.as_fd(), &old_name) {
        Ok(fd) => fd,
        Err(e) if is_absent(&e) => return Err(Failure::Moved),
        Err(e) => return Err(Failure::io("looking at it", e)),
    };
    if Id::of(&rustix::fs::fstat(&object).map_err(|e| Failure::io("fstat", e))?) != id {
        return Err(Failure::Moved);
    }
    let unlocking = |dir: &OwnedFd| {
        flags::unlock_dir(dir.as_fd())
            .map_err(|e| Failure::io("clearing the immutable flag of its folder", e))
    };
    let _unlocked = (unlocking(&old_dir)?, unlocking(&new_dir)?);
    let rename = |from: (&OwnedFd, &[u8]), to: (&OwnedFd, &[u8])| {
        rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE)
    };
    match flags::insist(&[object.as_fd()], || rename((&old_dir, &old_name), (&new_dir, &new_name))) {
        Ok(()) => {}
        Err(Errno::EXIST | Errno::NOENT | Errno::NOTEMPTY) => return Err(Failure::Moved),
        Err(e) => return Err(Failure::io("giving it its approved name back", e)),
    }
    if id_under(&new_dir, &new_name)? != Some(id) {
        // Something else had taken the name in between. It goes back where it came from, to be looked at there.
        let _ = rename((&new_dir, &new_name), (&old_dir, &old_name));
        return Err(Failure::Moved);
    }
    Ok(Evidence { path: from.clone(), found: expected.clone(), digest: None })
}

fn folder(root: &Root, path: &RelPath) -> Result<(OwnedFd, Vec<u8>), Failure> {
    if path.is_root() {
        return Err(Failure::Other(
            "the watched folder itself was renamed; give it its name back by hand".into(),
        ));
    }
    let (dir, name) = root.parent(path).map_err(|e| match is_absent(&e) {
        true => Failure::ParentMissing,
        false => Failure::io("opening its folder", e),
    })?;
    in_the_watch(root, dir.as_fd(), path)?;
    Ok((dir, name))
}

fn id_under(dir: &OwnedFd, name: &[u8]) -> Result<Option<Id>, Failure> {
    match open_name(dir.as_fd(), name) {
        Ok(fd) => Ok(Some(Id::of(&rustix::fs::fstat(&fd).map_err(|e| Failure::io("fstat", e))?))),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(Failure::io("looking at it", e)),
    }
}
