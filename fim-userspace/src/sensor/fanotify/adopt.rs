//! New directories: each is marked before it is read, at once, on the thread that learnt of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType};

use super::interpret::Exclude;
use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::sensor::dirs::{DirKey, Directories};
use crate::sensor::marks::{MarkError, Marks};
use crate::tree::Root;
use crate::tree::private::is_in_flight;

/// A new directory could not be taken under watch.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error(transparent)]
    Mark(#[from] MarkError),
    #[error("the new directory {path} cannot be read ({source}); it is scanned instead")]
    Read { path: String, source: io::Error },
}

/// Everything below `top` that is not known yet is marked with `marks`. What is gone already is forgotten.
///
/// A directory known under its path has been marked before it was read by whoever made it known. The walk stops there,
/// unless the top is `renamed`: what was excluded below the old name need not be below the new one.
pub fn adopt(
    root: &Root,
    watch: WatchId,
    top: &RelPath,
    dirs: &Directories,
    marks: &dyn Marks,
    exclude: &Exclude,
    renamed: bool,
) -> Result<(), AdoptError> {
    let mut first_error = Ok(());
    let mut todo = vec![top.clone()];
    while let Some(path) = todo.pop() {
        let step = adopt_one(root, watch, &path, dirs, marks, renamed);
        match step {
            Ok(names) => todo.extend(
                names.iter().filter_map(|name| path.join(name)).filter(|path| !exclude(watch, path, true)),
            ),
            Err(e) if first_error.is_ok() => first_error = Err(e),
            Err(_) => {}
        }
    }
    first_error
}

/// Marks one directory and lists the directories in it.
fn adopt_one(
    root: &Root,
    watch: WatchId,
    path: &RelPath,
    dirs: &Directories,
    marks: &dyn Marks,
    renamed: bool,
) -> Result<Vec<Vec<u8>>, AdoptError> {
    let unreadable = |source| AdoptError::Read { path: path.to_string(), source };
    // Opened again once it is forgotten: the daemon itself may have put it back and made it known in between.
    let opened = match root.open_dir(path) {
        Err(e) if is_gone(&e) => {
            dirs.removed(watch, path);
            root.open_dir(path)
        }
        opened => opened,
    };
    let dir = match opened {
        Ok(dir) => dir,
        Err(e) if is_gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(e)),
    };
    // Mounted over a folder of the watch since: somebody else's tree.
    if !root.owns(dir.as_fd(), path).unwrap_or(true) {
        return Ok(Vec::new());
    }
    let known = dirs.key_of(watch, path) == Some(DirKey::of(dir.as_fd()).map_err(unreadable)?);
    if known && !renamed {
        return Ok(Vec::new());
    }
    if !known {
        marks.directory(dir.as_fd(), watch, path)?;
    }
    subdirectories(dir).map_err(unreadable)
}

/// Gone, or something else took the name; whichever, another event tells.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

fn subdirectories(dir: OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        // What the daemon is building is made known under its own name.
        if matches!(name.to_bytes(), b"." | b"..") || is_in_flight(name.to_bytes()) {
            continue;
        }
        let directory = match entry.file_type() {
            FileType::Unknown => is_directory(dir.as_fd(), name),
            kind => kind == FileType::Directory,
        };
        if directory {
            names.push(name.to_bytes().to_vec());
        }
    }
    Ok(names)
}

fn is_directory(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
