//! What /proc says about a process that is still there.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

use super::dir::{ProcessDir, read_at};
use super::{Identify, derive, program};
use crate::core::actor::{Actor, Ancestor, Confidence, ExeFile};
use crate::core::path::escape;

/// Clock ticks in which /proc/PID/stat counts start times: `USER_HZ`, 100 on every architecture fim runs on.
pub const TICK_NS: u64 = 10_000_000;
const GENERATIONS: usize = 16;
/// Bytes of a command line that are kept; a process can have megabytes.
const ARGUMENTS: usize = 4096;

/// One reading of /proc/PID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    pub ppid: Option<u32>,
    pub start_ticks: u64,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub euid: Option<u32>,
    pub fsuid: Option<u32>,
    /// Process id in the innermost pid namespace, where that is another than the daemon's.
    pub inner_pid: Option<u32>,
    pub auid: Option<u32>,
    pub session: Option<u32>,
    pub tty: Option<String>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    pub exe_file: Option<ExeFile>,
    pub cmdline: Vec<String>,
    pub cwd: Option<String>,
    pub cgroup: Option<String>,
}

/// See [`Live::read_mutable`].
#[derive(Debug, PartialEq, Eq)]
pub struct Mutable {
    /// Lines of its status.
    status: [Vec<u8>; 3],
    /// The login session is set with it.
    login: Option<Vec<u8>>,
    cwd: Option<String>,
}

impl Live {
    /// # Errors
    /// When there is no such process, or it ended while it was being read.
    pub fn read(pid: u32) -> io::Result<Self> {
        let dir = ProcessDir::open(pid)?;
        let mut live = Self::begin(&dir)?;
        let number =
            |name| dir.read(name).ok().and_then(|text| String::from_utf8_lossy(&text).trim().parse().ok());
        // 4294967295: never logged in.
        live.auid = number("loginuid").filter(|id| *id != u32::MAX);
        live.session = number("sessionid").filter(|id| *id != u32::MAX);
        live.cwd = dir.link("cwd");
        live.cmdline =
            dir.read_at_most("cmdline", ARGUMENTS + 1).map(|text| arguments(&text)).unwrap_or_default();
        live.cgroup = dir.read("cgroup").ok().and_then(|text| control_group(&text));
        live.end(&dir)
    }

    /// What a process can alter about itself without another exec(2), as far as records have it: its name, its ids and where
    /// it is.
    pub fn read_mutable(pid: u32) -> io::Result<Mutable> {
        let dir = ProcessDir::open(pid)?;
        let (login, cwd) = (dir.read("loginuid").ok(), dir.link("cwd"));
        let text = dir.read("status")?;
        let line = |key: &[u8]| {
            text.split(|b| *b == b'\n').find(|line| line.starts_with(key)).unwrap_or_default().to_vec()
        };
        Ok(Mutable { status: [&b"Name:"[..], b"Uid:", b"Gid:"].map(line), login, cwd })
    }

    /// As [`read`](Self::read), of what an [`Ancestor`] has.
    fn read_ancestor(pid: u32) -> io::Result<Self> {
        let dir = ProcessDir::open(pid)?;
        Self::begin(&dir)?.end(&dir)
    }

    fn begin(dir: &ProcessDir) -> io::Result<Self> {
        let mut live =
            stat(&dir.read("stat")?).ok_or_else(|| io::Error::other("/proc/PID/stat has a strange form"))?;
        (live.exe, live.exe_file) = program::running(dir);
        Ok(live)
    }

    /// Adds the ids. Comes last, and fails where the process is gone by then: what was read before may be missing.
    fn end(mut self, dir: &ProcessDir) -> io::Result<Self> {
        let text = dir.read("status")?;
        [self.uid, self.euid, _, self.fsuid] = ids(&text, "Uid:");
        [self.gid, ..] = ids(&text, "Gid:");
        self.inner_pid = inner_pid(&text);
        Ok(self)
    }

    /// Whether this is the process that the kernel started at `start_ns` after boot.
    pub fn started(&self, start_ns: u64) -> bool {
        // A time namespace of the daemon's own would shift this; fim runs in the host's.
        self.start_ticks == start_ns / TICK_NS
    }

