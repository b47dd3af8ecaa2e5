//! The one thing a test needs that Rust cannot do safely: writing through a mapping.

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Stores `content` at the start of the file through a shared mapping, with the descriptor already closed.
/// The file must be at least that long.
pub fn store_through_mapping(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.metadata()?.len() < content.len() as u64 {
        return Err(io::Error::other("the file is shorter than what is to be stored in it"));
    }
    let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a fresh mapping at an address the kernel picks overlaps no Rust object.
    let map = unsafe { mmap(std::ptr::null_mut(), content.len(), prot, flags, &file, 0)? };
    drop(file);
    // SAFETY: the mapping is writable, `content.len()` bytes long and unknown to any other code; a concurrent
    // truncation of the file ends this process with SIGBUS, which is not undefined behaviour.
    unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), map.cast::<u8>(), content.len()) };
    unmap(map, content.len())
}

fn unmap(map: *mut c_void, len: usize) -> io::Result<()> {
    // SAFETY: `map` and `len` are exactly what mmap gave; nothing refers to the mapping any more.
    unsafe { munmap(map, len)? };
    Ok(())
}
