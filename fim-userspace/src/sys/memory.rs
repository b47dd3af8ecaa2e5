//! Memory that is not needed, or not any more.

use nix::sys::prctl;

/// Has the kernel give memory by pages of 4 KiB alone: of a huge one each thread's heap would use a corner.
pub fn by_small_pages() {
    if let Err(error) = prctl::set_thp_disable(true) {
        tracing::debug!(%error, "huge pages stay; more memory is taken than is needed");
    }
}

/// Gives what was freed back to the kernel now. The allocators keep it until something else is freed or asked for, and after
/// a start, or a scan, nothing is for hours.
pub fn give_back() {
    // SAFETY: it takes no memory of ours; what is in use stays (mi_collect, mimalloc.h).
    unsafe { libmimalloc_sys::mi_collect(true) };
    // The C library's own, which SQLite and zstd take theirs from.
    #[cfg(target_env = "gnu")]
    // SAFETY: as above (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0)
    };
}
