//! Reads the kernel's process table.

use std::sync::Arc;

use aya::maps::{HashMap, MapData};
use fim_common::{PathText, ProcessRecord, TaskKey};

use crate::core::actor::{Actor, Ancestor, Confidence, ExeFile, ProcessKey};
use crate::core::path::escape;
use crate::sensor::actor::cgroup::ControlGroups;
use crate::sensor::actor::proc::TICK_NS;
use crate::sensor::actor::{derive, program};

/// How far up the chain of parents an actor is followed.
pub const GENERATIONS: usize = 16;

/// What a process runs.
#[derive(Default)]
pub struct Image {
    pub comm: Option<String>,
    pub exe: Option<String>,
    pub exe_file: Option<ExeFile>,
    pub cmdline: Vec<String>,
}

/// The table that the tracepoints keep: every process from its fork until long after its end.
pub struct ProcessTable {
    process: HashMap<MapData, TaskKey, ProcessRecord>,
    current: HashMap<MapData, u32, u64>,
    /// Arguments of processes older than the table, by their key, as of the start.
    older: std::collections::HashMap<ProcessKey, Vec<String>>,
    groups: ControlGroups,
    /// Number of the daemon's mount namespace.
    mounts: u32,
}

impl ProcessTable {
    pub fn new(
        process: HashMap<MapData, TaskKey, ProcessRecord>,
        current: HashMap<MapData, u32, u64>,
    ) -> Arc<ProcessTable> {
        let mut table = Self {
            process,
            current,
            older: Default::default(),
            groups: ControlGroups::of_host(),
            mounts: own_mounts(),
        };
        table.older = table.arguments_of_older();
        Arc::new(table)
    }

    pub fn record(&self, key: ProcessKey) -> Option<ProcessRecord> {
        self.process.get(&TaskKey { tgid: key.tgid, pad: 0, start_ns: key.start_ns }, 0).ok()
    }

    /// The process that has this id, or had it last.
    pub fn current(&self, tgid: u32) -> Option<ProcessKey> {
        self.current.get(&tgid, 0).ok().map(|start_ns| ProcessKey { tgid, start_ns })
    }

    /// The kernel could not read other processes' memory when it entered those that were running already.
    fn arguments_of_older(&self) -> std::collections::HashMap<ProcessKey, Vec<String>> {
        let keys: Vec<u32> = self.current.keys().filter_map(Result::ok).collect();
        keys.into_iter()
            .filter_map(|pid| {
                let key = self.current(pid)?;
                let live = crate::sensor::actor::proc::Live::read(pid).ok()?;
                (live.started(key.start_ns) && !live.cmdline.is_empty()).then_some((key, live.cmdline))
            })
            .collect()
    }

    /// The actor as the table knows it; ids are those of its last fork, exec or exit.
    pub fn actor(&self, key: ProcessKey, record: &ProcessRecord) -> Actor {
        let id = |value: u32| Some(value).filter(|id| *id != u32::MAX);
        let mut actor = Actor {
            pid: Some(key.tgid),
            inner_pid: id(record.inner_pid).filter(|inner| *inner != key.tgid),
            ppid: id(record.ppid),
            start_ns: Some(key.start_ns),
            uid: id(record.uid),
            gid: id(record.gid),
            euid: id(record.euid),
            fsuid: id(record.fsuid),
            auid: id(record.auid),
            session: id(record.session),
            tty: tty(record),
            comm: comm(record),
            exe: path(&record.exe),
            exe_file: self.exe_file(record),
            cmdline: self.cmdline(key, record),
            cwd: path(&record.cwd),
            cgroup: self.groups.path(record.cgroup),
            ancestors: self.ancestors(record),
            confidence: Confidence::Exact,
            ..Actor::unknown()
        };
        derive(&mut actor);
        actor
    }

    /// What a process ran before its last exec, where that was still its parent's program: `program > file` in a shell
    /// opens the file first. `start_ns`: of the process itself.
    pub fn before_exec(&self, start_ns: u64, record: &ProcessRecord, exec_id: u32) -> Option<Image> {
        let key = ProcessKey { tgid: record.parent.tgid, start_ns: record.parent.start_ns };
        let parent = self.record(key).filter(|parent| inherited(parent, start_ns, record, exec_id))?;
        Some(Image {
            comm: comm(&parent),
            exe: path(&parent.exe),
            exe_file: self.exe_file(&parent),
            cmdline: self.cmdline(key, &parent),
        })
    }

