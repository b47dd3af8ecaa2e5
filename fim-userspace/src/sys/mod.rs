//! The only unsafe code: system calls that no library wraps.

pub mod clock;
pub mod fanotify;
pub mod handle;
pub mod mapping;
pub mod memory;
pub mod outq;
pub mod peer;
pub mod priority;
