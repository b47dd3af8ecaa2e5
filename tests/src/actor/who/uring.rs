//! A file written by way of io_uring, where the kernel does the work in its own time.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use io_uring::{IoUring, opcode, squeue, types};

use crate::actor::CONTENT;

pub fn ring(submission_thread: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    if submission_thread {
        builder.setup_sqpoll(50);
    }
    builder.build(8)
}

/// Opens, writes and closes through the ring.
pub fn write(ring: &mut IoUring, file: &Path) -> io::Result<()> {
    let path = CString::new(file.as_os_str().as_bytes())?;
    let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(libc::O_WRONLY);
    let fd = types::Fd(done(ring, &open.build())?);
    let write = opcode::Write::new(fd, CONTENT.as_ptr(), CONTENT.len() as u32).offset(0);
    done(ring, &write.build())?;
    done(ring, &opcode::Close::new(fd).build()).map(drop)
}

fn done(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<i32> {
    crate::sys::submit(ring, entry)?;
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().map(|done| done.result());
    match result {
        Some(result) if result < 0 => Err(io::Error::from_raw_os_error(-result)),
        Some(result) => Ok(result),
        None => Err(io::Error::other("the ring gave no answer")),
    }
}
