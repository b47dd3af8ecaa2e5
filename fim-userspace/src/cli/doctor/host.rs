//! The host's side: limits, capabilities, clock, room.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;

use super::Notes;
use crate::config::Config;
use crate::core::path::display;
use crate::core::size::show as size;
use crate::daemon::CAPABILITIES;
use crate::sys::clock;

/// Fewer descriptors make responses wait for each other.
const FEW_FILES: u64 = 4_096;
/// A file system with less room left than this stops the ledger soon.
const LITTLE_ROOM: u64 = 64 << 20;
const FEW_INODES: u64 = 1_000;

/// Memory of eBPF programs needs it before Linux 5.11; where it does, loading says so.
const OLD_KERNELS_ONLY: &str = "CAP_SYS_RESOURCE";

/// Limits of the kernel that a busy fim can meet, by their names below /proc/sys.
const SYSCTLS: [&str; 4] =
    ["fs.file-max", "fs.fanotify.max_user_groups", "fs.fanotify.max_queued_events", "kernel.pid_max"];

#[derive(Serialize)]
pub struct Host {
    pub limits: Limits,
    pub capabilities: Option<Capabilities>,
    /// Whether the kernel's clock is kept right by somebody; `None` where it does not say.
    pub clock_synchronised: Option<bool>,
    /// Of the file systems that hold database and vault.
    pub room: Vec<Room>,
}

#[derive(Serialize)]
pub struct Limits {
    /// Files that the daemon may hold open, or this command where none runs; `None`: no limit.
    pub open_files: Option<u64>,
    pub sysctl: std::collections::BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
pub struct Capabilities {
    /// Whose: `daemon`, or `command` where none runs.
    pub of: &'static str,
    /// Those that fim needs and does not have.
    pub missing: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Room {
    pub what: &'static str,
    pub path: String,
    /// Bytes.
    pub free: u64,
    pub total: u64,
    /// Files that can still be made; `None` where the file system has no such limit.
    pub free_inodes: Option<u64>,
}

impl Host {
    /// `pid`: the running daemon's. `root`: whether this command's own rights tell anything of the daemon's.
    pub fn look(config: Option<&Config>, pid: Option<u32>, root: bool, notes: &mut Notes) -> Self {
        let clock = clock::synchronised().ok();
        if clock == Some(false) {
            notes.problem(
                "nothing keeps the clock right, so the times of records may be wrong; run systemd-timesyncd or chrony",
            );
        }
        Self {
            limits: limits(pid, root, notes),
            capabilities: capabilities(pid, root, notes),
            clock_synchronised: clock,
            room: config.map(|config| rooms(config, notes)).unwrap_or_default(),
        }
    }
}

fn limits(pid: Option<u32>, root: bool, notes: &mut Notes) -> Limits {
    let own = || getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard);
    let daemon = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/limits")).ok());
    let open_files = match &daemon {
        Some(text) => hard_limit_of_files(text),
        None => own(),
    };
    if let Some(most) = open_files.filter(|most| *most < FEW_FILES && (root || daemon.is_some())) {
        notes.problem(format!(
            "only {most} files may be open at once; set LimitNOFILE=65536 in a drop-in (systemctl edit fim), or ulimit -n"
        ));
    }
    let value = |name: &'static str| {
        let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
        Some((name, text.trim().parse().ok()?))
    };
    Limits { open_files, sysctl: SYSCTLS.into_iter().filter_map(value).collect() }
}

/// The line `Max open files  SOFT  HARD  files` of proc_pid_limits(5); `None` where it is unlimited.
fn hard_limit_of_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn capabilities(pid: Option<u32>, root: bool, notes: &mut Notes) -> Option<Capabilities> {
    let (of, file) = match pid {
        Some(pid) => ("daemon", format!("/proc/{pid}/status")),
        // What an ordinary user lacks says nothing of the service.
        None if !root => return None,
        None => ("command", "/proc/self/status".to_owned()),
    };
    let held = effective(&fs::read_to_string(file).ok()?)?;
    let missing = CAPABILITIES.into_iter().filter(|cap| held & (1 << cap.index()) == 0);
    let missing: Vec<String> = missing.map(|cap| cap.to_string()).collect();
    let needed: Vec<&str> =
        missing.iter().map(String::as_str).filter(|cap| *cap != OLD_KERNELS_ONLY).collect();
    if !needed.is_empty() {
        let where_to = match of {
            "daemon" => "give it to the service by CapabilityBoundingSet= (systemctl edit fim)",
            _ => "run fim with all rights of root, in the host's user namespace",
        };
        notes.problem(format!("fim lacks {}; {where_to}", needed.join(", ")));
    }
    Some(Capabilities { of, missing })
}

/// `CapEff` of proc_pid_status(5): a bit for each capability.
fn effective(status: &str) -> Option<u64> {
    let text = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(text.trim(), 16).ok()
}

fn rooms(config: &Config, notes: &mut Notes) -> Vec<Room> {
    let state = &config.state.dir;
    let mut rooms = Vec::new();
    for (what, path) in [("database", state.clone()), ("vault", state.join("vault"))] {
        let Some(room) = room_at(what, &path) else { continue };
        // What the vault keeps free is its own to say.
        if what == "database" && room.free < LITTLE_ROOM {
            let (path, free) = (&room.path, size(room.free));
            notes.problem(format!("the file system of the {what} ({path}) has {free} left; make room there"));
        }
        if room.free_inodes.is_some_and(|free| free < FEW_INODES) {
            let path = &room.path;
            notes.problem(format!(
                "the file system of the {what} ({path}) is out of inodes; remove files there"
            ));
        }
        rooms.push(room);
    }
    rooms
}

fn room_at(what: &'static str, path: &Path) -> Option<Room> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Room {
        what,
        path: display(path),
        free: bytes(stat.f_bavail),
        total: bytes(stat.f_blocks),
        // btrfs has none to run out of, and says 0 of 0.
        free_inodes: (stat.f_files > 0).then_some(stat.f_favail),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             95000                95001                processes \n\
                      Max open files            1024                 65536                files     \n";
        assert_eq!(hard_limit_of_files(limits), Some(65_536));
        assert_eq!(hard_limit_of_files(&limits.replace("65536", "unlimited")), None);
        assert_eq!(effective("CapPrm:\t00000000000000ff\nCapEff:\t0000000000200002\n"), Some(0x20_0002));
        let own = fs::read_to_string("/proc/self/status").expect("there");
        let admin =
            caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).expect("read");
        assert_eq!(effective(&own).expect("a set") & (1 << 21) != 0, admin);
    }
}
