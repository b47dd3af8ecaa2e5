//! The limit on open files (RLIMIT_NOFILE), and how much is done at once within it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors for everything but responses: sensors, database, sinks, scans.
const RESERVED: u64 = 256;
/// Descriptors that a step holds until it is secured: its folder, the new file, what was there.
const EACH: u64 = 3;
const MOST: u64 = 4096;

/// Takes all that the administrator allows.
pub fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

/// Steps whose rest may wait at the same time.
pub fn steps_at_once() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    (soft.saturating_sub(RESERVED) / EACH).clamp(16, MOST) as usize
}