    /// Which file it runs; `None` for a kernel thread.
    fn exe_file(&self, record: &ProcessRecord) -> Option<ExeFile> {
        let exe = path(&record.exe).filter(|_| record.exe_ino != 0)?;
        // The kernel's own number has 20 bits for the minor one: MKDEV of include/linux/kdev_t.h.
        let dev = libc::makedev(record.exe_dev >> 20, record.exe_dev & 0xf_ffff);
        let unlinked = record.exe.flags & PathText::UNLINKED != 0;
        Some(program::noted(&exe, dev, record.exe_ino, unlinked, record.mounts == self.mounts))
    }

    fn cmdline(&self, key: ProcessKey, record: &ProcessRecord) -> Vec<String> {
        let args = cmdline(record);
        if !args.is_empty() || record.exec_ns != 0 {
            return args;
        }
        self.older.get(&key).cloned().unwrap_or_default()
    }

    fn ancestors(&self, record: &ProcessRecord) -> Vec<Ancestor> {
        let mut chain = Vec::new();
        let mut next = record.parent;
        while next.tgid != 0 && chain.len() < GENERATIONS {
            let key = ProcessKey { tgid: next.tgid, start_ns: next.start_ns };
            let Some(record) = self.record(key) else {
                // Evicted: with the rest of the chain in /proc, if it still lives.
                chain.extend(live_ancestors(key).into_iter().take(GENERATIONS - chain.len()));
                break;
            };
            chain.push(Ancestor {
                pid: key.tgid,
                start_ns: Some(key.start_ns),
                uid: Some(record.uid).filter(|uid| *uid != u32::MAX),
                comm: comm(&record),
                exe: path(&record.exe),
                exe_file: self.exe_file(&record),
                ended_ns: Some(record.exit_ns).filter(|at| *at != 0),
            });
            if record.parent == next {
                break;
            }
            next = record.parent;
        }
        chain
    }
}

/// Whether `exec_id` of a process means the program that its parent runs. Parent and child count on from the same number, so
/// that a later exec of the parent has one that the child had, too.
fn inherited(parent: &ProcessRecord, start_ns: u64, record: &ProcessRecord, exec_id: u32) -> bool {
    parent.exec_id == exec_id && parent.exec_ns <= start_ns && record.exec_id == exec_id.wrapping_add(1)
}

/// The process and those above it as /proc knows them; of a process that is gone only its key.
fn live_ancestors(key: ProcessKey) -> Vec<Ancestor> {
    let chain = crate::sensor::actor::proc::ancestors(Some(key.tgid));
    let alive = chain
        .first()
        .and_then(|first| first.start_ns)
        .is_some_and(|at| at / TICK_NS == key.start_ns / TICK_NS);
    if alive {
        return chain;
    }
    vec![Ancestor { pid: key.tgid, start_ns: Some(key.start_ns), ..Ancestor::default() }]
}

pub fn comm(record: &ProcessRecord) -> Option<String> {
    let end = record.comm.iter().position(|b| *b == 0).unwrap_or(record.comm.len());
    (end > 0).then(|| escape(&record.comm[..end]))
}

/// The terminal as it is called below /dev.
fn tty(record: &ProcessRecord) -> Option<String> {
    let end = record.tty.iter().position(|b| *b == 0).unwrap_or(record.tty.len());
    let name = escape(&record.tty[..end]);
    match name.strip_prefix("pts") {
        _ if name.is_empty() => None,
        Some(number) => Some(format!("pts/{number}")),
        None => Some(name),
    }
}

/// `u32::MAX`, which no record has, where it cannot be told.
fn own_mounts() -> u32 {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata("/proc/self/ns/mnt");
    own.ok().and_then(|own| u32::try_from(own.ino()).ok()).unwrap_or(u32::MAX)
}

