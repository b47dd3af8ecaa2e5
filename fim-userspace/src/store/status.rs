//! `<state.dir>/status.json`: what the daemon says about itself, for `fim status`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::SinkState;

pub const FILE: &str = "status.json";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub pid: u32,
    /// The daemon's start time in clock ticks since boot (field 22 of proc_pid_stat(5)): tells a reused pid.
    pub start_ticks: u64,
    /// When monitoring began, RFC 3339.
    pub started: String,
    /// When this was written, RFC 3339.
    pub written: String,
    /// Changes are caught from now on; false while starting.
    pub ready: bool,
    pub tier: String,
    /// Higher tiers that were tried, and why they could not be had.
    #[serde(default)]
    pub refused: Vec<RefusedTier>,
    #[serde(default)]
    pub attach: Vec<AttachedHook>,
    #[serde(default)]
    pub counters: BTreeMap<String, HookCounters>,
    #[serde(default)]
    pub watches: Vec<WatchStatus>,
    #[serde(default)]
    pub gaps: GapStatus,
    /// Sequence number of the last record.
    pub ledger_head: u64,
    /// Its hash, hexadecimal: an anchor, wherever it is carried.
    #[serde(default)]
    pub ledger_hash: String,
    /// When the ledger was last sealed, RFC 3339.
    #[serde(default)]
    pub ledger_sealed: Option<String>,
    #[serde(default)]
    pub sinks: Vec<SinkState>,
    /// What the vault's objects take; 0 before they were measured.
    pub vault_bytes: u64,
    /// What is wrong with the vault, one sentence each.
    #[serde(default)]
    pub vault_trouble: Vec<String>,
    /// Paths that wait to be looked at.
    #[serde(default)]
    pub waiting: u64,
    /// Records that the database has not taken yet.
    #[serde(default)]
    pub unwritten: u64,
    /// Paths that differ from the baseline and were left so.
    #[serde(default)]
    pub open_changes: u64,
    /// When a change of fim's own was last seen as it must be, RFC 3339.
    #[serde(default)]
    pub self_test_passed: Option<String>,
    /// What was wrong with the last such change.
    #[serde(default)]
    pub self_test_trouble: Option<String>,
    /// What keeps the daemon from recording, if anything.
    #[serde(default)]
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedTier {
    pub tier: String,
    /// Why, and what would change that.
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedHook {
    pub hook: String,
    /// `attached`, `failed`, `absent` (the kernel has no such hook) or `unused` (the tier does without).
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCounters {
    pub seen: u64,
    pub kept: u64,
    pub dropped: u64,
    /// Calls that the kernel did not make, since the same program was under way on that processor.
    #[serde(default)]
    pub skipped: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchStatus {
    /// Escaped.
    pub path: String,
    /// Approved entries.
    pub files: u64,
    /// One sentence: what is seen live, and what only by scan.
    pub coverage: String,
    /// RFC 3339; `None` before the first full scan.
    #[serde(default)]
    pub last_scan: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapStatus {
    /// Since the start.
    pub count: u64,
    /// Reports that were lost in them, as far as known.
    pub lost: u64,
    pub last: Option<String>,
    /// Gaps that no scan has closed yet.
    pub open: u64,
}

impl Status {
    /// A status with `pid` and `start_ticks` of this process.
    pub fn of_this_process() -> Self {
        let pid = std::process::id();
        Self { pid, start_ticks: start_ticks(pid).unwrap_or(0), ..Self::default() }
    }

    /// Replaces the file at once: a reader sees the old or the new one.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join(".status.json.new");
        let text = serde_json::to_vec_pretty(self)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        drop(file);
        std::fs::rename(&new, dir.join(FILE))
    }

    /// `None` when no daemon ever wrote one here.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(dir.join(FILE)) {
            // It is not forced to the disk, so a power cut can leave less than a whole one; the next daemon writes it anew.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the process that wrote it is still there, and not another one with its pid.
    pub fn is_alive(&self) -> bool {
        start_ticks(self.pid).is_some_and(|ticks| ticks == self.start_ticks)
    }
}

/// Field 22 of `/proc/PID/stat`; `None` when there is no such process.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold anything.
    let after = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(&stat[after + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    // A zombie is dead, whatever its entry says.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
