//! The limit on open files (RLIMIT_NOFILE), and how much is done at once within it.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors for everything but responses: sensors, database, sinks, scans.
const RESERVED: u64 = 256;
/// Descriptors that a step holds at most until it is secured: its folder, the new file, what was there. Of many in one folder
/// each holds but the last.
pub const EACH: usize = 3;
/// What waits takes memory as well.
const MOST: u64 = 16_384;

/// Takes all that the administrator allows.
pub fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

/// Descriptors that steps whose rest waits may hold together.
pub fn for_steps() -> usize {
    // Asked for often; it was set at the start.
    static SOFT: OnceLock<u64> = OnceLock::new();
    let soft = SOFT.get_or_init(|| getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft));
    soft.saturating_sub(RESERVED).clamp(16 * EACH as u64, MOST) as usize
}
