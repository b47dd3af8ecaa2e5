//! What a process has cost so far.

use std::fs;
use std::time::Duration;

/// KiB of a line of /proc/PID/status: VmRSS, VmHWM.
pub fn memory(pid: u32, key: &str) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    let number = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    number.parse().map_err(|_| format!("{path} has no {key}"))
}

/// Time on processors of all threads, as the scheduler has counted it.
pub fn time(pid: u32) -> Result<Duration, String> {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path).map_err(|e| format!("{path}: {e}"))?;
    let of = |text: String| text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let sum =
        tasks.flatten().map(|task| fs::read_to_string(task.path().join("schedstat")).map_or(0, of)).sum();
    Ok(Duration::from_nanos(sum))
}

/// (runs, nanoseconds) of all kernel programs that the process holds, by `kernel.bpf_stats_enabled`.
pub fn kernel_programs(pid: u32) -> (u64, u64) {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let mut seen = std::collections::BTreeMap::new();
    for entry in entries {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let number = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse::<u64>().ok())
        };
        if let (Some(id), Some(ns), Some(runs)) =
            (number("prog_id"), number("run_time_ns"), number("run_cnt"))
        {
            seen.insert(id, (runs, ns));
        }
    }
    seen.values().fold((0, 0), |sum, (runs, ns)| (sum.0 + runs, sum.1 + ns))
}
