//! Reading and hashing content.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;

use sha2::{Digest as _, Sha256};

use crate::core::entry::Digest;

/// Large enough that system calls cost little beside the hashing, small enough for the second-level cache.
const BUFFER: usize = 256 * 1024;

thread_local! {
    static BYTES: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// SHA-256 and length of what `fd` still has to give.
pub fn hash_fd(fd: impl AsFd) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let total = each_chunk(fd, u64::MAX, |chunk| {
        hash.update(chunk);
        Ok(())
    })?;
    Ok((Digest(hash.finalize().into()), total))
}

/// As [`hash_fd`], but gives up with `None` once more than `limit` bytes have come: somebody makes the file grow as
/// fast as it is read.
pub fn hash_at_most(fd: impl AsFd, limit: u64) -> io::Result<Option<(Digest, u64)>> {
    let mut hash = Sha256::new();
    let total = each_chunk(fd, limit, |chunk| {
        hash.update(chunk);
        Ok(())
    })?;
    Ok((total <= limit).then(|| (Digest(hash.finalize().into()), total)))
}

/// As [`hash_at_most`], of a file that had `size` bytes a moment ago: where a read comes to that very end, none more is made
/// to see that it is one. Whoever calls this looks at the size once more afterwards.
pub fn hash_sized(fd: impl AsFd, size: u64, limit: u64) -> io::Result<Option<(Digest, u64)>> {
    if size > BUFFER as u64 {
        // The kernel reads twice as far ahead; where it does not listen, nothing is lost.
        let _ = rustix::fs::fadvise(&fd, 0, None, rustix::fs::Advice::Sequential);
    }
    let mut hash = Sha256::new();
    let mut total = 0;
    let more = BYTES.with_borrow_mut(|buffer| {
        loop {
            match rustix::io::read(&fd, buffer.as_mut_slice()) {
                Ok(n) => {
                    total += n as u64;
                    hash.update(&buffer[..n]);
                    if n == 0 || total > limit || (total == size && n < BUFFER) {
                        return Ok(total > limit);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e)),
            }
        }
    })?;
    Ok((!more).then(|| (Digest(hash.finalize().into()), total)))
}

/// As [`hash_fd`], and writes what was read to `out`; `None` if more than `limit` bytes came.
pub fn copy_at_most(fd: impl AsFd, limit: u64, out: &mut impl io::Write) -> io::Result<Option<Digest>> {
    let mut hash = Sha256::new();
    let total = each_chunk(fd, limit, |chunk| {
        hash.update(chunk);
        out.write_all(chunk)
    })?;
    Ok((total <= limit).then(|| Digest(hash.finalize().into())))
}

/// Reads from `fd` to its end, or until more than `limit` bytes have come; returns how many did.
pub fn each_chunk(
    fd: impl AsFd,
    limit: u64,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    BYTES.with_borrow_mut(|buffer| {
        let mut total = 0;
        while total <= limit {
            match rustix::io::read(&fd, buffer.as_mut_slice()) {
                Ok(0) => break,
                Ok(n) => {
                    total += n as u64;
                    each(&buffer[..n])?;
                    crate::pulse::beat();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(total)
    })
}
