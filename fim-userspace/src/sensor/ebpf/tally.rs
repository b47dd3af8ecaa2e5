//! How often each hook was called, and what of that was lost.

use std::os::fd::{AsRawFd, OwnedFd};

use aya::maps::{MapData, PerCpuArray};
use fim_common::{Counters, Hook};

/// The programs' own counters, and the kernel's.
pub struct Tally {
    pub counters: PerCpuArray<MapData, Counters>,
    /// Of two programs at one place the first: the second makes up for most of what that one misses.
    pub programs: Vec<(Hook, OwnedFd)>,
}

/// What became of one hook's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookTally {
    /// Calls of the program, those it sent on, and those it found no room for.
    pub counted: Counters,
    /// Calls that never reached the program.
    pub skipped: u64,
}

impl Tally {
    /// The counters of a hook, over all CPUs.
    pub fn of(&self, hook: Hook) -> HookTally {
        let programs = self.programs.iter().filter(|(of, _)| *of == hook);
        HookTally { counted: self.counted(hook), skipped: programs.map(|(_, fd)| skipped(fd)).sum() }
    }

    /// The counters of the hooks that report on files. A gap in the process table is filled from /proc.
    pub fn of_files(&self) -> impl Iterator<Item = (Hook, HookTally)> {
        Hook::ALL.iter().filter(|hook| !hook.is_process()).map(|hook| (*hook, self.of(*hook)))
    }

    pub fn counted(&self, hook: Hook) -> Counters {
        let Ok(values) = self.counters.get(&(hook as u32), 0) else { return Counters::default() };
        values.iter().fold(Counters::default(), |sum, one| Counters {
            seen: sum.seen + one.seen,
            kept: sum.kept + one.kept,
            dropped: sum.dropped + one.dropped,
        })
    }
}

/// Calls that the kernel left out since another process was in the middle of the same program on the same CPU: fentry and
/// tracepoints only (bpf_prog_check_recur of include/linux/bpf_verifier.h).
/// Told in fdinfo from 5.12, see bpf_prog_show_fdinfo of kernel/bpf/syscall.c.
fn skipped(program: &OwnedFd) -> u64 {
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).unwrap_or_default();
    misses(&info)
}

fn misses(info: &str) -> u64 {
    let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read_where_the_kernel_tells_them() {
        assert_eq!(misses("prog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t1\n"), 17);
        assert_eq!(misses("prog_type:\t26\n"), 0);
    }
}
