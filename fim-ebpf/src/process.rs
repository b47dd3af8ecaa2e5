//! The process table: who every process is, kept from before it can do anything until after it is gone.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use fim_common::{ABSENT, ARGS_ROOM, PATH_ROOM, PathText, ProcessRecord, TaskKey};

use crate::kernel::{self, Address};
use crate::maps::{BLANK, CURRENT, PROCESS, offset};

/// Components and mounts a path may cross before it is cut.
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

/// Changes with each exec. The kernel hands it on to children, so that a child that has not called exec has its parent's.
#[inline(always)]
pub fn exec_id(task: Address) -> u32 {
    kernel::number(task, offset!(task_exec_id))
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
    // It may have changed its ids since its exec; at this moment they are those of its child.
    if let Some(own) = PROCESS.get_ptr_mut(self::key(kernel::current_task())) {
        ids(child, own);
    }
    let Some(record) = record(&key) else { return };
    // SAFETY: a live map value of this type.
    unsafe {
        (*record).parent = parent;
        (*record).previous_ns = take_id(&key);
        (*record).exit_ns = 0;
        ids(child, record);
        comm(child, record);
        surroundings(child, record);
        if fresh || (*record).exec_id != exec_id(child) {
            // The child's memory is a copy of that of the running parent, which alone can be read here.
            image(child, record);
            arguments(child, record);
        }
    }
}

/// The same where the first program was skipped.
#[inline(always)]
pub fn forked_again(child: Address) -> bool {
    let missing = PROCESS.get_ptr(key(child)).is_none();
    if missing {
        forked(child);
    }
    missing
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
        if (*record).parent.tgid == 0 {
            (*record).parent = parent_key(task);
        }
        if previous != 0 {
            (*record).previous_ns = previous;
        }
        ids(task, record);
        comm(task, record);
        surroundings(task, record);
        image(task, record);
        arguments(task, record);
    }
}

/// The same where the first program was skipped.
#[inline(always)]
pub fn executed_again(task: Address) -> bool {
    let stale = is_stale(task, &key(task));
    if stale {
        executed(task);
    }
    stale
}

/// Whether the record is missing, or of another program than the process runs.
#[inline(always)]
fn is_stale(task: Address, key: &TaskKey) -> bool {
    match PROCESS.get_ptr(key) {
        // SAFETY: a live map value of this type.
        Some(record) => unsafe { (*record).exec_id != exec_id(task) },
        None => true,
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
        surroundings(task, record);
        // /proc shows none as soon as the first thread has ended; others may go on for a moment.
        working_directory(task, record);
        if alive <= 0 {
            (*record).exit_ns = bpf_ktime_get_boot_ns();
        }
    }
}

/// The same where the first program was skipped.
#[inline(always)]
pub fn exited_again(task: Address) -> bool {
    let Some(record) = PROCESS.get_ptr(key(task)) else { return false };
    // SAFETY: a live map value of this type.
    let missing = unsafe { (*record).exit_ns == 0 };
    if missing {
        exited(task);
    }
    missing
}

/// Enters the running process where the table does not know it as it is: older than the daemon, evicted, or its exec
/// was not told of.
#[inline(never)]
pub fn remember() -> u32 {
    let task = kernel::current_task();
    let key = key(task);
    if !is_stale(task, &key) {
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
        if (*record).parent.tgid == 0 {
            (*record).parent = parent_key(task);
        }
        let previous = take_id(key);
        if previous != 0 {
            (*record).previous_ns = previous;
        }
        ids(task, record);
        comm(task, record);
        surroundings(task, record);
        image(task, record);
    }
}

#[inline(always)]
fn parent_key(task: Address) -> TaskKey {
    key(kernel::pointer_or_null(task, offset!(task_parent)))
}

#[inline(always)]
fn ids(task: Address, record: *mut ProcessRecord) {
    let cred = kernel::pointer_or_null(task, offset!(task_real_cred));
    let acting = kernel::pointer_or_null(task, offset!(task_cred));
    // SAFETY: callers pass a live map value of this type.
    unsafe {
        (*record).uid = kernel::number(cred, offset!(cred_uid));
        (*record).gid = kernel::number(cred, offset!(cred_gid));
        (*record).euid = kernel::number(cred, offset!(cred_euid));
        (*record).egid = kernel::number(cred, offset!(cred_egid));
        (*record).fsuid = kernel::number(acting, offset!(cred_fsuid));
        (*record).auid = kernel::number(task, offset!(task_loginuid));
        (*record).session = kernel::number(task, offset!(task_session));
    }
}

#[inline(always)]
fn comm(task: Address, record: *mut ProcessRecord) {
    // The process is called what its first thread is called; others have names of their own.
    let leader = kernel::pointer_or_null(task, offset!(task_leader));
    if let Some(comm) = kernel::read::<[u8; 16]>(leader, offset!(task_comm)) {
        // SAFETY: callers pass a live map value of this type.
        unsafe { (*record).comm = comm };
    }
}

