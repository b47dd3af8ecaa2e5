//! What tests need and Rust cannot do safely: writing through a mapping, being two processes, filling a ring.

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

/// A file mapped shared and writable for as long as this lives, its descriptor closed.
pub struct Mapped {
    map: *mut c_void,
    len: usize,
}

impl Mapped {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a fresh mapping at an address the kernel picks overlaps no Rust object.
        let map = unsafe { mmap(std::ptr::null_mut(), len, prot, flags, &file, 0)? };
        Ok(Self { map, len })
    }

    /// Stores `content` at the start.
    pub fn store(&mut self, content: &[u8]) -> io::Result<()> {
        if content.len() > self.len {
            return Err(io::Error::other("the file is shorter than what is to be stored in it"));
        }
        // SAFETY: the mapping is writable, at least `content.len()` bytes long and unknown to any other code.
        unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), self.map.cast::<u8>(), content.len()) };
        Ok(())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // Nothing can be done about a mapping that will not go.
        let _ = unmap(self.map, self.len);
    }
}

fn unmap(map: *mut c_void, len: usize) -> io::Result<()> {
    // SAFETY: `map` and `len` are exactly what mmap gave; nothing refers to the mapping any more.
    unsafe { munmap(map, len)? };
    Ok(())
}

/// Tells a file system that its disk has failed (EXT4_IOC_SHUTDOWN without a flush of its log): every access that needs
/// the disk then ends with an I/O error. `top` is any file of it.
pub fn stop_file_system(top: &std::fs::File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // _IOR('X', 125, __u32)
    const SHUTDOWN: libc::c_ulong = 0x8004_587d;
    let no_log_flush: u32 = 2;
    // SAFETY: the request reads one u32, which lives until the call has returned.
    match unsafe { libc::ioctl(top.as_raw_fd(), SHUTDOWN, &no_log_flush) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A child that runs the same program.
pub struct Forked(nix::unistd::Pid);

impl Forked {
    /// Wants it to end well.
    pub fn wait(self) -> io::Result<()> {
        use nix::sys::wait::{WaitStatus, waitpid};
        match waitpid(self.0, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            other => Err(io::Error::other(format!("a child ended otherwise than well: {other:?}"))),
        }
    }
}

/// Goes on as two processes: the child does `what` and ends. Only for programs of one thread.
pub fn fork_and(what: impl FnOnce() -> io::Result<()>) -> io::Result<Forked> {
    // SAFETY: fim-actor has no other thread that could hold a lock when the child is made.
    match unsafe { nix::unistd::fork()? } {
        nix::unistd::ForkResult::Parent { child } => Ok(Forked(child)),
        nix::unistd::ForkResult::Child => {
            let done = what();
            if let Err(error) = &done {
                eprintln!("fim-actor: {error}");
            }
            std::process::exit(i32::from(done.is_err()));
        }
    }
}

/// Puts one entry into the ring.
pub fn submit(ring: &mut io_uring::IoUring, entry: &io_uring::squeue::Entry) -> io::Result<()> {
    // SAFETY: the caller waits for the answer before what the entry points to is gone.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)
}
