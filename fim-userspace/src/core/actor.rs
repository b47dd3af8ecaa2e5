//! Who did it.

use serde::{Deserialize, Serialize};

use super::entry::Digest;

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

/// Where the file that a process runs is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExePlace {
    /// At its path.
    Linked,
    /// Its name was removed, or given to another file.
    Deleted,
    /// It never had a name: memfd_create(2).
    Memfd,
    /// Not at its path as the daemon sees it, since the process has mounts of its own.
    Elsewhere,
}

/// What the baseline says of the file that a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Approved, and what runs is the approved content.
    Approved,
    /// Its path is approved with another content.
    Altered,
    /// It lies below a watch, and nobody approved it.
    Unapproved,
    /// Its path is approved; what ran is gone and could not be compared.
    Unverified,
}

/// The file that a process runs, as of its exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExeFile {
    /// As stat(2) numbers it.
    pub dev: u64,
    pub ino: u64,
    /// Of the content that ran; `None` where nobody has read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    pub place: ExePlace,
    /// `None`: it lies below no watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Standing>,
}

/// A process in the chain of parents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    pub pid: u32,
    pub start_ns: Option<u64>,
    pub uid: Option<u32>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_file: Option<ExeFile>,
    /// When it ended, nanoseconds since boot, where it had by the time of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ns: Option<u64>,
}

/// Names of an actor's ids; `None` where the host has no name for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub euid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsuid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auid: Option<String>,
}

impl Names {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The process behind a change. An id that could not be read is `None`, never 0. Text is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Thread group id, what people call the process id, in the daemon's namespace.
    pub pid: Option<u32>,
    /// The thread that did it; `None` where the sensor names processes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Process id in the innermost of its pid namespaces, where that is not the daemon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner_pid: Option<u32>,
    /// Who is its parent now; the first of `ancestors` is who started it, where that is known.
    pub ppid: Option<u32>,
    /// Start, nanoseconds since boot.
    pub start_ns: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub euid: Option<u32>,
    /// What files are accessed with; nearly always `euid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsuid: Option<u32>,
    /// Login uid (audit); `None` when unset (`u32::MAX`) or unreadable.
    pub auid: Option<u32>,
    pub session: Option<u32>,
    /// What the host calls these ids, as of the record.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub names: Names,
    pub tty: Option<String>,
    /// Where the login session came from: the SSH client's address, or the host that utmp has for the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_file: Option<ExeFile>,
    /// The script that `exe` interprets, as it was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Cut where it is long; secrets are masked.
    #[serde(default)]
    pub cmdline: Vec<String>,
    pub cwd: Option<String>,
    pub cgroup: Option<String>,
    /// The systemd unit of the control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// 12 digits, as the tools print them.
    pub container: Option<String>,
    /// `docker`, `containerd`, `cri-o`, `podman`; `None` where the control group does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    #[serde(default)]
    pub ancestors: Vec<Ancestor>,
    pub confidence: Confidence,
}

impl Actor {
    /// Nobody could be named.
    pub fn unknown() -> Self {
        Self {
            pid: None,
            tid: None,
            inner_pid: None,
            ppid: None,
            start_ns: None,
            uid: None,
            gid: None,
            euid: None,
            fsuid: None,
            auid: None,
            session: None,
            names: Names::default(),
            tty: None,
            from: None,
            comm: None,
            exe: None,
            exe_file: None,
            script: None,
            cmdline: Vec::new(),
            cwd: None,
            cgroup: None,
            unit: None,
            container: None,
            runtime: None,
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
