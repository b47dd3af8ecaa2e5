//! What a process knows of itself, for fim's word to be held against.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// Ids are those of the host, as /proc has them: it is mounted from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    pub pid: u32,
    /// `None`: some thread of the kernel does it.
    pub tid: Option<u32>,
    pub ppid: u32,
    /// In its own pid namespace, where that is another.
    pub inner_pid: Option<u32>,
    /// Start, hundredths of a second since boot.
    pub start_ticks: u64,
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub fsuid: u32,
    pub auid: Option<u32>,
    pub session: Option<u32>,
    pub comm: String,
    pub exe: String,
    pub exe_dev: u64,
    pub exe_ino: u64,
    /// `linked`, `deleted` or `memfd`.
    pub place: String,
    pub script: Option<String>,
    pub cmdline: Vec<String>,
    pub cwd: String,
    /// In the unified hierarchy, where that is not its root.
    pub cgroup: Option<String>,
    /// Parents, the nearest first.
    pub ancestors: Vec<u32>,
}

impl Truth {
    /// Of the thread that calls.
    pub fn here() -> io::Result<Self> {
        let pid = number(&fs::read_link("/proc/self")?.display().to_string())?;
        let thread = fs::read_link("/proc/thread-self")?.display().to_string();
        let tid = number(thread.rsplit('/').next().unwrap_or(""))?;
        let status = fs::read_to_string("/proc/self/status")?;
        let [uid, euid, _, fsuid] = ids(&status, "Uid:")?;
        let [gid, ..] = ids(&status, "Gid:")?;
        let (ppid, start_ticks) = parent_and_start(pid)?;
        let link = |name: &str| fs::read_link(format!("/proc/self/{name}")).map(|l| l.display().to_string());
        let exe = link("exe")?;
        let file = fs::metadata("/proc/self/exe")?;
        let (exe, place) = match exe.strip_suffix(" (deleted)") {
            Some(path) if path.starts_with("/memfd:") => (exe.clone(), "memfd"),
            Some(path) => (path.to_owned(), "deleted"),
            None => (exe, "linked"),
        };
        let inner = std::process::id();
        // Kernels without audit have neither.
        let audit = |name: &str| {
            let text = fs::read_to_string(format!("/proc/self/{name}")).ok()?;
            text.trim().parse().ok().filter(|id| *id != u32::MAX)
        };
        let words = fs::read("/proc/self/cmdline")?;
        let words = words.strip_suffix(b"\0").unwrap_or(&words).split(|b| *b == 0);
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let unified = groups.lines().find_map(|line| line.strip_prefix("0::"));
        Ok(Self {
            pid,
            tid: Some(tid),
            ppid,
            inner_pid: Some(inner).filter(|inner| *inner != pid),
            start_ticks,
            uid,
            gid,
            euid,
            fsuid,
            auid: audit("loginuid"),
            session: audit("sessionid"),
            comm: fs::read_to_string("/proc/self/comm")?.trim_end_matches('\n').to_owned(),
            exe,
            exe_dev: file.dev(),
            exe_ino: file.ino(),
            place: place.into(),
            script: None,
            cmdline: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
            cwd: link("cwd")?,
            cgroup: unified.filter(|path| *path != "/").map(str::to_owned),
            ancestors: ancestors(ppid),
        })
    }

    /// The same process with the ids that `other` has: in a user namespace it cannot read its own any more.
    pub fn with_ids_of(mut self, other: &Truth) -> Self {
        (self.uid, self.gid, self.euid, self.fsuid) = (other.uid, other.gid, other.euid, other.fsuid);
        (self.auid, self.session) = (other.auid, other.session);
        self
    }
}

fn number(text: &str) -> io::Result<u32> {
    text.parse().map_err(|e| io::Error::other(format!("{text:?} is no id: {e}")))
}

fn ids(status: &str, key: &str) -> io::Result<[u32; 4]> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("");
    let ids: Vec<u32> = line.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    ids.try_into().map_err(|_| io::Error::other(format!("{key} is not in /proc/self/status")))
}

fn parent_and_start(pid: u32) -> io::Result<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit(')').next().unwrap_or("");
    let field = |n: usize| rest.split_whitespace().nth(n).and_then(|text| text.parse::<u64>().ok());
    let (parent, start) =
        field(1).zip(field(19)).ok_or_else(|| io::Error::other("no such /proc/PID/stat"))?;
    Ok((u32::try_from(parent).map_err(io::Error::other)?, start))
}

fn ancestors(mut pid: u32) -> Vec<u32> {
    let mut chain = Vec::new();
    while pid != 0 && chain.len() < 16 {
        chain.push(pid);
        pid = parent_and_start(pid).map_or(0, |(parent, _)| parent);
    }
    chain
}
