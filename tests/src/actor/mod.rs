//! What `fim-actor` can do: one operation a process, so that pid, ids and executable of a change are known exactly.

mod busy;
mod launch;
mod ops;
pub mod race;
pub mod spawn;
pub mod who;

pub use busy::{Random, block, busy, flood, is_block};
pub use launch::{execute, private_mounts, without_btf, without_dac};
pub use ops::{CONTENT, Op, TRUNCATED, effect, perform};

use serde::{Deserialize, Serialize};

/// What the actor says about itself before it acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfReport {
    pub pid: u32,
    pub ppid: u32,
    pub uid: u32,
    pub gid: u32,
    pub exe: String,
}

/// What the actor says afterwards; a tree operation names the paths it really made or removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub touched: Vec<String>,
}

impl SelfReport {
    pub fn of_this_process() -> std::io::Result<Self> {
        Ok(Self {
            pid: std::process::id(),
            ppid: std::os::unix::process::parent_id(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            exe: std::fs::read_link("/proc/self/exe")?.display().to_string(),
        })
    }
}

/// Gives up every right of root: groups, group, user, in this order, real, effective and saved.
pub fn become_user(uid: Option<u32>, gid: Option<u32>, groups: &[u32]) -> std::io::Result<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    if uid.is_some() || gid.is_some() {
        let groups: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
        setgroups(&groups)?;
    }
    if let Some(gid) = gid.map(Gid::from_raw) {
        setresgid(gid, gid, gid)?;
    }
    if let Some(uid) = uid.map(Uid::from_raw) {
        setresuid(uid, uid, uid)?;
    }
    Ok(())
}
