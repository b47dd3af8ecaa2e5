//! Memory that is not needed any more.

/// Gives what this thread has freed back to the kernel now. The allocator keeps it until something else is freed or asked
/// for, and after a start, or a scan, nothing is for hours.
pub fn give_back() {
    // SAFETY: it takes no memory of ours; what is in use stays (mi_collect, mimalloc.h).
    unsafe { libmimalloc_sys::mi_collect(true) };
}
