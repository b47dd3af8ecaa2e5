//! Reads the kernel's process table.

use std::sync::Arc;

use aya::maps::{HashMap, MapData};
use fim_common::{ProcessRecord, TaskKey};

use crate::core::actor::{Actor, Ancestor, Confidence, ProcessKey};
use crate::core::path::escape;
use crate::sensor::actor::proc::TICK_NS;

/// How far up the chain of parents an actor is followed.
pub const GENERATIONS: usize = 16;

/// The table that the tracepoints keep: every process from its fork until long after its end.
pub struct ProcessTable {
    process: HashMap<MapData, TaskKey, ProcessRecord>,
    current: HashMap<MapData, u32, u64>,
    /// Arguments of processes older than the table, by their key, as of the start.
    older: std::collections::HashMap<ProcessKey, Vec<String>>,
}

impl ProcessTable {
    pub fn new(
        process: HashMap<MapData, TaskKey, ProcessRecord>,
        current: HashMap<MapData, u32, u64>,
    ) -> Arc<ProcessTable> {
        let mut table = Self { process, current, older: Default::default() };
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
        Actor {
            pid: Some(key.tgid),
            ppid: id(record.parent.tgid),
            start_ns: Some(key.start_ns),
            uid: id(record.uid),
            gid: id(record.gid),
            euid: id(record.euid),
            auid: id(record.auid),
            session: id(record.session),
            comm: comm(record),
            exe: exe(record),
            cmdline: self.cmdline(key, record),
            ancestors: self.ancestors(record),
            confidence: Confidence::Exact,
            ..Actor::unknown()
        }
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
                exe: exe(&record),
                ..Ancestor::default()
            });
            if record.parent == next {
                break;
            }
            next = record.parent;
        }
        chain
    }
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

/// The executable's path in its mount namespace, as /proc/PID/exe writes it. A path whose first folders did not fit
/// begins with `…/`.
pub fn exe(record: &ProcessRecord) -> Option<String> {
    let length = (record.exe_len as usize).min(record.exe.len());
    let mut components: Vec<&[u8]> =
        record.exe[..length].split(|b| *b == 0).filter(|c| !c.is_empty()).collect();
    components.reverse();
    if components.is_empty() {
        return None;
    }
    let path = escape(&components.join(&b'/'));
    Some(if record.flags & ProcessRecord::EXE_DETACHED != 0 {
        format!("/{path} (deleted)")
    } else if record.flags & ProcessRecord::EXE_CUT != 0 {
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
            exe_len: 0,
            args_len: 0,
            comm: *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            exe: [0; fim_common::EXE_ROOM],
            args: [0; fim_common::ARGS_ROOM],
        }
    }

    fn with_exe(components: &[u8], flags: u32) -> ProcessRecord {
        let mut record = record();
        record.exe[..components.len()].copy_from_slice(components);
        record.exe_len = components.len() as u32;
        record.flags |= flags;
        record
    }

    #[test]
    fn the_path_is_turned_round() {
        assert_eq!(exe(&with_exe(b"dash\0bin\0usr\0", 0)).as_deref(), Some("/usr/bin/dash"));
        assert_eq!(exe(&with_exe(b"a\nb\0tmp\0", 0)).as_deref(), Some("/tmp/a\\x0ab"));
        assert_eq!(exe(&with_exe(b"d\0c\0", ProcessRecord::EXE_CUT)).as_deref(), Some("…/c/d"));
        let detached = with_exe(b"memfd:x\0", ProcessRecord::EXE_DETACHED);
        assert_eq!(exe(&detached).as_deref(), Some("/memfd:x (deleted)"));
        assert_eq!(exe(&record()), None);
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