    /// Adds what the kernel's own table does not hold; what the actor has stays.
    pub fn fill(&self, actor: &mut Actor) {
        let or = |mine: &mut Option<String>, other: &Option<String>| {
            if mine.is_none() {
                mine.clone_from(other);
            }
        };
        or(&mut actor.tty, &self.tty);
        // It may have given itself another since.
        actor.comm = self.comm.clone().or(actor.comm.take());
        or(&mut actor.exe, &self.exe);
        or(&mut actor.cwd, &self.cwd);
        or(&mut actor.cgroup, &self.cgroup);
        // /proc knows what became of the file; but that it is another one than the kernel saw at the exec is a lie.
        let same = |kernels: &ExeFile, file: &ExeFile| kernels.ino == file.ino;
        if let Some(file) = &self.exe_file
            && actor.exe_file.as_ref().is_none_or(|kernels| same(kernels, file))
            && actor.exe == self.exe
        {
            actor.exe_file = Some(file.clone());
        }
        actor.ppid = self.ppid.or(actor.ppid);
        actor.inner_pid = actor.inner_pid.or(self.inner_pid);
        if actor.cmdline.is_empty() {
            actor.cmdline.clone_from(&self.cmdline);
        }
        derive(actor);
    }

    fn actor(&self, pid: u32) -> Actor {
        let mut actor = Actor {
            pid: Some(pid),
            start_ns: Some(self.start_ticks * TICK_NS),
            uid: self.uid,
            gid: self.gid,
            euid: self.euid,
            fsuid: self.fsuid,
            auid: self.auid,
            session: self.session,
            ancestors: ancestors(self.ppid),
            ..Actor::unknown()
        };
        self.fill(&mut actor);
        actor
    }
}

/// /proc alone, for kernels that give nothing better.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcReader;

impl ProcReader {
    pub const fn new() -> Self {
        Self
    }
}

impl Identify for ProcReader {
    /// Exact only when the pidfd shows that the id was not used again. Without one the reading may be of a later
    /// process with the same id, and says so.
    fn identify(&self, pid: u32, pidfd: Option<BorrowedFd<'_>>) -> Actor {
        let nobody = Actor { pid: Some(pid), ..Actor::unknown() };
        let Ok(live) = Live::read(pid) else { return nobody };
        let actor = live.actor(pid);
        match pidfd.map(|fd| names(fd, pid)) {
            Some(true) => Actor { confidence: Confidence::Exact, ..actor },
            Some(false) => nobody,
            None => actor,
        }
    }
}

/// Whether the pidfd still stands for `pid`: its process has not been reaped. pidfd_open(2): fdinfo then says -1.
pub fn names(pidfd: BorrowedFd<'_>, pid: u32) -> bool {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = read_at(rustix::fs::CWD, &path, usize::MAX).unwrap_or_default();
    let info = String::from_utf8_lossy(&info);
    let held = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    held.and_then(|text| text.trim().parse::<u32>().ok()) == Some(pid)
}

/// Whether the process with this id is the one that the kernel started at `start_ns` after boot.
pub fn is_still(pid: u32, start_ns: u64) -> bool {
    let text = ProcessDir::open(pid).and_then(|dir| dir.read("stat"));
    text.ok().and_then(|text| stat(&text)).is_some_and(|live| live.started(start_ns))
}

/// Whether the process has a descriptor of this file, as stat(2) numbers it. What cannot be told is taken to be so.
pub fn has_open(pid: u32, dev: u64, ino: u64) -> bool {
    // Who has more must not make each look at his file a long one.
    const MOST: usize = 256;
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let mut left = MOST;
    for entry in entries.flatten() {
        left = left.saturating_sub(1);
        // A server that does not answer, behind one of the descriptors, is not asked.
        let found = statx(CWD, entry.path(), AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
        let same = found.is_ok_and(|f| f.stx_ino == ino && makedev(f.stx_dev_major, f.stx_dev_minor) == dev);
        if same || left == 0 {
            return true;
        }
    }
    false
}

/// The chain of parents from `ppid` up.
pub fn ancestors(mut ppid: Option<u32>) -> Vec<Ancestor> {
    let mut chain = Vec::new();
    while let Some(pid) = ppid.filter(|pid| *pid != 0 && chain.len() < GENERATIONS) {
        let Ok(live) = Live::read_ancestor(pid) else { break };
        chain.push(Ancestor {
            pid,
            start_ns: Some(live.start_ticks * TICK_NS),
            uid: live.uid,
            comm: live.comm,
            exe: live.exe,
            exe_file: live.exe_file,
            ended_ns: None,
        });
        ppid = live.ppid;
    }
    chain
}

/// proc_pid_stat(5). The name in parentheses may hold anything, so fields are counted from its last parenthesis.
fn stat(text: &[u8]) -> Option<Live> {
    let open = text.iter().position(|b| *b == b'(')?;
    let close = text.iter().rposition(|b| *b == b')')?;
    let comm = text.get(open + 1..close)?;
    let rest = String::from_utf8_lossy(&text[close + 1..]);
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 is the first one here.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Live {
        ppid: field(4)?.parse().ok(),
        start_ticks: field(22)?.parse().ok()?,
        tty: terminal(field(7)?.parse().ok()?),
        comm: Some(escape(comm)),
        ..Live::default()
    })
}

