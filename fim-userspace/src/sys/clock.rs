//! The two clocks that fim reads: one for people, one that never jumps.

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
