//! File handles: names of inodes that outlive their paths (name_to_handle_at(2)), as fanotify reports them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Asks for a handle that need not be openable; overlayfs and others give only that (since Linux 6.5).
const AT_HANDLE_FID: libc::c_int = 0x200;
/// include/linux/exportfs.h: no file system makes a longer one.
const MAX_HANDLE_SZ: usize = 128;

/// One inode of one file system. Holds the inode's generation, so a deleted inode's number used again gives another handle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileHandle {
    /// `f_fsid` of statfs(2).
    pub fsid: [i32; 2],
    pub kind: i32,
    pub bytes: Box<[u8]>,
}

#[repr(C, align(4))]
struct Raw {
    handle_bytes: u32,
    handle_type: i32,
    bytes: [u8; MAX_HANDLE_SZ],
}

impl FileHandle {
    /// The handle of an open file, `O_PATH` included. `EOPNOTSUPP`: the file system makes none.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let fsid = file_system_id(fd)?;
        let (kind, bytes) = match encode(fd, AT_HANDLE_FID) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => encode(fd, 0)?,
            other => other?,
        };
        Ok(Self { fsid, kind, bytes })
    }
}

/// Opens a directory by its handle; `mount` is any file of the same mount. `ESTALE`: it is gone. Many file systems that
/// make handles cannot open them.
pub fn open_directory(mount: BorrowedFd<'_>, handle: &FileHandle) -> io::Result<OwnedFd> {
    let mut raw =
        Raw { handle_bytes: handle.bytes.len() as u32, handle_type: handle.kind, bytes: [0; MAX_HANDLE_SZ] };
    raw.bytes
        .get_mut(..handle.bytes.len())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EOVERFLOW))?
        .copy_from_slice(&handle.bytes);
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `raw` has the layout of struct file_handle followed by the `handle_bytes` bytes it declares.
    let fd = unsafe {
        libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut raw).cast::<libc::file_handle>(), flags)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `f_fsid`; the libraries keep its two halves to themselves.
pub fn file_system_id(fd: BorrowedFd<'_>) -> io::Result<[i32; 2]> {
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `stat` is writable and as large as the kernel's answer.
    if unsafe { libc::fstatfs(fd.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every bit pattern is a valid `statfs`, and the call filled it; fsid_t is two ints (statfs(2)).
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, [i32; 2]>(stat.assume_init().f_fsid) })
}

fn encode(fd: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<(i32, Box<[u8]>)> {
    let mut raw = Raw { handle_bytes: MAX_HANDLE_SZ as u32, handle_type: 0, bytes: [0; MAX_HANDLE_SZ] };
    let mut mount = 0;
    // SAFETY: `raw` has the layout of struct file_handle followed by the `handle_bytes` bytes it declares, and it and
    // `mount` outlive the call; the empty path is NUL-terminated and AT_EMPTY_PATH makes it mean `fd`.
    let status = unsafe {
        libc::name_to_handle_at(
            fd.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut raw).cast::<libc::file_handle>(),
            &raw mut mount,
            libc::AT_EMPTY_PATH | flags,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let len = (raw.handle_bytes as usize).min(MAX_HANDLE_SZ);
    Ok((raw.handle_type, raw.bytes[..len].into()))
}
