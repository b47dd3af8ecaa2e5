//! What a tier cannot see at the moment it happens, and why. A miss that is not declared here fails its test.

use super::cases::{Case, Who};
use crate::actor::Op;
use crate::kernel::Features;

/// fanotify is what triggers in these tiers.
fn fanotify_only(tier: &str) -> bool {
    matches!(tier, "tracepoint" | "fanotify")
}

/// Why this tier learns of the case only from the next scan; `None`: it must be seen live.
pub fn not_live(tier: &str, kernel: &Features, case: &Case) -> Option<&'static str> {
    if tier == "scan" {
        return Some("this tier has no live sensor");
    }
    if !fanotify_only(tier) {
        return None;
    }
    if !kernel.names {
        return Some("fanotify gives no names on this file system with this kernel");
    }
    match case.name {
        "write-new-link" => Some("fanotify reports neither the outside link nor a write through it"),
        "mmap-write" if kernel.file_system == "overlay" => Some(
            "overlayfs maps the file below: the close is reported before the store, which is not reported at all",
        ),
        _ => None,
    }
}

/// Why nobody can be named for a record though it comes live; `None`: the actor must be exact.
pub fn not_named(tier: &str, kernel: &Features, case: &Case, who: Who) -> Option<&'static str> {
    if who == Who::NobodyWrong {
        return Some("found by comparing what lies around");
    }
    if fanotify_only(tier) && case.op == Op::MkdirTree {
        return Some("the folder was not marked yet when its files were made");
    }
    if tier == "fanotify" && case.op == Op::Quick {
        return Some("the process is gone before /proc can be read");
    }
    if tier == "fanotify" && !kernel.pidfd {
        return Some("without a pidfd, /proc/PID may be another process");
    }
    None
}

/// Whether a rename inside the tree may come as a deletion and a creation.
pub fn renames_unpaired(tier: &str, kernel: &Features) -> bool {
    fanotify_only(tier) && !kernel.rename
}

/// Whether the actor has to stay for /proc to tell who it was.
pub fn must_linger(tier: &str) -> bool {
    matches!(tier, "fanotify" | "scan")
}
