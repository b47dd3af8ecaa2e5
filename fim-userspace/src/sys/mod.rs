//! The only unsafe code: system calls that no library wraps.

pub mod handle;
