//! The process table: who every process is, kept from before it can do anything until after it is gone.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use fim_common::{ABSENT, ARGS_ROOM, EXE_ROOM, ProcessRecord, TaskKey};

use crate::kernel::{self, Address};
use crate::maps::{BLANK, CURRENT, PROCESS, offset};

/// Components and mounts an executable's path may cross before it is cut.
const STEPS: u32 = 24;

/// Start of a task's process: that of its first thread.
#[inline(always)]
pub fn start(task: Address) -> u64 {
    kernel::pointer_or_null(kernel::pointer_or_null(task, offset!(task_leader)), offset!(task_start))
}

#[inline(always)]
pub fn key(task: Address) -> TaskKey {
    TaskKey { tgid: kernel::number(task, offset!(task_tgid)), pad: 0, start_ns: start(task) }
}

/// A new record of zeros, or the one that is there.
#[inline(always)]
fn record(key: &TaskKey) -> Option<*mut ProcessRecord> {
    if let Some(record) = PROCESS.get_ptr_mut(key) {
        return Some(record);
    }
    let blank = BLANK.get_ptr(0)?;
    // SAFETY: the only entry of the array; never written.
    let _ = PROCESS.insert(key, unsafe { &*blank }, BPF_NOEXIST as u64);
    PROCESS.get_ptr_mut(key)
}

/// Points the process id at its process; gives the start of the one that had it before.
#[inline(always)]
fn take_id(key: &TaskKey) -> u64 {
    // SAFETY: an aligned u64 is copied.
    let previous = unsafe { CURRENT.get(key.tgid) }.copied().unwrap_or(0);
    if previous == key.start_ns {
        return 0;
    }
    let _ = CURRENT.insert(key.tgid, key.start_ns, BPF_ANY as u64);
    previous
}

/// A process was made: it starts as a copy of its parent.
#[inline(always)]
pub fn forked(child: Address) {
    let key = key(child);
    if kernel::number(child, offset!(task_pid)) != key.tgid {
        return;
    }
    let parent = parent_key(child);
    let mut fresh = true;
    if let Some(known) = PROCESS.get_ptr(parent) {
        // SAFETY: a live map value; its fields are not all of one moment if the parent execs just now.
        let _ = PROCESS.insert(key, unsafe { &*known }, BPF_ANY as u64);
        fresh = false;
    }
    let Some(record) = record(&key) else { return };
    // SAFETY: a live map value of this type.
    unsafe {
        (*record).parent = parent;
        (*record).previous_ns = take_id(&key);
        (*record).exit_ns = 0;
        ids(child, record);
        comm(child, record);
        if fresh {
            // The child's memory is a copy of that of the running parent, which alone can be read here.
            image(child, record);
            arguments(child, record);
        }
    }
}

/// A process became another program.
#[inline(always)]
pub fn executed(task: Address) {
    let key = key(task);
    let Some(record) = record(&key) else { return };
    let previous = take_id(&key);
    // SAFETY: a live map value of this type; a helper without arguments.
    unsafe {
        (*record).exec_ns = bpf_ktime_get_boot_ns();
        (*record).parent = parent_key(task);
        if previous != 0 {
            (*record).previous_ns = previous;
        }
        ids(task, record);
        comm(task, record);
        image(task, record);
        arguments(task, record);
    }
}

/// A thread ended. The ids it had last are kept: it may have changed them since its exec.
#[inline(always)]
pub fn exited(task: Address) {
    let key = key(task);
    let leader = kernel::number(task, offset!(task_pid)) == key.tgid;
    let alive = kernel::pointer(task, offset!(task_signal))
        .and_then(|signal| kernel::read::<i32>(signal, offset!(signal_live)))
        .unwrap_or(0);
    if !leader && alive > 0 {
        return;
    }
    let Some(record) = PROCESS.get_ptr_mut(key) else { return };
    // SAFETY: a live map value of this type; a helper without arguments.
    unsafe {
        ids(task, record);
        comm(task, record);
        if alive <= 0 {
            (*record).exit_ns = bpf_ktime_get_boot_ns();
        }
    }
}

/// Enters the running process where the table does not know it: older than the daemon, or evicted.
#[inline(never)]
pub fn remember() -> u32 {
    let task = kernel::current_task();
    let key = key(task);
    if PROCESS.get_ptr(key).is_some() {
        return 0;
    }
    enter(task, &key);
    if let Some(record) = PROCESS.get_ptr_mut(key) {
        arguments(task, record);
    }
    1
}

/// Enters a process found by walking all of them. Its memory cannot be read from here.
#[inline(always)]
pub fn found(task: Address) {
    let key = key(task);
    if kernel::number(task, offset!(task_pid)) == key.tgid && PROCESS.get_ptr(key).is_none() {
        enter(task, &key);
    }
}

#[inline(always)]
fn enter(task: Address, key: &TaskKey) {
    let Some(record) = record(key) else { return };
    // SAFETY: a live map value of this type.
    unsafe {
        (*record).parent = parent_key(task);
        (*record).previous_ns = take_id(key);
        ids(task, record);
        comm(task, record);
        image(task, record);
    }
}

#[inline(always)]
fn parent_key(task: Address) -> TaskKey {
    key(kernel::pointer_or_null(task, offset!(task_parent)))
}

