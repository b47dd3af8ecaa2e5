//! Writing through a shared mapping.

use std::io;
use std::os::fd::AsFd;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Stores `content` at the start of a file that is at least that long and that nobody else truncates.
pub fn store(file: impl AsFd, content: &[u8]) -> io::Result<()> {
    let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a fresh mapping at an address the kernel picks overlaps no Rust object.
    let map = unsafe { mmap(std::ptr::null_mut(), content.len(), prot, flags, file, 0)? };
    // SAFETY: the mapping is writable, `content.len()` bytes long and unknown to any other code.
    unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), map.cast::<u8>(), content.len()) };
    // SAFETY: `map` and its length are exactly what mmap gave; nothing refers to it any more.
    unsafe { munmap(map, content.len())? };
    Ok(())
}
