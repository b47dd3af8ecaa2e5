//! Who did it.

use serde::{Deserialize, Serialize};

/// How sure the attribution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// One process, identified by the kernel at the moment of the operation or held by a pidfd.
    Exact,
    /// One of several possible writers.
    Several,
    Unknown,
}

/// Names one process for ever, even after its pid is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    pub tgid: u32,
    /// Start of the thread group's leader, nanoseconds since boot (`task_struct.start_boottime`); 0 where unknown.
    pub start_ns: u64,
}

/// A process in the chain of parents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    pub pid: u32,
    pub start_ns: Option<u64>,
    pub uid: Option<u32>,
    pub comm: Option<String>,
    pub exe: Option<String>,
}

/// The process behind a change. An id that could not be read is `None`, never 0. Text is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Thread group id, what people call the process id, in the daemon's namespace.
    pub pid: Option<u32>,
    pub ppid: Option<u32>,
    /// Start, nanoseconds since boot.
    pub start_ns: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub euid: Option<u32>,
    /// Login uid (audit); `None` when unset (`u32::MAX`) or unreadable.
    pub auid: Option<u32>,
    pub session: Option<u32>,
    pub tty: Option<String>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    #[serde(default)]
    pub cmdline: Vec<String>,
    pub cwd: Option<String>,
    pub cgroup: Option<String>,
    pub container: Option<String>,
    #[serde(default)]
    pub ancestors: Vec<Ancestor>,
    pub confidence: Confidence,
}

impl Actor {
    /// Nobody could be named.
    pub fn unknown() -> Self {
        Self {
            pid: None,
            ppid: None,
            start_ns: None,
            uid: None,
            gid: None,
            euid: None,
            auid: None,
            session: None,
            tty: None,
            comm: None,
            exe: None,
            cmdline: Vec::new(),
            cwd: None,
            cgroup: None,
            container: None,
            ancestors: Vec::new(),
            confidence: Confidence::Unknown,
        }
    }

    /// The same process, as far as both sides know: pid and start time.
    pub fn same_process(&self, other: &Actor) -> bool {
        self.pid.is_some()
            && self.pid == other.pid
            && match (self.start_ns, other.start_ns) {
                // /proc counts in clock ticks of 10 ms.
                (Some(a), Some(b)) => a.abs_diff(b) < 10_000_000,
                _ => true,
            }
    }
}