/// A path in the process's mount namespace, as /proc writes it. One whose first folders did not fit begins with `…/`.
pub fn path(text: &PathText) -> Option<String> {
    let length = (text.len as usize).min(text.text.len());
    let mut components: Vec<&[u8]> =
        text.text[..length].split(|b| *b == 0).filter(|c| !c.is_empty()).collect();
    components.reverse();
    // At the root itself.
    if components == [b"/"] {
        return Some("/".into());
    }
    if components.is_empty() {
        return (text.flags & PathText::ROOTED != 0).then(|| "/".into());
    }
    let path = escape(&components.join(&b'/'));
    Some(if text.flags & PathText::DETACHED != 0 {
        format!("/{path} (deleted)")
    } else if text.flags & PathText::CUT != 0 {
        format!("…/{path}")
    } else {
        format!("/{path}")
    })
}

/// The arguments, as many as fit in the record.
pub fn cmdline(record: &ProcessRecord) -> Vec<String> {
    let length = (record.args_len as usize).min(record.args.len());
    let args = &record.args[..length];
    if args.is_empty() {
        return Vec::new();
    }
    args.strip_suffix(b"\0").unwrap_or(args).split(|b| *b == 0).map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn record() -> ProcessRecord {
        ProcessRecord {
            parent: TaskKey { tgid: 7, pad: 0, start_ns: 70 },
            previous_ns: 0,
            exec_ns: 1,
            exit_ns: 0,
            uid: 1,
            gid: 2,
            euid: 3,
            egid: 4,
            fsuid: 5,
            auid: u32::MAX,
            session: u32::MAX,
            flags: 0,
            exec_id: 1,
            exe_ino: 0,
            exe_dev: 0,
            inner_pid: u32::MAX,
            cgroup: 0,
            ppid: 7,
            mounts: 1,
            args_len: 0,
            pad: 0,
            comm: *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            tty: [0; 16],
            exe: PathText::NONE,
            cwd: PathText::NONE,
            args: [0; fim_common::ARGS_ROOM],
        }
    }

    fn text(components: &[u8], flags: u32) -> PathText {
        let mut text = PathText::NONE;
        text.text[..components.len()].copy_from_slice(components);
        (text.len, text.flags) = (components.len() as u32, flags);
        text
    }

    #[test]
    fn the_path_is_turned_round() {
        assert_eq!(path(&text(b"dash\0bin\0usr\0", 0)).as_deref(), Some("/usr/bin/dash"));
        assert_eq!(path(&text(b"a\nb\0tmp\0", 0)).as_deref(), Some("/tmp/a\\x0ab"));
        assert_eq!(path(&text(b"d\0c\0", PathText::CUT)).as_deref(), Some("…/c/d"));
        assert_eq!(path(&text(b"memfd:x\0", PathText::DETACHED)).as_deref(), Some("/memfd:x (deleted)"));
        assert_eq!(path(&PathText::NONE), None);
        assert_eq!(path(&text(b"", PathText::ROOTED)).as_deref(), Some("/"));
    }

    /// P forks A; A runs another program, writes, and runs a third; meanwhile P runs one, too: it has A's number.
    #[test]
    fn a_program_that_only_the_parent_ran_is_not_laid_to_the_child() {
        let of = |exec_id, exec_ns| ProcessRecord { exec_id, exec_ns, ..record() };
        assert!(inherited(&of(7, 100), 200, &of(8, 300), 7), "what it was born with");
        assert!(!inherited(&of(8, 250), 200, &of(9, 300), 8), "the parent ran it after the birth");
        assert!(!inherited(&of(7, 100), 200, &of(9, 300), 7), "it ran another one in between, perhaps twice");
        assert!(!inherited(&of(6, 100), 200, &of(8, 300), 7));
    }

    #[test]
    fn terminals_are_called_as_below_dev() {
        for (kernel, name) in [(&b"pts3"[..], Some("pts/3")), (b"tty1", Some("tty1")), (b"", None)] {
            let mut record = record();
            record.tty[..kernel.len()].copy_from_slice(kernel);
            assert_eq!(tty(&record).as_deref(), name);
        }
    }

    #[test]
    fn arguments_are_split_and_may_be_empty() {
        let mut record = record();
        assert_eq!(cmdline(&record), Vec::<String>::new());
        record.args[..8].copy_from_slice(b"sh\0-c\0\0x");
        record.args_len = 7;
        assert_eq!(cmdline(&record), ["sh", "-c", ""]);
    }
}
