//! The two clocks that fim reads, one for people, one that never jumps, and whether the first is kept right.

use std::io;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot, suspended time included (`CLOCK_BOOTTIME`): the clock of the kernel's process start times.
pub fn boottime_ns() -> u64 {
    now(ClockId::CLOCK_BOOTTIME) as u64
}

/// Nanoseconds since the epoch.
pub fn realtime_ns() -> i64 {
    now(ClockId::CLOCK_REALTIME)
}

fn now(clock: ClockId) -> i64 {
    // Neither clock can fail on a kernel that fim supports (clock_gettime(2): EINVAL for unknown clocks only).
    clock_gettime(clock).map(|t| t.tv_sec() * 1_000_000_000 + t.tv_nsec()).unwrap_or_default()
}

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
