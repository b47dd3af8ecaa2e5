//! Witnesses: fanotify, eBPF, the scan, and recorded observations.

pub mod actor;
pub mod dirs;
pub mod ebpf;
pub mod fanotify;
pub mod marks;
pub mod replay;
pub mod scan;
mod settle;