/// Name of a terminal from its device number: `minor << 0..8, major << 8, minor << 20` as proc_pid_stat(5) packs it.
fn terminal(number: i32) -> Option<String> {
    let number = number as u32;
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match major {
        0 => None,
        // Documentation/admin-guide/devices.txt
        4 if minor < 64 => Some(format!("tty{minor}")),
        4 => Some(format!("ttyS{}", minor - 64)),
        136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        _ => Some(format!("{major}:{minor}")),
    }
}

/// Real, effective, saved and file system id of a line of /proc/PID/status.
fn ids(status: &[u8], key: &str) -> [Option<u32>; 4] {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("");
    let mut ids = line.split_ascii_whitespace();
    std::array::from_fn(|_| ids.next().and_then(|id| id.parse().ok()))
}

/// The last id of the line `NSpid:`, where there is more than the one in the reader's namespace.
fn inner_pid(status: &[u8]) -> Option<u32> {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().skip(1).last()?.parse().ok()
}

/// What is beyond [`ARGUMENTS`] is cut off, and that is said.
fn arguments(text: &[u8]) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let (kept, cut) = if text.len() > ARGUMENTS { (&text[..ARGUMENTS], true) } else { (text, false) };
    let mut all: Vec<String> =
        kept.strip_suffix(b"\0").unwrap_or(kept).split(|b| *b == 0).map(escape).collect();
    if cut {
        all.push("… (cut)".into());
    }
    all
}

