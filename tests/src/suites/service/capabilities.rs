//! What a running daemon, thread by thread, could do at most.

use crate::fim::{Fim, Policy, Setting};
use crate::report::Outcome;

/// By number (linux/capability.h): what docs/guide.md and the unit name.
const KEPT: [u32; 16] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    2,  // DAC_READ_SEARCH
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    9,  // LINUX_IMMUTABLE
    19, // SYS_PTRACE
    21, // SYS_ADMIN
    24, // SYS_RESOURCE
    27, // MKNOD
    31, // SETFCAP
    38, // PERFMON
    39, // BPF
];

pub fn few(setting: &Setting) -> Outcome {
    let fim = Fim::new(setting, &setting.works[0], "capabilities", Policy::Restore)?;
    fim.init()?;
    let daemon = fim.start()?;
    let allowed = KEPT.iter().fold(0u64, |mask, bit| mask | 1 << bit);
    let tasks = format!("/proc/{}/task", daemon.pid());
    let mut threads = 0;
    for task in std::fs::read_dir(&tasks).map_err(|e| format!("{tasks}: {e}"))?.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).map_err(|e| e.to_string())?;
        let name = status.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or_default().trim();
        let set = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).ok_or(format!("no {key} of {name}"))
        };
        for key in ["CapInh:", "CapAmb:"] {
            if set(key)? != 0 {
                return Err(format!("{key} of {name} is not empty"));
            }
        }
        for key in ["CapPrm:", "CapEff:", "CapBnd:"] {
            let more = set(key)? & !allowed;
            if more != 0 {
                return Err(format!("{key} of {name} has what it needs for nothing: {more:016x}"));
            }
        }
        // Files of all users are read and put back, and SYS_ADMIN is what fanotify asks for.
        let needed = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 21);
        if set("CapEff:")? & needed != needed {
            return Err(format!("{name} lacks what it needs: {:016x}", set("CapEff:")?));
        }
        threads += 1;
    }
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(format!("({threads} threads)"))
}
