//! Witnesses: fanotify, eBPF, the scan, and recorded observations.

pub mod actor;
pub mod marks;