#[inline(always)]
fn ids(task: Address, record: *mut ProcessRecord) {
    let cred = kernel::pointer_or_null(task, offset!(task_cred));
    // SAFETY: callers pass a live map value of this type.
    unsafe {
        (*record).uid = kernel::number(cred, offset!(cred_uid));
        (*record).gid = kernel::number(cred, offset!(cred_gid));
        (*record).euid = kernel::number(cred, offset!(cred_euid));
        (*record).egid = kernel::number(cred, offset!(cred_egid));
        (*record).fsuid = kernel::number(cred, offset!(cred_fsuid));
        (*record).auid = kernel::number(task, offset!(task_loginuid));
        (*record).session = kernel::number(task, offset!(task_session));
    }
}

#[inline(always)]
fn comm(task: Address, record: *mut ProcessRecord) {
    if let Some(comm) = kernel::read::<[u8; 16]>(task, offset!(task_comm)) {
        // SAFETY: callers pass a live map value of this type.
        unsafe { (*record).comm = comm };
    }
}

/// Writes the executable's path, from its name up to the root of its mount namespace.
#[inline(always)]
fn image(task: Address, record: *mut ProcessRecord) {
    // SAFETY: callers pass a live map value of this type.
    unsafe {
        (*record).exe_len = 0;
        (*record).flags &= !(ProcessRecord::EXE_CUT | ProcessRecord::EXE_DETACHED);
    }
    let path = offset!(file_path);
    let file = kernel::pointer(task, offset!(task_mm)).and_then(|mm| kernel::pointer(mm, offset!(mm_exe)));
    // A kernel thread has neither memory nor executable.
    let (Some(file), false) = (file, path == ABSENT) else { return };
    let dentry = kernel::pointer(file + path as u64, offset!(path_dentry));
    let mount = kernel::pointer(file + path as u64, offset!(path_mnt));
    if let (Some(dentry), Some(mount)) = (dentry, mount) {
        walk(dentry, mount, record);
    }
}

/// One step leads from a name to the folder that holds it, or from the root of a mount to the place it is mounted on.
///
/// Written for the verifier, which follows every branch of every step: reads that fail give null and end the walk at
/// the next name, and how much is written is kept in the record, where it is an unknown number at every step and all
/// steps look alike.
#[inline(never)]
fn walk(mut dentry: Address, mut vfsmount: Address, record: *mut ProcessRecord) -> u32 {
    const CHUNK: u32 = 256;
    let inner = offset!(mount_mnt) as u64;
    let name_at = offset!(dentry_name).wrapping_add(offset!(qstr_name));
    // SAFETY: callers pass a live map value of this type.
    let (length, flags) = unsafe { (&raw mut (*record).exe_len, &raw mut (*record).flags) };
    // SAFETY: as above.
    unsafe { flags.write_volatile(flags.read_volatile() | ProcessRecord::EXE_CUT) };
    for _ in 0..STEPS {
        let root = kernel::pointer_or_null(vfsmount, offset!(vfsmount_root));
        if dentry == root {
            let mount = vfsmount.wrapping_sub(inner);
            let parent = kernel::pointer_or_null(mount, offset!(mount_parent));
            if parent == mount {
                // SAFETY: as above.
                unsafe { flags.write_volatile(flags.read_volatile() & !ProcessRecord::EXE_CUT) };
                return 0;
            }
            dentry = kernel::pointer_or_null(mount, offset!(mount_mountpoint));
            vfsmount = parent.wrapping_add(inner);
            continue;
        }
        let parent = kernel::pointer_or_null(dentry, offset!(dentry_parent));
        let name = kernel::pointer_or_null(dentry, name_at);
        // SAFETY: as above.
        let at = unsafe { length.read_volatile() };
        if at >= EXE_ROOM as u32 - CHUNK {
            return 1;
        }
        // SAFETY: the offset is below 256 and the room is 512, so 256 bytes fit.
        let read = unsafe {
            let to = (&raw mut (*record).exe).cast::<u8>().add(kernel::below_256(at) as usize);
            kernel::text(to, CHUNK, name)
        };
        let Some(more) = read else { return 1 };
        // SAFETY: as above.
        unsafe { length.write_volatile(at + more) };
        if parent == dentry {
            let detached = ProcessRecord::EXE_DETACHED;
            // SAFETY: as above.
            unsafe { flags.write_volatile(flags.read_volatile() & !ProcessRecord::EXE_CUT | detached) };
            return 0;
        }
        dentry = parent;
    }
    1
}

/// Copies the arguments from the running process's memory.
#[inline(always)]
fn arguments(task: Address, record: *mut ProcessRecord) {
    let Some(mm) = kernel::pointer(task, offset!(task_mm)) else { return };
    let (Some(from), Some(end)) =
        (kernel::read::<u64>(mm, offset!(mm_arg_start)), kernel::read::<u64>(mm, offset!(mm_arg_end)))
    else {
        return;
    };
    let whole = end.wrapping_sub(from);
    let cut = whole >= ARGS_ROOM as u64;
    let length = kernel::below_256(if cut { ARGS_ROOM as u32 - 1 } else { whole as u32 });
    // SAFETY: callers pass a live map value of this type; the length is below the field's 256 bytes.
    unsafe {
        (*record).args_len = 0;
        (*record).flags &= !ProcessRecord::ARGS_CUT;
        if kernel::user((&raw mut (*record).args).cast(), length, from) {
            (*record).args_len = length;
            if cut {
                (*record).flags |= ProcessRecord::ARGS_CUT;
            }
        }
    }
}
