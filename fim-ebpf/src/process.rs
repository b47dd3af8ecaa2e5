//! The process table: who every process is, kept from before it can do anything until after it is gone.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use fim_common::{ABSENT, ARGS_ROOM, EXE_ROOM, ProcessRecord, TaskKey};

use crate::kernel::{self, Address};
use crate::maps::{BLANK, CURRENT, PROCESS, offset};

/// Components and mounts an executable's path may cross before it is cut.
const STEPS: u32 = 32;

/// Start of a task's process: that of its first thread.
#[inline(always)]
pub fn start(task: Address) -> u64 {
    let leader = kernel::pointer(task, offset!(task_leader)).unwrap_or(task);
    kernel::read(leader, offset!(task_start)).unwrap_or(0)
}

#[inline(always)]
pub fn key(task: Address) -> TaskKey {
    TaskKey { tgid: kernel::read(task, offset!(task_tgid)).unwrap_or(0), pad: 0, start_ns: start(task) }
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
    if kernel::read::<u32>(child, offset!(task_pid)) != Some(key.tgid) {
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
    let leader = kernel::read::<u32>(task, offset!(task_pid)) == Some(key.tgid);
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
    if kernel::read::<u32>(task, offset!(task_pid)) == Some(key.tgid) && PROCESS.get_ptr(key).is_none() {
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
    kernel::pointer(task, offset!(task_parent)).map(key).unwrap_or_default()
}

#[inline(always)]
fn ids(task: Address, record: *mut ProcessRecord) {
    let Some(cred) = kernel::pointer(task, offset!(task_cred)) else { return };
    // SAFETY: callers pass a live map value of this type.
    unsafe {
        (*record).uid = kernel::read(cred, offset!(cred_uid)).unwrap_or(u32::MAX);
        (*record).gid = kernel::read(cred, offset!(cred_gid)).unwrap_or(u32::MAX);
        (*record).euid = kernel::read(cred, offset!(cred_euid)).unwrap_or(u32::MAX);
        (*record).egid = kernel::read(cred, offset!(cred_egid)).unwrap_or(u32::MAX);
        (*record).fsuid = kernel::read(cred, offset!(cred_fsuid)).unwrap_or(u32::MAX);
        (*record).auid = kernel::read(task, offset!(task_loginuid)).unwrap_or(u32::MAX);
        (*record).session = kernel::read(task, offset!(task_session)).unwrap_or(u32::MAX);
        (*record).flags |= ProcessRecord::IDS;
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
/// How much is written is kept in the record and read anew at every step: to the verifier it is then an unknown number
/// each time, and one look at the loop's body is enough, instead of one for each way through all steps.
#[inline(never)]
fn walk(mut dentry: Address, mut vfsmount: Address, record: *mut ProcessRecord) -> u32 {
    const CHUNK: u32 = 256;
    let inner = offset!(mount_mnt) as u64;
    // SAFETY: callers pass a live map value of this type.
    let length = unsafe { &raw mut (*record).exe_len };
    // SAFETY: as above.
    let flags = unsafe {
        let flags = &raw mut (*record).flags;
        flags.write_volatile(flags.read_volatile() | ProcessRecord::EXE_CUT);
        flags
    };
    for _ in 0..STEPS {
        let Some(root) = kernel::pointer(vfsmount, offset!(vfsmount_root)) else { return 1 };
        if dentry == root {
            let mount = vfsmount - inner;
            let Some(parent) = kernel::pointer(mount, offset!(mount_parent)) else { return 1 };
            if parent == mount {
                // SAFETY: as above.
                unsafe { flags.write_volatile(flags.read_volatile() & !ProcessRecord::EXE_CUT) };
                return 0;
            }
            let Some(point) = kernel::pointer(mount, offset!(mount_mountpoint)) else { return 1 };
            dentry = point;
            vfsmount = parent + inner;
            continue;
        }
        let Some(parent) = kernel::pointer(dentry, offset!(dentry_parent)) else { return 1 };
        let Some(name) = kernel::name_text(dentry) else { return 1 };
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
            // SAFETY: as above.
            unsafe {
                flags.write_volatile(
                    flags.read_volatile() & !ProcessRecord::EXE_CUT | ProcessRecord::EXE_DETACHED,
                );
            }
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
