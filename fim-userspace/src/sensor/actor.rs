//! From a pid in a sensor's report to a full [`Actor`].

pub mod cgroup;
pub mod container;
mod dir;
pub mod kernel;
pub mod origin;
pub mod proc;
pub mod program;
pub mod script;

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

/// Adds what follows from what is known already.
pub fn derive(actor: &mut Actor) {
    if let Some(cgroup) = actor.cgroup.as_deref() {
        let container = container::container(cgroup);
        actor.runtime = container.as_ref().and_then(|(_, runtime)| runtime.map(str::to_owned));
        actor.container = container.map(|(id, _)| id);
        actor.unit = container::unit(cgroup);
    }
    actor.script = actor.exe.as_deref().and_then(|exe| script::script(exe, &actor.cmdline));
}
