//! One daemon per state directory: flock(2) on `<dir>/lock`, with the holder's pid inside.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{StoreError, ensure_dir};

/// Held until dropped, and given up by the kernel if the process dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// By word, not by closing: a child that was just forked and has not executed its program yet holds the file open as well.
impl Drop for Lock {
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Takes the lock of `dir`, which is made if need be. Never waits.
    pub fn acquire(dir: &Path) -> Result<Self, StoreError> {
        ensure_dir(dir)?;
        let failed = |source| StoreError::dir(dir, source);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(dir.join("lock")).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // The holder may be about to write its pid; without it the sentence is only less precise.
                let _ = file.read_to_string(&mut text);
                return Err(StoreError::Locked { dir: dir.into(), pid: text.trim().parse().ok() });
            }
            Err(e) => return Err(failed(e.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        // A full disk must not stop the daemon: the lock itself needs no room.
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_was_forked_meanwhile_does_not_keep_it() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let state = dir.path().join("state");
        let lock = Lock::acquire(&state).expect("free");
        let inherited = lock.file.try_clone().expect("as by fork(2)");
        drop(lock);
        drop(Lock::acquire(&state).expect("free again"));
        drop(inherited);
    }
}
