//! What a TCP connection has sent and the other side's kernel has not confirmed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes written to a TCP socket that were not acknowledged yet (`SIOCOUTQ`, tcp(7)).
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which is SIOCOUTQ, writes one int to where its argument points; `bytes` outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(usize::try_from(bytes).unwrap_or(0)),
    }
}
