//! Scheduling of background threads.

/// Makes the calling thread run only when nothing else wants the processor or the disk (sched(7), ioprio_set(2)).
/// Where the kernel refuses, it merely stays as important as it was.
pub fn idle() {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_IDLE: libc::c_int = 3;
    const IOPRIO_CLASS_SHIFT: libc::c_int = 13;
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` outlives the call; pid 0 means the calling thread.
    let scheduled = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &param) };
    // SAFETY: ioprio_set takes three integers and touches no memory of ours; `who` 0 means the calling thread.
    let queued = unsafe {
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT)
    };
    if scheduled != 0 || queued != 0 {
        tracing::debug!("the background scan runs at normal priority: {}", std::io::Error::last_os_error());
    }
}
