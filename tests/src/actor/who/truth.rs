//! What a process knows of itself, for fim's word to be held against.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
    /// What this host calls `uid`, `gid`, `euid`, `fsuid` and `auid`.
    pub names: [Option<String>; 5],
    /// As below /dev.
    pub tty: Option<String>,
    pub comm: String,
    pub exe: String,
    pub exe_dev: u64,
    pub exe_ino: u64,
    /// Of the program, in hexadecimal digits.
    pub sha256: String,
    /// `linked`, `deleted` or `memfd`.
    pub place: String,
    pub script: Option<String>,
    pub cmdline: Vec<String>,
    pub cwd: String,
    /// In the unified hierarchy, where that is not its root.
    pub cgroup: Option<String>,
    /// `None` here and below: the shape has nothing to say of it.
    pub unit: Option<String>,
    pub container: Option<String>,
    pub runtime: Option<String>,
    /// Address of the login's client.
    pub from: Option<String>,
    /// Parents, the nearest first.
    pub ancestors: Vec<Forebear>,
}

/// A parent, as /proc has it when the shape acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forebear {
    pub pid: u32,
    /// Start, hundredths of a second since boot.
    pub start_ticks: u64,
    pub uid: u32,
    /// `None` where only root may know.
    pub exe: Option<String>,
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
        let Stat { ppid, start_ticks, tty } = stat(pid)?;
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
        let auid = audit("loginuid");
        let words = fs::read("/proc/self/cmdline")?;
        let words = words.strip_suffix(b"\0").unwrap_or(&words).split(|b| *b == 0);
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let unified = groups.lines().find_map(|line| line.strip_prefix("0::"));
        let mut truth = Self {
            pid,
            tid: Some(tid),
            ppid,
            inner_pid: Some(inner).filter(|inner| *inner != pid),
            start_ticks,
            uid,
            gid,
            euid,
            fsuid,
            auid,
            session: audit("sessionid"),
            names: Default::default(),
            tty,
            comm: fs::read_to_string("/proc/self/comm")?.trim_end_matches('\n').to_owned(),
            exe,
            exe_dev: file.dev(),
            exe_ino: file.ino(),
            sha256: sha256(Path::new("/proc/self/exe"))?,
            place: place.into(),
            script: None,
            cmdline: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
            cwd: link("cwd")?,
            cgroup: unified.filter(|path| *path != "/").map(str::to_owned),
            unit: None,
            container: None,
            runtime: None,
            from: None,
            ancestors: ancestors(ppid),
        };
        truth.name();
        Ok(truth)
    }

    /// Notes what this host calls the ids.
    pub fn name(&mut self) {
        let Self { uid, gid, euid, fsuid, auid, .. } = *self;
        self.names = [user(Some(uid)), group(gid), user(Some(euid)), user(Some(fsuid)), user(auid)];
    }

    /// As a child sees it.
    pub fn as_forebear(&self) -> Forebear {
        Forebear { pid: self.pid, start_ticks: self.start_ticks, uid: self.uid, exe: Some(self.exe.clone()) }
    }

    /// The same process with the ids that `other`, its parent, has: in a user namespace it cannot read them any more.
    pub fn with_ids_of(mut self, other: &Truth) -> Self {
        (self.uid, self.gid, self.euid, self.fsuid) = (other.uid, other.gid, other.euid, other.fsuid);
        (self.auid, self.session) = (other.auid, other.session);
        self.names = other.names.clone();
        let chain = std::iter::once(other.as_forebear()).chain(other.ancestors.iter().cloned());
        self.ancestors = chain.take(16).collect();
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

/// What /proc/PID/stat says.
struct Stat {
    ppid: u32,
    start_ticks: u64,
    tty: Option<String>,
}

fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = text.rsplit(')').next().unwrap_or("");
    let field = |n: usize| rest.split_whitespace().nth(n).and_then(|text| text.parse::<u64>().ok());
    let (Some(parent), Some(terminal), Some(start_ticks)) = (field(1), field(4), field(19)) else {
        return Err(io::Error::other("no such /proc/PID/stat"));
    };
    // Only those of pseudoterminals are told from others here: majors 136 to 143, with 20 bits of minor.
    let (major, minor) = (terminal >> 8 & 0xfff, terminal & 0xff | terminal >> 12 & 0xfff00);
    let tty = (136..=143).contains(&major).then(|| format!("pts/{}", (major - 136) * 256 + minor));
    Ok(Stat { ppid: u32::try_from(parent).map_err(io::Error::other)?, start_ticks, tty })
}

fn ancestors(mut pid: u32) -> Vec<Forebear> {
    let mut chain = Vec::new();
    while pid != 0 && chain.len() < 16 {
        let Ok(Stat { ppid, start_ticks, .. }) = stat(pid) else { break };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let Ok([uid, ..]) = ids(&status, "Uid:") else { break };
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let exe = exe.map(|exe| exe.display().to_string()).filter(|exe| !exe.ends_with(" (deleted)"));
        chain.push(Forebear { pid, start_ticks, uid, exe });
        pid = ppid;
    }
    chain
}

/// Of a whole file, in hexadecimal digits.
pub(super) fn sha256(path: &Path) -> io::Result<String> {
    Ok(Sha256::digest(fs::read(path)?).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn user(uid: Option<u32>) -> Option<String> {
    User::from_uid(Uid::from_raw(uid?)).ok().flatten().map(|user| user.name)
}

fn group(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
}
