//! fanotify(7): the calls, and its event records as safe values.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub mod records;

/// `FAN_REPORT_TARGET_FID` and the like are bits of this.
pub type InitFlags = libc::c_uint;

/// A notification group.
#[derive(Debug)]
pub struct Group(OwnedFd);

impl Group {
    /// fanotify_init(2). `EINVAL`: the kernel does not know one of the flags.
    pub fn new(flags: InitFlags) -> io::Result<Self> {
        // SAFETY: takes two integers; no memory is involved.
        let fd = unsafe { libc::fanotify_init(flags, (libc::O_RDONLY | libc::O_CLOEXEC) as libc::c_uint) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds `mask` to the mark of an inode, open for reading (not `O_PATH`).
    pub fn mark(&self, file: BorrowedFd<'_>, mask: u64) -> io::Result<()> {
        self.change(libc::FAN_MARK_ADD, mask, file.as_raw_fd(), None)
    }

    /// As [`Self::mark`], for an `O_PATH` descriptor.
    pub fn mark_path(&self, file: BorrowedFd<'_>, mask: u64) -> io::Result<()> {
        let link = format!("/proc/self/fd/{}\0", file.as_raw_fd());
        self.change(libc::FAN_MARK_ADD, mask, libc::AT_FDCWD, Some(&link))
    }

    /// Takes `mask` away from the mark of an inode open for reading.
    pub fn unmark(&self, file: BorrowedFd<'_>, mask: u64) -> io::Result<()> {
        self.change(libc::FAN_MARK_REMOVE, mask, file.as_raw_fd(), None)
    }

    /// Whether the kernel knows every bit of `mask`: it looks at the mask before it finds that there is no such file.
    pub fn knows(&self, mask: u64) -> bool {
        let status = self.change(libc::FAN_MARK_ADD, mask, -1, None);
        status.is_err_and(|e| e.raw_os_error() == Some(libc::EBADF))
    }

    fn change(&self, flags: libc::c_uint, mask: u64, dir: libc::c_int, path: Option<&str>) -> io::Result<()> {
        let path = match path {
            Some(text) => {
                std::ffi::CStr::from_bytes_with_nul(text.as_bytes()).map_err(io::Error::other)?.as_ptr()
            }
            None => std::ptr::null(),
        };
        // SAFETY: `path` is null or a NUL-terminated string that outlives the call; the rest are integers.
        let status = unsafe { libc::fanotify_mark(self.0.as_raw_fd(), flags, mask, dir, path) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Reads what is queued; `None` when nothing is. The group must be non-blocking.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<Batch>> {
        let len = loop {
            match rustix::io::read(&self.0, &mut *buffer) {
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        let bytes = buffer[..len].to_vec();
        let mut pidfds = HashMap::new();
        for event in records::events(&bytes) {
            if let records::Pidfd::Open(fd) = event.pidfd {
                // SAFETY: the kernel installed this descriptor for this very record, and each record is visited once.
                pidfds.insert(fd, unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        Ok(Some(Batch { bytes, pidfds }))
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The events of one read, and the pidfds that came with them.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    pidfds: HashMap<i32, OwnedFd>,
}

impl Batch {
    /// Events recorded elsewhere, without their pidfds.
    pub fn recorded(bytes: Vec<u8>) -> Self {
        Self { bytes, pidfds: HashMap::new() }
    }

    pub fn events(&self) -> impl Iterator<Item = records::Event<'_>> {
        records::events(&self.bytes)
    }

    /// The pidfd of one of these events.
    pub fn pidfd(&self, event: &records::Event<'_>) -> Option<BorrowedFd<'_>> {
        match event.pidfd {
            records::Pidfd::Open(fd) => self.pidfds.get(&fd).map(AsFd::as_fd),
            _ => None,
        }
    }

    /// Length of all records together.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