/// The unified group, else the deepest of the old ones. cgroups(7).
fn control_group(text: &[u8]) -> Option<String> {
    let paths = text.split(|b| *b == b'\n').filter_map(|line| {
        let mut parts = line.splitn(3, |b| *b == b':');
        let (id, _, path) = (parts.next()?, parts.next()?, parts.next()?);
        Some((id == b"0", escape(path)))
    });
    let all: Vec<(bool, String)> = paths.collect();
    let unified = all.iter().find(|(unified, path)| *unified && path != "/");
    unified.or_else(|| all.iter().max_by_key(|(_, path)| path.len())).map(|(_, path)| path.clone())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::process::CommandExt;

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_misleads_nobody() {
        let live = stat(b"42 (a) R 1 (b) S 7 42 42 34817 42 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 0\n")
            .expect("sound");
        assert_eq!((live.ppid, live.start_ticks), (Some(7), 4711));
        assert_eq!(live.comm.as_deref(), Some("a) R 1 (b"));
        assert_eq!(live.tty.as_deref(), Some("pts/1"));
        assert_eq!(stat(b"42 (cut) S 7"), None);
    }

    #[test]
    fn what_a_process_has_open_is_known_again() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        let held = std::fs::File::create(&path).expect("made");
        let found = held.metadata().expect("there");
        let own = std::process::id();
        assert!(has_open(own, found.dev(), found.ino()));
        assert!(!has_open(own, found.dev() + 1, found.ino()));
        drop(held);
        assert!(!has_open(own, found.dev(), found.ino()));
    }

    #[test]
    fn terminals_have_names() {
        for (number, name) in [(0, None), (4 << 8 | 1, Some("tty1")), (4 << 8 | 64, Some("ttyS0"))] {
            assert_eq!(terminal(number).as_deref(), name);
        }
        assert_eq!(terminal(137 << 8 | 3).as_deref(), Some("pts/259"));
    }

    #[test]
    fn ids_groups_and_arguments() {
        let status = b"Name:\tx\nUid:\t1000\t0\t0\t7\nGid:\t1001\t5\t5\t5\n";
        assert_eq!(ids(status, "Uid:"), [Some(1000), Some(0), Some(0), Some(7)]);
        assert_eq!(ids(status, "Gid:"), [Some(1001), Some(5), Some(5), Some(5)]);
        assert_eq!(ids(b"Name:\tx\n", "Uid:"), [None; 4]);
        assert_eq!(inner_pid(b"NSpid:\t4711\t12\t1\n"), Some(1));
        assert_eq!(inner_pid(b"NSpid:\t4711\n"), None);
        assert_eq!(arguments(b"a\0\0b\n\0"), ["a", "", "b\\x0a"]);
        assert_eq!(control_group(b"1:name=systemd:/a\n0::/b/c\n").as_deref(), Some("/b/c"));
        assert_eq!(control_group(b"4:memory:/docker/x\n0::/\n").as_deref(), Some("/docker/x"));
    }

    #[test]
    fn reads_this_very_process() {
        let live = Live::read(std::process::id()).expect("there");
        assert_eq!(live.uid, Some(nix::unistd::getuid().as_raw()));
        assert_eq!(live.gid, Some(nix::unistd::getgid().as_raw()));
        assert_eq!(live.ppid, Some(nix::unistd::getppid().as_raw() as u32));
        let exe = std::env::current_exe().expect("known");
        assert_eq!(live.exe, Some(escape(exe.as_os_str().as_bytes())));
    }

    /// 2 MiB of arguments in each of a hundred records would fill the disk.
    #[test]
    fn a_command_line_of_megabytes_is_cut_and_says_so() {
        let mut child = std::process::Command::new("sleep")
            .arg0("x".repeat(100_000))
            .arg("4711")
            .spawn()
            .expect("starts");
        // The arguments come a moment after the call returns (create_elf_tables, fs/binfmt_elf.c).
        let mut live = Live::read(child.id()).expect("is there");
        while live.cmdline.is_empty() {
            live = Live::read(child.id()).expect("is there");
        }
        child.kill().expect("killed");
        child.wait().expect("ends");
        assert_eq!(live.cmdline, ["x".repeat(ARGUMENTS), "… (cut)".into()]);
    }

    #[test]
    fn what_is_remembered_of_a_process_is_seen_to_change() {
        let pid = std::process::id();
        let before = Live::read_mutable(pid).expect("there");
        assert_eq!(Live::read_mutable(pid).expect("there"), before);
        assert!(before.status[1].starts_with(b"Uid:\t") && before.status[2].starts_with(b"Gid:\t"));
        // The name of its first thread, which is not this one.
        let comm = format!("/proc/{pid}/comm");
        let name = std::fs::read(&comm).expect("readable");
        std::fs::write(&comm, b"another").expect("may be set");
        let after = Live::read_mutable(pid).expect("there");
        std::fs::write(&comm, name).expect("may be set");
        assert_eq!(after.status[0], b"Name:\tanother");
        assert_ne!(after, before);
    }

    #[test]
    fn a_folder_of_a_process_stands_for_no_other_one() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let dir = ProcessDir::open(child.id()).expect("there");
        assert!(dir.read("status").expect("readable").starts_with(b"Name:\t"));
        assert_eq!(dir.read_at_most("status", 5).expect("readable"), b"Name:");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(dir.read("status").is_err() && dir.link("exe").is_none() && dir.stat("exe").is_none());
        assert!(ProcessDir::open(child.id()).is_err());
    }

    #[test]
    fn a_reaped_process_is_nobody() {
        use std::os::fd::AsFd;
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let pid = child.id();
        let raw = rustix::process::Pid::from_raw(pid as i32).expect("positive");
        let pidfd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()).expect("pidfd");
        let alive = ProcReader.identify(pid, Some(pidfd.as_fd()));
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert_eq!((alive.pid, alive.confidence), (Some(pid), Confidence::Exact));
        assert_eq!(alive.ancestors.first().map(|a| a.pid), Some(std::process::id()));
        assert_eq!(
            ProcReader.identify(pid, Some(pidfd.as_fd())),
            Actor { pid: Some(pid), ..Actor::unknown() }
        );
    }
}
