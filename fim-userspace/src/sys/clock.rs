//! The kernel's clock.

use std::io;

/// Whether something keeps the clock right (adjtimex(2)): `STA_UNSYNC` is not set.
pub fn synchronised() -> io::Result<bool> {
    // SAFETY: all zeros is a valid timex: plain numbers, and `modes` 0 asks only.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in the struct, which outlives the call; `modes` 0 changes nothing.
    match unsafe { libc::adjtimex(&mut timex) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(timex.status & libc::STA_UNSYNC == 0),
    }
}
