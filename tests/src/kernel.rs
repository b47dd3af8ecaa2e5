//! What this kernel and this file system can do, found out by trying, without fim.

use std::fs::File;
use std::path::Path;

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

/// What the tables of expected misses ask for.
#[derive(Clone, Debug)]
pub struct Features {
    /// `uname -r`.
    pub release: String,
    pub file_system: String,
    /// fanotify reports directory and name for this file system (FAN_REPORT_DFID_NAME, and a file handle to be had).
    pub names: bool,
    /// One event tells both names of a rename (FAN_RENAME, Linux 5.17).
    pub rename: bool,
    /// Events carry a pidfd (FAN_REPORT_PIDFD, Linux 5.15).
    pub pidfd: bool,
}

impl Features {
    pub fn of(dir: &Path) -> std::io::Result<Self> {
        let names = libc::FAN_REPORT_DIR_FID | libc::FAN_REPORT_NAME;
        let create = MaskFlags::from_bits_retain(libc::FAN_CREATE);
        let rename = MaskFlags::from_bits_retain(libc::FAN_RENAME);
        Ok(Self {
            release: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system(dir)?,
            names: can_mark(dir, names, create)?,
            rename: can_mark(dir, names | libc::FAN_REPORT_FID, rename)?,
            pidfd: can_mark(dir, names | libc::FAN_REPORT_PIDFD, create)?,
        })
    }
}

fn can_mark(dir: &Path, report: libc::c_uint, mask: MaskFlags) -> std::io::Result<bool> {
    let flags = InitFlags::from_bits_retain(libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | report);
    let Ok(group) = Fanotify::init(flags, EventFFlags::empty()) else {
        return Ok(false);
    };
    let dir = File::open(dir)?;
    Ok(group.mark(MarkFlags::FAN_MARK_ADD, mask, dir, None::<&Path>).is_ok())
}

/// The name of the file system that holds `dir`, by statfs(2)'s magic number.
fn file_system(dir: &Path) -> std::io::Result<String> {
    let magic = rustix::fs::statfs(dir)?.f_type as u64 & 0xffff_ffff;
    Ok(match magic {
        0xef53 => "ext4".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683e => "btrfs".into(),
        0x0102_1994 => "tmpfs".into(),
        0x8584_58f6 => "ramfs".into(),
        0x794c_7630 => "overlay".into(),
        other => format!("{other:x}"),
    })
}

/// Whether the kernel has the function `name`; without a readable /proc/kallsyms, nobody can say it has not.
pub fn has_function(name: &str) -> bool {
    match std::fs::read_to_string("/proc/kallsyms") {
        Ok(text) => text.lines().any(|l| l.split_whitespace().nth(2) == Some(name)),
        Err(_) => true,
    }
}