/// What a process has around it: terminal, control group, its id in its own pid namespace. Without branches.
#[inline(always)]
fn surroundings(task: Address, record: *mut ProcessRecord) {
    let tty =
        kernel::pointer_or_null(kernel::pointer_or_null(task, offset!(task_signal)), offset!(signal_tty));
    let cgroup = kernel::pointer_or_null(
        kernel::pointer_or_null(task, offset!(task_cgroups)),
        offset!(cgroups_default),
    );
    let node = kernel::pointer_or_null(cgroup, offset!(cgroup_node));
    let proxy = kernel::pointer_or_null(task, offset!(task_nsproxy));
    let mounts = kernel::pointer_or_null(proxy, offset!(nsproxy_mounts));
    let leader = kernel::pointer_or_null(task, offset!(task_leader));
    let pids = kernel::pointer_or_null(leader, offset!(task_pids));
    // struct upid: the number, and the namespace it holds in.
    const UPID: u64 = 16;
    let level = kernel::number(pids, offset!(pid_level)) as u64;
    // SAFETY: callers pass a live map value of this type; its field has 16 bytes, and zeros are written where the read
    // fails.
    unsafe {
        (*record).ppid = parent_key(task).tgid;
        (*record).mounts =
            kernel::number(mounts.wrapping_add(offset!(mounts_common) as u64), offset!(common_number));
        (*record).cgroup = kernel::pointer_or_null(node, offset!(node_id));
        (*record).inner_pid =
            kernel::number(pids.wrapping_add(level.wrapping_mul(UPID)), offset!(pid_numbers));
        kernel::copy((&raw mut (*record).tty).cast(), 16, tty.wrapping_add(offset!(tty_name) as u64));
    }
}

/// Which file the process runs, and its path.
#[inline(always)]
fn image(task: Address, record: *mut ProcessRecord) {
    let path = offset!(file_path);
    let mm = kernel::pointer_or_null(task, offset!(task_mm));
    let file = kernel::pointer_or_null(mm, offset!(mm_exe));
    let dentry = kernel::pointer_or_null(file.wrapping_add(path as u64), offset!(path_dentry));
    let inode = kernel::pointer_or_null(dentry, offset!(dentry_inode));
    let block = kernel::pointer_or_null(dentry, offset!(dentry_sb));
    // SAFETY: callers pass a live map value of this type.
    unsafe {
        (*record).exec_id = exec_id(task);
        (*record).exe_ino = kernel::pointer_or_null(inode, offset!(inode_ino));
        (*record).exe_dev = kernel::number(block, offset!(sb_dev));
        (*record).exe.len = 0;
        (*record).exe.flags =
            if kernel::number(inode, offset!(inode_links)) == 0 { PathText::UNLINKED } else { 0 };
    }
    // A kernel thread has neither memory nor executable.
    if file == 0 || path == ABSENT {
        return;
    }
    // SAFETY: callers pass a live map value of this type.
    walk(file.wrapping_add(path as u64), unsafe { &raw mut (*record).exe });
}

/// The working directory, which the kernel gives up right after it told of the end.
#[inline(always)]
fn working_directory(task: Address, record: *mut ProcessRecord) {
    // SAFETY: callers pass a live map value of this type.
    unsafe {
        (*record).cwd.len = 0;
        (*record).cwd.flags = 0;
    }
    let (fs, pwd) = (kernel::pointer_or_null(task, offset!(task_fs)), offset!(fs_pwd));
    if fs == 0 || pwd == ABSENT {
        return;
    }
    // SAFETY: callers pass a live map value of this type.
    walk(fs.wrapping_add(pwd as u64), unsafe { &raw mut (*record).cwd });
}

/// Writes the path of a `struct path`, from its name up to the root of its mount namespace.
///
/// One step leads from a name to the folder that holds it, or from the root of a mount to the place it is mounted on.
///
/// Written for the verifier, which follows every branch of every step: reads that fail give null and end the walk at
/// the next name, and how much is written is kept in the record, where it is an unknown number at every step and all
/// steps look alike.
#[inline(never)]
fn walk(path: Address, to: *mut PathText) -> u32 {
    let mut dentry = kernel::pointer_or_null(path, offset!(path_dentry));
    let mut vfsmount = kernel::pointer_or_null(path, offset!(path_mnt));
    const CHUNK: u32 = 256;
    let inner = offset!(mount_mnt) as u64;
    let name_at = offset!(dentry_name).wrapping_add(offset!(qstr_name));
    // SAFETY: callers pass a live map value of this type.
    let (length, flags) = unsafe { (&raw mut (*to).len, &raw mut (*to).flags) };
    // SAFETY: as above.
    unsafe { flags.write_volatile(flags.read_volatile() | PathText::CUT) };
    for _ in 0..STEPS {
        let root = kernel::pointer_or_null(vfsmount, offset!(vfsmount_root));
        if dentry == root {
            let mount = vfsmount.wrapping_sub(inner);
            let parent = kernel::pointer_or_null(mount, offset!(mount_parent));
            if parent == mount {
                // SAFETY: as above.
                unsafe { flags.write_volatile(flags.read_volatile() & !PathText::CUT | PathText::ROOTED) };
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
        if at >= PATH_ROOM as u32 - CHUNK {
            return 1;
        }
        // SAFETY: the offset is below 256 and the room is 512, so 256 bytes fit.
        let read = unsafe {
            let to = (&raw mut (*to).text).cast::<u8>().add(kernel::below_256(at) as usize);
            kernel::text(to, CHUNK, name)
        };
        let Some(more) = read else { return 1 };
        // SAFETY: as above.
        unsafe { length.write_volatile(at + more) };
        if parent == dentry {
            // SAFETY: as above.
            unsafe {
                flags.write_volatile(flags.read_volatile() & !PathText::CUT | PathText::DETACHED);
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
