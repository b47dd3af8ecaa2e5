//! Witnesses: fanotify, eBPF, the scan, and recorded observations.
