//! Opening the content of what stands under a name.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::root::reopen;

/// Opens a regular file for reading, leaving its access time alone where the kernel allows.
///
/// `EAGAIN` when another process holds a write lease on it (fcntl(2), F_SETLEASE) and does not give it up at once.
pub fn open_content(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut flags = OFlags::RDONLY | OFlags::NOATIME;
    let mut patience = 20;
    loop {
        let error = match reopen(fd, flags) {
            Ok(file) => return Ok(file),
            Err(e) => e,
        };
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM) if flags.contains(OFlags::NOATIME) => flags = OFlags::RDONLY,
            Some(Errno::AGAIN) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            _ => return Err(error),
        }
    }
}

/// Errors that say something about the file, not about fim's means: no rights (network file systems), no key
/// (fscrypt), or pseudo-files that give nothing.
pub(super) fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::ACCESS
                | Errno::PERM
                | Errno::NOKEY
                | Errno::AGAIN
                | Errno::INVAL
                | Errno::NXIO
                | Errno::NODEV
        )
    )
}
