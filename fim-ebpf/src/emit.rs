//! From a watched subject to a record in the ring.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns};
use fim_common::{CollapseKey, EventHead, Hook, Record};

use crate::filter::{Subject, is_own};
use crate::kernel::{self, Address};
use crate::maps::{COLLAPSE, EVENTS, dropped, kept, offset, setting};
use crate::process;

/// Reports an operation on one name.
#[inline(always)]
pub fn report(hook: Hook, subject: &Subject, detail: u32) {
    if is_own() {
        return;
    }
    let mut head = head(hook, subject, detail);
    name_and_send(&mut head, subject.dentry);
}

/// Reports an operation on one name, unless the same process did the same to the same file a moment ago.
#[inline(always)]
pub fn report_once(hook: Hook, subject: &Subject, detail: u32) {
    if is_own() {
        return;
    }
    let mut head = head(hook, subject, detail);
    if !repeated(&head) {
        name_and_send(&mut head, subject.dentry);
    }
}

/// Reports an operation that gives a file a second or another name.
#[inline(always)]
pub fn report_two(hook: Hook, old: &Subject, new: &Subject, detail: u32) {
    if is_own() {
        return;
    }
    let mut head = head(hook, old, detail);
    head.dir2 = new.dir;
    if new.flags & EventHead::BY_NAME != 0 {
        head.flags |= EventHead::BY_NEW_NAME;
        if old.flags == 0 {
            head.watch = new.watch;
        }
    }
    let (old_name, new_name) = (kernel::name(old.dentry), kernel::name(new.dentry));
    let (Some((name, length)), Some((name2, length2))) = (old_name, new_name) else {
        return dropped(hook);
    };
    process::remember();
    if length < 32 && length2 < 32 {
        send_two::<32>(&mut head, name, name2);
    } else {
        send_two::<256>(&mut head, name, name2);
    }
}

/// Without a branch for each field, which would double the verifier's work each time.
#[inline(always)]
fn head(hook: Hook, subject: &Subject, detail: u32) -> EventHead {
    let task = kernel::current_task();
    // Overlayfs works on the folder below with the mounter's credentials; only the file system's id is to be that one's.
    let cred = kernel::pointer_or_null(task, offset!(task_real_cred));
    let acting = kernel::pointer_or_null(task, offset!(task_cred));
    // SAFETY: helpers without arguments.
    let (time_ns, ids) = unsafe { (bpf_ktime_get_boot_ns(), bpf_get_current_pid_tgid()) };
    let directory = kernel::is_directory(kernel::pointer_or_null(subject.dentry, offset!(dentry_inode)));
    EventHead {
        time_ns,
        start_ns: process::start(task),
        dir: subject.dir,
        ino: subject.ino,
        dir2: 0,
        dev: subject.dev,
        tgid: (ids >> 32) as u32,
        tid: ids as u32,
        uid: kernel::number(cred, offset!(cred_uid)),
        gid: kernel::number(cred, offset!(cred_gid)),
        euid: kernel::number(cred, offset!(cred_euid)),
        auid: kernel::number(task, offset!(task_loginuid)),
        session: kernel::number(task, offset!(task_session)),
        detail,
        watch: subject.watch,
        hook: hook as u8,
        flags: subject.flags | if directory { EventHead::DIRECTORY } else { 0 },
        name_len: 0,
        name2_len: 0,
        name2_at: 0,
        pad: 0,
        fsuid: kernel::number(acting, offset!(cred_fsuid)),
        exec_id: process::exec_id(task),
    }
}

#[inline(always)]
fn repeated(head: &EventHead) -> bool {
    let key = CollapseKey {
        start_ns: head.start_ns,
        ino: head.ino,
        detail: head.detail,
        dev: head.dev,
        tgid: head.tgid,
        hook: head.hook as u32,
    };
    // SAFETY: one aligned u64 is read; a value of a key evicted meanwhile only sends one record more or less.
    if let Some(last) = unsafe { COLLAPSE.get(key) }
        && head.time_ns.wrapping_sub(*last) < setting!(collapse_ns)
    {
        return true;
    }
    let _ = COLLAPSE.insert(key, head.time_ns, BPF_ANY as u64);
    false
}

#[inline(always)]
fn name_and_send(head: &mut EventHead, dentry: Address) {
    process::remember();
    let Some((name, length)) = kernel::name(dentry) else {
        return count_dropped(head.hook);
    };
    if length < 32 {
        send::<32>(head, name);
    } else if length < 96 {
        send::<96>(head, name);
    } else {
        send::<256>(head, name);
    }
}

#[inline(never)]
fn send<const ROOM: usize>(head: &mut EventHead, name: Address) {
    let Some(mut slot) = EVENTS.reserve::<Record<ROOM, 0>>(0) else {
        return count_dropped(head.hook);
    };
    let record = slot.as_mut_ptr();
    // SAFETY: the slot holds a whole record; the name's field has ROOM bytes.
    unsafe {
        let length = kernel::text((&raw mut (*record).name).cast(), ROOM as u32, name).unwrap_or(1);
        head.name_len = (length - 1) as u8;
        (&raw mut (*record).head).write(*head);
    }
    slot.submit(0);
    count_kept(head.hook);
}

#[inline(never)]
fn send_two<const ROOM: usize>(head: &mut EventHead, name: Address, name2: Address) {
    let Some(mut slot) = EVENTS.reserve::<Record<ROOM, ROOM>>(0) else {
        return count_dropped(head.hook);
    };
    let record = slot.as_mut_ptr();
    // SAFETY: the slot holds a whole record; each name's field has ROOM bytes.
    unsafe {
        let length = kernel::text((&raw mut (*record).name).cast(), ROOM as u32, name).unwrap_or(1);
        let length2 = kernel::text((&raw mut (*record).name2).cast(), ROOM as u32, name2).unwrap_or(1);
        head.name_len = (length - 1) as u8;
        head.name2_len = (length2 - 1) as u8;
        head.name2_at = (size_of::<EventHead>() + ROOM) as u16;
        (&raw mut (*record).head).write(*head);
    }
    slot.submit(0);
    count_kept(head.hook);
}

fn count_kept(hook: u8) {
    if let Some(hook) = Hook::from_index(hook) {
        kept(hook);
    }
}

fn count_dropped(hook: u8) {
    if let Some(hook) = Hook::from_index(hook) {
        dropped(hook);
    }
}
