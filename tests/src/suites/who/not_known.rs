//! What a tier cannot know of a process, and why. What is not declared here has to be right.

use crate::kernel::Features;

/// Why `field` is not asserted for this case; for `pid`: why nobody can be named at all.
pub fn not_known(tier: &str, kernel: &Features, case: &str, field: &str) -> Option<&'static str> {
    let fanotify_names = matches!(tier, "tracepoint" | "fanotify");
    // create_io_thread() came with 5.12: before, the kernel's own processes do the work.
    let foreign_workers = kernel.release.starts_with("5.10.");
    match (case, field) {
        ("uring-thread", "pid") if foreign_workers => {
            Some("before Linux 5.12 the submission thread is a process of the kernel's own")
        }
        ("deleted" | "memfd", "exe_file/sha256") => {
            Some("a program without a name can be read only while it runs")
        }
        (_, "tid") if fanotify_names => Some("fanotify names processes, not threads"),
        _ => None,
    }
}
