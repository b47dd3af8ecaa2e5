//! From a pid in a sensor's report to a full [`Actor`].

pub mod container;
pub mod kernel;
pub mod proc;

use std::os::fd::BorrowedFd;

pub use kernel::KernelTable;
pub use proc::ProcReader;

use crate::core::actor::Actor;

/// Names the process behind a report that carries only its pid.
pub trait Identify: Send + Sync {
    /// `pid` is a thread group id; `pidfd` proves, where the sensor has one, that /proc/PID is still that process.
    fn identify(&self, pid: u32, pidfd: Option<BorrowedFd<'_>>) -> Actor;

    /// The same for a process that had been reaped before the sensor read its report: `pid` may be another's by now.
    fn identify_gone(&self, pid: u32) -> Actor {
        Actor { pid: Some(pid), ..Actor::unknown() }
    }
}
